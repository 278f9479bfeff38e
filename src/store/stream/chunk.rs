//! How a chunk is written: a header, then the entries of one stream that were written together. What a chunk holds is checked as a
//! whole; its header alone is enough to pass over it.
//!
//! ```text
//! header  "LC" (2) ‖ version (1) ‖ 0 (1) ‖ entries (4) ‖ first offset (8) ‖ timestamp (8) ‖ epoch (4) ‖ bytes of entries (4) ‖
//!         CRC-32 of the entries (4) ‖ CRC-32 of the header so far (4), little-endian
//! entry   flags (1) ‖ with the flag "format": format (1) ‖ milliseconds since the timestamp ‖ exchange bytes ‖ routing key bytes ‖
//!         property bytes ‖ content bytes ‖ content
//! ```
//! Numbers without a size are LEB128. The flags of an entry: 1, the message was dead-lettered by this broker; 2, it is in another
//! format than that of AMQP 0-9-1, which is 0. The offset of an entry is that of the first one plus its index.

use crate::message::{FORMAT_AMQP_091, Millis, StoredShape};
use crate::store::NUMBER_MAX;
use crate::store::journal::numbers::{self, Numbers};
use bytes::Bytes;

/// Bytes of a chunk's header.
pub(super) const HEADER_BYTES: usize = 40;

/// The most entries of a chunk: those who speak RabbitMQ's stream protocol count them in 16 bits.
pub(super) const ENTRIES_MAX: usize = u16::MAX as usize;

/// The most bytes of entries that a header may announce: a message of the largest size and its envelope.
const BYTES_MAX: u32 = 768 << 20;

const MAGIC: [u8; 2] = *b"LC";
const VERSION: u8 = 1;

const DEAD_LETTERED: u8 = 1;
const OTHER_FORMAT: u8 = 2;

/// One message of a stream, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its place in the stream: the first one's is 0.
    pub offset: u64,
    /// When it was published to the stream.
    pub enqueued_at: Millis,
    /// Names, properties and body, as [`crate::message::Message::stored`] gave them.
    pub content: Bytes,
    /// The lengths that cut the content.
    pub shape: StoredShape,
}

/// What the header of a chunk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) entries: u32,
    pub(super) first: u64,
    /// When the first entry was published, in milliseconds.
    pub(super) timestamp: Millis,
    /// Who wrote it, where a stream may be written by several machines one after another; 0 on a single one.
    pub(super) epoch: u32,
    /// Bytes of the entries, without the header.
    pub(super) bytes: u32,
    checksum: u32,
}

impl Header {
    /// The offset behind the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.entries)
    }

    /// Bytes of the whole chunk.
    pub(super) fn chunk_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.bytes)
    }

    /// Reads a header; `None` when these bytes are none.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let number = |at: usize, size: usize| {
            header[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let small = |at: usize| number(at, 4) as u32;
        if header[..2] != MAGIC || header[2] != VERSION || small(36) != crc32fast::hash(&header[..36]) {
            return None;
        }
        let read = Header {
            entries: small(4),
            first: number(8, 8),
            timestamp: number(16, 8),
            epoch: small(24),
            bytes: small(28),
            checksum: small(32),
        };
        let is_sound = (1..=ENTRIES_MAX as u32).contains(&read.entries)
            && read.first <= NUMBER_MAX
            && read.bytes <= BYTES_MAX;
        is_sound.then_some(read)
    }

    /// Whether these are the entries that it was written with.
    pub(super) fn is_of(&self, entries: &[u8]) -> bool {
        entries.len() == self.bytes as usize && crc32fast::hash(entries) == self.checksum
    }
}

/// Puts a chunk together.
#[derive(Debug, Default)]
pub(super) struct ChunkWriter {
    /// The whole chunk; its header is filled in at the end.
    bytes: Vec<u8>,
    entries: u32,
    first: u64,
    timestamp: Millis,
}

impl ChunkWriter {
    /// How many entries it has so far.
    pub(super) fn entries(&self) -> usize {
        self.entries as usize
    }

    /// Bytes that it takes so far.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether that is the offset that the next entry has to have.
    pub(super) fn is_followed_by(&self, offset: u64) -> bool {
        self.entries == 0 || self.first + u64::from(self.entries) == offset
    }

    /// Adds the next entry.
    pub(super) fn add(&mut self, offset: u64, enqueued_at: Millis, (content, shape): (&[u8], StoredShape)) {
        if self.entries == 0 {
            (self.first, self.timestamp) = (offset, enqueued_at);
            self.bytes.resize(HEADER_BYTES, 0);
        }
        self.entries += 1;
        let other_format = shape.format != FORMAT_AMQP_091;
        let flags = [(shape.dead_lettered, DEAD_LETTERED), (other_format, OTHER_FORMAT)];
        let flags = flags.into_iter().fold(0, |flags, (set, flag)| if set { flags | flag } else { flags });
        let mut numbers = Numbers::new();
        numbers.byte(flags);
        if other_format {
            numbers.byte(shape.format);
        }
        // Clocks may be set back.
        numbers.number(enqueued_at.saturating_sub(self.timestamp));
        numbers.number(shape.exchange_bytes.into());
        numbers.number(shape.routing_key_bytes.into());
        self.bytes.extend_from_slice(numbers.as_bytes());
        let mut numbers = Numbers::new();
        numbers.number(shape.properties_bytes.into());
        numbers.number(content.len() as u64);
        self.bytes.extend_from_slice(numbers.as_bytes());
        self.bytes.extend_from_slice(content);
    }

    /// Ends the chunk: its header and its bytes, which stay until [`ChunkWriter::clear`].
    pub(super) fn finish(&mut self, epoch: u32) -> (Header, &[u8]) {
        let entries = &self.bytes[HEADER_BYTES..];
        let header = Header {
            entries: self.entries,
            first: self.first,
            timestamp: self.timestamp,
            epoch,
            bytes: entries.len() as u32,
            checksum: crc32fast::hash(entries),
        };
        let mut head = [0; HEADER_BYTES];
        head[..2].copy_from_slice(&MAGIC);
        head[2] = VERSION;
        head[4..8].copy_from_slice(&header.entries.to_le_bytes());
        head[8..16].copy_from_slice(&header.first.to_le_bytes());
        head[16..24].copy_from_slice(&header.timestamp.to_le_bytes());
        head[24..28].copy_from_slice(&epoch.to_le_bytes());
        head[28..32].copy_from_slice(&header.bytes.to_le_bytes());
        head[32..36].copy_from_slice(&header.checksum.to_le_bytes());
        let checksum = crc32fast::hash(&head[..36]);
        head[36..].copy_from_slice(&checksum.to_le_bytes());
        self.bytes[..HEADER_BYTES].copy_from_slice(&head);
        (header, &self.bytes)
    }

    /// The next chunk begins; memory that a large one took is given back.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.entries = 0;
    }
}

const KEPT_BYTES_MAX: usize = 2 << 20;

/// Reads a chunk's entries in order; ends early at what can't be read.
pub(super) struct EntryReader<'a> {
    bytes: &'a Bytes,
    at: usize,
    next: u64,
    end: u64,
    timestamp: Millis,
}

impl<'a> EntryReader<'a> {
    /// `entries` is what follows the header.
    pub(super) fn new(header: &Header, entries: &'a Bytes) -> EntryReader<'a> {
        EntryReader {
            bytes: entries,
            at: 0,
            next: header.first,
            end: header.end(),
            timestamp: header.timestamp,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let (number, bytes) = numbers::read(self.bytes.get(self.at..)?)?;
        self.at += bytes;
        Some(number)
    }

    fn entry(&mut self) -> Option<Placed> {
        let flags = self.byte()?;
        let format = if flags & OTHER_FORMAT == 0 { FORMAT_AMQP_091 } else { self.byte()? };
        let enqueued_at = self.timestamp.checked_add(self.number()?)?;
        let shape = StoredShape {
            format,
            exchange_bytes: self.number()?.try_into().ok()?,
            routing_key_bytes: self.number()?.try_into().ok()?,
            properties_bytes: self.number()?.try_into().ok()?,
            dead_lettered: flags & DEAD_LETTERED != 0,
        };
        let bytes = usize::try_from(self.number()?).ok()?;
        let at = self.at;
        self.at = at.checked_add(bytes).filter(|end| *end <= self.bytes.len())?;
        Some(Placed { offset: self.next, enqueued_at, shape, at, bytes })
    }

    /// Passes over what is before an offset.
    pub(super) fn skip_to(&mut self, offset: u64) {
        while self.next < offset && self.next().is_some() {}
    }

    /// The entry at that place. A small one is copied out of the chunk, so that it does not hold all of it in memory.
    pub(super) fn entry_at(&self, placed: Placed) -> StreamEntry {
        let Placed { offset, enqueued_at, shape, at, bytes } = placed;
        let content = match bytes < SHARED_BYTES_MIN {
            true => Bytes::copy_from_slice(&self.bytes[at..at + bytes]),
            false => self.bytes.slice(at..at + bytes),
        };
        StreamEntry { offset, enqueued_at, content, shape }
    }
}

/// A content larger than this is not copied out of its chunk.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// Where an entry lies among the entries of its chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) offset: u64,
    pub(super) enqueued_at: Millis,
    shape: StoredShape,
    at: usize,
    pub(super) bytes: usize,
}

impl Iterator for EntryReader<'_> {
    type Item = Placed;

    fn next(&mut self) -> Option<Placed> {
        if self.next == self.end {
            return None;
        }
        let Some(placed) = self.entry() else {
            self.end = self.next;
            return None;
        };
        self.next += 1;
        Some(placed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(format: u8, dead_lettered: bool) -> StoredShape {
        StoredShape { format, exchange_bytes: 2, routing_key_bytes: 300, properties_bytes: 5, dead_lettered }
    }

    #[test]
    fn entries_come_back_as_they_were_written() {
        let mut writer = ChunkWriter::default();
        let contents = [vec![1; 400], vec![2; 70_000], vec![3; 307]];
        let shapes = [shape(0, false), shape(0, true), shape(1, false)];
        for (index, (content, shape)) in contents.iter().zip(shapes).enumerate() {
            assert!(writer.is_followed_by(7 + index as u64) && !writer.is_followed_by(99) || index == 0);
            writer.add(7 + index as u64, [1000, 1005, 900][index], (content, shape));
        }
        let (header, bytes) = writer.finish(3);
        assert_eq!(Header::read(bytes), Some(header));
        assert_eq!((header.first, header.end(), header.timestamp, header.epoch), (7, 10, 1000, 3));
        let entries = Bytes::copy_from_slice(&bytes[HEADER_BYTES..]);
        assert!(header.is_of(&entries));
        let mut reader = EntryReader::new(&header, &entries);
        let placed: Vec<Placed> = reader.by_ref().collect();
        let read: Vec<StreamEntry> = placed.into_iter().map(|placed| reader.entry_at(placed)).collect();
        for (index, entry) in read.iter().enumerate() {
            assert_eq!((entry.offset, entry.shape), (7 + index as u64, shapes[index]));
            assert_eq!(entry.content, contents[index]);
        }
        assert_eq!(read.iter().map(|entry| entry.enqueued_at).collect::<Vec<_>>(), [1000, 1005, 1000]);
        let mut later = EntryReader::new(&header, &entries);
        later.skip_to(9);
        assert_eq!(later.map(|placed| placed.offset).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn no_damage_is_taken_for_a_chunk() {
        let mut writer = ChunkWriter::default();
        writer.add(0, 5, (&[7; 307], shape(0, false)));
        let (header, bytes) = writer.finish(0);
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            let read = Header::read(&damaged);
            assert!(read.is_none() || at >= HEADER_BYTES && !header.is_of(&damaged[HEADER_BYTES..]), "{at}");
        }
        assert_eq!(Header::read(&bytes[..HEADER_BYTES - 1]), None);
    }
}
