//! Reading the log when it is opened, see [`super`].

use super::entry::{ALIGNMENT, EntryMagic, Found, HEAD_BYTES, RECORD_HEAD_BYTES, Replayed, padded};
use super::{Full, Place, Segment, first_ordinal};
use crate::files;
use std::cell::Cell;
use std::cmp::Ordering;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How many times a segment's length may be checked while an entry is looked for behind damage. What has the beginnings of more
/// entries in it than that was written by no broker.
const SEARCHES_MAX: usize = 8;

/// Hands over every entry; returns the segments, and the ordinal of the last entry.
pub(super) fn replay(
    folder: &Path,
    magic: EntryMagic,
    visit: &mut dyn FnMut(Replayed<'_>, Option<Place>),
) -> io::Result<(Vec<Full>, u64)> {
    let mut paths: Vec<(u64, PathBuf)> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .filter_map(|path: io::Result<PathBuf>| {
            path.map(|path| Some((first_ordinal(&path)?, path))).transpose()
        })
        .collect::<io::Result<_>>()?;
    paths.sort();
    let expected = paths.first().map_or(1, |(first, _)| *first);
    let mut replay = Replay { magic, expected, search_left: Cell::new(0), visit };
    let mut segments = Vec::new();
    for (index, (_, path)) in paths.iter().enumerate() {
        let mut file = files::options().read(true).write(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let segment = Arc::new(Segment { file, path: path.clone(), live: AtomicU64::new(0) });
        let next_first = paths.get(index + 1).map(|(first, _)| *first);
        let end = replay.segment(&segment, &bytes, next_first, &paths[index + 1..])?;
        if next_first.is_none() {
            // What is behind the end never was whole; it may not be taken for the next entries later.
            segment.file.set_len(end)?;
            segment.file.sync_all()?;
        }
        match end {
            0 => fs::remove_file(path)?,
            end => segments.push(Full { segment, bytes: end }),
        }
    }
    // The next segment is named after no other, even where a file bears a name that its entries have not come to yet.
    let last_name = segments.iter().filter_map(|full| first_ordinal(&full.segment.path)).max();
    Ok((segments, last_name.unwrap_or_default().max(replay.expected - 1)))
}

struct Replay<'a> {
    magic: EntryMagic,
    /// The ordinal of the next entry.
    expected: u64,
    /// Bytes that may yet be checked to find one behind damage, in this segment.
    search_left: Cell<usize>,
    visit: &'a mut dyn FnMut(Replayed<'_>, Option<Place>),
}

impl Replay<'_> {
    /// Hands over the entries of one segment; returns where they end.
    fn segment(
        &mut self,
        segment: &Arc<Segment>,
        bytes: &[u8],
        next_first: Option<u64>,
        following: &[(u64, PathBuf)],
    ) -> io::Result<u64> {
        let mut at = 0;
        self.search_left.set(bytes.len().saturating_mul(SEARCHES_MAX));
        loop {
            if let Some(found) = self.found(bytes, at).filter(|found| found.ordinals.ordinal == self.expected)
            {
                self.take(segment, at, &found);
                at = padded((at + found.bytes) as u64) as usize;
                continue;
            }
            // The regular end of a segment.
            if next_first == Some(self.expected) {
                return Ok(at as u64);
            }
            let is_damaged = self.was_synced(bytes, at, following)?;
            // The one that is expected is never behind others, but in a file whose name or whose beginning is damaged.
            let goes_on = |found: &Found<'_>| match found.ordinals.ordinal.cmp(&self.expected) {
                Ordering::Less => false,
                Ordering::Equal => true,
                Ordering::Greater => is_damaged,
            };
            let next = (at..bytes.len())
                .step_by(ALIGNMENT)
                .find(|at| self.search(bytes, *at).is_some_and(|found| goes_on(&found)));
            // The end of the segment that was written to when the broker ended.
            if next.is_none() && !is_damaged {
                return Ok(at as u64);
            }
            let goes_on = match next {
                Some(next) => self.found(bytes, next).map_or(self.expected, |found| found.ordinals.ordinal),
                // One that is named as if it were before this is damaged as well.
                None => next_first.unwrap_or(self.expected).max(self.expected),
            };
            if goes_on > self.expected {
                (self.visit)(Replayed::Damaged(goes_on - self.expected), None);
            }
            self.expected = goes_on;
            match next {
                Some(next) => at = next,
                None => return Ok(at as u64),
            }
        }
    }

    fn found<'b>(&self, bytes: &'b [u8], at: usize) -> Option<Found<'b>> {
        Found::at_start_of(bytes.get(at..)?, self.magic)
    }

    /// The same, while there is something left of what may be checked.
    fn search<'b>(&self, bytes: &'b [u8], at: usize) -> Option<Found<'b>> {
        if !bytes.get(at..)?.starts_with(&self.magic) {
            return None;
        }
        let left = self.search_left.get().checked_sub(Found::length(&bytes[at..])?)?;
        self.search_left.set(left);
        self.found(bytes, at)
    }

    fn take(&mut self, segment: &Arc<Segment>, at: usize, found: &Found<'_>) {
        self.expected += 1;
        match found.decode() {
            Some(record @ Replayed::Record(_)) => {
                let place = Place::new(segment, at as u64, found.bytes - RECORD_HEAD_BYTES);
                (self.visit)(record, Some(place));
            }
            Some(other) => (self.visit)(other, None),
            None => (self.visit)(Replayed::Damaged(1), None),
        }
    }

    /// Whether a later entry says that the expected one had been synced.
    fn was_synced(&self, bytes: &[u8], at: usize, following: &[(u64, PathBuf)]) -> io::Result<bool> {
        if self.is_synced_in(&bytes[at.min(bytes.len())..]) {
            return Ok(true);
        }
        for (_, path) in following {
            if self.is_synced_in(&fs::read(path)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_synced_in(&self, bytes: &[u8]) -> bool {
        let mut places = (0..bytes.len().saturating_sub(HEAD_BYTES)).step_by(ALIGNMENT);
        places.any(|at| self.search(bytes, at).is_some_and(|found| found.ordinals.synced >= self.expected))
    }
}
