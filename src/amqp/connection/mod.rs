//! A connection: a [`Session`] that speaks AMQP 0-9-1. It cuts frames, hands them to channels, and collects what goes back.
//!
//! One call of [`Session::handle_input`] is one turn: all whole frames are handled, then the queues get what was gathered,
//! then the journal.

mod close;
mod events;
mod handshake;
mod input;
mod log;
mod login;
mod progress;
mod transmit;

use super::Amqp;
use super::answers::Answers;
use super::channel::{AckDeadline, Channel, Context, Sent};
use super::error::{AmqpError, ReplyCode};
use super::waiting::Waiting;
use crate::broker::access::logins::WaitingLogin;
use crate::broker::access::newcomers::Newcomer;
use crate::broker::access::permissions::Grants;
use crate::broker::access::users::User;
use crate::broker::delivery::{Outbox, Outgoing, Waker};
use crate::broker::memory::Held;
use crate::broker::observe::connections::LiveConnection;
use crate::broker::{Turn, VirtualHost};
use crate::client::{Answered, ExclusiveQueues, Heartbeat, LoggingIn, NameGenerator};
use crate::message::{ChannelNumber, ConnectionId, EncodedTable, Millis};
use crate::protocol::Peer;
use crate::session::{DirectWrite, Flow, Room, Session, Transmit};
use amq_protocol::protocol::connection;
use bytes::BytesMut;
use input::ArrivingBody;
use log::End;
use progress::Traffic;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The protocol header comes next.
    ProtocolHeader,
    /// start has been sent.
    Starting,
    /// start-ok has come; whether that is a user is seen elsewhere, or later.
    LoggingIn,
    /// tune has been sent.
    Tuning,
    /// tune-ok has come.
    Opening,
    /// open-ok has been sent.
    Running,
    /// close has been sent; close-ok is waited for until then. Or close-ok has been sent, and it is the client who hangs up, as
    /// with RabbitMQ: a socket that is closed under what a client is still sending is reset, and it may miss the close-ok.
    Closing { until: Millis },
    /// A login failed; the client gets the reason at that time, or if it has, the socket is closed.
    Refused { until: Millis },
    /// The socket can be closed.
    Closed,
}

impl Stage {
    /// The stage as RabbitMQ's texts name it.
    fn name(self) -> &'static str {
        match self {
            Stage::ProtocolHeader | Stage::Starting | Stage::LoggingIn => "starting",
            Stage::Tuning => "tuning",
            Stage::Opening => "opening",
            Stage::Running => "running",
            Stage::Closing { .. } | Stage::Refused { .. } => "closing",
            Stage::Closed => "closed",
        }
    }
}

/// What an open connection has.
struct Open {
    vhost: Arc<VirtualHost>,
    user: Arc<User>,
    grants: Grants,
    live: Arc<LiveConnection>,
}

/// An AMQP connection; see the module.
pub struct Connection {
    amqp: Amqp,
    id: ConnectionId,
    peer: Peer,
    stage: Stage,
    user: Option<Arc<User>>,
    open: Option<Open>,
    client_properties: EncodedTable,
    /// Those of [`CAPABILITIES`] that it has.
    client_can: [bool; CAPABILITIES.len()],
    auth_mechanism: String,
    /// While it logs in.
    logging_in: Option<Box<LoggingIn>>,
    /// The text for a client whose login failed, sent when it has waited.
    refusal: Option<AmqpError>,
    /// Its place among those that have not logged in.
    newcomer: Option<Newcomer>,
    /// Its place among those that wait.
    waiting: Option<WaitingLogin>,
    /// Boxed: the map keeps room for several in each of its nodes, and most connections have one.
    channels: BTreeMap<ChannelNumber, Box<Channel>>,
    /// Channels that have been spoken to in this turn, some of them several times.
    touched: Vec<ChannelNumber>,
    answers: Arc<Answers>,
    /// Whether answers wait, so that the committer may be writing them.
    is_answering: bool,
    /// What was answered meanwhile; empty between calls.
    answered: Answered,
    outbox: Arc<Outbox>,
    /// What has been taken from the outbox; empty between calls.
    taken: Vec<Outgoing>,
    sent: Vec<Sent>,
    ack_deadline: AckDeadline,
    /// Whether what it was sent is being spilled to the journal, which may be behind with that.
    is_spilling: bool,
    /// What is to be sent before anything that waits in the outbox.
    out: Transmit,
    /// What waits for the socket, in the account of memory.
    transmitted: Option<Held>,
    /// The change that it waits for before it goes on.
    waiting_for: Waiting,
    turn: Turn,
    channel_max: u16,
    frame_max: usize,
    heartbeat: Heartbeat,
    traffic: Traffic,
    exclusive_queues: ExclusiveQueues,
    names: NameGenerator,
    started_at: Millis,
    /// What comes can't be cut into frames any more, so no close-ok will be seen.
    lost_track: bool,
    /// The peer has been silent for too long: once it is back it has to notice that the connection is gone.
    given_up: bool,
    /// Whether the log says why it ends.
    end_is_told: bool,
    /// The channel that has more to do before the next frame is handled.
    busy: Option<ChannelNumber>,
    /// The content body whose frame has begun and is not all there yet.
    arriving: Option<ArrivingBody>,
    /// Whether a message has begun since it was last looked at; only then an alarm blocks the connection.
    published: bool,
    /// Why what comes has to wait, if it has to.
    held_up: Option<&'static str>,
    /// The peer is not read from, and was sent connection.blocked.
    blocked: bool,
    /// It publishes faster than consumers or the store keep up with: nothing is read until then.
    held_back_until: Option<Millis>,
    /// Since the epoch: when it may publish again by what it has published so far.
    may_publish_at_ns: u64,
}

/// The client's capabilities that matter.
const CAPABILITIES: [&str; 3] =
    ["authentication_failure_close", "connection.blocked", "consumer_cancel_notify"];

/// How long a publisher that is too fast is slowed down at least, the resolution of timers, and at most.
const HOLD_BACK_MS: u64 = 1;
const HOLD_BACK_MAX_MS: u64 = 50;

/// How much of the time that it was held back too long, or that it did not use, a publisher may make up for.
const HOLD_BACK_CREDIT_MS: u64 = 4;

const NS_PER_MS: u64 = 1_000_000;

impl Connection {
    /// A connection whose socket has just been accepted. `waker` is called when something waits in its outbox. `socket` is where
    /// others may write while it has nothing to send, if they may.
    pub fn new(
        amqp: Amqp,
        peer: Peer,
        waker: Waker,
        socket: Option<Arc<dyn DirectWrite>>,
        now: Millis,
    ) -> Connection {
        let id = amqp.broker.next_connection_id();
        let outbox = Arc::new(Outbox::new(waker, amqp.broker.memory().clone()));
        tracing::debug!("connection {id} ({}): accepted", peer.name);
        Connection {
            frame_max: amqp.settings.initial_frame_max as usize,
            channel_max: amqp.settings.channel_max,
            amqp,
            id,
            peer,
            stage: Stage::ProtocolHeader,
            user: None,
            open: None,
            client_properties: EncodedTable::default(),
            client_can: [false; CAPABILITIES.len()],
            auth_mechanism: String::new(),
            logging_in: None,
            refusal: None,
            newcomer: None,
            waiting: None,
            channels: BTreeMap::new(),
            touched: Vec::new(),
            answers: Arc::new(Answers::new(outbox.clone(), socket)),
            is_answering: false,
            answered: Answered::default(),
            outbox,
            taken: Vec::new(),
            sent: Vec::new(),
            ack_deadline: AckDeadline::default(),
            is_spilling: false,
            out: Transmit::default(),
            transmitted: None,
            waiting_for: Waiting::default(),
            turn: Turn::at(now),
            heartbeat: Heartbeat::new(now),
            traffic: Traffic::default(),
            exclusive_queues: ExclusiveQueues::new(),
            names: NameGenerator::new(),
            started_at: now,
            lost_track: false,
            given_up: false,
            end_is_told: false,
            busy: None,
            arriving: None,
            published: false,
            held_up: None,
            blocked: false,
            held_back_until: None,
            may_publish_at_ns: 0,
        }
    }

    /// It counts as one that has not logged in, until it has.
    pub fn counts_as(&mut self, newcomer: Newcomer) {
        self.newcomer = Some(newcomer);
    }

    fn forget_channel(&mut self, number: ChannelNumber) {
        self.answers.forget(number.into());
        self.channel_ended(number);
    }

    fn channel_ended(&mut self, number: ChannelNumber) {
        if let Some(channel) = self.channels.remove(&number) {
            self.channel_closed(number, *channel);
        }
    }

    /// A channel and what it needs of its connection.
    fn channel(&mut self, number: ChannelNumber) -> Option<(&mut Channel, Context<'_>)> {
        let channel = self.channels.get_mut(&number)?;
        let open = self.open.as_mut()?;
        let context = Context {
            amqp: &self.amqp,
            vhost: &open.vhost,
            user: &open.user,
            grants: &mut open.grants,
            connection: self.id,
            outbox: &self.outbox,
            answers: &self.answers,
            out: &mut self.out,
            waiting: &mut self.waiting_for,
            turn: &mut self.turn,
            frame_max: self.frame_max,
            exclusive_queues: &mut self.exclusive_queues,
            names: &mut self.names,
            ack_deadline: &mut self.ack_deadline,
        };
        Some((channel, context))
    }

    /// Ends a turn: what channels gathered goes to the queues, and all changes to the journal.
    fn end_turn(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for number in touched.drain(..) {
            self.traffic.touch(number);
            if let Some((channel, mut context)) = self.channel(number) {
                channel.flush(&mut context);
                self.is_answering |= channel.end_turn(&mut context);
            }
        }
        self.touched = touched;
        self.count_arriving();
        self.hold_back();
        self.amqp.broker.end_turn(&mut self.turn);
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
        if self.stage == Stage::ProtocolHeader {
            self.handle_protocol_header(input);
        }
        let stopped = self.stage != Stage::ProtocolHeader && self.handle_frames(input, now);
        self.end_turn();
        stopped
    }

    fn room(&mut self) -> Room<'_> {
        self.room_of_body()
    }

    fn handle_own_room(&mut self, bytes: usize, now: Millis) {
        self.turn.begin(now);
        self.heartbeat.received(now);
        self.room_of_body_was_filled(bytes);
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
        let text = "broker forced connection closure with reason 'shutdown'";
        self.fail(&AmqpError::new(ReplyCode::ConnectionForced, text).without_method(), now);
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
