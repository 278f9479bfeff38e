//! A connection: a [`Session`] that speaks STOMP. What comes with one read is one turn: all whole frames are handled, then the
//! queues get what was gathered, then the journal.

mod acks;
mod close;
mod connect;
mod input;
mod log;
mod message_head;
mod progress;
mod receipts;
mod repeated;
mod send;
mod sources;
mod subscribe;
mod transactions;
mod transmit;
mod underway;

use super::Stomp;
use super::error::StompError;
use super::heartbeat::Heartbeat;
use super::parser::Parser;
use crate::broker::access::newcomers::Newcomer;
use crate::broker::access::permissions::Grants;
use crate::broker::access::users::User;
use crate::broker::chores::Chore;
use crate::broker::delivery::{Outbox, Outgoing, Waker};
use crate::broker::memory::Held;
use crate::broker::observe::connections::LiveConnection;
use crate::broker::{Actor, Turn, VirtualHost};
use crate::client::{ExclusiveQueues, NameGenerator, Taken, UnackedList};
use crate::message::{ConnectionId, Millis};
use crate::protocol::Peer;
use crate::session::{Flow, Session, Transmit};
use bytes::BytesMut;
use connect::Connecting;
use log::End;
use progress::Traffic;
use receipts::Receipts;
use send::Publishes;
use std::collections::BTreeSet;
use std::sync::Arc;
use subscribe::Subscriptions;
use transactions::Transactions;
use underway::Underway;

/// The version that both ends speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    #[default]
    V1_0,
    V1_1,
    V1_2,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Version::V1_0 => "1.0",
            Version::V1_1 => "1.1",
            Version::V1_2 => "1.2",
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// CONNECT comes next.
    Connecting,
    /// It has come; whether that is a user is seen elsewhere, or later.
    LoggingIn,
    /// CONNECTED has been sent.
    Running,
    /// DISCONNECT has come: the socket is closed when what it asked a receipt for is durable.
    Disconnecting,
    /// It ends with an error, which is said behind the receipts that are still owed.
    Failing,
    /// All has been said, and whatever comes is passed over: the socket is closed at that time, or when the client hangs up.
    Lingering { until: Millis },
    /// The socket can be closed.
    Closed,
}

/// What an open connection has.
struct Open {
    vhost: Arc<VirtualHost>,
    user: Arc<User>,
    grants: Grants,
    live: Arc<LiveConnection>,
}

/// A STOMP connection, see the module.
pub struct Connection {
    stomp: Stomp,
    id: ConnectionId,
    peer: Peer,
    stage: Stage,
    version: Version,
    /// The header `session` of CONNECTED.
    session: String,
    parser: Parser,
    /// What has come of a large frame, in the account of memory.
    arriving: Option<Held>,
    open: Option<Open>,
    connecting: Option<Box<Connecting>>,
    /// Its place among those that have not logged in.
    newcomer: Option<Newcomer>,
    subscriptions: Subscriptions,
    unacked: UnackedList,
    next_delivery_tag: u64,
    /// Acknowledged deliveries of this turn, on their way to the queues together.
    acked: Taken,
    publishes: Publishes,
    /// Queues that were declared by a destination: they are declared once.
    declared: BTreeSet<String>,
    transactions: Transactions,
    receipts: Receipts,
    /// What takes longer than a turn may; what comes behind it waits.
    underway: Option<Box<Underway>>,
    outbox: Arc<Outbox>,
    /// What has been taken from the outbox; empty between calls.
    taken: Vec<Outgoing>,
    /// Whether what it was sent is being spilled to the journal, which may be behind with that.
    is_spilling: bool,
    /// What is to be sent before anything that waits in the outbox.
    out: Transmit,
    /// A head that is being written; empty between calls.
    head: Vec<u8>,
    /// The ERROR that it ends with, while receipts come before it.
    last_words: Vec<u8>,
    /// What waits for the socket, in the account of memory.
    transmitted: Option<Held>,
    turn: Turn,
    heartbeat: Heartbeat,
    traffic: Traffic,
    exclusive_queues: ExclusiveQueues,
    names: NameGenerator,
    started_at: Millis,
    /// The peer has been silent for too long: once it is back it has to notice that the connection is gone.
    given_up: bool,
    /// Whether the log says why it ends.
    end_is_told: bool,
    /// A message has come while an alarm is up: nothing is read until it is over.
    blocked: bool,
    /// It publishes faster than consumers or the store keep up with: nothing is read until then.
    held_back_until: Option<Millis>,
    /// Since the epoch: when it may publish again by what it has published so far.
    may_publish_at_ns: u64,
}

/// How long a publisher that is too fast is slowed down at least, the resolution of timers, and at most.
const HOLD_BACK_MS: u64 = 1;
const HOLD_BACK_MAX_MS: u64 = 50;

/// How much of the time that it was held back too long, or that it did not use, a publisher may make up for.
const HOLD_BACK_CREDIT_MS: u64 = 4;

const NS_PER_MS: u64 = 1_000_000;

impl Connection {
    /// A connection whose socket has just been accepted. `waker` is called when something waits in its outbox.
    pub fn new(stomp: Stomp, peer: Peer, waker: Waker, now: Millis) -> Connection {
        let id = stomp.broker.next_connection_id();
        let outbox = Arc::new(Outbox::new(waker, stomp.broker.memory().clone()));
        tracing::debug!("connection {id} ({}): accepted, STOMP", peer.name);
        let mut names = NameGenerator::new();
        Connection {
            stomp,
            id,
            peer,
            stage: Stage::Connecting,
            version: Version::default(),
            session: names.name("session-"),
            parser: Parser::default(),
            arriving: None,
            open: None,
            connecting: None,
            newcomer: None,
            subscriptions: Subscriptions::default(),
            unacked: UnackedList::default(),
            next_delivery_tag: 1,
            acked: Taken::default(),
            publishes: Publishes::default(),
            declared: BTreeSet::new(),
            transactions: Transactions::default(),
            receipts: Receipts::default(),
            underway: None,
            outbox,
            taken: Vec::new(),
            is_spilling: false,
            out: Transmit::default(),
            head: Vec::new(),
            last_words: Vec::new(),
            transmitted: None,
            turn: Turn::at(now),
            heartbeat: Heartbeat::default(),
            traffic: Traffic::default(),
            exclusive_queues: ExclusiveQueues::new(),
            names,
            started_at: now,
            given_up: false,
            end_is_told: false,
            blocked: false,
            held_back_until: None,
            may_publish_at_ns: 0,
        }
    }

    /// It counts as one that has not logged in, until it has.
    pub fn counts_as(&mut self, newcomer: Newcomer) {
        self.newcomer = Some(newcomer);
    }

    /// Who acts here.
    fn actor(&self) -> Actor<'static> {
        Actor::Connection(self.id)
    }

    /// Does what queues asked for.
    fn apply_effects(&mut self) {
        if let Some(open) = &self.open {
            open.vhost.apply_effects(&mut self.turn);
        }
    }

    /// Has the broker's timer go on with what is left of a chore when the turn is spent.
    fn leave(&mut self, chore: impl Chore + 'static) {
        if let Some(open) = &self.open {
            self.stomp.broker.leave(open.vhost.name(), Box::new(chore), &mut self.turn);
        }
    }

    /// Hands what was gathered to the queues.
    fn flush(&mut self) {
        self.flush_publishes();
        self.flush_acks();
        self.apply_effects();
    }

    /// Ends a turn: what was gathered goes to the queues, and all changes to the journal.
    fn end_turn(&mut self) {
        self.flush();
        let taken_bytes = self.parser.taken_bytes();
        let memory = self.stomp.broker.memory();
        crate::broker::memory::count_much(
            &mut self.arriving,
            memory,
            crate::broker::memory::MemoryUse::Arriving,
            taken_bytes,
        );
        self.hold_back();
        let record = self.turn.append_to(self.stomp.broker.journal());
        self.receipts.note(record);
        self.await_receipts();
        self.stomp.broker.end_turn(&mut self.turn);
    }

    /// Holds back for as long as the turn asks, when that is long enough for a timer. What a timer rang too late counts.
    fn hold_back(&mut self) {
        let hold_back_ns = std::mem::take(&mut self.turn.hold_back_ns);
        if hold_back_ns == 0 {
            return;
        }
        let now = self.turn.now;
        let earliest = now.saturating_sub(HOLD_BACK_CREDIT_MS) * NS_PER_MS;
        self.may_publish_at_ns = self.may_publish_at_ns.max(earliest) + hold_back_ns;
        let until = self.may_publish_at_ns / NS_PER_MS;
        if until >= now + HOLD_BACK_MS {
            self.held_back_until = Some(until.min(now + HOLD_BACK_MAX_MS));
        }
    }
}

impl Session for Connection {
    fn handle_input(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        self.turn.begin(now);
        self.heartbeat.received(now);
        let stopped = self.handle_frames(input, now);
        self.end_turn();
        stopped
    }

    fn handle_timeout(&mut self, now: Millis) {
        self.turn.begin(now);
        self.check_deadlines(now);
        self.end_turn();
    }

    fn handle_disconnect(&mut self, fault: Option<&str>, now: Millis) {
        self.turn.begin(now);
        self.log_end(End::Orderly, fault.unwrap_or("the peer is gone"));
        self.release();
        self.stage = Stage::Closed;
        self.end_turn();
    }

    fn handle_shutdown(&mut self, now: Millis) {
        self.turn.begin(now);
        let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
        self.fail_with(End::Orderly, StompError::new("connection_forced", text), now);
        self.end_turn();
    }

    fn poll_transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        self.turn.begin(now);
        self.transmit(out, now)
    }

    fn poll_timeout(&self) -> Option<Millis> {
        let held_back_until = self.held_back_until.filter(|_| self.stage == Stage::Running);
        [self.next_deadline(), held_back_until].into_iter().flatten().min()
    }
}

impl Drop for Connection {
    /// Whatever ends a connection, nothing that it held gets lost.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.release();
            self.end_turn();
            return;
        }
        // What panicked once may do so again, and a second panic on the way out would end the broker.
        let give_back = std::panic::AssertUnwindSafe(|| {
            self.release();
            self.end_turn();
        });
        if std::panic::catch_unwind(give_back).is_err() {
            tracing::error!(
                "connection {} ({}): not all it held could be given back",
                self.id,
                self.peer.name
            );
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("stage", &self.stage).finish_non_exhaustive()
    }
}
