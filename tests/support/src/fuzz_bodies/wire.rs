//! Bytes of clients, on a broker in memory.

use crate::frames::{PROTOCOL_HEADER, channel_open, handshake};
use crate::lines::{InMemory, LineId};
use leveret::amqp::{AmqpSettings, ContentLimits};

/// Bytes of a client that is not logged in yet. However they are cut on their way, the broker says the same. The first byte
/// says how far the client had come, the second where the cuts are.
pub(super) fn frames(data: &[u8]) {
    let Some((&[stage, cuts], bytes)) = data.split_first_chunk::<2>() else { return };
    let whole = handshake();
    let behind_start_ok = PROTOCOL_HEADER.len() + frame_length(&whole[PROTOCOL_HEADER.len()..]);
    let behind_tune_ok = behind_start_ok + frame_length(&whole[behind_start_ok..]);
    let before =
        &whole[..[0, PROTOCOL_HEADER.len(), behind_start_ok, behind_tune_ok][usize::from(stage % 4)]];
    let answers = [usize::MAX, 1, usize::from(cuts) + 1].map(|chunk| {
        let mut broker = InMemory::with(settings());
        let line = broker.open();
        broker.send(line, before);
        bytes.chunks(chunk).for_each(|chunk| broker.send(line, chunk));
        broker.advance(60_000);
        assert!(broker.is_closed(line) || !bytes.is_empty(), "a handshake was waited for");
        (broker.bytes(line), broker.is_closed(line))
    });
    assert!(answers[0] == answers[1] && answers[0] == answers[2], "the cuts made a difference");
}

fn frame_length(bytes: &[u8]) -> usize {
    8 + u32::from_be_bytes(bytes[3..7].try_into().unwrap()) as usize
}

/// Small limits, so that they are reached.
fn settings() -> AmqpSettings {
    AmqpSettings {
        content: ContentLimits { message_bytes_max: 1 << 16, field_table_depth_max: 8 },
        transmit_bytes: 1 << 14,
        consumers_per_channel_max: 20,
        tx_messages_max: 50,
        tx_bytes_max: 1 << 16,
        ..AmqpSettings::default()
    }
}

/// Connections of a session: two that read, and one that never does.
const LINES: usize = 3;

/// What may wait for one that does not read: what the limit allows, twice, and one answer beyond it.
const UNREAD_BYTES_MAX: usize = 2 * (1 << 14) + (1 << 18);

/// Steps of several clients. Each is a byte that says which and what (see [`Step`]), a length, and that many bytes.
pub(super) fn session(data: &[u8]) {
    let mut broker = InMemory::with(settings());
    let lines: Vec<LineId> = (0..LINES).map(|_| broker.connect(2)).collect();
    broker.set_reading(lines[LINES - 1], false);
    let mut rest = data;
    while let Some((step, behind)) = Step::read(rest) {
        rest = behind;
        broker.send(lines[step.line], &step.wire_bytes());
        broker.advance(step.then_ms);
        for line in &lines {
            check_frames(&broker.bytes(*line));
            let unread = broker.unread_bytes(*line);
            assert!(unread < UNREAD_BYTES_MAX, "{unread} bytes wait for one that does not read");
        }
    }
    lines.iter().for_each(|line| broker.drop_line(*line));
    for queue in broker.amqp.broker.vhost("/").unwrap().queues() {
        let counts = queue.counts();
        assert_eq!((counts.unacked, counts.consumers), (0, 0), "nobody is left who could have them");
        assert_eq!(queue.definition().exclusive_owner, None, "it should have gone with its connection");
    }
}

/// One step of a session.
///
/// Bits of its first byte, from the lowest: two for the connection, two for what the bytes are (anything at all, or the payload
/// of a method, header or body frame), two for the channel, two for the time that passes then.
pub struct Step<'a> {
    pub line: usize,
    pub kind: u8,
    pub channel: u8,
    pub then_ms: u64,
    pub bytes: &'a [u8],
}

/// What may pass after a step.
pub const TIMES_MS: [u64; 4] = [0, 10, 1000, 70_000];

impl<'a> Step<'a> {
    /// The first step of `data`, and what is behind it. The length is two bytes; one that is too long is as long as there are.
    pub fn read(data: &'a [u8]) -> Option<(Step<'a>, &'a [u8])> {
        let (&[bits, high, low], rest) = data.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        let step = Step {
            line: usize::from(bits & 3) % LINES,
            kind: bits >> 2 & 3,
            channel: bits >> 4 & 3,
            then_ms: TIMES_MS[usize::from(bits >> 6)],
            bytes,
        };
        Some((step, rest))
    }

    fn wire_bytes(&self) -> Vec<u8> {
        if self.kind == 0 {
            return self.bytes.to_vec();
        }
        let mut frame = vec![self.kind, 0, self.channel];
        frame.extend_from_slice(&(self.bytes.len() as u32).to_be_bytes());
        frame.extend_from_slice(self.bytes);
        frame.push(0xCE);
        frame
    }
}

/// Whatever was asked, what comes back is frames.
pub(super) fn check_frames(mut bytes: &[u8]) {
    // An answer to what is no AMQP.
    bytes = bytes.strip_suffix(PROTOCOL_HEADER).unwrap_or(bytes);
    while !bytes.is_empty() {
        let end = frame_length(bytes);
        assert!(matches!(bytes[0], 1 | 2 | 3 | 8) && bytes[end - 1] == 0xCE, "{bytes:?} is no frame");
        bytes = &bytes[end..];
    }
}

/// What every session starts with, for seeds that were recorded with it.
pub fn opened() -> Vec<u8> {
    [handshake(), channel_open(1), channel_open(2)].concat()
}
