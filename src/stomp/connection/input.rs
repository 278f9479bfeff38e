//! What comes from the client: frames are cut and go where they belong.

use super::{Connection, End, Stage, Version};
use crate::message::Millis;
use crate::stomp::error::StompError;
use crate::stomp::frame::{Command, Frame, Malformed};
use crate::stomp::parser::{Cut, Parser};
use bytes::{Buf, BytesMut};

impl Connection {
    /// Handles the frames of `input`. True when it stopped before the last one: a client that does not read the answers
    /// waits until there is room for more of them.
    pub(super) fn handle_frames(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        let mut parser = std::mem::take(&mut self.parser);
        let mut done = 0;
        self.go_on(now);
        let stopped = loop {
            if self.is_ending() {
                done = input.len();
                break false;
            }
            if self.must_wait() {
                break true;
            }
            if self.stage == Stage::Running {
                parser.logged_in();
            }
            if self.stage == Stage::Running
                && parser.is_between_frames()
                && let Some(bytes) = self.send_again(&input[done..], now)
            {
                done += bytes;
                continue;
            }
            match parser.cut(&input[done..], &self.stomp.settings.frame) {
                Ok(Cut::Noise(noise)) => done += noise,
                Ok(Cut::Unfinished(taken)) => {
                    done += taken;
                    break false;
                }
                Ok(Cut::Whole(mut frame, bytes)) => {
                    if self.stage == Stage::Running && self.version == Version::V1_0 {
                        frame.headers.trim();
                    }
                    if self.is_blocked_by(&frame) {
                        break true;
                    }
                    if self.stage == Stage::Connecting
                        && self.stomp.settings.implicit_connect
                        && frame.command != Command::Connect
                    {
                        // The same frame comes again when the login is through.
                        if let Err(error) = self.connect_implicitly(now) {
                            self.fail(error, now);
                        }
                        continue;
                    }
                    self.handle_frame(&frame, now);
                    if frame.command == Command::Send {
                        let body_bytes = frame.body.len();
                        self.remember_head(&input[done..done + bytes], body_bytes);
                    }
                    parser.next();
                    done += bytes;
                }
                Err(fault) => self.fail_malformed(&fault, &input[done..], now),
            }
        };
        self.parser = if self.open.is_some() { parser } else { keep(parser, self.stage) };
        input.advance(done);
        self.traffic.received(done);
        stopped
    }

    /// Whether nothing that comes counts any more.
    fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Disconnecting | Stage::Failing | Stage::Lingering { .. } | Stage::Closed)
    }

    /// Whether the next frame waits: for a login, for the rest of what the one before it asked, or since much waits to be sent.
    fn must_wait(&self) -> bool {
        self.stage == Stage::LoggingIn
            || self.blocked
            || self.underway.is_some()
            || self.turn.is_over()
            || self.out.len() + self.receipts.bytes() >= self.stomp.settings.transmit_bytes
    }

    /// A message that comes while an alarm is up waits, and all that is behind it.
    fn is_blocked_by(&mut self, frame: &Frame<'_>) -> bool {
        if self.stage == Stage::Running
            && frame.command == Command::Send
            && self.stomp.broker.alarms().reason().is_some()
        {
            self.blocked = true;
            self.stomp.broker.alarms().wake_when_cleared(&self.outbox);
        }
        self.blocked
    }

    fn handle_frame(&mut self, frame: &Frame<'_>, now: Millis) {
        let handled = match self.stage {
            Stage::Connecting => self.handle_first(frame, now),
            _ => self.handle_request(frame, now),
        };
        if let Err(error) = handled {
            let receipt = error.receipt.clone().or_else(|| frame.headers.get("receipt").map(<[u8]>::to_vec));
            self.fail(StompError { receipt, ..error }, now);
        }
    }

    fn handle_request(&mut self, frame: &Frame<'_>, now: Millis) -> Result<(), StompError> {
        let headers = &frame.headers;
        if frame.command == Command::Send {
            return self.send(frame);
        }
        if !matches!(frame.command, Command::Ack) {
            self.flush();
        }
        match frame.command {
            Command::Subscribe => self.subscribe(headers)?,
            Command::Unsubscribe => self.unsubscribe(headers)?,
            Command::Ack => self.ack(headers)?,
            Command::Nack => self.nack(headers)?,
            Command::Begin => self.begin(headers)?,
            Command::Commit => self.commit(headers)?,
            Command::Abort => self.abort(headers)?,
            Command::Disconnect => self.disconnect(headers, now),
            Command::Connect => {
                return Err(StompError::new("Bad CONNECT", "the client is connected already\n"));
            }
            Command::Send | Command::Unknown(_) => {
                let name = frame.command.name();
                let body = format!("Could not interpret command \"{name}\"\n");
                return Err(StompError::new("Bad command", body));
            }
        }
        if let Some(receipt) = headers.get("receipt")
            && !matches!(frame.command, Command::Commit | Command::Disconnect)
        {
            self.receipts.ask(receipt.to_vec());
            if frame.command == Command::Subscribe {
                self.receipts.comes_before_deliveries();
            }
        }
        Ok(())
    }

    /// What comes can't be cut into frames any more.
    fn fail_malformed(&mut self, fault: &Malformed, input: &[u8], now: Millis) {
        let hint = match input {
            [0x16, 0x03, ..] => ": it looks like TLS on the port for plain connections",
            [b'A', b'M', b'Q', b'P', ..] => ": it looks like AMQP",
            [b'G', b'E', b'T', b' ', ..] => ": it looks like HTTP",
            [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => {
                ": it looks like a header of the PROXY protocol, which is taken where the listener's proxy_protocol is set, and \
                 from its proxy_networks alone"
            }
            _ => "",
        };
        let body = format!("{fault}{hint}\n");
        self.fail_with(End::Faulty, StompError::new("Malformed frame", body), now);
    }
}

/// Before the login only what is arriving is of use.
fn keep(parser: Parser, stage: Stage) -> Parser {
    if matches!(stage, Stage::Connecting | Stage::LoggingIn) { parser } else { Parser::default() }
}
