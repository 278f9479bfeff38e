//! The file `last`: what the store was when it was used last, to tell when something of it is lost. It is written and not synced, so
//! it may be behind, and never knows what the store does not.

use super::Directory;
use crate::message::Lsn;
use crate::store::exhausted::is_exhaustion;
use crate::store::stamp::Stamp;
use crate::store::{NUMBER_MAX, StoreError};
use std::os::unix::fs::FileExt;

/// What is noted beside the database, to tell when it has lost something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Note {
    /// The last record that is durable.
    pub(in crate::store) last: Lsn,
    /// How long the database file was after the last checkpoint.
    pub(in crate::store) file_bytes: u64,
    /// How many changes the database had seen then.
    pub(in crate::store) sequence: u64,
}

const NOTE_BYTES: usize = 32;

/// A stamp of 256 kinds takes less.
const STAMP_BYTES_MAX: usize = 8 << 10;

impl Note {
    fn check(self) -> u64 {
        !(self.last.0 ^ self.file_bytes.rotate_left(21) ^ self.sequence.rotate_left(42))
    }
}

impl Directory {
    /// Notes how far all is durable and how long the database file is. The note itself is only written: it must never be
    /// ahead of the database.
    pub(in crate::store) fn note(&self, note: Note) -> Result<(), StoreError> {
        let mut bytes = [0; NOTE_BYTES];
        bytes[..8].copy_from_slice(&note.last.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&note.file_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&note.sequence.to_le_bytes());
        bytes[24..].copy_from_slice(&note.check().to_le_bytes());
        self.write_note(&bytes, 0)
    }

    /// What was noted; nothing if that is not legible.
    pub(in crate::store) fn noted(&self) -> Note {
        let mut bytes = [0; NOTE_BYTES];
        if self.last.read_exact_at(&mut bytes, 0).is_err() {
            return Note::default();
        }
        let number = |at: usize| {
            bytes[at..at + 8].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let note = Note { last: Lsn(number(0)), file_bytes: number(8), sequence: number(16) };
        if number(24) == note.check() && note.last.0 <= NUMBER_MAX { note } else { Note::default() }
    }

    /// Notes what all definitions come to, as far as they are durable; only written, as [`Directory::note`].
    pub(in crate::store) fn note_stamp(&self, stamp: &Stamp) -> Result<(), StoreError> {
        let mut encoded = Vec::new();
        stamp.encode(&mut encoded);
        let length = u32::try_from(encoded.len()).expect("a stamp has at most 256 kinds");
        let mut bytes = [length.to_le_bytes(), crc32fast::hash(&encoded).to_le_bytes()].concat();
        bytes.append(&mut encoded);
        self.write_note(&bytes, NOTE_BYTES as u64)
    }

    /// What was noted of the definitions; nothing if that is not legible.
    pub(in crate::store) fn noted_stamp(&self) -> Option<Stamp> {
        let mut head = [0; 8];
        self.last.read_exact_at(&mut head, NOTE_BYTES as u64).ok()?;
        let [length, checksum] = [&head[..4], &head[4..]]
            .map(|part| part.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)));
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|length| *length <= STAMP_BYTES_MAX)?];
        self.last.read_exact_at(&mut bytes, NOTE_BYTES as u64 + 8).ok()?;
        (crc32fast::hash(&bytes) == checksum).then(|| Stamp::decode(&bytes))?.map(|(stamp, _)| stamp)
    }

    fn write_note(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        match self.last.write_all_at(bytes, at) {
            // It may always be behind, and is written again the next time.
            Err(error) if is_exhaustion(&error) => Ok(()),
            written => written.map_err(|error| self.failed("its file \"last\" can't be written", &error)),
        }
    }
}
