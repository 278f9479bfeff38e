//! How a connection ends: by a close of either side, by silence, by being taken down.

use super::{Connection, End, Stage};
use crate::message::Millis;
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{FrameWriter, key};

/// How long a client gets to answer a close, and to hang up.
const CLOSE_PATIENCE_MS: u64 = 3000;

/// How long one gets that hangs up by itself: a socket that is closed under what a client is still sending is reset, and the client may
/// miss what was sent to it.
const LINGER_MS: u64 = 250;

impl Connection {
    /// Ends the connection, and gives all back that it holds. Only the first reason is logged.
    pub(super) fn end(&mut self, end: End, reason: &str, stage: Stage) {
        if matches!(self.stage, Stage::Closed) {
            return;
        }
        let before = std::mem::replace(&mut self.stage, stage);
        match before {
            Stage::Open(mut open) => {
                self.common.log_closed(end, Some((&open.user.name, open.vhost.name())), reason);
                // What it has done by then goes to the journal like everything else.
                open.release(&mut self.common);
            }
            Stage::Handshake(_) => self.common.log_closed(end, None, reason),
            Stage::Closing { .. } | Stage::Closed => {}
        }
        self.newcomer = None;
    }

    /// Tells the client that the connection ends, and why; `what` is for the log.
    pub(super) fn close(&mut self, end: End, code: Code, reason: &str, what: &str, now: Millis) {
        let mut frame = FrameWriter::new(key::CLOSE, 1);
        frame.u32(1).u16(code.number()).text(reason).put(&mut self.common.out);
        self.end(end, what, Stage::Closing { until: now + CLOSE_PATIENCE_MS });
    }

    /// The client has asked for the end.
    pub(super) fn answer_close(&mut self, correlation: u32, reason: &str, now: Millis) {
        FrameWriter::response(key::CLOSE, correlation).u16(Code::Ok.number()).put(&mut self.common.out);
        let reason = format!("closed by the client: {reason}");
        self.end(End::Orderly, &reason, Stage::Closing { until: now + LINGER_MS });
    }

    /// Does what is due: heartbeats, and the ends of patience.
    pub(super) fn check_deadlines(&mut self, now: Millis) {
        match &self.stage {
            Stage::Closing { until } if *until <= now => self.stage = Stage::Closed,
            Stage::Closing { .. } | Stage::Closed => {}
            Stage::Handshake(_) => self.check_handshake(now),
            Stage::Open(open) if open.renewal_at().is_some_and(|at| at <= now) => self.look_at_renewal(now),
            Stage::Open(open) => {
                let is_read_from = !open.is_blocked;
                if open.asked.values().any(|asked| asked.until <= now) {
                    self.give_up("a consumer update was not answered");
                } else if is_read_from && self.common.heartbeat.is_dead(now) {
                    self.give_up("missed heartbeats");
                } else if self.common.heartbeat.send_at().is_some_and(|at| at <= now) {
                    FrameWriter::new(key::HEARTBEAT, 1).put(&mut self.common.out);
                }
            }
        }
    }

    /// Ends the connection without a word, since its peer has said none for too long.
    fn give_up(&mut self, reason: &str) {
        self.end(End::Faulty, reason, Stage::Closed);
        self.is_given_up = true;
    }

    /// When [`Connection::check_deadlines`] has to be called next.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let heartbeat = &self.common.heartbeat;
        match &self.stage {
            Stage::Closing { until } => Some(*until),
            Stage::Closed => None,
            Stage::Handshake(handshake) => Some(handshake.deadline()),
            Stage::Open(open) => {
                // A peer that is not read from can't be heard.
                let dead_at = heartbeat.dead_at().filter(|_| !open.is_blocked);
                let renewal = open.renewal_at();
                let asked = open.asked.values().map(|asked| asked.until).min();
                [heartbeat.send_at(), dead_at, asked, renewal, self.common.held_back_until]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }
}
