//! Frames: cutting them out of what a socket brought, and putting together what goes back (0-9-1 section 2.3.5).
//!
//! ```text
//! 0      1         3             7                  size+7 size+8
//! +------+---------+-------------+  +------------+  +-----------+
//! | type | channel |    size     |  |  payload   |  | frame-end |
//! +------+---------+-------------+  +------------+  +-----------+
//! ```

use super::error::{AmqpError, ReplyCode};
use crate::message::{ChannelNumber, Message};
use crate::rabbit::term::binary;
use crate::session::{Pieces, SHARE_BYTES_MIN, Transmit};
use crate::steps;
use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::AMQPClass;

/// Types of frames (0-9-1 section 2.3.5).
pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;

/// The octet that ends every frame.
pub(super) const END: u8 = 0xCE;

/// Octets of a content header's payload before its properties.
pub(super) const HEADER_BYTES_MIN: usize = 12;

/// Octets of a frame around its payload.
pub(super) const ENVELOPE_BYTES: usize = 8;

/// Octets before its payload, and behind it.
pub(super) const HEAD_BYTES: usize = 7;
pub(super) const END_BYTES: usize = 1;

/// Octets of a method's payload before its arguments: the ids of its class and of itself.
const IDS_BYTES: usize = 4;

/// A frame that has come whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) channel: ChannelNumber,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// Whether it is a content header that is long enough to be one, or a content body, on that channel.
    #[inline]
    pub(super) fn is_content_of(&self, channel: ChannelNumber) -> bool {
        let is_content = self.kind == BODY || (self.kind == HEADER && self.payload.len() >= HEADER_BYTES_MIN);
        is_content && self.channel == channel
    }
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FrameFault {
    TooLarge { kind: u8, payload_bytes: usize, payload_bytes_max: usize },
    NoEnd { kind: u8, payload: Vec<u8>, end: u8 },
}

/// Cuts one frame off the front of `input`; `None` when it is not all there yet. A frame's payload may be as large as the
/// whole frame may be: RabbitMQ is lenient by the eight octets around it.
///
/// Inlined: a frame that comes back through memory is read in other pieces than it was written in, and the processor waits.
#[inline(always)]
pub(super) fn cut(input: &[u8], frame_max: usize) -> Result<Option<Frame<'_>>, FrameFault> {
    steps::count(1);
    let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [kind, channel @ .., s0, s1, s2, s3] = *head;
    let channel = ChannelNumber::from_be_bytes(channel);
    let payload_bytes = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    if payload_bytes > frame_max {
        return Err(FrameFault::TooLarge {
            kind,
            payload_bytes,
            payload_bytes_max: frame_max - ENVELOPE_BYTES,
        });
    }
    match rest.get(payload_bytes) {
        None => Ok(None),
        Some(&END) => Ok(Some(Frame { kind, channel, payload: &rest[..payload_bytes] })),
        Some(&end) => Err(no_end(kind, &rest[..payload_bytes], end)),
    }
}

/// The channel and the size of a content body that is not all there yet.
pub(super) fn begun_body(input: &[u8]) -> Option<(ChannelNumber, usize)> {
    let [BODY, channel @ .., s0, s1, s2, s3] = *input.first_chunk::<HEAD_BYTES>()? else { return None };
    Some((ChannelNumber::from_be_bytes(channel), u32::from_be_bytes([s0, s1, s2, s3]) as usize))
}

/// The fault of a frame that ends with another octet.
pub(super) fn no_end(kind: u8, payload: &[u8], end: u8) -> FrameFault {
    FrameFault::NoEnd { kind, payload: snippet(payload).to_vec(), end }
}

/// How much of a bad frame's payload reply texts show.
const SNIPPET_BYTES: usize = 16;

fn snippet(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(SNIPPET_BYTES + 1)]
}

/// A bad frame as RabbitMQ's texts show it: `type 1, all octets = <<0,60>>: reason`.
pub(super) fn describe(kind: u8, payload: &[u8], reason: &str) -> String {
    match payload.get(..SNIPPET_BYTES) {
        Some(first) if payload.len() > SNIPPET_BYTES => {
            format!("type {kind}, first 16 octets = {}: {reason}", binary(first))
        }
        _ => format!("type {kind}, all octets = {}: {reason}", binary(payload)),
    }
}

/// The error for a frame that makes no sense in itself.
pub(super) fn unknown_frame(kind: u8, payload: &[u8]) -> AmqpError {
    AmqpError::new(ReplyCode::FrameError, describe(kind, payload, "unknown_frame")).without_method()
}

impl From<FrameFault> for AmqpError {
    fn from(fault: FrameFault) -> AmqpError {
        let text = match fault {
            FrameFault::TooLarge { kind, payload_bytes, payload_bytes_max } => {
                describe(kind, &[], &format!("{{frame_too_large,{payload_bytes},{payload_bytes_max}}}"))
            }
            FrameFault::NoEnd { kind, payload, end } => {
                describe(kind, &payload, &format!("{{invalid_frame_end_marker,{end}}}"))
            }
        };
        AmqpError::new(ReplyCode::FrameError, text).without_method()
    }
}

/// Appends a method frame.
pub(super) fn put_method(out: &mut Transmit, channel: ChannelNumber, method: AMQPClass) {
    let frame = AMQPFrame::Method(channel, method);
    let encoded = gen_frame(&frame)(WriteContext::from(Vec::with_capacity(64)));
    out.put(&encoded.expect("writing to a Vec can't fail").write);
}

/// Appends a method frame whose arguments are encoded already, in pieces.
#[inline]
pub(super) fn put_raw_method<const PIECES: usize>(
    out: &mut Transmit,
    channel: ChannelNumber,
    ids: (u16, u16),
    arguments: [&[u8]; PIECES],
) {
    let argument_bytes = arguments.iter().map(|piece| piece.len()).sum();
    put_encoded_method(out, channel, ids, argument_bytes, |payload| {
        for piece in arguments {
            payload.put(piece);
        }
    });
}

/// Appends a method frame whose arguments, of that many bytes, `fill` puts there.
#[inline]
fn put_encoded_method(
    out: &mut Transmit,
    channel: ChannelNumber,
    ids: (u16, u16),
    argument_bytes: usize,
    fill: impl FnOnce(&mut Pieces<'_>),
) {
    let payload_bytes = IDS_BYTES + argument_bytes;
    out.put_pieces(payload_bytes + ENVELOPE_BYTES, |pieces| {
        fill_method(pieces, channel, ids, payload_bytes, fill);
    });
}

/// Appends a heartbeat frame.
pub(super) fn put_heartbeat(out: &mut Transmit) {
    out.put_pieces(ENVELOPE_BYTES, |pieces| fill_frame(pieces, HEARTBEAT, 0, 0, |_| ()));
}

/// A method that carries content (0-9-1 section 2.3.5.2): basic.deliver, basic.get-ok, basic.return.
pub(super) struct ContentMethod<'a> {
    pub(super) channel: ChannelNumber,
    pub(super) ids: (u16, u16),
    /// Bytes of its arguments.
    pub(super) argument_bytes: usize,
    pub(super) message: &'a Message,
    /// The message's own, or what stands in for them.
    pub(super) properties: &'a [u8],
}

impl ContentMethod<'_> {
    /// Appends it, with a content header and as many content bodies as the message needs; `fill_arguments` puts its arguments
    /// there. What fits one content body and is cheaper copied than shared is put together in one go.
    #[inline]
    pub(super) fn put(
        &self,
        out: &mut Transmit,
        frame_max: usize,
        fill_arguments: impl FnOnce(&mut Pieces<'_>),
    ) {
        let &ContentMethod { channel, ids, argument_bytes, message, properties } = self;
        let body_bytes = message.body_bytes();
        let payload_max = frame_max - ENVELOPE_BYTES;
        if body_bytes == 0 || body_bytes > payload_max.min(SHARE_BYTES_MIN - 1) {
            put_encoded_method(out, channel, ids, argument_bytes, fill_arguments);
            let header_bytes = HEADER_BYTES_MIN + properties.len() + ENVELOPE_BYTES;
            out.put_pieces(header_bytes, |pieces| fill_header(pieces, channel, body_bytes, properties));
            put_bodies(out, channel, message, payload_max);
            return;
        }
        let method_bytes = IDS_BYTES + argument_bytes;
        let header_bytes = HEADER_BYTES_MIN + properties.len();
        out.put_pieces(method_bytes + header_bytes + body_bytes + 3 * ENVELOPE_BYTES, |pieces| {
            fill_method(pieces, channel, ids, method_bytes, fill_arguments);
            fill_header(pieces, channel, body_bytes, properties);
            fill_frame(pieces, BODY, channel, body_bytes, |payload| payload.put(message.body()));
        });
    }
}

/// Bytes of a short string: with the one that says how long it is.
pub(super) fn short_str_bytes(text: &[u8]) -> usize {
    text.len() + 1
}

/// Puts a short string.
#[inline(always)]
pub(super) fn fill_short_str(pieces: &mut Pieces<'_>, text: &[u8]) {
    pieces.put_array([u8::try_from(text.len()).expect("tags, names and keys are short strings")]);
    pieces.put(text);
}

/// Puts a method frame.
#[inline(always)]
fn fill_method(
    pieces: &mut Pieces<'_>,
    channel: ChannelNumber,
    (class, method): (u16, u16),
    payload_bytes: usize,
    fill_arguments: impl FnOnce(&mut Pieces<'_>),
) {
    fill_frame(pieces, METHOD, channel, payload_bytes, |payload| {
        payload.put_array(class.to_be_bytes());
        payload.put_array(method.to_be_bytes());
        fill_arguments(payload);
    });
}

/// Puts a content header.
#[inline(always)]
fn fill_header(pieces: &mut Pieces<'_>, channel: ChannelNumber, body_bytes: usize, properties: &[u8]) {
    fill_frame(pieces, HEADER, channel, HEADER_BYTES_MIN + properties.len(), |payload| {
        // The class is basic, the weight unused.
        payload.put_array([0, 60, 0, 0]);
        payload.put_array((body_bytes as u64).to_be_bytes());
        payload.put(properties);
    });
}

/// Puts a frame whose payload `fill` puts there.
#[inline(always)]
fn fill_frame(
    pieces: &mut Pieces<'_>,
    kind: u8,
    channel: ChannelNumber,
    payload_bytes: usize,
    fill: impl FnOnce(&mut Pieces<'_>),
) {
    pieces.put_array(head(kind, channel, payload_bytes));
    fill(pieces);
    pieces.put_array([END]);
}

/// What a frame begins with.
#[inline(always)]
fn head(kind: u8, channel: ChannelNumber, payload_bytes: usize) -> [u8; HEAD_BYTES] {
    let size = u32::try_from(payload_bytes).expect("a payload is no larger than a frame may be");
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    [kind, c0, c1, s0, s1, s2, s3]
}

/// Appends as many content bodies as the message needs.
fn put_bodies(out: &mut Transmit, channel: ChannelNumber, message: &Message, payload_max: usize) {
    let body_bytes = message.body_bytes();
    let mut start = 0;
    while start < body_bytes {
        let end = body_bytes.min(start + payload_max);
        out.put(&head(BODY, channel, end - start));
        out.put_shared(message.body_slice(start..end));
        out.put(&[END]);
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    #[test]
    fn frames_are_cut_when_they_are_whole() {
        let bytes = [1, 0, 5, 0, 0, 0, 2, 7, 8, END, 9];
        for end in 0..10 {
            assert!(matches!(cut(&bytes[..end], 4096), Ok(None)), "{end} bytes");
        }
        let frame = cut(&bytes, 4096).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel, frame.payload), (1, 5, &[7, 8][..]));
    }

    #[test]
    fn a_method_with_content_has_a_header_and_bodies_as_long_as_frames_may_be() {
        const FRAME_MAX: usize = 4096;
        let payload_max = FRAME_MAX - ENVELOPE_BYTES;
        for (frame_max, body_bytes, bodies) in [
            (FRAME_MAX, 0, 0),
            (FRAME_MAX, 5, 1),
            (FRAME_MAX, payload_max, 1),
            (FRAME_MAX, payload_max + 1, 2),
            (FRAME_MAX, 5 * payload_max + 7, 6),
            (1 << 17, SHARE_BYTES_MIN - 1, 1),
            (1 << 17, SHARE_BYTES_MIN, 1),
        ] {
            let body: Vec<u8> = (0..body_bytes).map(|at| at as u8).collect();
            let message = Message::new("x", b"key", &[0, 0], &body).unwrap();
            let method = ContentMethod {
                channel: 3,
                ids: (60, 60),
                argument_bytes: 6,
                message: &message,
                properties: message.properties(),
            };
            let mut out = Transmit::default();
            method.put(&mut out, frame_max, |arguments| {
                fill_short_str(arguments, b"tag");
                arguments.put_array([8, 9]);
            });
            let bytes = out.copy_to_bytes(out.len());
            let (mut frames, mut at) = (Vec::new(), 0);
            while let Some(frame) = cut(&bytes[at..], frame_max).unwrap() {
                assert_eq!(frame.channel, 3);
                at += frame.payload.len() + ENVELOPE_BYTES;
                frames.push((frame.kind, frame.payload));
            }
            assert_eq!((at, frames.len()), (bytes.len(), 2 + bodies), "{body_bytes} bytes");
            assert_eq!(frames[0], (METHOD, &[0, 60, 0, 60, 3, b't', b'a', b'g', 8, 9][..]));
            let mut header = vec![0, 60, 0, 0];
            header.extend((body_bytes as u64).to_be_bytes());
            header.extend(message.properties());
            assert_eq!(frames[1], (HEADER, &header[..]));
            assert!(frames[2..].iter().all(|(kind, _)| *kind == BODY));
            assert_eq!(
                frames[2..].iter().flat_map(|(_, payload)| payload.to_vec()).collect::<Vec<_>>(),
                body
            );
        }
    }

    #[test]
    fn oversize_and_a_wrong_end_are_faults() {
        let oversize = [3, 0, 1, 0, 0, 16, 1];
        let fault = cut(&oversize, 4096).unwrap_err();
        assert_eq!(fault, FrameFault::TooLarge { kind: 3, payload_bytes: 4097, payload_bytes_max: 4088 });
        let fault = cut(&[1, 0, 2, 0, 0, 0, 0, 0xCD], 4096).unwrap_err();
        assert_eq!(fault, FrameFault::NoEnd { kind: 1, payload: Vec::new(), end: 0xCD });
    }
}
