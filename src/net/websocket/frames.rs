//! Reads WebSocket frames (RFC 6455, section 5) as the bytes of a stream: what frames carry is passed on as it comes, however long
//! a frame or a message is, so that nothing is gathered for a peer that has not logged in.
//!
//! What is read from a socket is decoded in place. Payloads move to the front of it, unmasked; headers are left out.

#[cfg(test)]
mod tests;

use crate::steps;
use std::io::Cursor;
use std::ops::Range;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// Bytes of the longest header: two, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;

/// Bytes that a control frame may carry at most (section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// Decodes the frames of one client.
#[derive(Debug, Default)]
pub struct Decoder {
    part: Part,
    /// What has come of a header that is not whole.
    header: Start<HEADER_BYTES_MAX>,
    /// The message that more fragments follow for.
    message: Option<Message>,
    /// The payload of the last ping that is not answered yet.
    ping: Option<Vec<u8>>,
    end: Option<End>,
}

/// What comes next.
#[derive(Debug, Default)]
enum Part {
    #[default]
    Header,
    Payload {
        carries: Carries,
        mask: [u8; 4],
        left: u64,
    },
}

#[derive(Debug)]
enum Carries {
    /// A part of the message; the last one has no further fragments.
    Data { is_last: bool },
    /// What has come of a control frame.
    Control { kind: Control, bytes: Vec<u8> },
}

/// What a message is made of.
#[derive(Debug)]
enum Message {
    Binary,
    Text(Utf8),
}

/// Why nothing more is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has sent a close frame, with that code if it has one.
    Closed(Option<CloseCode>),
    /// It has sent what is not allowed.
    Violated(Violation),
}

/// What is wrong with a client's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is answered with (section 7.4.1).
    pub code: CloseCode,
    /// What the client did wrong, as the close frame says it.
    pub reason: &'static str,
}

impl Violation {
    const fn protocol(reason: &'static str) -> Violation {
        Violation { code: CloseCode::Protocol, reason }
    }

    const TEXT: Violation = Violation {
        code: CloseCode::Invalid,
        reason: "a text message is no UTF-8; binary messages may be anything",
    };
}

impl Decoder {
    /// Decodes what was read. Returns how many bytes of payload there are now at its front; the rest means nothing any more.
    pub fn decode(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut filled) = (0, 0);
        while at < bytes.len() && self.end.is_none() {
            steps::count(1);
            at += match &mut self.part {
                Part::Header => self.take_header(&bytes[at..]),
                Part::Payload { left, .. } => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    self.take_payload(bytes, at..at + take, &mut filled);
                    take
                }
            };
            if matches!(self.part, Part::Payload { left: 0, .. }) {
                self.end_frame();
            }
        }
        filled
    }

    /// Why nothing more is decoded, if so.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// What a ping carried that is to be answered. Of several that came together that is the last one (section 5.5.3).
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// Takes what there is of a header, and returns how many bytes that is.
    fn take_header(&mut self, bytes: &[u8]) -> usize {
        let had = self.header.len;
        self.header.fill(bytes);
        let mut cursor = Cursor::new(self.header.bytes());
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                // Of a header it was known before that it is not whole, so all that it takes comes out of these bytes.
                let taken = usize::try_from(cursor.position()).unwrap_or(HEADER_BYTES_MAX) - had;
                self.header = Start::default();
                match self.begin_frame(&header, length) {
                    Ok(part) => self.part = part,
                    Err(violation) => self.end = Some(End::Violated(violation)),
                }
                taken
            }
            Ok(None) => self.header.len - had,
            Err(_) => {
                self.end = Some(End::Violated(Violation::protocol("a frame has an unknown opcode")));
                0
            }
        }
    }

    /// Checks a header, and returns what comes behind it.
    fn begin_frame(&mut self, header: &FrameHeader, length: u64) -> Result<Part, Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::protocol("a frame has reserved bits set, without an extension agreed on"));
        }
        let Some(mask) = header.mask else {
            return Err(Violation::protocol("a frame is not masked, as those of clients have to be"));
        };
        if length > u64::MAX >> 1 {
            return Err(Violation::protocol("the length of a frame has its highest bit set"));
        }
        let carries = match header.opcode {
            OpCode::Control(kind) => {
                if !header.is_final {
                    return Err(Violation::protocol("a control frame is fragmented"));
                }
                if length > CONTROL_BYTES_MAX {
                    return Err(Violation::protocol("a control frame has more than 125 bytes"));
                }
                Carries::Control { kind, bytes: Vec::new() }
            }
            OpCode::Data(data) => {
                let message = match (data, &self.message) {
                    (Data::Continue, Some(_)) => None,
                    (Data::Continue, None) => {
                        return Err(Violation::protocol("a frame continues a message, and there is none"));
                    }
                    (_, Some(_)) => {
                        return Err(Violation::protocol("a message begins before the last one has ended"));
                    }
                    (Data::Text, None) => Some(Message::Text(Utf8::default())),
                    (_, None) => Some(Message::Binary),
                };
                self.message = message.or(self.message.take());
                Carries::Data { is_last: header.is_final }
            }
        };
        Ok(Part::Payload { carries, mask, left: length })
    }

    /// Takes the payload that is in `range`, and puts it behind what is `filled` already if it belongs to a message.
    fn take_payload(&mut self, bytes: &mut [u8], range: Range<usize>, filled: &mut usize) {
        let Part::Payload { carries, mask, left } = &mut self.part else { return };
        let (count, is_data) = (range.len(), matches!(carries, Carries::Data { .. }));
        *left -= count as u64;
        let payload = match carries {
            Carries::Control { bytes: control, .. } => {
                let start = control.len();
                control.extend_from_slice(&bytes[range]);
                &mut control[start..]
            }
            Carries::Data { .. } => {
                if range.start != *filled {
                    bytes.copy_within(range, *filled);
                }
                &mut bytes[*filled..*filled + count]
            }
        };
        unmask(payload, *mask);
        mask.rotate_left(count % 4);
        if is_data {
            if let Some(Message::Text(utf8)) = &mut self.message
                && !utf8.takes(payload)
            {
                self.end = Some(End::Violated(Violation::TEXT));
                return;
            }
            *filled += count;
        }
    }

    /// All of a frame has come.
    fn end_frame(&mut self) {
        let Part::Payload { carries, .. } = std::mem::take(&mut self.part) else { return };
        match carries {
            Carries::Data { is_last: false } => {}
            Carries::Data { is_last: true } => {
                if matches!(self.message.take(), Some(Message::Text(utf8)) if !utf8.is_whole()) {
                    self.end = Some(End::Violated(Violation::TEXT));
                }
            }
            Carries::Control { kind: Control::Ping, bytes } => self.ping = Some(bytes),
            Carries::Control { kind: Control::Close, bytes } => self.end = Some(close(&bytes)),
            // Pongs may come unasked.
            Carries::Control { .. } => {}
        }
    }
}

/// What a close frame says.
fn close(bytes: &[u8]) -> End {
    let Some((code, reason)) = bytes.split_first_chunk() else {
        return match bytes {
            [] => End::Closed(None),
            _ => End::Violated(Violation::protocol("a close frame has half a code")),
        };
    };
    let code = CloseCode::from(u16::from_be_bytes(*code));
    if !code.is_allowed() {
        return End::Violated(Violation::protocol("a close frame has a code that is none"));
    }
    if std::str::from_utf8(reason).is_err() {
        return End::Violated(Violation::TEXT);
    }
    End::Closed(Some(code))
}

/// Takes the mask off; eight bytes at a time, which the compiler makes more of.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The first bytes of what is not whole yet.
#[derive(Clone, Copy, Debug)]
struct Start<const MAX: usize> {
    bytes: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Default for Start<MAX> {
    fn default() -> Start<MAX> {
        Start { bytes: [0; MAX], len: 0 }
    }
}

impl<const MAX: usize> Start<MAX> {
    /// Takes as many bytes as there is room for.
    fn fill(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(MAX - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&bytes[..count]);
        self.len += count;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Checks text that comes in pieces.
#[derive(Debug, Default)]
struct Utf8 {
    /// The bytes of a character that is not whole.
    character: Start<4>,
}

impl Utf8 {
    /// Whether the text is UTF-8 as far as it has come with this piece.
    fn takes(&mut self, mut piece: &[u8]) -> bool {
        while self.character.len > 0 {
            let Some((next, rest)) = piece.split_first() else { return true };
            self.character.fill(std::slice::from_ref(next));
            piece = rest;
            match std::str::from_utf8(self.character.bytes()) {
                Ok(_) => self.character.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => true,
            Err(error) => {
                self.character.fill(&piece[error.valid_up_to()..]);
                error.error_len().is_none()
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.character.len == 0
    }
}
