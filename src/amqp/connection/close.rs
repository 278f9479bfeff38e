//! How a connection ends: by an error, by silence, by being taken down (0-9-1 section 2.2.4).

use super::{Connection, End, Stage};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::{self, Frame, put_heartbeat};
use crate::amqp::method;
use crate::client::DeletingQueues;
use crate::message::Millis;
use amq_protocol::protocol::connection;

/// How long a peer whose frames can't be cut any more gets to read why its connection ends.
const LOST_TRACK_MS: u64 = 3000;

const CLOSE: (u16, u16) = (10, 50);
const CLOSE_OK: (u16, u16) = (10, 51);

impl Connection {
    /// Gives everything back: channels end, exclusive queues go. Nothing is held after that.
    pub(super) fn release(&mut self) {
        // Whatever it did before: most have little to give back, and others wait for it.
        self.turn.begin(self.turn.now);
        let numbers: Vec<_> = self.channels.keys().copied().collect();
        for number in &numbers {
            if let Some((channel, mut context)) = self.channel(*number) {
                channel.end_consumers(&mut context);
            }
        }
        for number in numbers {
            if let Some((channel, mut context)) = self.channel(number) {
                let returning = channel.release(&mut context);
                context.leave(returning);
                context.vhost.apply_effects(context.turn);
            }
            self.forget_channel(number);
        }
        self.answers.end();
        self.logging_in = None;
        let Some(open) = self.open.take() else { return };
        let deleting = DeletingQueues::new(&open.vhost, self.id, &mut self.exclusive_queues);
        self.amqp.broker.leave(open.vhost.name(), Box::new(deleting), &mut self.turn);
        open.vhost.apply_effects(&mut self.turn);
        self.amqp.broker.connections().remove(self.id);
        self.tell_closed(open.live.facts());
    }

    /// Ends the connection with an error, and waits for the client's answer.
    pub(super) fn fail(&mut self, error: &AmqpError, now: Millis) {
        if matches!(self.stage, Stage::Closing { .. } | Stage::Refused { .. } | Stage::Closed) {
            return;
        }
        let end = if error.code == ReplyCode::ConnectionForced { End::Orderly } else { End::Faulty };
        self.log_end(end, &error.to_string());
        if self.stage == Stage::ProtocolHeader {
            self.stage = Stage::Closed;
            return;
        }
        self.release();
        if matches!(error.code, ReplyCode::ConnectionForced | ReplyCode::InternalError) {
            // Ending it now does not wait for what the client asked before.
            self.waiting_for.give_up(&mut self.out);
        }
        self.put_close(error);
        self.stage = Stage::Closing { until: now + self.close_patience_ms() };
    }

    /// Says that the connection ends with this error.
    pub(super) fn put_close(&mut self, error: &AmqpError) {
        let (class_id, method_id) = error.method.unwrap_or_default();
        self.put(connection::AMQPMethod::Close(connection::Close {
            reply_code: error.code.number(),
            reply_text: error.reply_text().as_str().into(),
            class_id,
            method_id,
        }));
    }

    /// How long the client's answer is waited for, or that it hangs up: no longer than a client may be silent.
    pub(super) fn close_patience_ms(&self) -> u64 {
        if self.lost_track {
            return LOST_TRACK_MS;
        }
        let longest = self.amqp.settings.close_timeout_ms;
        match self.heartbeat.timeout_s() {
            0 => longest,
            timeout_s => longest.min(u64::from(timeout_s) * 1000),
        }
    }

    /// After close only the answer counts.
    pub(super) fn handle_closing(&mut self, frame: &Frame<'_>) -> Result<(), AmqpError> {
        if frame.channel == 0 && frame.kind == frame::METHOD {
            match method::ids(frame.payload) {
                CLOSE_OK => self.stage = Stage::Closed,
                // Both ends closed at once.
                CLOSE => self.put(connection::AMQPMethod::CloseOk(connection::CloseOk {})),
                _ => {}
            }
        }
        Ok(())
    }

    /// Does what is due: heartbeats, and the ends of patience.
    pub(super) fn check_deadlines(&mut self, now: Millis) {
        match self.stage {
            Stage::Closing { until } if until <= now => self.stage = Stage::Closed,
            Stage::Refused { until } if until <= now => self.end_refused(now),
            Stage::Closing { .. } | Stage::Refused { .. } | Stage::Closed => {}
            Stage::LoggingIn if self.login_waits_until().is_some_and(|until| until <= now) => {
                self.try_login(now)
            }
            Stage::Running => {
                self.check_heartbeat(now);
                self.check_acknowledgements(now);
            }
            _ => {
                if self.handshake_until() <= now {
                    let patience_ms = self.amqp.settings.handshake_timeout_ms;
                    self.give_up(&format!("not open after {patience_ms} ms"));
                }
            }
        }
    }

    /// Ends the connection without a word, since its peer has said none for too long.
    fn give_up(&mut self, reason: &str) {
        self.log_end(End::Faulty, reason);
        self.release();
        self.stage = Stage::Closed;
        self.given_up = true;
    }

    fn check_heartbeat(&mut self, now: Millis) {
        // A peer that is not read from can't be heard.
        if self.is_read_from() && self.heartbeat.is_dead(now) {
            return self.give_up("missed heartbeats");
        }
        if self.heartbeat.send_at().is_some_and(|at| at <= now) {
            put_heartbeat(self.waiting_for.sendable(&mut self.out));
        }
    }

    /// Whether what the peer sends is read.
    fn is_read_from(&self) -> bool {
        !self.blocked && self.waiting_for.ticket().is_none()
    }

    /// Looks for deliveries that were not acknowledged in time.
    fn check_acknowledgements(&mut self, now: Millis) {
        if self.stage != Stage::Running || !self.ack_deadline.take_due(now) {
            return;
        }
        let cancel_notify = self.client_can("consumer_cancel_notify");
        let numbers: Vec<_> = self.channels.keys().copied().collect();
        for number in numbers {
            if let Some((channel, mut context)) = self.channel(number) {
                channel.check_timeouts(cancel_notify, &mut context);
            }
        }
    }

    fn handshake_until(&self) -> Millis {
        self.started_at + self.amqp.settings.handshake_timeout_ms
    }

    /// When [`Connection::check_deadlines`] has to be called next.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        match self.stage {
            Stage::Closing { until } | Stage::Refused { until } => Some(until),
            Stage::Closed => None,
            Stage::Running => {
                let dead_at = self.heartbeat.dead_at().filter(|_| self.is_read_from());
                [self.heartbeat.send_at(), dead_at, self.ack_deadline.at()].into_iter().flatten().min()
            }
            _ => Some(
                self.login_waits_until().map_or(self.handshake_until(), |at| at.min(self.handshake_until())),
            ),
        }
    }

    fn login_waits_until(&self) -> Option<Millis> {
        self.logging_in.as_ref()?.waits_until()
    }
}
