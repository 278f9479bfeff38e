//! The ready messages of a queue: a lane for each priority in use, each in the order of positions.

use crate::broker::delivery::Entry;
use crate::message::Millis;
use std::collections::VecDeque;

/// See the module. Most queues have one lane.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Highest priority first; a lane is there once it was needed.
    lanes: Vec<Lane>,
    messages: usize,
    bytes: u64,
    expiring: usize,
}

#[derive(Debug)]
struct Lane {
    priority: u8,
    entries: VecDeque<Entry>,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Bytes of the bodies.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts an entry in its place: mostly the end for a new one, the front for one that comes back.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.messages += 1;
        self.bytes += entry.message.body_bytes() as u64;
        self.expiring += usize::from(entry.expires_at.is_some());
        let entries = self.lane(entry.priority);
        match entries.back() {
            Some(back) if back.position > entry.position => {
                let at = entries.partition_point(|other| other.position < entry.position);
                entries.insert(at, entry);
            }
            _ => entries.push_back(entry),
        }
    }

    /// Takes the next to be delivered.
    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.lanes.iter_mut().find_map(|lane| lane.entries.pop_front())?;
        self.left(&entry);
        Some(entry)
    }

    /// Takes an expired entry from the front of a lane. One behind a longer-lived one has to wait, as in RabbitMQ.
    pub(super) fn pop_expired(&mut self, now: Millis) -> Option<Entry> {
        if self.expiring == 0 {
            return None;
        }
        let expired = |lane: &&mut Lane| lane.entries.front().is_some_and(|entry| is_expired(entry, now));
        let entry = self.lanes.iter_mut().find(expired)?.entries.pop_front()?;
        self.left(&entry);
        Some(entry)
    }

    /// When the first entry at the front of a lane expires.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        if self.expiring == 0 {
            return None;
        }
        self.lanes.iter().filter_map(|lane| lane.entries.front()?.expires_at).min()
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        std::mem::take(self).lanes.into_iter().flat_map(|lane| lane.entries)
    }

    fn left(&mut self, entry: &Entry) {
        self.messages -= 1;
        self.bytes -= entry.message.body_bytes() as u64;
        self.expiring -= usize::from(entry.expires_at.is_some());
        if self.messages == 0 {
            // What a long backlog needed is given back when it is gone.
            self.lanes.retain_mut(|lane| {
                if lane.entries.capacity() > SPARE_ENTRIES {
                    lane.entries.shrink_to(SPARE_ENTRIES);
                }
                true
            });
        }
    }

    fn lane(&mut self, priority: u8) -> &mut VecDeque<Entry> {
        let at = match self.lanes.binary_search_by(|lane| priority.cmp(&lane.priority)) {
            Ok(at) => at,
            Err(at) => {
                self.lanes.insert(at, Lane { priority, entries: VecDeque::new() });
                at
            }
        };
        &mut self.lanes[at].entries
    }
}

/// Room that an empty lane keeps.
const SPARE_ENTRIES: usize = 1024;

fn is_expired(entry: &Entry, now: Millis) -> bool {
    entry.expires_at.is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Position};

    fn entry(position: u64, priority: u8, expires_at: Option<Millis>) -> Entry {
        Entry {
            message: Message::new("", b"q", &[0, 0], b"body").unwrap(),
            position: Position(position),
            enqueued_at: 0,
            expires_at,
            delivery_count: 0,
            priority,
            redelivered: false,
            journaled: false,
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
        assert_eq!((ready.len(), ready.bytes()), (0, 0));
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
}
