//! What a stream remembers of those who use it by name, as bytes: single changes of it, which are records of the journal, and all of
//! it, which is in one of two files that are written in turn.
//!
//! ```text
//! change  1 ‖ bytes of the name (1) ‖ name ‖ offset ‖ time: up to there it has acknowledged
//!         2 ‖ bytes of the name (1) ‖ name: it is forgotten
//! file    "LT" (2) ‖ version (1) ‖ CRC-32 of all that follows (4) ‖ number of the writing ‖ changes that make all of it
//! ```
//! Numbers without a size are LEB128.

use super::files::{FileKind, StreamFile, StreamFiles};
use crate::message::{Millis, QueueId};
use crate::store::journal::numbers::{self, Numbers};
use std::collections::BTreeMap;
use std::io;

/// Up to where a consumer has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The last offset of which, and of all before it, it has acknowledged what it was given.
    pub offset: u64,
    /// When it did.
    pub at: Millis,
}

/// A change of what is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackingChange {
    /// A name has acknowledged up to an offset.
    Committed(String, CommittedOffset),
    /// A name is forgotten.
    Forgotten(String),
}

const COMMITTED: u8 = 1;
const FORGOTTEN: u8 = 2;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

impl TrackingChange {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, name) = match self {
            TrackingChange::Committed(name, _) => (COMMITTED, name),
            TrackingChange::Forgotten(name) => (FORGOTTEN, name),
        };
        out.push(kind);
        out.push(u8::try_from(name.len()).expect("a name has 255 bytes at most"));
        out.extend_from_slice(name.as_bytes());
        if let TrackingChange::Committed(_, committed) = self {
            let mut numbers = Numbers::new();
            numbers.number(committed.offset);
            numbers.number(committed.at);
            out.extend_from_slice(numbers.as_bytes());
        }
    }

    /// Reads the one that these bytes begin with; returns what is behind it.
    fn decode(bytes: &[u8]) -> Option<(TrackingChange, &[u8])> {
        let (&kind, rest) = bytes.split_first()?;
        let (&name_bytes, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(name_bytes.into())?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        match kind {
            COMMITTED => {
                let (offset, bytes) = numbers::read(rest)?;
                let rest = &rest[bytes..];
                let (at, bytes) = numbers::read(rest)?;
                Some((TrackingChange::Committed(name, CommittedOffset { offset, at }), &rest[bytes..]))
            }
            FORGOTTEN => Some((TrackingChange::Forgotten(name), rest)),
            _ => None,
        }
    }
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackingNotes {
    /// By name.
    pub committed: BTreeMap<String, CommittedOffset>,
}

const MAGIC: [u8; 2] = *b"LT";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 7;

impl TrackingNotes {
    /// Makes a change.
    pub fn apply(&mut self, change: TrackingChange) {
        match change {
            TrackingChange::Committed(name, committed) => {
                self.committed.insert(name, committed);
            }
            TrackingChange::Forgotten(name) => {
                self.committed.remove(&name);
            }
        }
    }

    /// Makes the changes that these bytes say, up to the first that can't be read. False when there is one.
    pub fn apply_encoded(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Some((change, rest)) = TrackingChange::decode(bytes) else { return false };
            self.apply(change);
            bytes = rest;
        }
        true
    }

    /// Reads what was written last, with the number of that writing; nothing is the first one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read(files: &dyn StreamFiles, stream: QueueId) -> io::Result<(TrackingNotes, u64)> {
        let mut last = (TrackingNotes::default(), 0);
        for (which, kind) in files.names(stream)? {
            if kind != FileKind::Tracking {
                continue;
            }
            let file = files.open(stream, (which, kind))?;
            let mut bytes = vec![0; usize::try_from(file.len_bytes()?).unwrap_or_default()];
            let read = file.read_at(&mut bytes, 0)?;
            match decode_file(&bytes[..read]) {
                Some((notes, number)) if number > last.1 => last = (notes, number),
                Some(_) => {}
                None => {
                    tracing::warn!("what consumers of stream {stream} have acknowledged is torn in one file")
                }
            }
        }
        Ok(last)
    }

    /// Writes all of it, durably, as the writing of that number.
    ///
    /// # Errors
    /// When the system refuses; what was written before is there then.
    pub fn write(&self, files: &dyn StreamFiles, stream: QueueId, number: u64) -> io::Result<()> {
        let mut bytes = vec![0; HEAD_BYTES];
        let mut numbers = Numbers::new();
        numbers.number(number);
        bytes.extend_from_slice(numbers.as_bytes());
        for (name, committed) in &self.committed {
            TrackingChange::Committed(name.clone(), *committed).encode(&mut bytes);
        }
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        let checksum = crc32fast::hash(&bytes[HEAD_BYTES..]);
        bytes[3..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        let file = files.create(stream, (number % 2, FileKind::Tracking))?;
        rewrite(&*file, &bytes)?;
        files.sync_names(stream)
    }
}

fn rewrite(file: &dyn StreamFile, bytes: &[u8]) -> io::Result<()> {
    file.truncate(0)?;
    file.write_at(bytes, 0)?;
    file.sync()
}

fn decode_file(bytes: &[u8]) -> Option<(TrackingNotes, u64)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    if head[..2] != MAGIC || head[2] != VERSION || head[3..] != crc32fast::hash(rest).to_le_bytes() {
        return None;
    }
    let (number, behind) = numbers::read(rest)?;
    let mut notes = TrackingNotes::default();
    notes.apply_encoded(&rest[behind..]).then_some((notes, number))
}

#[cfg(test)]
mod tests {
    use super::super::files::MemoryFiles;
    use super::*;

    fn committed(name: &str, offset: u64) -> TrackingChange {
        TrackingChange::Committed(name.to_owned(), CommittedOffset { offset, at: 1_700_000_000_000 })
    }

    #[test]
    fn changes_come_back() {
        let mut bytes = Vec::new();
        for change in [committed("a", 7), committed("b", 1 << 40), TrackingChange::Forgotten("a".into())] {
            change.encode(&mut bytes);
        }
        let mut notes = TrackingNotes::default();
        assert!(notes.apply_encoded(&bytes));
        assert_eq!(notes.committed.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(notes.committed["b"].offset, 1 << 40);
        assert!(!notes.apply_encoded(&bytes[..bytes.len() - 1]) && !notes.apply_encoded(&[9, 0]));
    }

    #[test]
    fn a_torn_file_leaves_what_was_written_before() {
        let (files, stream) = (MemoryFiles::default(), QueueId(1));
        let mut notes = TrackingNotes::default();
        assert_eq!(TrackingNotes::read(&files, stream).unwrap(), (notes.clone(), 0));
        notes.apply(committed("a", 1));
        notes.write(&files, stream, 1).unwrap();
        let before = notes.clone();
        notes.apply(committed("a", 2));
        notes.write(&files, stream, 2).unwrap();
        assert_eq!(TrackingNotes::read(&files, stream).unwrap(), (notes, 2));
        files.damage(stream, (0, FileKind::Tracking), 9);
        assert_eq!(TrackingNotes::read(&files, stream).unwrap(), (before, 1));
    }
}
