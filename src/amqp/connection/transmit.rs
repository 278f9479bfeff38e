//! What goes to the socket: replies first, then what waited for the journal, then deliveries out of the outbox, as far as there
//! is room.

use super::{Connection, HOLD_BACK_MS, Stage, connection};
use crate::amqp::channel::Wire;
use crate::amqp::channel_of;
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::broker::delivery::Outgoing;
use crate::broker::memory::{MemoryUse, count_much};
use crate::message::Millis;
use crate::session::{Flow, Transmit};

impl Connection {
    pub(super) fn transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        if self.answers.store_failed() {
            let text = "the store failed, nothing can be confirmed any more";
            self.fail(&AmqpError::new(ReplyCode::InternalError, text).without_method(), now);
        }
        self.take_login_outcome(now);
        self.check_answered(now);
        self.check_asked_to_close(now);
        self.answer_inquiries();
        let had = out.len();
        if self.stage == Stage::Running {
            self.put_blocked();
        }
        if !self.put_replies(out) {
            return Flow::Slowed;
        }
        let flow = self.put_rest(out, now);
        let sent = out.len() - had;
        if sent > 0 {
            self.heartbeat.sent(now);
        }
        self.traffic.sent(sent);
        let memory = self.amqp.broker.memory();
        count_much(&mut self.transmitted, memory, MemoryUse::TransmitBuffers, out.len());
        self.report(now);
        if self.is_answering {
            let is_any_left = !self.waiting_for.sendable(&mut self.out).is_empty();
            let is_silent = self.stage == Stage::Running && out.is_empty() && !is_any_left;
            self.is_answering = self.answers.finish(is_silent);
        }
        flow
    }

    /// Puts replies, and answers to what is durable now. False when the committer is writing to the socket.
    fn put_replies(&mut self, out: &mut Transmit) -> bool {
        let replies = self.waiting_for.sendable(&mut self.out);
        if !self.is_answering {
            out.append(replies);
            return true;
        }
        let durable = self.amqp.broker.journal().durable();
        if !self.answers.begin(durable, replies, out, &mut self.answered) {
            return false;
        }
        for (link, last) in self.answered.confirmed.drain(..) {
            let number = channel_of(link);
            self.traffic.touch(number);
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.confirmed(last);
            }
        }
        self.traffic.sent_meanwhile(&mut self.answered);
        true
    }

    fn put_rest(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        let waits = self.waiting_for.ticket().is_some();
        if self.stage != Stage::Running {
            return match (self.stage, self.given_up) {
                (Stage::Closed, true) => Flow::Reset,
                (Stage::Closed, false) => Flow::Closed,
                // Who hangs up now is not logged in at all.
                (Stage::LoggingIn, _) => Flow::Paused,
                _ if waits => Flow::Paused,
                _ => Flow::Open,
            };
        }
        let more = !self.must_deliveries_wait(now) && self.put_deliveries(out);
        match (self.blocked || waits, self.is_held_back(now), more) {
            (true, ..) => Flow::Paused,
            (_, true, _) => Flow::Slowed,
            (.., true) => Flow::More,
            _ => Flow::Open,
        }
    }

    /// Goes on when what was waited for is answered, or ends with the failure.
    fn check_answered(&mut self, now: Millis) {
        let Some(answer) = self.waiting_for.ticket().and_then(|ticket| self.amqp.broker.answered(ticket))
        else {
            return;
        };
        match answer {
            Ok(()) => {
                self.waiting_for.end(&mut self.out);
                // It was not read from.
                self.heartbeat.received(now);
            }
            Err(error) => {
                self.waiting_for.give_up(&mut self.out);
                if self.stage == Stage::Running {
                    self.fail(&AmqpError::from(error).without_method(), now);
                } else {
                    // The client was about to get an error of its own, behind the answer to what has failed.
                    self.stage = Stage::Closed;
                }
            }
        }
    }

    /// Whether a publisher that is too fast still has to wait: for a moment, and for as long as the journal is behind.
    fn is_held_back(&mut self, now: Millis) -> bool {
        let Some(until) = self.held_back_until else { return false };
        if until <= now && self.amqp.broker.journal().is_behind() {
            self.held_back_until = Some(now + HOLD_BACK_MS);
        } else if until <= now {
            self.held_back_until = None;
        }
        self.held_back_until.is_some()
    }

    /// Encodes deliveries until `out` is full or nothing waits. True when something still waits.
    fn put_deliveries(&mut self, out: &mut Transmit) -> bool {
        let room = self.amqp.settings.transmit_bytes;
        let cancel_notify = self.client_can("consumer_cancel_notify");
        loop {
            if out.len() >= room {
                return true;
            }
            let mut taken = std::mem::take(&mut self.taken);
            self.outbox.take(&mut taken, room);
            if taken.is_empty() {
                self.taken = taken;
                return false;
            }
            self.trace(&taken);
            self.tell_cancelled(&taken);
            let mut wire = Wire {
                now: self.turn.now,
                cancel_notify,
                frame_max: self.frame_max,
                out: &mut *out,
                sent: &mut self.sent,
                ack_deadline: &mut self.ack_deadline,
            };
            for outgoing in taken.drain(..) {
                let number = channel_of(outgoing.link());
                self.traffic.touch(number);
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.send(outgoing, &mut wire);
                }
            }
            self.taken = taken;
            self.tell_queues_of_sent();
        }
    }

    /// Copies what is about to be sent to the firehose, if the vhost is traced.
    fn trace(&mut self, taken: &[Outgoing]) {
        let Some(open) = self.open.as_ref().filter(|open| open.vhost.is_traced()) else { return };
        for outgoing in taken {
            if let Some(channel) = self.channels.get(&channel_of(outgoing.link())) {
                channel.trace_outgoing(outgoing, &open.live, &open.vhost, &mut self.turn);
            }
        }
    }

    /// Tells of the consumers whose queues are gone, if anybody hears it.
    fn tell_cancelled(&self, taken: &[Outgoing]) {
        let broker = &self.amqp.broker;
        let Some(open) = self.open.as_ref().filter(|_| broker.events().are_heard()) else { return };
        for outgoing in taken {
            if let Some(channel) = self.channels.get(&channel_of(outgoing.link())) {
                channel.tell_cancelled(outgoing, broker, &open.live);
            }
        }
    }

    /// Queues hear what has left the outbox, and may put more into it.
    fn tell_queues_of_sent(&mut self) {
        for sent in self.sent.drain(..) {
            let timeout_ms = self.amqp.settings.consumer_timeout_ms;
            sent.tell(timeout_ms, &mut self.ack_deadline, &mut self.turn);
        }
        if self.amqp.broker.is_short_of_memory() {
            self.page_out_unacked();
        }
        if let Some(open) = &self.open {
            open.vhost.apply_effects(&mut self.turn);
        }
        self.amqp.broker.end_turn(&mut self.turn);
    }

    /// Lets go of the messages that wait for an acknowledgement on any of the channels.
    pub(super) fn page_out_unacked(&mut self) {
        for channel in self.channels.values_mut() {
            self.is_spilling |= channel.page_out_unacked(&mut self.turn);
        }
        if let Some(open) = &self.open {
            open.vhost.apply_effects(&mut self.turn);
        }
    }

    /// Whether deliveries have to wait until the journal has caught up with what this connection paged out.
    fn must_deliveries_wait(&mut self, now: Millis) -> bool {
        self.is_spilling &= self.amqp.broker.journal().is_behind();
        if self.is_spilling {
            self.held_back_until = Some(now + HOLD_BACK_MS);
        }
        self.is_spilling
    }

    /// Whether what comes has to wait: a message came while an alarm is up. As in RabbitMQ its header still passes, and its
    /// body does not.
    pub(super) fn is_held_up(&mut self) -> bool {
        if self.stage != Stage::Running {
            return false;
        }
        if std::mem::take(&mut self.published) && self.held_up.is_none() {
            self.held_up = self.amqp.broker.alarms().reason();
        }
        self.held_up.is_some()
    }

    /// Sends connection.blocked to a publisher that is blocked, and connection.unblocked when it may go on (RabbitMQ's extension).
    fn put_blocked(&mut self) {
        let Some(reason) = self.held_up else { return };
        if !self.blocked {
            self.blocked = true;
            if self.client_can("connection.blocked") {
                self.put(connection::AMQPMethod::Blocked(connection::Blocked { reason: reason.into() }));
            }
            self.amqp.broker.alarms().wake_when_cleared(&self.outbox);
        } else if self.amqp.broker.alarms().reason().is_none() {
            self.blocked = false;
            self.held_up = None;
            self.heartbeat.received(self.turn.now);
            if self.client_can("connection.blocked") {
                self.put(connection::AMQPMethod::Unblocked(connection::Unblocked {}));
            }
        }
    }
}
