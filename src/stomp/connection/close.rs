//! How a connection ends: by DISCONNECT, by an error, by silence, by being taken down.

use super::{Connection, End, Stage};
use crate::client::{DeletingQueues, Returning};
use crate::message::Millis;
use crate::session::Transmit;
use crate::stomp::error::StompError;
use crate::stomp::frame::{HeadWriter, Headers};

/// How long a client that was sent an ERROR gets to hang up: a socket that is closed under what a client is still sending is reset,
/// and the client may miss what was sent to it.
const LINGER_MS: u64 = 250;

impl Connection {
    /// Gives everything back: consumers end, transactions are rolled back, deliveries return to their queues, exclusive queues go.
    /// Nothing is held after that.
    pub(super) fn release(&mut self) {
        // Whatever it did before: most have little to give back, and others wait for it.
        self.turn.begin(self.turn.now);
        self.flush();
        let settled = self.leave_underway();
        for transaction in self.transactions.take_all() {
            self.unacked.put_back(transaction);
        }
        let ending = self.end_subscriptions();
        let returning = Returning::new(std::mem::take(&mut self.unacked), settled, Vec::new());
        self.leave(returning.after(ending));
        self.apply_effects();
        self.connecting = None;
        let Some(open) = self.open.take() else { return };
        let deleting = DeletingQueues::new(&open.vhost, self.id, &mut self.exclusive_queues);
        self.stomp.broker.leave(open.vhost.name(), Box::new(deleting), &mut self.turn);
        open.vhost.apply_effects(&mut self.turn);
        self.stomp.broker.connections().remove(self.id);
        self.tell_closed(open.live.facts());
    }

    /// DISCONNECT: the receipt says that all before it is durable, and then the socket is closed.
    pub(super) fn disconnect(&mut self, headers: &Headers<'_>, now: Millis) {
        self.log_end(End::Orderly, "closed by the client");
        self.release();
        match headers.get("receipt") {
            Some(receipt) => {
                self.receipts.ask(receipt.to_vec());
                self.stage = Stage::Disconnecting;
            }
            None => self.stage = Stage::Lingering { until: now + LINGER_MS },
        }
    }

    /// Ends the connection with an error.
    pub(super) fn fail(&mut self, error: StompError, now: Millis) {
        self.fail_with(End::Faulty, error, now);
    }

    /// Ends the connection with an ERROR, and says in the log how bad that is.
    pub(super) fn fail_with(&mut self, end: End, error: StompError, now: Millis) {
        if matches!(self.stage, Stage::Failing | Stage::Lingering { .. } | Stage::Closed) {
            return;
        }
        self.log_end(end, &error.to_string());
        self.release();
        let mut head = HeadWriter::new("ERROR", &mut self.last_words);
        head.value("message", error.message.as_bytes());
        head.plain("content-type", b"text/plain");
        head.plain("version", super::connect::VERSIONS.as_bytes());
        if let Some(subscription) = &error.subscription {
            head.value("subscription", subscription);
        }
        if let Some(receipt) = &error.receipt {
            head.value("receipt-id", receipt);
        }
        head.number("content-length", error.body.len() as u64);
        head.end();
        self.last_words.extend_from_slice(error.body.as_bytes());
        self.stage = Stage::Failing;
        self.say_last_words(now);
    }

    /// Says why the connection ends, once all receipts are sent for what came before. Of what the store has lost there are none.
    pub(super) fn say_last_words(&mut self, now: Millis) {
        if self.stage != Stage::Failing {
            return;
        }
        if self.stomp.broker.journal().failure().is_some() {
            self.receipts.give_up();
        }
        if self.receipts.count() == 0 {
            self.out.put(&std::mem::take(&mut self.last_words));
            put_end(&mut self.out, self.stomp.settings.trailing_lf);
            self.stage = Stage::Lingering { until: now + LINGER_MS };
        }
    }

    /// Puts the frame whose head has been written behind all that is to be sent.
    pub(super) fn put_frame(&mut self, body: &[u8]) {
        self.out.put(&self.head);
        self.head.clear();
        self.out.put(body);
        put_end(&mut self.out, self.stomp.settings.trailing_lf);
    }

    /// Does what is due: heart-beats, and the ends of patience.
    pub(super) fn check_deadlines(&mut self, now: Millis) {
        match self.stage {
            Stage::Lingering { until } if until <= now => self.stage = Stage::Closed,
            Stage::Failing | Stage::Lingering { .. } | Stage::Disconnecting | Stage::Closed => {}
            Stage::LoggingIn if self.login_waits_until().is_some_and(|until| until <= now) => {
                self.try_login(now);
            }
            Stage::Running => {
                if !self.blocked && self.heartbeat.is_dead(now) {
                    self.give_up("missed heart-beats");
                } else if self.heartbeat.send_at().is_some_and(|at| at <= now) {
                    self.out.put(b"\n");
                }
            }
            Stage::Connecting | Stage::LoggingIn => {
                if self.login_until() <= now {
                    let patience_ms = self.stomp.settings.login_timeout_ms;
                    self.give_up(&format!("not logged in after {patience_ms} ms"));
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

    fn login_until(&self) -> Millis {
        self.started_at + self.stomp.settings.login_timeout_ms
    }

    fn login_waits_until(&self) -> Option<Millis> {
        self.connecting.as_ref()?.waits_until()
    }

    /// When [`Connection::check_deadlines`] has to be called next.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        match self.stage {
            Stage::Lingering { until } => Some(until),
            Stage::Failing | Stage::Disconnecting | Stage::Closed => None,
            Stage::Running => {
                // A peer that is not read from can't be heard.
                let dead_at = self.heartbeat.dead_at().filter(|_| !self.blocked);
                [self.heartbeat.send_at(), dead_at].into_iter().flatten().min()
            }
            Stage::Connecting | Stage::LoggingIn => {
                let until = self.login_until();
                Some(self.login_waits_until().map_or(until, |at| at.min(until)))
            }
        }
    }
}

/// Ends a frame.
pub(super) fn put_end(out: &mut Transmit, trailing_lf: bool) {
    out.put(if trailing_lf { b"\0\n" } else { b"\0" });
}
