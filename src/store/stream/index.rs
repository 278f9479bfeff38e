//! The index of a segment: where some of its chunks begin, and up to where it was synced, in records of [`RECORD_BYTES`].
//!
//! ```text
//! record  kind (4) ‖ CRC-32 of all else (4) ‖ four numbers (8 each), little-endian
//! chunk   1: first offset, timestamp, position in the segment, entries before it
//! synced  2: the offset behind the last entry, when that was published, bytes, entries: all that is durable of the segment
//! sealed  3: the same, and nothing follows
//! ```
//! A record is written after what it speaks of was synced, and is not synced itself: without it more of the segment is read.

use super::files::StreamFile;
use crate::message::Millis;
use std::io;

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 40;

/// Where a chunk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) offset: u64,
    pub(super) timestamp: Millis,
    pub(super) position: u64,
    pub(super) entries_before: u64,
}

/// What a segment holds up to somewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// The offset behind the last entry.
    pub(super) end: u64,
    /// When the last entry was published.
    pub(super) last_at: Millis,
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Chunk(IndexEntry),
    Synced(Extent),
    Sealed(Extent),
}

impl Record {
    pub(super) fn encode(self, into: &mut Vec<u8>) {
        let (kind, numbers) = match self {
            Record::Chunk(entry) => {
                (1, [entry.offset, entry.timestamp, entry.position, entry.entries_before])
            }
            Record::Synced(extent) => (2, extent.numbers()),
            Record::Sealed(extent) => (3, extent.numbers()),
        };
        let mut record = [0; RECORD_BYTES];
        record[..4].copy_from_slice(&u32::to_le_bytes(kind));
        for (number, place) in numbers.iter().zip(record[8..].chunks_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = checksum(&record);
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
        into.extend_from_slice(&record);
    }

    pub(super) fn decode(record: &[u8]) -> Option<Record> {
        let record = record.first_chunk::<RECORD_BYTES>()?;
        if record[4..8] != checksum(record).to_le_bytes() {
            return None;
        }
        let number = |at: usize| {
            record[8 + 8 * at..16 + 8 * at]
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let extent = Extent { end: number(0), last_at: number(1), bytes: number(2), entries: number(3) };
        match record[0] {
            1 => Some(Record::Chunk(IndexEntry {
                offset: number(0),
                timestamp: number(1),
                position: number(2),
                entries_before: number(3),
            })),
            2 => Some(Record::Synced(extent)),
            3 => Some(Record::Sealed(extent)),
            _ => None,
        }
    }
}

impl Extent {
    fn numbers(self) -> [u64; 4] {
        [self.end, self.last_at, self.bytes, self.entries]
    }
}

fn checksum(record: &[u8; RECORD_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// What an index says, up to the first record that is not whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) chunks: Vec<IndexEntry>,
    /// Up to where the segment was synced, as far as known.
    pub(super) synced: Option<Extent>,
    pub(super) is_sealed: bool,
    /// Bytes of the records that are whole.
    pub(super) bytes: u64,
}

impl Index {
    /// Reads all of it.
    pub(super) fn read(file: &dyn StreamFile) -> io::Result<Index> {
        let mut bytes = vec![0; usize::try_from(file.len_bytes()?).unwrap_or_default()];
        let read = file.read_at(&mut bytes, 0)?;
        let mut index = Index::default();
        for record in bytes[..read].chunks_exact(RECORD_BYTES) {
            match Record::decode(record) {
                None => break,
                Some(Record::Chunk(entry)) => index.chunks.push(entry),
                Some(Record::Synced(extent)) => index.synced = Some(extent),
                Some(Record::Sealed(extent)) => {
                    index.synced = Some(extent);
                    index.is_sealed = true;
                }
            }
            index.bytes += RECORD_BYTES as u64;
        }
        Ok(index)
    }
}

/// The last of these that is at or before an offset, or the first one.
pub(super) fn at_or_before(chunks: &[IndexEntry], offset: u64) -> Option<&IndexEntry> {
    let behind = chunks.partition_point(|entry| entry.offset <= offset);
    chunks.get(behind.saturating_sub(1))
}

/// The last of these whose chunk begins before a time, or the first one.
pub(super) fn before(chunks: &[IndexEntry], at: Millis) -> Option<&IndexEntry> {
    let behind = chunks.partition_point(|entry| entry.timestamp < at);
    chunks.get(behind.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::super::files::{FileKind, MemoryFiles, StreamFiles};
    use super::*;
    use crate::message::QueueId;

    fn entry(offset: u64) -> IndexEntry {
        IndexEntry { offset, timestamp: 1000 + offset, position: 64 * offset, entries_before: offset }
    }

    #[test]
    fn what_is_whole_is_read_and_nothing_behind_it() {
        let extent = Extent { end: 9, last_at: 1009, bytes: 576, entries: 9 };
        let mut bytes = Vec::new();
        for record in [Record::Chunk(entry(0)), Record::Chunk(entry(5)), Record::Synced(extent)] {
            record.encode(&mut bytes);
        }
        let file = MemoryFiles::default().create(QueueId(1), (0, FileKind::Index)).unwrap();
        file.write_at(&bytes, 0).unwrap();
        let index = Index::read(&*file).unwrap();
        assert_eq!((&index.chunks[..], index.synced), (&[entry(0), entry(5)][..], Some(extent)));
        assert_eq!((index.is_sealed, index.bytes), (false, 120));
        file.write_at(&[bytes[85] ^ 1], 85).unwrap();
        let index = Index::read(&*file).unwrap();
        assert_eq!((index.chunks.len(), index.synced, index.bytes), (2, None, 80));
    }

    #[test]
    fn places_are_found() {
        let chunks = [entry(0), entry(5), entry(9)];
        let found = [0, 4, 5, 8, 100].map(|offset| at_or_before(&chunks, offset).unwrap().offset);
        assert_eq!(found, [0, 0, 5, 5, 9]);
        let found = [0, 1000, 1001, 1005, 1006, 5000].map(|at| before(&chunks, at).unwrap().offset);
        assert_eq!(found, [0, 0, 0, 0, 5, 9]);
        assert_eq!(at_or_before(&[], 0), None);
    }
}
