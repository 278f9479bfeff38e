//! One entry of the write-ahead log, as bytes:
//! ```text
//! magic (4) ‖ CRC-32 of all that follows (4) ‖ bytes of the body (4) ‖ kind (4) ‖ ordinal (8) ‖ synced (8) ‖ body
//!   start       the last record's number (8)
//!   record      number (8) ‖ data
//!   discard     numbers (8 each)
//!   stamped     a stamp as in `crate::store::stamp` ‖ changes of definitions as in `crate::store::definitions`
//!   changes     the same without a stamp; of format 2, not written any more
//!   definition  removed (1) ‖ bytes of the key (4) ‖ key ‖ value; of format 1, not written any more
//! ```
//! Entries are padded to eight bytes. The ordinal counts all entries there ever were, so that what an older use of the file left
//! behind can't pass for the next one. `synced` says up to which ordinal all was on the disk when this one was written: by it a
//! damaged entry is distinguished from one that never was whole.

use crate::message::Lsn;
use crate::steps;
use crate::store::NUMBER_MAX;
use crate::store::definitions::{Change, DefinitionChanges, changes_in};
use crate::store::stamp::Stamp;

/// What every entry of a data directory starts with: chosen at random for each, so that no message can pass for an entry.
pub(in crate::store) type EntryMagic = [u8; 4];

pub(super) const HEAD_BYTES: usize = 32;

/// Entries start at multiples of this.
pub(in crate::store) const ALIGNMENT: usize = 8;

/// Bytes that are checked in about one step.
const BYTES_A_STEP: usize = 64;

const START: u32 = 1;
const RECORD: u32 = 2;
const DISCARD: u32 = 3;
const DEFINITION: u32 = 4;
const CHANGES: u32 = 5;
const STAMPED: u32 = 6;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Entry<'a> {
    /// A segment starts here; the last record before it had that number.
    Start(Lsn),
    /// A record, in one or two pieces.
    Record(Lsn, &'a [u8], &'a [u8]),
    /// Numbers of records that are not needed any more.
    Discard(&'a [Lsn]),
    /// Definitions were set and removed: all of these, or none; and what the table is then.
    Changes(&'a DefinitionChanges, &'a Stamp),
}

/// The same, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Replayed<'a> {
    Start(Lsn),
    Record(Lsn),
    Discard(Vec<Lsn>),
    /// Without a stamp where an earlier version wrote it.
    Changes(Vec<Change<'a>>, Option<Stamp>),
    /// A number of entries is damaged.
    Damaged(u64),
}

/// An entry's place among all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Ordinals {
    pub(in crate::store) ordinal: u64,
    pub(in crate::store) synced: u64,
}

/// Bytes of the entry in front of a record's data.
pub(super) const RECORD_HEAD_BYTES: usize = HEAD_BYTES + 8;

/// Where an entry that takes `bytes` ends, with what it is padded by.
pub(in crate::store) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT as u64)
}

impl Entry<'_> {
    /// Writes the head, and all of the body but what [`Entry::data`] has, into `head`; returns the bytes of the whole entry
    /// without its padding.
    pub(in crate::store) fn encode(&self, magic: EntryMagic, ordinals: Ordinals, head: &mut Vec<u8>) -> u64 {
        head.clear();
        head.extend_from_slice(&magic);
        head.resize(HEAD_BYTES, 0);
        let kind = match *self {
            Entry::Start(last) => {
                head.extend_from_slice(&last.0.to_le_bytes());
                START
            }
            Entry::Record(lsn, ..) => {
                head.extend_from_slice(&lsn.0.to_le_bytes());
                RECORD
            }
            Entry::Discard(lsns) => {
                head.extend(lsns.iter().flat_map(|lsn| lsn.0.to_le_bytes()));
                DISCARD
            }
            Entry::Changes(_, stamp) => {
                stamp.encode(head);
                STAMPED
            }
        };
        let data = self.data();
        let body_bytes = head.len() - HEAD_BYTES + data[0].len() + data[1].len();
        head[8..12].copy_from_slice(&length(body_bytes).to_le_bytes());
        head[12..16].copy_from_slice(&kind.to_le_bytes());
        head[16..24].copy_from_slice(&ordinals.ordinal.to_le_bytes());
        head[24..32].copy_from_slice(&ordinals.synced.to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&head[8..]);
        data.iter().for_each(|piece| checksum.update(piece));
        head[4..8].copy_from_slice(&checksum.finalize().to_le_bytes());
        (HEAD_BYTES + body_bytes) as u64
    }

    /// What follows the encoded head as it is.
    pub(in crate::store) fn data(&self) -> [&[u8]; 2] {
        match *self {
            Entry::Record(_, head, body) => [head, body],
            Entry::Changes(changes, _) => [changes.encoded(), b""],
            _ => [b"", b""],
        }
    }
}

/// A whole entry that was found.
pub(in crate::store) struct Found<'a> {
    pub(in crate::store) ordinals: Ordinals,
    /// Its bytes, without padding.
    pub(in crate::store) bytes: usize,
    kind: u32,
    body: &'a [u8],
}

impl<'a> Found<'a> {
    /// The entry that starts `bytes`, if there is one and it is whole.
    pub(in crate::store) fn at_start_of(bytes: &'a [u8], magic: EntryMagic) -> Option<Found<'a>> {
        let head = bytes.get(..HEAD_BYTES).filter(|head| head[..4] == magic)?;
        let end = HEAD_BYTES.checked_add(number(&head[8..12]) as usize)?;
        let whole = bytes.get(..end)?;
        steps::count(1 + end / BYTES_A_STEP);
        if u64::from(crc32fast::hash(&whole[8..])) != number(&head[4..8]) {
            return None;
        }
        let ordinals = Ordinals { ordinal: number(&head[16..24]), synced: number(&head[24..32]) };
        if ordinals.ordinal > NUMBER_MAX || ordinals.synced > NUMBER_MAX {
            return None;
        }
        let kind = u32::try_from(number(&head[12..16])).ok()?;
        Some(Found { ordinals, bytes: end, kind, body: &whole[HEAD_BYTES..] })
    }

    /// The bytes that the entry which starts `bytes` says it has, if there are as many.
    pub(super) fn length(bytes: &[u8]) -> Option<usize> {
        let end = HEAD_BYTES.checked_add(number(bytes.get(8..12)?) as usize)?;
        (end <= bytes.len()).then_some(end)
    }

    /// What it says; `None` for what this version does not know.
    pub(in crate::store) fn decode(&self) -> Option<Replayed<'a>> {
        let body = self.body;
        Some(match self.kind {
            START => Replayed::Start(lsn(body)?),
            RECORD => Replayed::Record(lsn(body)?),
            DISCARD => Replayed::Discard(body.chunks_exact(8).map(|lsn| Lsn(number(lsn))).collect()),
            DEFINITION => {
                let (head, rest) = body.split_at_checked(5)?;
                let (key, value) = rest.split_at_checked(number(&head[1..5]) as usize)?;
                Replayed::Changes(vec![(key, (head[0] == 0).then_some(value))], None)
            }
            CHANGES => Replayed::Changes(changes_in(body)?, None),
            STAMPED => {
                let (stamp, changes) = Stamp::decode(body)?;
                Replayed::Changes(changes_in(changes)?, Some(stamp))
            }
            _ => return None,
        })
    }

    /// The data of a record of that number.
    pub(super) fn is_record(&self, lsn: Lsn) -> bool {
        self.decode() == Some(Replayed::Record(lsn))
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The number of a record that a body begins with.
fn lsn(body: &[u8]) -> Option<Lsn> {
    let lsn = Lsn(number(body.get(..8)?));
    (lsn.0 <= NUMBER_MAX).then_some(lsn)
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("an entry is smaller than 4 GiB")
}
