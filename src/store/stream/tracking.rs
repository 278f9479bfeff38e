//! What a stream remembers of those who use it by name, as bytes: single changes of it, which are records of the journal, and all of
//! it, which is in one of two files that are written in turn.
//!
//! ```text
//! change  1 ‖ bytes of the name (1) ‖ name ‖ offset ‖ time: up to there it has acknowledged
//!         2 ‖ bytes of the name (1) ‖ name: it is forgotten
//!         3 ‖ bytes of the name (1) ‖ name ‖ id ‖ epoch ‖ time: that far a publisher has got
//!         4 ‖ bytes of the name (1) ‖ name: that publisher is forgotten
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
    /// When it acknowledged that one.
    pub at: Millis,
}

/// How far a publisher has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherSequence {
    /// The highest publishing id that was taken.
    pub id: u64,
    /// The highest epoch that it has published with; 0 without one.
    pub epoch: u64,
    /// When it published last.
    pub at: Millis,
}

/// A change of what is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackingChange {
    /// A name has acknowledged up to an offset.
    Committed(String, CommittedOffset),
    /// A name is forgotten.
    Forgotten(String),
    /// A publisher has got that far.
    Published(String, PublisherSequence),
    /// A publisher is forgotten.
    PublisherForgotten(String),
}

const COMMITTED: u8 = 1;
const FORGOTTEN: u8 = 2;
const PUBLISHED: u8 = 3;
const PUBLISHER_FORGOTTEN: u8 = 4;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

impl TrackingChange {
    /// Appends its encoding, as a message of the tracking queue has it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut numbers = Numbers::new();
        let (kind, name) = match self {
            TrackingChange::Committed(name, CommittedOffset { offset, at }) => {
                [*offset, *at].into_iter().for_each(|number| numbers.number(number));
                (COMMITTED, name)
            }
            TrackingChange::Published(name, PublisherSequence { id, epoch, at }) => {
                [*id, *epoch, *at].into_iter().for_each(|number| numbers.number(number));
                (PUBLISHED, name)
            }
            TrackingChange::Forgotten(name) => (FORGOTTEN, name),
            TrackingChange::PublisherForgotten(name) => (PUBLISHER_FORGOTTEN, name),
        };
        out.push(kind);
        out.push(u8::try_from(name.len()).expect("a name has 255 bytes at most"));
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(numbers.as_bytes());
    }

    /// Reads the one that these bytes begin with; returns what is behind it.
    fn decode(bytes: &[u8]) -> Option<(TrackingChange, &[u8])> {
        let (&kind, rest) = bytes.split_first()?;
        let (&name_bytes, rest) = rest.split_first()?;
        let (name, mut rest) = rest.split_at_checked(name_bytes.into())?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let mut number = || {
            let (number, bytes) = numbers::read(rest)?;
            rest = &rest[bytes..];
            Some(number)
        };
        let change = match kind {
            COMMITTED => {
                TrackingChange::Committed(name, CommittedOffset { offset: number()?, at: number()? })
            }
            PUBLISHED => {
                let (id, epoch, at) = (number()?, number()?, number()?);
                TrackingChange::Published(name, PublisherSequence { id, epoch, at })
            }
            FORGOTTEN => TrackingChange::Forgotten(name),
            PUBLISHER_FORGOTTEN => TrackingChange::PublisherForgotten(name),
            _ => return None,
        };
        Some((change, rest))
    }
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackingNotes {
    /// How far each consumer has got, by its name.
    pub committed: BTreeMap<String, CommittedOffset>,
    /// How far each publisher has got, by its name.
    pub publishers: BTreeMap<String, PublisherSequence>,
}

const MAGIC: [u8; 2] = *b"LT";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 7;

impl TrackingNotes {
    /// Puts a change in the place of what was known of its name.
    pub fn apply(&mut self, change: TrackingChange) {
        match change {
            TrackingChange::Committed(name, committed) => {
                self.committed.insert(name, committed);
            }
            TrackingChange::Forgotten(name) => {
                self.committed.remove(&name);
            }
            TrackingChange::Published(name, sequence) => {
                self.publishers.insert(name, sequence);
            }
            TrackingChange::PublisherForgotten(name) => {
                self.publishers.remove(&name);
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
                    tracing::warn!("what stream {stream} remembers of its users is torn in one file")
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
        for (name, sequence) in &self.publishers {
            TrackingChange::Published(name.clone(), *sequence).encode(&mut bytes);
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
        let sequence = PublisherSequence { id: 1 << 50, epoch: 3, at: 1_700_000_000_000 };
        let published = |name: &str| TrackingChange::Published(name.to_owned(), sequence);
        let changes = [
            committed("a", 7),
            committed("b", 1 << 40),
            TrackingChange::Forgotten("a".into()),
            published("a"),
            published("c"),
            TrackingChange::PublisherForgotten("a".into()),
        ];
        changes.iter().for_each(|change| change.encode(&mut bytes));
        let mut notes = TrackingNotes::default();
        assert!(notes.apply_encoded(&bytes));
        assert_eq!(notes.committed.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(notes.committed["b"].offset, 1 << 40);
        assert_eq!(notes.publishers, BTreeMap::from([("c".to_owned(), sequence)]));
        assert!(!notes.apply_encoded(&bytes[..bytes.len() - 1]) && !notes.apply_encoded(&[9, 0]));
    }

    #[test]
    fn a_torn_file_leaves_what_was_written_before() {
        let (files, stream) = (MemoryFiles::default(), QueueId(1));
        let mut notes = TrackingNotes::default();
        assert_eq!(TrackingNotes::read(&files, stream).unwrap(), (notes.clone(), 0));
        notes.apply(committed("a", 1));
        let sequence = PublisherSequence { id: 9, epoch: 0, at: 1 };
        notes.apply(TrackingChange::Published("p".into(), sequence));
        notes.write(&files, stream, 1).unwrap();
        let before = notes.clone();
        notes.apply(committed("a", 2));
        notes.write(&files, stream, 2).unwrap();
        assert_eq!(TrackingNotes::read(&files, stream).unwrap(), (notes, 2));
        files.damage(stream, (0, FileKind::Tracking), 9);
        assert_eq!(TrackingNotes::read(&files, stream).unwrap(), (before, 1));
    }
}
