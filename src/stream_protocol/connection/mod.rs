//! A connection: a [`Session`] that speaks the stream protocol. What comes with one read is one turn: all whole frames are handled, then
//! the journal hears of what they have changed.

mod close;
mod handshake;
mod input;
mod log;
mod offsets;
mod open;
mod publish;
mod renewal;
mod subscribe;
mod super_streams;
mod topology;
mod transmit;
mod waiting;

use super::StreamProtocol;
use crate::broker::Turn;
use crate::broker::access::newcomers::Newcomer;
use crate::broker::delivery::{Outbox, Waker};
use crate::broker::memory::{Held, MemoryUse, count_much};
use crate::client::Heartbeat;
use crate::message::{ConnectionId, Millis};
use crate::protocol::Peer;
use crate::session::{Flow, Session, Transmit};
use bytes::BytesMut;
use handshake::Handshake;
use log::End;
use open::Open;
use std::sync::Arc;

/// How far a connection has come.
enum Stage {
    /// Until its vhost is open.
    Handshake(Box<Handshake>),
    /// It publishes, consumes, and does what its user may.
    Open(Box<Open>),
    /// It was told to close, or asked to be closed: the socket is closed at that time, or when the client hangs up.
    Closing { until: Millis },
    /// The socket can be closed.
    Closed,
}

/// What a connection has in every stage.
struct Common {
    protocol: StreamProtocol,
    id: ConnectionId,
    peer: Peer,
    outbox: Arc<Outbox>,
    /// What is to be sent before anything that waits in the outbox.
    out: Transmit,
    turn: Turn,
    heartbeat: Heartbeat,
    traffic: Traffic,
    /// Whether the log says why it ends.
    end_is_told: bool,
    /// It publishes faster than the store keeps up with: nothing is read until then.
    held_back_until: Option<Millis>,
}

/// What has come and gone.
#[derive(Debug, Default)]
struct Traffic {
    received_bytes: u64,
    received_count: u64,
    sent_bytes: u64,
    sent_count: u64,
}

/// A connection, see the module.
pub struct Connection {
    common: Common,
    stage: Stage,
    /// Its place among those that have not logged in.
    newcomer: Option<Newcomer>,
    /// What has come of a large frame, in the account of memory.
    arriving: Option<Held>,
    /// What waits for the socket, in the account of memory.
    transmitted: Option<Held>,
    /// The peer has been silent for too long: once it is back it has to notice that the connection is gone.
    is_given_up: bool,
}

impl Connection {
    /// A connection whose socket has just been accepted. `waker` is called when something waits in its outbox.
    pub fn new(protocol: StreamProtocol, peer: Peer, waker: Waker, now: Millis) -> Connection {
        let id = protocol.broker.next_connection_id();
        let outbox = Arc::new(Outbox::new(waker, protocol.broker.memory().clone()));
        tracing::debug!("connection {id} ({}): accepted, the stream protocol", peer.name);
        let stage = Stage::Handshake(Box::new(Handshake::new(&protocol.settings, now)));
        let common = Common {
            protocol,
            id,
            peer,
            outbox,
            out: Transmit::default(),
            turn: Turn::at(now),
            heartbeat: Heartbeat::new(now),
            traffic: Traffic::default(),
            end_is_told: false,
            held_back_until: None,
        };
        Connection { common, stage, newcomer: None, arriving: None, transmitted: None, is_given_up: false }
    }

    /// It counts as one that has not logged in, until it has.
    pub fn counts_as(&mut self, newcomer: Newcomer) {
        self.newcomer = Some(newcomer);
    }

    /// Ends a turn: all changes go to the journal, and what waits for them goes on when they are durable.
    fn end_turn(&mut self) {
        let Connection { common, stage, .. } = self;
        common.hold_back();
        let broker = common.protocol.broker.clone();
        let record = common.turn.append_to(broker.journal());
        if let Stage::Open(open) = stage {
            open.apply_effects(common);
            open.waiting.note(record);
            open.waiting.wait(broker.journal(), &common.outbox);
        }
        broker.end_turn(&mut common.turn);
    }
}

/// How long a publisher that is too fast is slowed down, in milliseconds: the resolution of timers.
const HOLD_BACK_MS: u64 = 1;

impl Common {
    /// Holds back where the turn asks for that.
    fn hold_back(&mut self) {
        if std::mem::take(&mut self.turn.hold_back_ns) > 0 {
            self.held_back_until = Some(self.turn.now + HOLD_BACK_MS);
        }
    }

    /// Whether a publisher that is too fast still has to wait: for a moment, and for as long as the journal is behind.
    fn is_held_back(&mut self, now: Millis) -> bool {
        let Some(until) = self.held_back_until else { return false };
        if until <= now {
            let is_behind = self.protocol.broker.journal().is_behind();
            self.held_back_until = is_behind.then_some(now + HOLD_BACK_MS);
        }
        self.held_back_until.is_some()
    }
}

impl Session for Connection {
    fn handle_input(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        self.common.turn.begin(now);
        self.common.heartbeat.received(now);
        let stopped = self.handle_frames(input, now);
        let memory = self.common.protocol.broker.memory();
        count_much(&mut self.arriving, memory, MemoryUse::Arriving, input.len());
        self.end_turn();
        stopped
    }

    fn handle_timeout(&mut self, now: Millis) {
        self.common.turn.begin(now);
        self.check_deadlines(now);
        self.end_turn();
    }

    fn handle_disconnect(&mut self, fault: Option<&str>, now: Millis) {
        self.common.turn.begin(now);
        self.end(End::Orderly, fault.unwrap_or("the peer is gone"), Stage::Closed);
        self.end_turn();
    }

    fn handle_shutdown(&mut self, now: Millis) {
        self.common.turn.begin(now);
        self.force_close("shutdown", now);
        self.end_turn();
    }

    fn poll_transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        self.common.turn.begin(now);
        self.transmit(out, now)
    }

    fn poll_timeout(&self) -> Option<Millis> {
        self.next_deadline()
    }
}

impl Drop for Connection {
    /// Whatever ends a connection, nothing that it held gets lost.
    fn drop(&mut self) {
        let give_back = std::panic::AssertUnwindSafe(|| {
            self.end(End::Orderly, "the connection is gone", Stage::Closed);
            self.end_turn();
        });
        // What panicked once may do so again, and a second panic on the way out would end the broker.
        if std::panic::catch_unwind(give_back).is_err() {
            tracing::error!("a connection that ended could not give back all it held, please report this");
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("id", &self.common.id).finish_non_exhaustive()
    }
}
