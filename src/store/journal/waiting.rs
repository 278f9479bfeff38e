//! What was said about messages of one queue that are not known yet: a settle or a return may be in an earlier record than the
//! enqueue that it speaks of. Owned by [`super::index::Index`].

use super::ledger::{Ledger, Slot};
use crate::message::{Lsn, Position};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Settles and returns of messages that no record has brought yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    singles: BTreeMap<Position, (Slot, Lsn)>,
    /// By their first positions. They don't overlap: of what two records have settled one of them waits.
    ranges: BTreeMap<Position, Range>,
    /// The last position that any of those two speaks of.
    last: Position,
    returned: Vec<(Position, Lsn)>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    last: Position,
    /// How many of its positions are not known yet.
    missing: u64,
    slot: Slot,
    since: Lsn,
}

impl Waiting {
    /// What waits for single positions that record `by` settles as well counts on that record from now on.
    pub(super) fn move_singles(&mut self, ledger: &mut Ledger, first: Position, last: Position, by: Slot) {
        for (slot, _) in self.singles.range_mut(first..=last).map(|(_, single)| single) {
            ledger.need(by);
            ledger.release(std::mem::replace(slot, by));
        }
    }

    /// Record `slot` has settled a position that is not known.
    pub(super) fn add(&mut self, ledger: &mut Ledger, position: Position, slot: Slot) {
        self.last = self.last.max(position);
        if let Entry::Vacant(entry) = self.singles.entry(position) {
            ledger.need(slot);
            entry.insert((slot, ledger.applied()));
        }
    }

    /// Record `slot` has settled positions of which some are not known. Ranges inside count on it from now on; what another range
    /// has beyond these goes on waiting for that. `known` counts those that are known.
    pub(super) fn add_range(
        &mut self,
        ledger: &mut Ledger,
        (mut first, mut last): (Position, Position),
        slot: Slot,
        known: impl Fn(&Ledger, Position, Position) -> u64,
    ) {
        self.last = self.last.max(last);
        if let Some((_, before)) =
            self.ranges.range(..first).next_back().filter(|(_, before)| before.last >= first)
        {
            if before.last >= last {
                return;
            }
            first = Position(before.last.0 + 1);
        }
        let mut inside = None;
        while let Some((&at, &range)) = self.ranges.range(first..=last).next_back() {
            if range.last <= last {
                self.ranges.remove(&at);
                ledger.release(range.slot);
                inside = Some((at, range));
            } else if at == first {
                return;
            } else {
                last = Position(at.0 - 1);
            }
        }
        let missing = (last.0 - first.0).saturating_add(1).saturating_sub(known(ledger, first, last));
        if missing > 0 {
            ledger.need(slot);
            // What was copied forward waits no longer for that.
            let copied = inside.filter(|(at, range)| *at == first && range.last == last);
            let since = copied.map_or(ledger.applied(), |(_, range)| range.since);
            self.ranges.insert(first, Range { last, missing, slot, since });
        }
    }

    /// A message came back that is not known.
    pub(super) fn came_back(&mut self, ledger: &Ledger, position: Position) {
        self.returned.push((position, ledger.applied()));
    }

    /// The record that settled this position, which becomes known now. That record is held until the caller releases it.
    pub(super) fn take(&mut self, ledger: &mut Ledger, position: Position) -> Option<Slot> {
        if position > self.last || self.is_nothing_settled() {
            return None;
        }
        let mut by = self.singles.remove(&position).map(|(slot, _)| slot);
        if let Some((&first, range)) = self.range_around(position) {
            if by.is_none() {
                ledger.need(range.slot);
                by = Some(range.slot);
            }
            let left = Range { missing: range.missing.saturating_sub(1), ..*range };
            if left.missing == 0 {
                ledger.release(left.slot);
                self.ranges.remove(&first);
            } else {
                self.ranges.insert(first, left);
            }
        }
        by
    }

    fn range_around(&self, position: Position) -> Option<(&Position, &Range)> {
        self.ranges.range(..=position).next_back().filter(|(_, range)| position <= range.last)
    }

    /// Whether a position is settled that is not known.
    pub(super) fn covers(&self, position: Position) -> bool {
        position <= self.last
            && (self.singles.contains_key(&position) || self.range_around(position).is_some())
    }

    /// Whether what waits for positions from `first` to `last` counts on record `slot`.
    pub(super) fn counts_on(&self, slot: Slot, first: Position, last: Position) -> bool {
        self.singles.range(first..=last).any(|(_, (by, _))| *by == slot)
            || self.ranges.range(first..=last).any(|(_, range)| range.slot == slot && range.last <= last)
    }

    /// Whether nothing that was settled is waited for.
    pub(super) fn is_nothing_settled(&self) -> bool {
        self.singles.is_empty() && self.ranges.is_empty()
    }

    /// Forgets what has waited long enough; returns the messages said to have come back.
    pub(super) fn expire(&mut self, ledger: &mut Ledger, is_over: impl Fn(Lsn) -> bool) -> Vec<Position> {
        self.singles.retain(|_, (slot, since)| {
            let over = is_over(*since);
            if over {
                ledger.release(*slot);
            }
            !over
        });
        self.ranges.retain(|_, range| {
            let over = is_over(range.since);
            if over {
                ledger.release(range.slot);
            }
            !over
        });
        let mut gone = Vec::new();
        self.returned.retain(|(position, since)| {
            let over = is_over(*since);
            if over {
                gone.push(*position);
            }
            !over
        });
        gone
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.singles.len() * 48 + self.ranges.len() * 64
    }
}
