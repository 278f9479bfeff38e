//! When the first entries were published that consumers have not acknowledged: how far behind they are in time. For entries that are not in
//! memory the streams' thread reads that, once a client has asked.

use super::tail::Tail;
use super::{State, Stream};
use crate::message::Millis;
use crate::store::stream::{ReadAt, StreamLog};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The times that are known, and those that are wanted, by offset.
#[derive(Debug, Default)]
pub(super) struct Unread {
    known: BTreeMap<u64, Millis>,
    wanted: BTreeSet<u64>,
}

/// Times that are read at once, and kept.
const READ_AT_ONCE: usize = 64;
const KNOWN_MAX: usize = 10_000;

impl Unread {
    /// When that entry was published, or the first one behind it that is kept.
    pub(super) fn time_of(&mut self, offset: u64, tail: &Tail) -> Option<Millis> {
        if let Some(mut entries) = tail.from(offset) {
            return entries.next().map(|entry| entry.enqueued_at);
        }
        let known = self.known.get(&offset).copied();
        if known.is_none() && self.wanted.len() < KNOWN_MAX {
            self.wanted.insert(offset);
        }
        known
    }

    /// Whether some are to be read.
    pub(super) fn is_any_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    fn note(&mut self, offset: u64, at: Option<Millis>) {
        if self.known.len() >= KNOWN_MAX {
            // Those who are furthest back are the ones that have moved on, most likely.
            self.known.pop_first();
        }
        self.known.extend(at.map(|at| (offset, at)));
    }
}

impl State {
    fn take_wanted(&mut self) -> Vec<u64> {
        let mut wanted = std::mem::take(&mut self.unread.wanted);
        let first = wanted.iter().take(READ_AT_ONCE).copied().collect();
        self.unread.wanted = wanted
            .iter()
            .nth(READ_AT_ONCE)
            .copied()
            .map_or_else(BTreeSet::new, |next| wanted.split_off(&next));
        first
    }
}

impl Stream {
    /// Reads times that were asked for.
    pub(super) fn read_times(&self, log: &mut StreamLog) -> io::Result<()> {
        let wanted = self.state.lock().take_wanted();
        for offset in wanted {
            let read = log.read(&mut ReadAt::offset(offset), 1)?;
            let at = read.entries.iter().find(|entry| entry.offset >= offset).map(|entry| entry.enqueued_at);
            self.state.lock().unread.note(offset, at);
        }
        Ok(())
    }
}
