//! The places of ready messages: going through them in order, and taking a message out of the middle.

use super::super::persistent::Persistent;
use super::{Forgotten, Lane, PagedRun, Ready};
use crate::broker::delivery::Entry;
use crate::message::Position;

/// A place, or several that follow each other, in the order of delivery.
#[derive(Debug)]
pub(in crate::broker::queue) enum Place<'a> {
    /// A message in memory.
    InMemory(&'a Entry),
    /// Messages that are not.
    PagedOut {
        /// The priority of their lane.
        priority: u8,
        /// The position of the first one.
        first: Position,
        /// How many they are.
        count: u64,
    },
}

/// What was found in a place.
#[derive(Debug)]
pub(in crate::broker::queue) enum Taken {
    /// It was in memory.
    InMemory(Entry),
    /// It was not, and is no longer counted.
    PagedOut,
    /// No message is ready there.
    Nothing,
}

impl Ready {
    /// All places behind one, or from the front on.
    pub(in crate::broker::queue) fn places_after(
        &self,
        after: Option<(u8, Position)>,
    ) -> impl Iterator<Item = Place<'_>> {
        self.lanes.iter().flat_map(move |lane| {
            let from = match after {
                Some((priority, _)) if lane.priority > priority => Position(u64::MAX),
                Some((priority, position)) if lane.priority == priority => Position(position.0 + 1),
                _ => Position(0),
            };
            lane.places_from(from)
        })
    }

    /// Takes the message out of a place; `body_bytes` are those of its body, and `persistent` what it has of that.
    pub(in crate::broker::queue) fn take(
        &mut self,
        priority: u8,
        position: Position,
        body_bytes: usize,
        persistent: Persistent,
    ) -> Taken {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.priority == priority) else {
            return Taken::Nothing;
        };
        lane.put_in_order();
        let at = lane.entries.binary_search_by_key(&position, |entry| entry.position);
        if let Some(entry) = at.ok().and_then(|at| lane.entries.remove(at)) {
            self.left(&entry);
            return Taken::InMemory(entry);
        }
        match lane.cut(position, body_bytes as u64, persistent) {
            Some(cut) => {
                self.messages -= 1;
                self.bytes -= cut.body_bytes;
                self.persistent -= cut.persistent;
                Taken::PagedOut
            }
            None => Taken::Nothing,
        }
    }
}

impl Lane {
    fn places_from(&self, from: Position) -> impl Iterator<Item = Place<'_>> {
        let priority = self.priority;
        let runs = self.paged.iter().filter_map(move |run| {
            let first = run.first.max(from);
            let count = run.end().saturating_sub(first.0);
            (count > 0).then_some(Place::PagedOut { priority, first, count })
        });
        self.entries_from(from).map(Place::InMemory).chain(runs)
    }

    /// Takes one message out of the run that it is in, and says what it counted there.
    fn cut(&mut self, position: Position, body_bytes: u64, persistent: Persistent) -> Option<Forgotten> {
        if !self.is_paged(position) {
            return None;
        }
        let at = self.paged.partition_point(|run| run.first <= position) - 1;
        let run = self.paged[at];
        let (before, behind) = (position.0 - run.first.0, run.end() - position.0 - 1);
        let left = before + behind;
        // A run knows its bytes, and which are persistent, only as a whole.
        let taken_bytes = if left == 0 { run.body_bytes } else { body_bytes.min(run.body_bytes) };
        let left_bytes = run.body_bytes - taken_bytes;
        let before_bytes = (left_bytes * before).checked_div(left).unwrap_or(0);
        let taken = if left == 0 { run.persistent } else { persistent.at_most(run.persistent) };
        let mut behind_persistent = run.persistent;
        behind_persistent -= taken;
        let before_persistent = behind_persistent.share(before, left);
        behind_persistent -= before_persistent;
        self.paged.remove(at);
        let pieces = [
            PagedRun {
                first: Position(position.0 + 1),
                count: behind,
                body_bytes: left_bytes - before_bytes,
                persistent: behind_persistent,
            },
            PagedRun {
                first: run.first,
                count: before,
                body_bytes: before_bytes,
                persistent: before_persistent,
            },
        ];
        for piece in pieces.into_iter().filter(|piece| piece.count > 0) {
            self.paged.insert(at, piece);
        }
        Some(Forgotten { messages: 1, body_bytes: taken_bytes, persistent: taken })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, run};
    use super::*;

    fn shown(ready: &Ready, after: Option<(u8, Position)>) -> Vec<(u64, u64)> {
        let place = |place| match place {
            Place::InMemory(entry) => (entry.position.0, 1),
            Place::PagedOut { first, count, .. } => (first.0, count),
        };
        ready.places_after(after).map(place).collect()
    }

    #[test]
    fn places_are_gone_through_in_the_order_of_delivery() {
        let mut ready = Ready::default();
        for (position, priority) in [(1, 0), (2, 5), (3, 0)] {
            ready.insert(entry(position, priority, None));
        }
        ready.restore(0, run(4, 10, 100), false);
        assert_eq!(shown(&ready, None), [(2, 1), (1, 1), (3, 1), (4, 10)]);
        assert_eq!(shown(&ready, Some((5, Position(2)))), [(1, 1), (3, 1), (4, 10)]);
        assert_eq!(shown(&ready, Some((0, Position(1)))), [(3, 1), (4, 10)]);
        assert_eq!(shown(&ready, Some((0, Position(7)))), [(8, 6)]);
        assert_eq!(shown(&ready, Some((0, Position(13)))), []);
    }

    #[test]
    fn a_message_is_taken_from_wherever_it_is() {
        let mut ready = Ready::default();
        ready.insert(entry(1, 0, None));
        ready.insert(entry(2, 0, None));
        ready.restore(0, run(3, 4, 40), false);
        let bytes = ready.bytes();
        assert!(
            matches!(ready.take(0, Position(1), 0, Persistent::default()), Taken::InMemory(entry) if entry.position == Position(1))
        );
        assert!(matches!(ready.take(0, Position(1), 0, Persistent::default()), Taken::Nothing));
        assert!(matches!(ready.take(1, Position(2), 0, Persistent::default()), Taken::Nothing));
        assert!(matches!(ready.take(0, Position(4), 10, Persistent::default()), Taken::PagedOut));
        assert!(matches!(ready.take(0, Position(4), 10, Persistent::default()), Taken::Nothing));
        assert_eq!(shown(&ready, None), [(2, 1), (3, 1), (5, 2)]);
        for position in [3, 6, 5] {
            assert!(
                matches!(
                    ready.take(
                        0,
                        Position(position),
                        10,
                        Persistent::of(&Entry { persistent: true, ..entry(position, 0, None) })
                    ),
                    Taken::PagedOut
                ),
                "{position}"
            );
        }
        assert_eq!((shown(&ready, None), ready.len()), (vec![(2, 1)], 1));
        assert!(ready.bytes() <= bytes - 40);
    }
}
