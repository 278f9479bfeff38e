//! What comes from the client: frames are cut, and go where they belong by how far the connection has come.

use super::{Connection, End, Stage};
use crate::message::Millis;
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Cut, Fields, Frame, Malformed, cut, key};
use bytes::{Buf, BytesMut};

/// What is done after a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next one.
    GoOn,
    /// The connection ends, and its client hears why.
    Close(Code, &'static str),
    /// The connection ends without a word.
    HangUp(String),
    /// The client has asked for the end, and said why; that is answered with this correlation.
    AnswerClose(u32, String),
}

impl Connection {
    /// Handles the frames of `input`. True when it stopped before the last one: a client that does not read the answers waits until
    /// there is room for more of them.
    pub(super) fn handle_frames(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        let mut done = 0;
        let stopped = loop {
            if matches!(self.stage, Stage::Closed) {
                done = input.len();
                break false;
            }
            if self.must_wait() {
                break true;
            }
            match cut(&input[done..], self.frame_max()) {
                Cut::Unfinished => break false,
                Cut::Whole(frame, bytes) => {
                    if self.is_blocked_by(&frame) {
                        break true;
                    }
                    self.handle_frame(&frame, now);
                    done += bytes;
                }
                Cut::TooLarge(size) => {
                    let what = format!("a frame of {size} bytes{}", hint(&input[done..]));
                    self.refuse_frame(Code::FrameTooLarge, "frame too large", &what, now);
                    done = input.len();
                    break false;
                }
                Cut::TooShort => {
                    self.refuse_frame(Code::UnknownFrame, "unknown frame", "a frame without a key", now);
                    done = input.len();
                    break false;
                }
            }
        };
        input.advance(done);
        self.common.traffic.received_bytes += done as u64;
        self.common.traffic.received_count += 1;
        stopped
    }

    /// Bytes that a frame may take.
    fn frame_max(&self) -> usize {
        let settings = &self.common.protocol.settings;
        match &self.stage {
            Stage::Open(open) if open.frame_max > 0 => open.frame_max as usize,
            // A frame is no larger than a message, with room for what is around it.
            Stage::Open(_) | Stage::Closing { .. } => settings.message_bytes_max + settings.initial_frame_max,
            Stage::Handshake(_) | Stage::Closed => settings.initial_frame_max,
        }
    }

    /// Whether the next frame waits: for a login, for memory or disk space, or since much waits to be sent.
    fn must_wait(&self) -> bool {
        let settings = &self.common.protocol.settings;
        let waits = match &self.stage {
            Stage::Handshake(handshake) => handshake.is_logging_in(),
            Stage::Open(open) => open.must_wait(settings),
            Stage::Closing { .. } | Stage::Closed => false,
        };
        waits || self.common.turn.is_over() || self.common.out.len() >= settings.transmit_bytes
    }

    /// A publish that comes while an alarm is up waits, and all that is behind it.
    fn is_blocked_by(&mut self, frame: &Frame<'_>) -> bool {
        let alarms = self.common.protocol.broker.alarms();
        if let Stage::Open(open) = &mut self.stage
            && frame.key == key::PUBLISH
            && alarms.reason().is_some()
        {
            open.is_blocked = true;
            alarms.wake_when_cleared(&self.common.outbox);
            return true;
        }
        false
    }

    fn handle_frame(&mut self, frame: &Frame<'_>, now: Millis) {
        let fields = Fields::of(frame.body);
        let next = match &mut self.stage {
            Stage::Handshake(handshake) => handshake.handle(frame, fields, &mut self.common, now),
            Stage::Open(open) => open.handle(frame, fields, &mut self.common),
            // The answer to the broker's close ends it; whatever else comes is passed over.
            Stage::Closing { .. } if frame.key == key::CLOSE | key::RESPONSE => {
                self.stage = Stage::Closed;
                return;
            }
            Stage::Closing { .. } | Stage::Closed => return,
        };
        match next {
            Ok(next) => self.take_next(next, now),
            Err(Malformed) => {
                let what = format!(
                    "a frame of {} bytes with key {:#06x} can't be read",
                    frame.body.len(),
                    frame.key
                );
                self.refuse_frame(Code::UnknownFrame, "unknown frame", &what, now);
            }
        }
        self.go_on_from_handshake(now);
    }

    pub(super) fn take_next(&mut self, next: Next, now: Millis) {
        match next {
            Next::GoOn => {}
            Next::Close(code, reason) => self.close(End::Faulty, code, reason, reason, now),
            Next::HangUp(reason) => self.end(End::Faulty, &reason, Stage::Closed),
            Next::AnswerClose(correlation, reason) => self.answer_close(correlation, &reason, now),
        }
    }

    /// A frame that is none, or that is not known. Before the connection is open nothing is said of it.
    fn refuse_frame(&mut self, code: Code, reason: &'static str, what: &str, now: Millis) {
        match self.stage {
            Stage::Open(_) => self.close(End::Faulty, code, reason, what, now),
            _ => self.end(End::Faulty, what, Stage::Closed),
        }
    }
}

/// What input looks like that begins so.
fn hint(input: &[u8]) -> &'static str {
    match input {
        [0x16, 0x03, ..] => ": it looks like TLS on the port for plain connections",
        [b'A', b'M', b'Q', b'P', ..] => ": it looks like AMQP",
        [b'G', b'E', b'T', b' ', ..] => ": it looks like HTTP",
        [b'C', b'O', b'N', b'N', ..] | [b'S', b'T', b'O', b'M', ..] => ": it looks like STOMP",
        [b'P', b'R', b'O', b'X', ..] | [b'\r', b'\n', b'\r', b'\n', ..] => {
            ": it looks like a header of the PROXY protocol, which is taken where the listener's proxy_protocol is set, and from its \
             proxy_networks alone"
        }
        _ => "",
    }
}
