//! The ready messages of a queue: a lane for each priority in use, each in the order of positions.
//!
//! The front of a lane is in memory. When memory runs short, what is behind is paged out: of such messages only the positions
//! are kept, as runs, and they come back from the journal before it is their turn.

mod lane;
mod places;

pub(super) use lane::PagedRun;
pub(super) use places::{Place, Taken};

use super::persistent::Persistent;
use crate::broker::delivery::Entry;
use crate::message::{Millis, Position};
use lane::{FRONT_MESSAGES, Forgotten, Lane, MOVED_MAX};

/// What an entry takes besides its message's bytes, roughly.
const ENTRY_BYTES: usize = 192;

fn memory_bytes(entry: &Entry) -> usize {
    entry.message.size_bytes() + ENTRY_BYTES
}

/// The ready messages of a queue, in a lane for each priority; see the module. Most queues have one lane.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Highest priority first; a lane is there once it was needed.
    lanes: Vec<Lane>,
    messages: usize,
    bytes: u64,
    persistent: Persistent,
    resident_bytes: usize,
    expiring: usize,
    /// Behind which position of its priority messages have yet to be given another time to expire at, while some have.
    expiring_anew: Option<(u8, Position)>,
}

/// What [`Ready::take_any`] takes.
pub(super) enum Any {
    /// One that was in memory.
    InMemory(Entry),
    /// Neighbours that were not.
    PagedOut(PagedRun),
}

/// Messages that a queue wants back in memory: those of one priority from a position on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The priority of the lane.
    pub priority: u8,
    /// The first one wanted.
    pub from: Position,
}

impl Ready {
    /// How many there are, in memory or not.
    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether the next to be delivered is in memory.
    pub(super) fn has_front(&self) -> bool {
        self.lanes.iter().find(|lane| !lane.is_empty()).is_some_and(|lane| !lane.entries.is_empty())
    }

    /// Bytes of the bodies, in memory or not.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Those that are persistent, in memory or not.
    pub(super) fn persistent(&self) -> Persistent {
        self.persistent
    }

    /// Bytes of the bodies that are not in memory.
    pub(super) fn paged_bytes(&self) -> u64 {
        self.lanes.iter().flat_map(|lane| &lane.paged).map(|run| run.body_bytes).sum()
    }

    /// What those in memory take there, roughly.
    pub(super) fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Puts an entry in its place: mostly the end for a new one, the front for one that comes back. One whose place is among
    /// those that are not in memory does not stay there either; if the journal does not hold it, it is returned, to be
    /// spilled there.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let body_bytes = entry.message.body_bytes();
        let lane = self.lane(entry.priority);
        if lane.paged.front().is_some_and(|run| run.first < entry.position) {
            lane.note_paged(&entry);
            self.messages += 1;
            self.bytes += body_bytes as u64;
            self.persistent += Persistent::of(&entry);
            return (!entry.journaled).then_some(entry);
        }
        self.messages += 1;
        self.bytes += body_bytes as u64;
        self.persistent += Persistent::of(&entry);
        self.keep(entry);
        None
    }

    /// Puts entries that come back in their places, and returns those to be spilled, see [`Ready::insert`].
    pub(super) fn insert_all(&mut self, mut entries: Vec<Entry>) -> Vec<Entry> {
        let mut to_spill = Vec::new();
        entries.sort_by_key(|entry| (entry.priority, entry.position));
        while let Some(priority) = entries.last().map(|entry| entry.priority) {
            let of_lane = entries.split_off(entries.partition_point(|entry| entry.priority < priority));
            let lane = self.lane(priority);
            let moved = |entry: &Entry| {
                let behind = lane.entries.partition_point(|other| other.position < entry.position);
                behind.min(lane.entries.len() - behind).min(MOVED_MAX)
            };
            // Each may have to move many others. Where that adds up, everything is put in order at once.
            if lane.paged.is_empty() && of_lane.iter().map(moved).sum::<usize>() > lane.resident() {
                self.merge(priority, of_lane);
            } else {
                to_spill.extend(of_lane.into_iter().filter_map(|entry| self.insert(entry)));
            }
        }
        to_spill
    }

    fn merge(&mut self, priority: u8, entries: Vec<Entry>) {
        for entry in &entries {
            self.messages += 1;
            self.bytes += entry.message.body_bytes() as u64;
            self.persistent += Persistent::of(entry);
            self.resident_bytes += memory_bytes(entry);
            self.expiring += usize::from(entry.expires());
        }
        self.lane(priority).merge(entries);
    }

    /// Puts an entry, counted already, in its place in memory.
    fn keep(&mut self, entry: Entry) {
        self.resident_bytes += memory_bytes(&entry);
        self.expiring += usize::from(entry.expires());
        let lane = self.lane(entry.priority);
        match lane.entries.back() {
            Some(back) if back.position > entry.position => lane.take_back(entry),
            _ => lane.entries.push_back(entry),
        }
    }

    /// The next to be delivered, if it is in memory.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.lanes.iter().find(|lane| !lane.is_empty())?.entries.front()
    }

    /// How many are in memory.
    pub(super) fn resident(&self) -> usize {
        self.lanes.iter().map(Lane::resident).sum()
    }

    /// When the oldest at the front of a lane came.
    pub(super) fn oldest_at(&self) -> Option<Millis> {
        self.lanes.iter().filter_map(|lane| lane.entries.front()).map(|entry| entry.enqueued_at).min()
    }

    /// Takes the next to be delivered. `None` while it is not in memory.
    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let lane = self.lanes.iter_mut().find(|lane| !lane.is_empty())?;
        let entry = lane.pop_front()?;
        self.left(&entry);
        Some(entry)
    }

    /// Whether the next to be delivered has expired.
    pub(super) fn is_front_expired(&self, now: Millis) -> bool {
        self.expiring > 0 && self.front().is_some_and(|entry| is_expired(entry, now))
    }

    /// Takes an expired entry from the front of a lane. One behind a longer-lived one has to wait, as in RabbitMQ.
    pub(super) fn pop_expired(&mut self, now: Millis) -> Option<Entry> {
        if self.expiring == 0 {
            return None;
        }
        let expired = |lane: &&mut Lane| lane.entries.front().is_some_and(|entry| is_expired(entry, now));
        let entry = self.lanes.iter_mut().find(expired)?.pop_front()?;
        self.left(&entry);
        Some(entry)
    }

    /// The entries in memory have to be given other times to expire at, with [`Ready::go_on_expiring_anew`].
    pub(super) fn expire_anew(&mut self) {
        self.expiring_anew = self.lanes.first().map(|lane| (lane.priority, Position(0)));
    }

    /// Whether some entries have yet to be given another time to expire at.
    pub(super) fn is_expiring_anew(&self) -> bool {
        self.expiring_anew.is_some()
    }

    /// Gives up to `count_max` entries, from the front on, another time to expire at, and says how many it were.
    pub(super) fn go_on_expiring_anew(
        &mut self,
        count_max: usize,
        expires_at: impl Fn(&Entry) -> Millis,
    ) -> usize {
        let mut count = 0;
        while let Some((priority, done)) = self.expiring_anew {
            // Higher priorities come first.
            let Some(at) = self.lanes.iter().position(|lane| lane.priority <= priority) else {
                self.expiring_anew = None;
                break;
            };
            let lane = &mut self.lanes[at];
            lane.put_in_order();
            let from = match lane.priority == priority {
                true => lane.entries.partition_point(|entry| entry.position <= done),
                false => 0,
            };
            for entry in lane.entries.range_mut(from..).take(count_max - count) {
                self.expiring -= usize::from(entry.expires());
                entry.expires_at = expires_at(entry);
                self.expiring += usize::from(entry.expires());
                self.expiring_anew = Some((lane.priority, entry.position));
                count += 1;
            }
            if count == count_max {
                break;
            }
            self.expiring_anew = self.lanes.get(at + 1).map(|lane| (lane.priority, Position(0)));
        }
        count
    }

    /// When the first entry at the front of a lane expires.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        if self.expiring == 0 {
            return None;
        }
        let fronts = self.lanes.iter().filter_map(|lane| lane.entries.front());
        fronts.filter(|entry| entry.expires()).map(|entry| entry.expires_at).min()
    }

    /// Whether messages that are not in memory may expire, so that they have to be looked at when it is time.
    pub(super) fn may_expire_unseen(&self) -> bool {
        self.lanes.iter().any(|lane| lane.paged_expire)
    }

    /// Takes an entry in memory, or else a run of those that are not, in no order that matters. `None` when nothing is left.
    pub(super) fn take_any(&mut self) -> Option<Any> {
        while let Some(lane) = self.lanes.last_mut() {
            if let Some(entry) = lane.entries.pop_front().or_else(|| lane.returned.pop()) {
                self.left(&entry);
                return Some(Any::InMemory(entry));
            }
            if let Some(run) = lane.paged.pop_front() {
                self.messages -= usize::try_from(run.count).unwrap_or(self.messages);
                self.bytes -= run.body_bytes;
                self.persistent -= run.persistent;
                return Some(Any::PagedOut(run));
            }
            self.lanes.pop();
        }
        None
    }

    /// Pages out all but the front of each lane. Those that the journal does not hold are returned, to be spilled there.
    pub(super) fn page_out(&mut self) -> Vec<Entry> {
        let mut to_spill = Vec::new();
        let (mut freed, mut expiring) = (0, 0);
        for lane in &mut self.lanes {
            lane.put_in_order();
            let keep = lane.front_messages();
            let freed_of_lane = lane.page_out(keep, &mut to_spill);
            freed += freed_of_lane.bytes;
            expiring += freed_of_lane.expiring;
        }
        self.resident_bytes -= freed;
        self.expiring -= expiring;
        to_spill
    }

    /// Puts messages that are not in memory in their places: each run with its priority, and whether one of it may expire.
    /// What is behind the first of them in its lane leaves memory too. Those that the journal does not hold are returned, to be
    /// spilled there.
    pub(super) fn insert_runs(&mut self, mut runs: Vec<(u8, PagedRun, bool)>) -> Vec<Entry> {
        let mut to_spill = Vec::new();
        runs.sort_by_key(|(priority, run, _)| (*priority, run.first));
        for of_lane in runs.chunk_by(|(one, ..), (other, ..)| one == other) {
            let (priority, first, _) = of_lane[0];
            let lane = self.lane(priority);
            lane.put_in_order();
            let keep = lane.entries.partition_point(|entry| entry.position < first.first);
            let freed_of_lane = lane.page_out(keep, &mut to_spill);
            lane.paged_expire |= of_lane.iter().any(|(.., expires)| *expires);
            lane.insert_paged(of_lane.iter().map(|(_, run, _)| *run));
            self.resident_bytes -= freed_of_lane.bytes;
            self.expiring -= freed_of_lane.expiring;
            self.messages += of_lane
                .iter()
                .map(|(_, run, _)| usize::try_from(run.count).unwrap_or(usize::MAX))
                .sum::<usize>();
            self.bytes += of_lane.iter().map(|(_, run, _)| run.body_bytes).sum::<u64>();
            self.persistent += of_lane.iter().map(|(_, run, _)| run.persistent).sum();
        }
        to_spill
    }

    /// Takes over messages that are in the journal and not in memory.
    pub(super) fn restore(&mut self, priority: u8, run: PagedRun, may_expire: bool) {
        self.messages += usize::try_from(run.count).unwrap_or(usize::MAX);
        self.bytes += run.body_bytes;
        self.persistent += run.persistent;
        let lane = self.lane(priority);
        lane.paged_expire |= may_expire;
        let paged = &mut lane.paged;
        paged.push_back(run);
        if let Some(before) = paged.len().checked_sub(2) {
            self.lane(priority).join(before);
        }
    }

    /// What to read back now: the front of the first lane that is running out of entries. `even_if_asked` asks once more for
    /// what was asked for before.
    pub(super) fn page_request(&mut self, even_if_asked: bool) -> Option<PageRequest> {
        let lane = self.lanes.iter_mut().find(|lane| {
            !lane.paged.is_empty() && (even_if_asked || !lane.loading) && lane.is_running_out()
        })?;
        lane.loading = true;
        let from = lane.paged.front()?.first;
        Some(PageRequest { priority: lane.priority, from })
    }

    /// Takes what was read back. What is not among it up to its last position is not there any more; nothing at all means
    /// that about the whole lane.
    pub(super) fn paged_in(&mut self, request: PageRequest, entries: Vec<Entry>) {
        let lane = self.lane(request.priority);
        lane.loading = false;
        if lane.paged.front().is_some_and(|run| run.first < request.from) {
            // Some have come back meanwhile whose turn is before these.
            return;
        }
        let last = entries.last().map_or(Position(u64::MAX - 1), |entry| entry.position);
        let entries: Vec<Entry> = entries.into_iter().filter(|entry| lane.is_paged(entry.position)).collect();
        let Forgotten { messages, body_bytes, persistent } = lane.forget_paged_up_to(last);
        self.messages -= usize::try_from(messages).unwrap_or(self.messages);
        self.bytes -= body_bytes;
        self.persistent -= persistent;
        for entry in entries {
            self.messages += 1;
            self.bytes += entry.message.body_bytes() as u64;
            self.persistent += Persistent::of(&entry);
            self.keep(entry);
        }
    }

    /// What was asked for does not come; it may be asked for again.
    pub(super) fn paging_failed(&mut self) {
        for lane in &mut self.lanes {
            lane.loading = false;
        }
    }

    #[inline]
    fn left(&mut self, entry: &Entry) {
        let body_bytes = entry.message.body_bytes();
        self.messages -= 1;
        self.bytes -= body_bytes as u64;
        self.persistent -= Persistent::of(entry);
        self.resident_bytes -= memory_bytes(entry);
        self.expiring -= usize::from(entry.expires());
        if self.messages == 0 {
            // What a long backlog needed is given back when it is gone.
            for lane in &mut self.lanes {
                lane.entries.shrink_to(FRONT_MESSAGES);
            }
        }
    }

    #[inline]
    fn lane(&mut self, priority: u8) -> &mut Lane {
        if self.lanes.first().is_some_and(|first| first.priority == priority) {
            return &mut self.lanes[0];
        }
        let at = match self.lanes.binary_search_by(|lane| priority.cmp(&lane.priority)) {
            Ok(at) => at,
            Err(at) => {
                let lane = Lane { priority, ..Lane::default() };
                self.lanes.insert(at, lane);
                at
            }
        };
        &mut self.lanes[at]
    }
}

fn is_expired(entry: &Entry, now: Millis) -> bool {
    entry.expires_at <= now
}

#[cfg(test)]
mod tests;
