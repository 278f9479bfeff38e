//! Getting records out of a database file that sled can't open, or opens as if half of it had never been. One damaged byte
//! can do that: sled gives up on the whole. Used by [`super::SledStore`] alone.
//!
//! Every value that goes into sled is framed, and sled writes values as they are. So the frames can be found in the bare
//! file, whatever sled thinks of what is between them:
//! ```text
//! magic (8) ‖ kind (1) ‖ bytes of what follows the checksum (4) ‖ CRC-32 of kind, length and what follows (4) ‖
//!   part        number (8) ‖ oldest number kept (8) ‖ part (4) ‖ parts (4) ‖ data
//!   definition  sequence (8) ‖ removed (1) ‖ bytes of the key (4) ‖ key ‖ value
//! ```
//! A file also holds frames that were removed and not yet overwritten. Records below the oldest one that the newest speaks of
//! are such; one that is not recognised brings acknowledged messages back, which a restart may.

use super::NUMBER_MAX;
use crate::message::Lsn;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What every frame of a data directory starts with: chosen at random for each, so that no message can pass for a frame.
pub(super) type Magic = [u8; 8];

const HEAD_BYTES: usize = 17;
const PART_HEAD_BYTES: usize = 24;
const PART: u8 = 1;
const DEFINITION: u8 = 2;

/// A frame larger than this is none.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// One value as sled keeps it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Part {
        lsn: Lsn,
        oldest: Lsn,
        part: u32,
        parts: u32,
        data: &'a [u8],
    },
    /// No value: the definition was removed.
    Definition {
        sequence: u64,
        key: &'a [u8],
        value: Option<&'a [u8]>,
    },
}

impl<'a> Frame<'a> {
    /// The frame's bytes; `more` is data that follows the frame's own.
    pub(super) fn encode(&self, magic: Magic, more: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEAD_BYTES + 64 + more.len());
        frame.extend_from_slice(&magic);
        frame.resize(HEAD_BYTES, 0);
        match *self {
            Frame::Part { lsn, oldest, part, parts, data } => {
                frame[8] = PART;
                frame.extend_from_slice(&lsn.0.to_le_bytes());
                frame.extend_from_slice(&oldest.0.to_le_bytes());
                frame.extend_from_slice(&part.to_le_bytes());
                frame.extend_from_slice(&parts.to_le_bytes());
                frame.extend_from_slice(data);
            }
            Frame::Definition { sequence, key, value } => {
                frame[8] = DEFINITION;
                frame.extend_from_slice(&sequence.to_le_bytes());
                frame.push(u8::from(value.is_none()));
                frame.extend_from_slice(&length_of(key.len()));
                frame.extend_from_slice(key);
                frame.extend_from_slice(value.unwrap_or_default());
            }
        }
        frame.extend_from_slice(more);
        let length = length_of(frame.len() - HEAD_BYTES);
        frame[9..13].copy_from_slice(&length);
        let checksum = checksum(&frame);
        frame[13..17].copy_from_slice(&checksum.to_le_bytes());
        frame
    }

    /// Reads what [`Frame::encode`] made; what is read through sled was checked by it.
    pub(super) fn decode(frame: &'a [u8]) -> Option<Frame<'a>> {
        let (head, body) = frame.split_at_checked(HEAD_BYTES)?;
        match head[8] {
            PART => {
                let (head, data) = body.split_at_checked(PART_HEAD_BYTES)?;
                Some(Frame::Part {
                    lsn: Lsn(number(&head[..8])),
                    oldest: Lsn(number(&head[8..16])),
                    part: u32::try_from(number(&head[16..20])).ok()?,
                    parts: u32::try_from(number(&head[20..24])).ok()?,
                    data,
                })
            }
            DEFINITION => {
                let (head, rest) = body.split_at_checked(13)?;
                let (key, value) = rest.split_at_checked(usize::try_from(number(&head[9..13])).ok()?)?;
                let value = (head[8] == 0).then_some(value);
                Some(Frame::Definition { sequence: number(&head[..8]), key, value })
            }
            _ => None,
        }
    }

    /// What a frame starts with, when a whole one of at most `bytes_max` is at the start: its checksum does not depend on that.
    pub(super) fn magic_at(bytes: &[u8], bytes_max: usize) -> Option<Magic> {
        let is_one = matches!(bytes.get(8)?, &PART | &DEFINITION)
            && usize::try_from(number(bytes.get(9..13)?)).is_ok_and(|length| length <= bytes_max);
        let magic = *bytes.first_chunk()?;
        (is_one && Frame::decode_checked(bytes).is_some()).then_some(magic)
    }

    /// Reads a frame that has not been checked.
    fn decode_checked(frame: &'a [u8]) -> Option<Frame<'a>> {
        let length = usize::try_from(number(frame.get(9..13)?)).ok()?;
        let frame = frame.get(..HEAD_BYTES.checked_add(length)?)?;
        (number(&frame[13..17]) == u64::from(checksum(frame))).then(|| Frame::decode(frame))?
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[8..13]);
    hasher.update(&frame[HEAD_BYTES..]);
    hasher.finalize()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn length_of(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("a value is far smaller than 4 GiB").to_le_bytes()
}

/// What a database file was found to hold.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    /// Whole records, by number: where each of their parts lies in the file, and how long its frame is.
    pub(super) records: BTreeMap<Lsn, Vec<(u64, usize)>>,
    /// How many records are there in part only.
    pub(super) incomplete: usize,
    /// Definitions as they were set last.
    pub(super) definitions: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Salvage {
    /// Looks through a file.
    pub(super) fn of(path: &Path, magic: Magic) -> io::Result<Salvage> {
        let mut found = Found { magic, ..Found::default() };
        let mut file = File::open(path)?;
        let mut buffer = Vec::new();
        let mut start = 0_u64;
        loop {
            let before = buffer.len();
            (&mut file).take(CHUNK_BYTES).read_to_end(&mut buffer)?;
            let is_end = buffer.len() == before;
            let used = found.take(start, &buffer, is_end);
            if is_end {
                return Ok(found.salvage());
            }
            buffer.drain(..used);
            start += used as u64;
        }
    }

    /// One frame of the file that was looked through.
    pub(super) fn read(file: &File, (at, bytes): (u64, usize)) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; bytes];
        file.read_exact_at(&mut frame, at)?;
        Ok(frame)
    }
}

const CHUNK_BYTES: u64 = 32 << 20;

#[derive(Default)]
struct Found {
    magic: Magic,
    /// Where the parts of each record lie; a part may lie in several places, all the same.
    parts: BTreeMap<Lsn, Parts>,
    /// The oldest number kept, as the newest record says.
    oldest: (Lsn, Lsn),
    definitions: BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>,
}

/// The parts of a record that were found, and how many there are to be.
#[derive(Debug, Default, PartialEq)]
struct Parts {
    places: BTreeMap<u32, (u64, usize)>,
    count: u32,
}

impl Parts {
    /// Where they lie, if all of them were found.
    fn whole(self) -> Option<Vec<(u64, usize)>> {
        (self.places.len() == self.count as usize).then(|| self.places.into_values().collect())
    }
}

impl Found {
    /// Takes the frames in a piece of the file that starts at `start`; returns how much of it is done with.
    fn take(&mut self, start: u64, bytes: &[u8], is_end: bool) -> usize {
        let mut at = 0;
        while let Some(next) = find(&bytes[at..], self.magic) {
            at += next;
            let length = bytes
                .get(at + 9..at + 13)
                .map(|length| usize::try_from(number(length)).unwrap_or(usize::MAX));
            let end = length.and_then(|length| at.checked_add(HEAD_BYTES)?.checked_add(length));
            let is_cut = end.is_none_or(|end| end > bytes.len() && end - at <= FRAME_BYTES_MAX);
            if is_cut && !is_end {
                return at;
            }
            match Frame::decode_checked(&bytes[at..]) {
                Some(frame) => {
                    self.note(&frame, start + at as u64, end.unwrap_or(at) - at);
                    at = end.unwrap_or(at + 1);
                }
                None => at += 1,
            }
        }
        bytes.len().saturating_sub(self.magic.len() - 1).max(at)
    }

    fn note(&mut self, frame: &Frame<'_>, at: u64, bytes: usize) {
        match *frame {
            Frame::Part { lsn, oldest, part, parts, .. } => {
                if lsn.0 > NUMBER_MAX || part >= parts {
                    return;
                }
                self.oldest = self.oldest.max((lsn, oldest));
                let known = self.parts.entry(lsn).or_default();
                known.count = known.count.max(parts);
                known.places.insert(part, (at, bytes));
            }
            Frame::Definition { sequence, key, value } => {
                let known = self.definitions.entry(key.to_vec()).or_default();
                if known.0 <= sequence {
                    *known = (sequence, value.map(<[u8]>::to_vec));
                }
            }
        }
    }

    fn salvage(self) -> Salvage {
        let mut salvage = Salvage::default();
        for (lsn, parts) in self.parts.into_iter().filter(|(lsn, _)| *lsn >= self.oldest.1) {
            match parts.whole() {
                Some(places) => {
                    salvage.records.insert(lsn, places);
                }
                None => salvage.incomplete += 1,
            }
        }
        let definitions = self.definitions.into_iter();
        salvage.definitions = definitions.filter_map(|(key, (_, value))| Some((key, value?))).collect();
        salvage
    }
}

fn find(bytes: &[u8], magic: Magic) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == magic[0]) {
        at += next;
        if bytes[at..].starts_with(&magic) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: Magic = *b"\x9dFrames\x01";

    fn part(lsn: u64, part: u32, parts: u32, data: &[u8]) -> Vec<u8> {
        Frame::Part { lsn: Lsn(lsn), oldest: Lsn(2), part, parts, data }.encode(MAGIC, b"")
    }

    #[test]
    fn frames_are_found_among_anything_else() {
        let definition =
            |sequence, value| Frame::Definition { sequence, key: b"key", value }.encode(MAGIC, b"");
        let mut file = vec![0x9d; 100];
        file.extend(part(1, 0, 1, b"below the oldest"));
        file.extend(part(3, 1, 2, b"second"));
        file.extend_from_slice(&MAGIC);
        file.extend(part(3, 0, 2, b"first"));
        file.extend(part(4, 0, 2, b"other part is missing"));
        file.extend(definition(9, Some(b"new")));
        file.extend(definition(8, Some(b"old")));
        let mut damaged = part(5, 0, 1, b"damaged");
        *damaged.last_mut().unwrap() ^= 1;
        file.extend(damaged);
        file.extend_from_slice(&part(6, 0, 1, b"cut off")[..30]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        std::fs::write(&path, &file).unwrap();
        let salvage = Salvage::of(&path, MAGIC).unwrap();
        assert_eq!(salvage.records.keys().collect::<Vec<_>>(), [&Lsn(3)]);
        assert_eq!(salvage.incomplete, 1);
        assert_eq!(salvage.definitions, BTreeMap::from([(b"key".to_vec(), b"new".to_vec())]));
        let frame = Salvage::read(&File::open(&path).unwrap(), salvage.records[&Lsn(3)][1]).unwrap();
        assert!(matches!(Frame::decode(&frame), Some(Frame::Part { data: b"second", part: 1, .. })));
    }

    #[test]
    fn a_frame_across_two_reads_is_found_once() {
        let frame = part(7, 0, 1, b"data");
        for cut in 0..frame.len() {
            let mut found = Found { magic: MAGIC, ..Found::default() };
            let used = found.take(0, &frame[..cut], false);
            assert!(used <= cut && found.parts.is_empty(), "cut at {cut}");
            found.take(used as u64, &frame[used..], true);
            let expected = Parts { places: BTreeMap::from([(0, (0, frame.len()))]), count: 1 };
            assert_eq!(found.parts[&Lsn(7)], expected, "cut at {cut}");
        }
    }
}
