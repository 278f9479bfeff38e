//! Where each message of one queue lies: in which record, and whether it is alive. Owned by [`super::index::Index`].
//!
//! Sixteen neighbouring positions of one priority in one record take 16 bytes, so a queue filled in order costs a byte a
//! message, and one whose messages all lie alone in their record 16 to 32.

use super::ledger::{Ledger, Slot};
use crate::message::Position;
use std::collections::VecDeque;

const BLOCK: u64 = 16;

/// Some of sixteen neighbouring positions: those of one priority that lie in one record.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The number of the sixteen ‖ priority (8 bits).
    key: u64,
    slot: Slot,
    /// A bit for each position that the record holds, and for each that is alive.
    present: u16,
    live: u16,
}

/// The messages of one queue. A position may lie in two records for a while, when it is being copied; it is alive in one.
#[derive(Debug, Default)]
pub(super) struct Positions {
    /// The blocks, ordered by key.
    blocks: VecDeque<Block>,
}

/// What is known of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Not,
    Dead,
    Alive(Slot),
}

/// A message that is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) position: Position,
    pub(super) priority: u8,
    pub(super) slot: Slot,
}

impl Positions {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
    }

    /// What is known of a position.
    pub(super) fn find(&self, ledger: &Ledger, position: Position) -> Known {
        let bit = bit_of(position);
        let mut known = Known::Not;
        for block in self.around(position) {
            if block.present & bit != 0 && !ledger.is_retired(block.slot) {
                if block.live & bit != 0 {
                    return Known::Alive(block.slot);
                }
                known = Known::Dead;
            }
        }
        known
    }

    /// A message lies in a record; true unless it was known to.
    pub(super) fn insert(&mut self, position: Position, priority: u8, slot: Slot, alive: bool) {
        let key = key_of(position, priority);
        let bit = bit_of(position);
        let live = if alive { bit } else { 0 };
        let is_last = self.blocks.back().is_none_or(|block| block.key <= key);
        let end =
            if is_last { self.blocks.len() } else { self.blocks.partition_point(|block| block.key <= key) };
        for block in self.blocks.range_mut(..end).rev() {
            if block.key != key {
                break;
            }
            if block.slot == slot {
                block.present |= bit;
                block.live |= live;
                return;
            }
        }
        self.blocks.insert(end, Block { key, slot, present: bit, live });
    }

    /// A message that lives in this record lives there no more.
    pub(super) fn unlive(&mut self, position: Position, slot: Slot) {
        let bit = bit_of(position);
        let start = self.start(position);
        for block in self.blocks.range_mut(start..) {
            if number_of(block) != position.0 / BLOCK {
                return;
            }
            if block.slot == slot {
                block.live &= !bit;
            }
        }
    }

    /// Every message from `first` to `last` is settled by record `by`. Returns how many of those positions are known.
    pub(super) fn settle(&mut self, ledger: &mut Ledger, first: Position, last: Position, by: Slot) -> u64 {
        let start = self.start(first);
        let (mut known, mut number, mut seen) = (0, u64::MAX, 0u16);
        for block in self.blocks.range_mut(start..) {
            if number_of(block) > last.0 / BLOCK {
                break;
            }
            let mask = mask_of(number_of(block), first, last);
            let hit = block.present & mask;
            if hit == 0 || ledger.is_retired(block.slot) {
                continue;
            }
            if number_of(block) != number {
                known += u64::from(seen.count_ones());
                (number, seen) = (number_of(block), 0);
            }
            seen |= hit;
            let settled = block.live & mask;
            block.live &= !mask;
            ledger.settled(block.slot, by, settled.count_ones());
        }
        self.trim(ledger);
        known + u64::from(seen.count_ones())
    }

    /// How many positions from `first` to `last` are known.
    pub(super) fn count_known(&self, ledger: &Ledger, first: Position, last: Position) -> u64 {
        let (mut known, mut number, mut seen) = (0, u64::MAX, 0u16);
        for block in self.blocks.range(self.start(first)..) {
            if number_of(block) > last.0 / BLOCK {
                break;
            }
            if ledger.is_retired(block.slot) {
                continue;
            }
            if number_of(block) != number {
                known += u64::from(seen.count_ones());
                (number, seen) = (number_of(block), 0);
            }
            seen |= block.present & mask_of(number, first, last);
        }
        known + u64::from(seen.count_ones())
    }

    /// Whether a record other than `besides` holds a message from `first` to `last`, alive or not.
    pub(super) fn any_present(
        &self,
        ledger: &Ledger,
        first: Position,
        last: Position,
        besides: Slot,
    ) -> bool {
        self.blocks.range(self.start(first)..).take_while(|block| number_of(block) <= last.0 / BLOCK).any(
            |block| {
                let hit = block.present & mask_of(number_of(block), first, last);
                hit != 0 && block.slot != besides && !ledger.is_retired(block.slot)
            },
        )
    }

    /// Whether a record holds a live message up to `last` of this priority.
    pub(super) fn any_live(&self, priority: u8, last: Position) -> bool {
        self.blocks.iter().take_while(|block| number_of(block) <= last.0 / BLOCK).any(|block| {
            block.key as u8 == priority && block.live & mask_of(number_of(block), Position(0), last) != 0
        })
    }

    /// Calls `visit` for live messages from `from` on, in order of their positions, until it returns false.
    pub(super) fn live_from(&self, from: Position, mut visit: impl FnMut(Live) -> bool) {
        let mut at = self.start(from);
        let mut group: Vec<Live> = Vec::new();
        while at < self.blocks.len() {
            let number = number_of(&self.blocks[at]);
            group.clear();
            while let Some(block) = self.blocks.get(at).filter(|block| number_of(block) == number) {
                let mut live = block.live & mask_of(number, from, Position(u64::MAX));
                while live != 0 {
                    let position = Position(number * BLOCK + u64::from(live.trailing_zeros()));
                    group.push(Live { position, priority: block.key as u8, slot: block.slot });
                    live &= live - 1;
                }
                at += 1;
            }
            group.sort_unstable_by_key(|live| live.position);
            if !group.iter().all(|live| visit(*live)) {
                return;
            }
        }
    }

    /// Forgets discarded records at the front, where a queue consumed in order leaves them.
    fn trim(&mut self, ledger: &Ledger) {
        while self.blocks.front().is_some_and(|block| block.live == 0 && ledger.is_retired(block.slot)) {
            self.blocks.pop_front();
        }
        self.shrink();
    }

    /// Forgets discarded records wherever they are.
    pub(super) fn sweep(&mut self, ledger: &Ledger) {
        self.blocks.retain(|block| !ledger.is_retired(block.slot));
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.blocks.capacity() > 1024 && self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(self.blocks.len() * 2);
        }
    }

    /// The blocks of the sixteen positions around one.
    fn around(&self, position: Position) -> impl Iterator<Item = &Block> {
        let number = position.0 / BLOCK;
        let start = if self.is_beyond(position) { self.blocks.len() } else { self.start(position) };
        self.blocks.range(start..).take_while(move |block| number_of(block) == number)
    }

    /// The index of the first block that may hold a position.
    fn start(&self, position: Position) -> usize {
        if self.is_beyond(position) {
            return self.blocks.len();
        }
        let number = position.0 / BLOCK;
        if self.blocks.front().is_some_and(|block| number_of(block) >= number) {
            return 0;
        }
        self.blocks.partition_point(|block| number_of(block) < number)
    }

    fn is_beyond(&self, position: Position) -> bool {
        self.blocks.back().is_none_or(|block| number_of(block) < position.0 / BLOCK)
    }
}

fn key_of(position: Position, priority: u8) -> u64 {
    // Positions would have to grow at a thousand million a second for 36 years to need the bits that this shifts out.
    (position.0 / BLOCK) << 8 | u64::from(priority)
}

fn number_of(block: &Block) -> u64 {
    block.key >> 8
}

fn bit_of(position: Position) -> u16 {
    1 << (position.0 % BLOCK)
}

/// The bits of those positions from `first` to `last` that are among the sixteen.
fn mask_of(number: u64, first: Position, last: Position) -> u16 {
    let mut mask = u16::MAX;
    if number == first.0 / BLOCK {
        mask &= u16::MAX << (first.0 % BLOCK);
    }
    if number == last.0 / BLOCK {
        mask &= u16::MAX >> (BLOCK - 1 - last.0 % BLOCK);
    }
    if number < first.0 / BLOCK || number > last.0 / BLOCK { 0 } else { mask }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Lsn;

    #[test]
    fn a_block_takes_sixteen_bytes() {
        assert_eq!(size_of::<Block>(), 16);
    }

    #[test]
    fn live_messages_come_in_order_of_position_whatever_record_and_priority_they_are_in() {
        let mut ledger = Ledger::default();
        let (one, two) = (ledger.open(Lsn(1), 0), ledger.open(Lsn(2), 0));
        let mut positions = Positions::default();
        for (position, priority, slot) in
            [(40, 0, two), (3, 9, one), (1, 0, two), (2, 0, one), (17, 1, one), (18, 0, one)]
        {
            positions.insert(Position(position), priority, slot, true);
            ledger.enqueued(slot, true);
        }
        let by = ledger.open(Lsn(3), 0);
        assert_eq!(positions.settle(&mut ledger, Position(2), Position(17), by), 3);
        let mut live = Vec::new();
        positions.live_from(Position(0), |message| {
            live.push((message.position.0, message.priority));
            true
        });
        assert_eq!(live, [(1, 0), (18, 0), (40, 0)]);
        assert_eq!(positions.find(&ledger, Position(17)), Known::Dead);
        assert_eq!(positions.find(&ledger, Position(18)), Known::Alive(one));
        assert_eq!(positions.find(&ledger, Position(19)), Known::Not);
        assert_eq!(positions.settle(&mut ledger, Position(0), Position(u64::MAX), by), 6);
    }
}
