//! The messages of one priority that are ready: a front in memory, and behind it runs of those that are not.

use super::super::persistent::Persistent;
use super::memory_bytes;
use crate::broker::delivery::Entry;
use crate::message::Position;
use crate::steps;
use std::collections::VecDeque;

/// Messages of a lane that are in memory while others of it are not: enough to go on with until those are read back.
pub(super) const FRONT_MESSAGES: usize = 1024;
pub(super) const FRONT_BYTES: usize = 1 << 20;

/// The ready messages of one priority; see the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) priority: u8,
    pub(super) entries: VecDeque<Entry>,
    /// Those that have come back to a place far from both ends of `entries`, in no order: moving the others out of the way for
    /// each would add up. All are behind the first of `entries` and before the last, and join them before it is their turn.
    pub(super) returned: Vec<Entry>,
    /// The lowest position in `returned`.
    pub(super) first_returned: Position,
    /// Behind the entries, ordered, neither empty nor touching each other.
    pub(super) paged: VecDeque<PagedRun>,
    /// Whether some of them have been asked for.
    pub(super) loading: bool,
    /// Whether one of those that are not in memory may expire.
    pub(super) paged_expire: bool,
}

/// What paged-out entries took.
pub(super) struct Freed {
    pub(super) bytes: usize,
    /// How many of them may expire.
    pub(super) expiring: usize,
}

/// An entry that comes back moves no more than this many others.
pub(super) const MOVED_MAX: usize = 256;

/// How many runs are put in their places one by one.
const SINGLE_RUNS_MAX: usize = 8;

/// Neighbouring messages that are not in memory.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker::queue) struct PagedRun {
    pub(in crate::broker::queue) first: Position,
    pub(in crate::broker::queue) count: u64,
    pub(in crate::broker::queue) body_bytes: u64,
    pub(in crate::broker::queue) persistent: Persistent,
}

/// What was said of messages that are not in memory.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    pub(super) messages: u64,
    pub(super) body_bytes: u64,
    pub(super) persistent: Persistent,
}

impl PagedRun {
    fn of(entry: &Entry) -> PagedRun {
        let body_bytes = entry.message.body_bytes() as u64;
        PagedRun { first: entry.position, count: 1, body_bytes, persistent: Persistent::of(entry) }
    }

    pub(super) fn end(&self) -> u64 {
        self.first.0 + self.count
    }

    /// Takes in the run behind it, if they touch. True when it did.
    fn join(&mut self, next: &PagedRun) -> bool {
        let touches = self.end() == next.first.0;
        if touches {
            self.count += next.count;
            self.body_bytes += next.body_bytes;
            self.persistent += next.persistent;
        }
        touches
    }
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.paged.is_empty()
    }

    /// How many are in memory.
    pub(super) fn resident(&self) -> usize {
        self.entries.len() + self.returned.len()
    }

    /// Takes the first of those in memory.
    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        if !self.returned.is_empty()
            && self.entries.front().is_none_or(|front| front.position > self.first_returned)
        {
            self.put_in_order();
        }
        Some(entry)
    }

    /// Puts an entry in its place before the last one.
    pub(super) fn take_back(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|other| other.position < entry.position);
        let moved = at.min(self.entries.len() - at);
        if moved <= MOVED_MAX {
            steps::count(1 + moved);
            self.entries.insert(at, entry);
            return;
        }
        steps::count(1);
        if self.returned.is_empty() || entry.position < self.first_returned {
            self.first_returned = entry.position;
        }
        self.returned.push(entry);
    }

    /// Has all that have come back join the others.
    pub(super) fn put_in_order(&mut self) {
        if !self.returned.is_empty() {
            let returned = std::mem::take(&mut self.returned);
            self.merge(returned);
        }
    }

    /// Puts entries in any order in their places.
    pub(super) fn merge(&mut self, entries: Vec<Entry>) {
        self.entries.extend(entries);
        self.entries.append(&mut std::mem::take(&mut self.returned).into());
        steps::count(self.entries.len());
        self.entries.make_contiguous().sort_by_key(|entry| entry.position);
    }

    /// Those in memory from a position on, in order.
    pub(super) fn entries_from(&self, from: Position) -> impl Iterator<Item = &Entry> {
        let here = self.entries.partition_point(|entry| entry.position < from);
        let mut entries = self.entries.range(here..).peekable();
        let mut returned: Vec<_> = self.returned.iter().filter(|entry| entry.position >= from).collect();
        returned.sort_by_key(|entry| std::cmp::Reverse(entry.position));
        std::iter::from_fn(move || match (entries.peek(), returned.last()) {
            (Some(next), Some(other)) if other.position < next.position => returned.pop(),
            (None, Some(_)) => returned.pop(),
            _ => entries.next(),
        })
    }

    /// How many entries stay when the others are paged out. The one that reaches the limit is among them, so that what stays
    /// never looks like too little, and is not read back only to be paged out again.
    pub(super) fn front_messages(&self) -> usize {
        let mut bytes = 0;
        let front = self.entries.iter().take(FRONT_MESSAGES).take_while(|entry| {
            let is_room = bytes < FRONT_BYTES;
            bytes += entry.message.size_bytes();
            is_room
        });
        front.count()
    }

    /// Whether more entries should be read back.
    pub(super) fn is_running_out(&self) -> bool {
        let bytes = || self.entries.iter().map(|entry| entry.message.body_bytes()).sum::<usize>();
        self.resident() < FRONT_MESSAGES / 4 && bytes() < FRONT_BYTES / 4
    }

    /// Pages all entries out but the first ones. Those that the journal does not hold go into `to_spill`.
    pub(super) fn page_out(&mut self, keep: usize, to_spill: &mut Vec<Entry>) -> Freed {
        let mut freed = Freed { bytes: 0, expiring: 0 };
        self.put_in_order();
        for entry in self.entries.drain(keep..).rev() {
            freed.bytes += memory_bytes(&entry);
            freed.expiring += usize::from(entry.expires());
            self.paged_expire |= entry.expires();
            match self.paged.front_mut() {
                Some(run) if entry.position.0 + 1 == run.first.0 => {
                    run.first = entry.position;
                    run.count += 1;
                    run.body_bytes += entry.message.body_bytes() as u64;
                    run.persistent += Persistent::of(&entry);
                }
                _ => self.paged.push_front(PagedRun::of(&entry)),
            }
            if !entry.journaled {
                to_spill.push(entry);
            }
        }
        self.entries.shrink_to(2 * FRONT_MESSAGES);
        freed
    }

    /// Puts runs, ordered, among those of messages that are not in memory.
    pub(super) fn insert_paged(&mut self, runs: impl ExactSizeIterator<Item = PagedRun>) {
        if runs.len() > SINGLE_RUNS_MAX {
            self.paged.extend(runs);
            let mut all = Vec::from(std::mem::take(&mut self.paged));
            all.sort_by_key(|run| run.first);
            all.dedup_by(|next, run| run.join(next));
            self.paged = all.into();
            return;
        }
        for run in runs {
            let at = self.paged.partition_point(|other| other.first < run.first);
            self.paged.insert(at, run);
            self.join(at);
            if at > 0 {
                self.join(at - 1);
            }
        }
    }

    /// Notes a message behind the entries that is not in memory.
    pub(super) fn note_paged(&mut self, entry: &Entry) {
        self.paged_expire |= entry.expires();
        self.insert_paged([PagedRun::of(entry)].into_iter());
    }

    /// Joins a run with the one behind it, if they touch.
    pub(super) fn join(&mut self, at: usize) {
        if let Some(next) = self.paged.get(at + 1).copied()
            && self.paged[at].join(&next)
        {
            self.paged.remove(at + 1);
        }
    }

    /// Forgets the runs up to a position, and says what they were.
    pub(super) fn forget_paged_up_to(&mut self, last: Position) -> Forgotten {
        let mut forgotten = Forgotten::default();
        while let Some(run) = self.paged.front_mut()
            && run.first <= last
        {
            let gone = run.count.min(last.0 + 1 - run.first.0);
            let gone_bytes =
                if gone == run.count { run.body_bytes } else { run.body_bytes * gone / run.count };
            let gone_persistent = run.persistent.share(gone, run.count);
            forgotten.messages += gone;
            forgotten.body_bytes += gone_bytes;
            forgotten.persistent += gone_persistent;
            run.first.0 += gone;
            run.count -= gone;
            run.body_bytes -= gone_bytes;
            run.persistent -= gone_persistent;
            if run.count == 0 {
                self.paged.pop_front();
            }
        }
        self.paged_expire &= !self.paged.is_empty();
        forgotten
    }

    pub(super) fn is_paged(&self, position: Position) -> bool {
        let behind = self.paged.partition_point(|run| run.first <= position);
        behind > 0 && position.0 < self.paged[behind - 1].end()
    }
}
