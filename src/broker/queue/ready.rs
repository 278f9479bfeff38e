//! The ready messages of a queue: a lane for each priority in use, each in the order of positions.
//!
//! The front of a lane is in memory. When memory runs short, what is behind is paged out: of such messages only the positions
//! are kept, as runs, and they come back from the journal before it is their turn.

mod lane;
mod places;

pub(super) use lane::PagedRun;
pub(super) use places::{Place, Taken};

use crate::broker::delivery::Entry;
use crate::message::{Millis, Position};
use lane::{FRONT_MESSAGES, Lane, MOVED_MAX};

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
    resident_bytes: usize,
    expiring: usize,
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
            lane.note_paged(entry.position, body_bytes as u64, entry.expires());
            self.messages += 1;
            self.bytes += body_bytes as u64;
            return (!entry.journaled).then_some(entry);
        }
        self.messages += 1;
        self.bytes += body_bytes as u64;
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
    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let lane = self.lanes.iter_mut().find(|lane| !lane.is_empty())?;
        let entry = lane.pop_front()?;
        self.left(&entry);
        Some(entry)
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

    /// Gives the entries in memory other times to expire at.
    pub(super) fn expire_anew(&mut self, expires_at: impl Fn(&Entry) -> Millis) {
        let entries = self.lanes.iter_mut().flat_map(|lane| {
            lane.put_in_order();
            &mut lane.entries
        });
        self.expiring = entries
            .map(|entry| {
                entry.expires_at = expires_at(entry);
                usize::from(entry.expires())
            })
            .sum();
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

    /// Takes everything: those in memory, and the runs of those that are not.
    pub(super) fn take_all(&mut self) -> (Vec<Entry>, Vec<PagedRun>) {
        let (mut entries, mut paged) = (Vec::new(), Vec::new());
        for mut lane in std::mem::take(self).lanes {
            lane.put_in_order();
            entries.extend(lane.entries);
            paged.extend(lane.paged);
        }
        (entries, paged)
    }

    /// Lets all go but the front of each lane. Those that the journal does not hold are returned, to be spilled there.
    pub(super) fn page_out(&mut self) -> Vec<Entry> {
        let mut to_spill = Vec::new();
        let (mut freed, mut expiring) = (0, 0);
        for lane in &mut self.lanes {
            lane.put_in_order();
            let keep = lane.front_messages();
            let let_go = lane.let_go(keep, &mut to_spill);
            freed += let_go.bytes;
            expiring += let_go.expiring;
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
            let let_go = lane.let_go(keep, &mut to_spill);
            lane.paged_expire |= of_lane.iter().any(|(.., expires)| *expires);
            lane.insert_paged(of_lane.iter().map(|(_, run, _)| *run));
            self.resident_bytes -= let_go.bytes;
            self.expiring -= let_go.expiring;
            self.messages += of_lane
                .iter()
                .map(|(_, run, _)| usize::try_from(run.count).unwrap_or(usize::MAX))
                .sum::<usize>();
            self.bytes += of_lane.iter().map(|(_, run, _)| run.body_bytes).sum::<u64>();
        }
        to_spill
    }

    /// Takes over messages that are in the journal and not in memory.
    pub(super) fn restore(&mut self, priority: u8, run: PagedRun, may_expire: bool) {
        self.messages += usize::try_from(run.count).unwrap_or(usize::MAX);
        self.bytes += run.body_bytes;
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
        let (messages, bytes) = lane.forget_paged_up_to(last);
        self.messages -= usize::try_from(messages).unwrap_or(self.messages);
        self.bytes -= bytes;
        for entry in entries {
            self.messages += 1;
            self.bytes += entry.message.body_bytes() as u64;
            self.keep(entry);
        }
    }

    /// What was asked for does not come; it may be asked for again.
    pub(super) fn paging_failed(&mut self) {
        for lane in &mut self.lanes {
            lane.loading = false;
        }
    }

    fn left(&mut self, entry: &Entry) {
        let body_bytes = entry.message.body_bytes();
        self.messages -= 1;
        self.bytes -= body_bytes as u64;
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
mod tests {
    use super::*;
    use crate::message::{Message, NEVER};

    pub(super) fn entry(position: u64, priority: u8, expires_at: Option<Millis>) -> Entry {
        Entry {
            message: Message::new("", b"q", &[0, 0], b"body").unwrap(),
            position: Position(position),
            enqueued_at: 0,
            expires_at: expires_at.unwrap_or(NEVER),
            delivery_count: 0,
            priority,
            redelivered: false,
            journaled: true,
        }
    }

    fn drain(ready: &mut Ready) -> Vec<u64> {
        std::iter::from_fn(|| ready.pop_front()).map(|entry| entry.position.0).collect()
    }

    #[test]
    fn higher_priority_first_then_by_position() {
        let mut ready = Ready::default();
        for (position, priority) in [(1, 0), (2, 5), (3, 0), (4, 9), (5, 5)] {
            ready.insert(entry(position, priority, None));
        }
        assert_eq!((ready.len(), ready.bytes()), (5, 20));
        assert_eq!(drain(&mut ready), [4, 2, 5, 1, 3]);
        assert_eq!((ready.len(), ready.bytes(), ready.resident_bytes()), (0, 0, 0));
    }

    #[test]
    fn what_comes_back_takes_its_old_place() {
        let mut ready = Ready::default();
        for position in [4, 5, 1, 3, 2] {
            ready.insert(entry(position, 0, None));
        }
        assert_eq!(drain(&mut ready), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn many_that_come_back_are_merged_with_those_that_stayed() {
        let mut ready = Ready::default();
        // One by one these would take a quarter of a minute.
        const EACH: u64 = 120_000;
        let one = entry(0, 0, None);
        let numbered =
            |n, odd| Entry { position: Position(2 * n + odd), priority: (n % 2) as u8, ..one.clone() };
        (0..EACH).for_each(|n| assert!(ready.insert(numbered(n, 0)).is_none()));
        let back: Vec<Entry> = (0..EACH).rev().map(|n| numbered(n, 1)).collect();
        let start = std::time::Instant::now();
        assert!(ready.insert_all(back).is_empty());
        assert!(start.elapsed() < std::time::Duration::from_secs(3));
        assert_eq!((ready.len() as u64, ready.bytes()), (2 * EACH, 8 * EACH));
        let positions = drain(&mut ready);
        assert!(positions.chunk_by(|a, b| a < b).count() == 2 && positions.len() as u64 == 2 * EACH);
        assert_eq!(ready.resident_bytes(), 0);
    }

    #[test]
    fn what_comes_back_one_by_one_in_any_order_costs_little_each() {
        const ALL: u64 = 40_000;
        let one = entry(0, 0, None);
        let at = |n| Entry { position: Position(n), ..one.clone() };
        let mut ready = Ready::default();
        let (_, steps) = crate::steps::of(|| {
            for n in 0..ALL {
                assert!(ready.insert(at(n * 7919 % ALL)).is_none());
                if n % 1000 == 999 {
                    let front = ready.pop_front().unwrap();
                    assert!(ready.insert(front).is_none());
                }
            }
        });
        assert!(steps < 300 * ALL, "{steps} steps for {ALL} that come back");
        assert_eq!(ready.resident() as u64, ALL);
        let seen: Vec<u64> = ready
            .places_after(Some((0, Position(9))))
            .filter_map(|place| match place {
                Place::Here(entry) => Some(entry.position.0),
                Place::Elsewhere { .. } => None,
            })
            .collect();
        assert!(seen.into_iter().eq(10..ALL));
        assert!(drain(&mut ready).into_iter().eq(0..ALL));
    }

    #[test]
    fn only_the_front_of_a_lane_expires() {
        let mut ready = Ready::default();
        ready.insert(entry(1, 0, Some(100)));
        ready.insert(entry(2, 0, Some(10)));
        ready.insert(entry(3, 1, Some(20)));
        assert_eq!(ready.next_expiry(), Some(20));
        assert!(ready.pop_expired(19).is_none());
        assert_eq!(ready.pop_expired(50).unwrap().position, Position(3));
        assert!(ready.pop_expired(50).is_none());
        assert_eq!(ready.pop_expired(100).unwrap().position, Position(1));
        assert_eq!(ready.pop_expired(100).unwrap().position, Position(2));
    }

    #[test]
    fn what_is_let_go_comes_back_in_order() {
        let mut ready = Ready::default();
        for position in 1..=3000 {
            ready.insert(entry(position, 0, None));
        }
        assert!(ready.page_out().is_empty());
        assert!(ready.resident_bytes() <= FRONT_MESSAGES * memory_bytes(&entry(1, 0, None)));
        // What comes now is behind those that are not in memory.
        assert!(ready.insert(entry(3001, 0, None)).is_none());
        assert_eq!((ready.len(), ready.bytes()), (3001, 3001 * 4));
        let mut seen: Vec<u64> = drain(&mut ready);
        while let Some(request) = ready.page_request(false) {
            assert_eq!(request.from, Position(seen.len() as u64 + 1));
            assert_eq!(ready.page_request(false), None);
            let read = (request.from.0..=3001).take(700).map(|position| entry(position, 0, None));
            ready.paged_in(request, read.collect());
            seen.extend(drain(&mut ready));
        }
        assert_eq!(seen, (1..=3001).collect::<Vec<_>>());
        assert_eq!((ready.len(), ready.bytes(), ready.resident_bytes()), (0, 0, 0));
    }

    #[test]
    fn what_was_let_go_is_not_wanted_back_at_once() {
        for body_bytes in [10, 9_000, 300_000, 5_000_000] {
            let mut ready = Ready::default();
            let body = vec![0; body_bytes];
            for (position, large) in (1..=1200).map(|position| (position, position % 30 == 2)) {
                let body = if large { &body[..] } else { &body[..10] };
                let message = Message::new("", b"q", &[0, 0], body).unwrap();
                ready.insert(Entry { message, ..entry(position, 0, None) });
            }
            assert_eq!(ready.page_out().len(), 0);
            assert_eq!(ready.page_request(false), None, "{body_bytes}");
        }
    }

    #[test]
    fn what_the_journal_lost_is_not_waited_for() {
        let mut ready = Ready::default();
        ready.restore(0, PagedRun { first: Position(1), count: 5, body_bytes: 20 }, false);
        let request = ready.page_request(false).unwrap();
        ready.paged_in(request, vec![entry(2, 0, None), entry(4, 0, None)]);
        assert_eq!((ready.len(), drain(&mut ready)), (3, vec![2, 4]));
        let request = ready.page_request(false).unwrap();
        ready.paged_in(request, Vec::new());
        assert!(ready.is_empty());
    }

    #[test]
    fn what_only_memory_holds_is_handed_out_to_be_spilled() {
        let mut ready = Ready::default();
        for position in 1..=1500 {
            ready.insert(Entry { journaled: false, ..entry(position, 0, None) });
        }
        assert_eq!(ready.page_out().len(), 1500 - FRONT_MESSAGES);
        assert!(ready.insert(Entry { journaled: false, ..entry(1501, 0, None) }).is_some());
        assert_eq!(ready.len(), 1501);
    }
}
