//! A connection: a [`Session`] that speaks AMQP 0-9-1. It cuts frames, hands them to channels, and collects what goes back.
//!
//! One call of [`Session::handle_input`] is one turn: all whole frames are handled, then the queues get what was gathered,
//! then the journal.

mod close;
mod handshake;
mod heartbeat;
mod log;
mod progress;
mod transmit;

use super::answers::{Answers, Told};
use super::channel::{Channel, Context, ExclusiveQueues, Handled, NameGenerator};
use super::error::{AmqpError, ReplyCode};
use super::frame::{self, Frame, cut, put_method, unknown_frame};
use super::method;
use super::{
    Amqp,
    channel::{AckDeadline, Sent},
};
use crate::broker::connections::{Endpoint, LiveConnection, TlsFacts};
use crate::broker::delivery::{Outbox, Outgoing, Waker};
use crate::broker::logins::WaitingLogin;
use crate::broker::permissions::Grants;
use crate::broker::users::User;
use crate::broker::{Turn, VirtualHost};
use crate::message::{ChannelNumber, ConnectionId, FieldTable, Millis};
use crate::session::{DirectWrite, Flow, Session, Transmit};
use amq_protocol::protocol::{AMQPClass, channel, connection};

use bytes::{Buf, BytesMut};
use heartbeat::Heartbeat;
use log::End;
pub use log::log_refused;
use progress::Traffic;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The connection's name: `peer_ip:port -> local_ip:port`.
    pub name: String,
    /// Its end.
    pub address: Endpoint,
    /// Our end.
    pub local_address: Endpoint,
    /// Whether the peer is on this machine.
    pub is_loopback: bool,
    /// What was agreed on, if it speaks TLS.
    pub tls: Option<TlsFacts>,
}

impl Peer {
    /// A peer that speaks without TLS.
    pub fn new(address: Endpoint, local_address: Endpoint, is_loopback: bool) -> Peer {
        Peer { name: format!("{address} -> {local_address}"), address, local_address, is_loopback, tls: None }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The protocol header comes next.
    ProtocolHeader,
    /// start has been sent.
    Starting,
    /// tune has been sent.
    Tuning,
    /// tune-ok has come.
    Opening,
    /// open-ok has been sent.
    Running,
    /// close has been sent; close-ok is waited for until then. Or close-ok has been sent, and it is the client who hangs up, as
    /// with RabbitMQ: a socket that is closed under what a client is still sending is reset, and it may miss the close-ok.
    Closing { until: Millis },
    /// A login failed; the client is told so then, or if it has been, the socket is closed.
    Refused { until: Millis },
    /// The socket can be closed.
    Closed,
}

impl Stage {
    /// The stage as RabbitMQ's texts name it.
    fn name(self) -> &'static str {
        match self {
            Stage::ProtocolHeader | Stage::Starting => "starting",
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

/// See the module.
pub struct Connection {
    amqp: Amqp,
    id: ConnectionId,
    peer: Peer,
    stage: Stage,
    user: Option<Arc<User>>,
    open: Option<Open>,
    client_properties: FieldTable,
    auth_mechanism: String,
    /// What a client whose login failed is told, when it has waited.
    refusal: Option<AmqpError>,
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
    told: Told,
    outbox: Arc<Outbox>,
    /// What has been taken from the outbox; empty between calls.
    taken: Vec<Outgoing>,
    sent: Vec<Sent>,
    ack_deadline: AckDeadline,
    /// What is to be sent before anything that waits in the outbox.
    out: Transmit,
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
    /// Whether the log says why it ends.
    end_is_told: bool,
    /// Whether a message has begun since it was last looked at; only then an alarm holds the connection up.
    published: bool,
    /// Why what comes has to wait, if it has to.
    held_up: Option<&'static str>,
    /// The peer is not read from, and has been told so.
    blocked: bool,
    /// What it publishes is too fast for somebody: nothing is read until then.
    held_back_until: Option<Millis>,
    /// Since the epoch: when it may publish again by what it has published so far.
    may_publish_at_ns: u64,
}

/// What a frame may have before the two ends agreed on it (0-9-1 section 4.2.3).
const FRAME_MAX_BEFORE_TUNE: usize = 4096;

/// How long a publisher that is too fast is held back at least, the shortest time that a timer tells apart, and at most.
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
        let outbox = Arc::new(Outbox::new(waker));
        tracing::debug!("connection {id} ({}): accepted", peer.name);
        Connection {
            frame_max: FRAME_MAX_BEFORE_TUNE,
            channel_max: amqp.settings.channel_max,
            amqp,
            id,
            peer,
            stage: Stage::ProtocolHeader,
            user: None,
            open: None,
            client_properties: FieldTable::default(),
            auth_mechanism: String::new(),
            refusal: None,
            waiting: None,
            channels: BTreeMap::new(),
            touched: Vec::new(),
            answers: Arc::new(Answers::new(outbox.clone(), socket)),
            is_answering: false,
            told: Told::default(),
            outbox,
            taken: Vec::new(),
            sent: Vec::new(),
            ack_deadline: AckDeadline::default(),
            out: Transmit::default(),
            turn: Turn::at(now),
            heartbeat: Heartbeat::new(now),
            traffic: Traffic::default(),
            exclusive_queues: ExclusiveQueues::new(),
            names: NameGenerator::new(),
            started_at: now,
            lost_track: false,
            end_is_told: false,
            published: false,
            held_up: None,
            blocked: false,
            held_back_until: None,
            may_publish_at_ns: 0,
        }
    }

    /// Handles the frames of `input`. True when it stopped before the last one: whoever asks and does not read the answers
    /// waits until there is room for more of them.
    fn handle_frames(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        let mut done = 0;
        let stopped = loop {
            if self.lost_track || matches!(self.stage, Stage::Closed | Stage::Refused { .. }) {
                done = input.len();
                break false;
            }
            if self.is_held_up() || self.out.len() >= self.amqp.settings.transmit_bytes {
                break true;
            }
            match cut(&input[done..], self.frame_max) {
                Ok(None) => break false,
                Ok(Some(frame)) => {
                    done += frame.payload.len() + frame::ENVELOPE_BYTES;
                    if let Err(error) = self.handle_frame(&frame, &input[done..], &mut done, now) {
                        // The frames behind it are looked at: the answer to the close may be among them.
                        self.fail(&error, now);
                    }
                }
                Err(fault) => {
                    self.lost_track = true;
                    self.fail(&fault.into(), now);
                }
            }
        };
        input.advance(done);
        self.traffic.received(done);
        stopped
    }

    /// Handles a frame, and of `behind` the content that belongs to it; adds to `done` the bytes of that.
    fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        behind: &[u8],
        done: &mut usize,
        now: Millis,
    ) -> Result<(), AmqpError> {
        if let Stage::Closing { .. } = self.stage {
            return self.handle_closing(frame);
        }
        let payload = frame.payload;
        match frame.kind {
            frame::HEARTBEAT if !payload.is_empty() => return Err(unknown_frame(frame.kind, payload)),
            frame::HEARTBEAT if frame.channel != 0 => {
                let text = "type 8, all octets = <<>>";
                return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text).without_method());
            }
            frame::HEARTBEAT => return Ok(()),
            frame::METHOD if payload.len() < 4 => return Err(unknown_frame(frame.kind, payload)),
            frame::HEADER if payload.len() < frame::HEADER_BYTES_MIN => {
                return Err(unknown_frame(frame.kind, payload));
            }
            frame::METHOD | frame::HEADER | frame::BODY => {}
            _ => return Err(unknown_frame(frame.kind, payload)),
        }
        if frame.channel == 0 {
            return self.handle_connection_frame(frame, now);
        }
        if self.stage != Stage::Running {
            let text =
                format!("frame on channel {} in connection state {}", frame.channel, self.stage.name());
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text).without_method());
        }
        self.handle_channel_frame(frame, behind, done)
    }

    fn handle_channel_frame(
        &mut self,
        frame: &Frame<'_>,
        mut behind: &[u8],
        done: &mut usize,
    ) -> Result<(), AmqpError> {
        let number = frame.channel;
        if self.touched.last() != Some(&number) {
            self.touched.push(number);
        }
        // While an alarm is up, a header passes and its body does not, see `is_held_up`.
        let is_content_next = self.amqp.broker.alarms().reason().is_none();
        let frame_max = self.frame_max;
        let Some((channel, mut context)) = self.channel(number) else {
            return self.open_channel(frame);
        };
        let mut frame = *frame;
        let mut handled = channel.handle_frame(&frame, &mut context);
        // What has to be seen to between frames is not touched by content, which comes in greater numbers than all else.
        while is_content_next
            && matches!(handled, Ok(Handled::Open))
            && let Ok(Some(content)) = cut(behind, frame_max)
            && content.is_content_of(number)
        {
            let content_bytes = content.payload.len() + frame::ENVELOPE_BYTES;
            *done += content_bytes;
            behind = &behind[content_bytes..];
            frame = content;
            handled = channel.handle_frame(&frame, &mut context);
        }
        self.published |= frame.kind != frame::METHOD;
        if handled? == Handled::Closed {
            self.forget_channel(number);
        }
        Ok(())
    }

    fn forget_channel(&mut self, number: ChannelNumber) {
        let channel = self.channels.remove(&number);
        self.answers.forget(number);
        if let Some(channel) = channel {
            self.channel_closed(number, &channel);
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
            turn: &mut self.turn,
            frame_max: self.frame_max,
            exclusive_queues: &mut self.exclusive_queues,
            names: &mut self.names,
            ack_deadline: &mut self.ack_deadline,
        };
        Some((channel, context))
    }

    /// The first frame of a channel has to be channel.open.
    fn open_channel(&mut self, frame: &Frame<'_>) -> Result<(), AmqpError> {
        const OPEN: (u16, u16) = (20, 10);
        let ids = method::ids(frame.payload);
        if frame.kind != frame::METHOD {
            let text = "expected method frame, got non method frame instead";
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text).without_method());
        }
        if ids != OPEN {
            let error = AmqpError::new(ReplyCode::ChannelError, "expected 'channel.open'");
            return Err(AmqpError { method: Some(ids), ..error });
        }
        if self.channel_max > 0 && self.channels.len() >= usize::from(self.channel_max) {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channels.len(),
                self.channel_max
            );
            return Err(AmqpError::new(ReplyCode::NotAllowed, text).without_method());
        }
        self.check_channel_limits()?;
        self.channels.insert(frame.channel, Box::new(Channel::new(frame.channel)));
        self.channel_opened(frame.channel);
        let ok = channel::AMQPMethod::OpenOk(channel::OpenOk {});
        put_method(&mut self.out, frame.channel, AMQPClass::Channel(ok));
        Ok(())
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
        self.turn.now = now;
        self.heartbeat.received(now);
        if self.stage == Stage::ProtocolHeader {
            self.handle_protocol_header(input);
        }
        let stopped = self.stage != Stage::ProtocolHeader && self.handle_frames(input, now);
        self.end_turn();
        stopped
    }

    fn handle_timeout(&mut self, now: Millis) {
        self.turn.now = now;
        self.check_deadlines(now);
        self.end_turn();
    }

    fn handle_disconnect(&mut self, fault: Option<&str>, now: Millis) {
        self.turn.now = now;
        self.log_end(End::Orderly, fault.unwrap_or("the peer is gone"));
        self.release();
        self.stage = Stage::Closed;
        self.end_turn();
    }

    fn handle_shutdown(&mut self, now: Millis) {
        self.turn.now = now;
        let text = "broker forced connection closure with reason 'shutdown'";
        self.fail(&AmqpError::new(ReplyCode::ConnectionForced, text).without_method(), now);
        self.end_turn();
    }

    fn poll_transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        self.turn.now = now;
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
