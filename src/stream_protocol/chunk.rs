//! A chunk as RabbitMQ's clients read it: a header of 48 bytes, then the entries, each a message of AMQP 1.0 with its length before it.

use crate::broker::delivery::StreamChunk;
use crate::message::amqp10;

/// Bytes of the header.
const HEADER_BYTES: usize = 48;

/// Magic 5 and version 0.
const MAGIC: u8 = 0x50;

/// Messages, and not what is tracked of clients.
const USER_CHUNK: u8 = 0;

/// The term of the leader that wrote it; there is one machine, and one term.
const EPOCH: u64 = 1;

/// Puts a chunk behind what is in `out`.
pub(super) fn put(chunk: &StreamChunk, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(HEADER_BYTES + chunk.bytes + 4 * chunk.messages.len());
    out.resize(start + HEADER_BYTES, 0);
    for message in &chunk.messages {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        amqp10::encode(message, out);
        let bytes = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&bytes.to_be_bytes());
    }
    let data = &out[start + HEADER_BYTES..];
    let (checksum, bytes) = (crc32fast::hash(data), data.len() as u32);
    let entries = chunk.messages.len();
    let header = &mut out[start..start + HEADER_BYTES];
    header[0] = MAGIC;
    header[1] = USER_CHUNK;
    header[2..4].copy_from_slice(&(entries as u16).to_be_bytes());
    header[4..8].copy_from_slice(&(entries as u32).to_be_bytes());
    header[8..16].copy_from_slice(&chunk.enqueued_at.to_be_bytes());
    header[16..24].copy_from_slice(&EPOCH.to_be_bytes());
    header[24..32].copy_from_slice(&chunk.first.to_be_bytes());
    header[32..36].copy_from_slice(&checksum.to_be_bytes());
    header[36..40].copy_from_slice(&bytes.to_be_bytes());
}
