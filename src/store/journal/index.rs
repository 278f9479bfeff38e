//! What the records say, put together: which messages of which queue are alive and where, which were returned, which records
//! are needed. Built by applying records in order of their numbers, the same way while the broker runs and at recovery.
//! Owned by [`super::Journal`], behind its lock.
//!
//! The order of operations on different messages, and of those on one message from different sessions, does not matter: a
//! settle whose enqueue is not known yet waits for it, for [`WAIT_RECORDS`] records; an enqueue normally follows within one.

use super::ledger::{Ledger, Slot};
use super::positions::{Known, Positions};
use super::record::{Enqueue, Operation, OperationReader, Target};
use super::waiting::Waiting;
use crate::message::{Lsn, Position, QueueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many records a settle or a return waits for the enqueue that it speaks of.
const WAIT_RECORDS: u64 = 16_384;

/// How often, in records, those that have waited too long are looked for.
const EXPIRE_EVERY_RECORDS: u64 = 1024;

/// A settle of no more positions than this waits for each of them by itself.
const SINGLES_MAX: u64 = 64;

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) ledger: Ledger,
    /// Asked for each operation of each record.
    pub(super) queues: HashMap<QueueId, QueueIndex, foldhash::fast::RandomState>,
    /// Records that were copied, and the record that holds the copies.
    copied: Vec<(Lsn, Vec<Slot>)>,
    /// Records that have a message of one place twice, which none that a broker wrote has: the first one counts.
    pub(super) doubled: BTreeSet<Slot>,
}

#[derive(Debug, Default)]
pub(super) struct QueueIndex {
    pub(super) positions: Positions,
    /// The highest position that any record speaks of.
    pub(super) highest: Position,
    /// Messages that came back.
    pub(super) returned: BTreeMap<Position, Returned>,
    /// How far each priority was handed to consumers.
    pub(super) marks: Vec<Mark>,
    waiting: Waiting,
    dropped: bool,
}

/// That a message came back, and the record that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned {
    pub(super) delivery_count: u32,
    slot: Slot,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) priority: u8,
    pub(super) position: Position,
    slot: Slot,
}

impl Index {
    /// Applies the record after the last one. `recovering` leaves out what is not to be recovered.
    pub(super) fn apply(&mut self, lsn: Lsn, record_bytes: usize, body: &[u8], recovering: bool) -> Slot {
        let slot = self.ledger.open(lsn, record_bytes);
        for operation in OperationReader::new(body) {
            self.apply_operation(slot, &operation, recovering);
        }
        self.end_record(lsn, slot);
        slot
    }

    /// All of a record was applied.
    pub(super) fn end_record(&mut self, lsn: Lsn, slot: Slot) {
        self.ledger.close(slot);
        while let Some(at) = self.copied.iter().position(|(copies, _)| *copies <= lsn) {
            let (copies, slots) = self.copied.swap_remove(at);
            self.ledger.replaced(&slots, copies);
        }
        if lsn.0.is_multiple_of(EXPIRE_EVERY_RECORDS) {
            self.expire();
        }
    }

    pub(super) fn apply_operation(&mut self, slot: Slot, operation: &Operation<'_>, recovering: bool) {
        let ledger = &mut self.ledger;
        match *operation {
            Operation::Enqueue(ref enqueue) => {
                if !(recovering && enqueue.transient) {
                    self.enqueue(slot, enqueue);
                }
            }
            Operation::Settle { queue, first, last } => {
                let queue = self.queues.entry(queue).or_default();
                queue.settle(ledger, first, last, slot);
            }
            Operation::Requeue { queue, position, delivery_count } => {
                let queue = self.queues.entry(queue).or_default();
                queue.come_back(ledger, position, delivery_count, slot);
            }
            Operation::DropQueue { queue } => {
                self.queues.entry(queue).or_default().drop_all(ledger, slot);
            }
            Operation::Delivered { queue, priority, position } => {
                self.queues.entry(queue).or_default().mark(ledger, priority, position, slot);
            }
        }
    }

    /// Messages of one queue are in record `slot`.
    pub(super) fn enqueue_run(&mut self, slot: Slot, targets: impl Iterator<Item = Target>) {
        let mut targets = targets.peekable();
        let Some(first) = targets.peek() else { return };
        let queue = self.queues.entry(first.queue).or_default();
        for target in targets {
            if !queue.enqueue(&mut self.ledger, &target, slot) {
                self.doubled.insert(slot);
            }
        }
    }

    fn enqueue(&mut self, slot: Slot, enqueue: &Enqueue<'_>) {
        for target in enqueue.targets() {
            let queue = self.queues.entry(target.queue).or_default();
            if !queue.enqueue(&mut self.ledger, &target, slot) {
                self.doubled.insert(slot);
            }
        }
    }

    /// What is needed of these records is written again in the record that will be numbered `at`.
    pub(super) fn will_replace(&mut self, slots: Vec<Slot>, at: Lsn) {
        self.copied.push((at, slots));
    }

    /// Frees what discarded records took, once there are many.
    pub(super) fn sweep_if_due(&mut self) {
        if !self.ledger.is_sweep_due() {
            return;
        }
        for queue in self.queues.values_mut() {
            queue.positions.sweep(&self.ledger);
        }
        self.ledger.sweep();
        self.queues.retain(|_, queue| !queue.is_idle());
    }

    /// Lets go of what has waited too long, and of marks that no message is left under.
    fn expire(&mut self) {
        let now = self.ledger.applied();
        for queue in self.queues.values_mut() {
            queue.expire(&mut self.ledger, |since| since.0 + WAIT_RECORDS <= now.0);
        }
    }

    /// Ends recovery: no enqueue that anything waits for can come any more.
    pub(super) fn end_waiting(&mut self) {
        for queue in self.queues.values_mut() {
            queue.expire(&mut self.ledger, |_| true);
        }
    }

    /// Bytes of memory that the index takes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let entry = size_of::<(QueueId, QueueIndex)>();
        let queues = self.queues.values().map(|queue| {
            let returned = queue.returned.len() * size_of::<(Position, Returned)>() * 2;
            queue.positions.memory_bytes() + returned + queue.waiting.memory_bytes()
        });
        self.ledger.memory_bytes() + self.queues.capacity() * entry + queues.sum::<usize>()
    }
}

impl QueueIndex {
    /// A message is in record `slot`. False when the same record has another one of that place.
    fn enqueue(&mut self, ledger: &mut Ledger, target: &Target, slot: Slot) -> bool {
        let position = target.position;
        // Nothing has been said of what is beyond all that was spoken of.
        let known = match position > self.highest {
            true => Known::Not,
            false => self.positions.find(ledger, position),
        };
        self.highest = self.highest.max(position);
        let mut alive = true;
        match known {
            Known::Alive(other) if other == slot => return false,
            Known::Alive(other) => {
                self.positions.unlive(position, other);
                ledger.unlive(other, 1);
            }
            Known::Dead => alive = false,
            Known::Not => {
                if let Some(by) = self.waiting.take(ledger, position) {
                    ledger.enqueued(slot, true);
                    ledger.settled(slot, by, 1);
                    ledger.release(by);
                    self.positions.insert(position, target.priority, slot, false);
                    return true;
                }
            }
        }
        ledger.enqueued(slot, alive);
        self.positions.insert(position, target.priority, slot, alive);
        if let Some(delivery_count) = target.returned.filter(|_| alive) {
            self.set_returned(ledger, position, delivery_count, slot);
        }
        true
    }

    fn settle(&mut self, ledger: &mut Ledger, first: Position, last: Position, by: Slot) {
        // A purge may reach past the last message; what it says about positions never used is no reason not to use them.
        if last.0 < u64::MAX {
            self.highest = self.highest.max(last);
        }
        if !self.returned.is_empty() {
            while let Some((&position, returned)) = self.returned.range(first..=last).next() {
                ledger.release(returned.slot);
                self.returned.remove(&position);
            }
        }
        self.waiting.move_singles(ledger, first, last, by);
        let known = self.positions.settle(ledger, first, last, by);
        let missing = (last.0 - first.0).saturating_add(1).saturating_sub(known);
        if missing == 0 {
            return;
        }
        if last.0 - first.0 >= SINGLES_MAX {
            let known = |ledger: &Ledger, first, last| self.positions.count_known(ledger, first, last);
            self.waiting.add_range(ledger, (first, last), by, known);
            return;
        }
        for position in first.0..=last.0 {
            if self.positions.find(ledger, Position(position)) == Known::Not {
                self.waiting.add(ledger, Position(position), by);
            }
        }
    }

    fn come_back(&mut self, ledger: &mut Ledger, position: Position, delivery_count: u32, slot: Slot) {
        self.highest = self.highest.max(position);
        match self.positions.find(ledger, position) {
            Known::Dead => return,
            Known::Alive(_) => {}
            Known::Not if self.waiting.covers(position) => return,
            Known::Not => self.waiting.came_back(ledger, position),
        }
        self.set_returned(ledger, position, delivery_count, slot);
    }

    /// The greatest count is the latest: a message comes back more often, not less.
    fn set_returned(&mut self, ledger: &mut Ledger, position: Position, delivery_count: u32, slot: Slot) {
        let before = self.returned.get(&position).copied();
        if let Some(before) = before {
            if before.delivery_count > delivery_count {
                return;
            }
            ledger.release(before.slot);
        }
        ledger.need(slot);
        self.returned.insert(position, Returned { delivery_count, slot });
    }

    fn mark(&mut self, ledger: &mut Ledger, priority: u8, position: Position, slot: Slot) {
        self.highest = self.highest.max(position);
        let new = Mark { priority, position, slot };
        match self.marks.iter_mut().find(|mark| mark.priority == priority) {
            Some(mark) if mark.position > position => return,
            Some(mark) => {
                let old = std::mem::replace(mark, new);
                ledger.release(old.slot);
            }
            None => self.marks.push(new),
        }
        ledger.need(slot);
    }

    fn drop_all(&mut self, ledger: &mut Ledger, by: Slot) {
        if !std::mem::replace(&mut self.dropped, true) {
            self.waiting.expire(ledger, |_| true);
        }
        for mark in self.marks.drain(..) {
            ledger.release(mark.slot);
        }
        self.settle(ledger, Position(0), Position(u64::MAX), by);
    }

    fn expire(&mut self, ledger: &mut Ledger, is_over: impl Fn(Lsn) -> bool) {
        let gone = self.waiting.expire(ledger, is_over);
        for position in gone {
            if !matches!(self.positions.find(ledger, position), Known::Alive(_))
                && let Some(returned) = self.returned.remove(&position)
            {
                ledger.release(returned.slot);
            }
        }
        let positions = &self.positions;
        self.marks.retain(|mark| {
            let is_used = positions.any_live(mark.priority, mark.position);
            if !is_used {
                ledger.release(mark.slot);
            }
            is_used
        });
    }

    /// Whether nothing is known of the queue that could matter any more.
    fn is_idle(&self) -> bool {
        self.positions.is_empty()
            && self.returned.is_empty()
            && self.marks.is_empty()
            && self.waiting.is_nothing_settled()
    }

    /// Whether the queue was dropped.
    pub(super) fn is_forgotten(&self) -> bool {
        self.dropped
    }

    /// Whether a message was handed to a consumer before, as far as records say.
    pub(super) fn is_redelivered(&self, position: Position, priority: u8) -> bool {
        self.returned.contains_key(&position)
            || self.marks.iter().any(|mark| mark.priority == priority && position <= mark.position)
    }

    /// Whether record `slot`'s settling of these positions still matters.
    pub(super) fn needs_settle(&self, ledger: &Ledger, first: Position, last: Position, slot: Slot) -> bool {
        self.positions.any_present(ledger, first, last, slot) || self.waiting.counts_on(slot, first, last)
    }

    /// Whether record `slot`'s dropping of the queue still matters.
    pub(super) fn needs_drop(&self, ledger: &Ledger, slot: Slot) -> bool {
        self.dropped && self.needs_settle(ledger, Position(0), Position(u64::MAX), slot)
    }

    /// How often a message was delivered before it came back, when record `slot` is the one that says so.
    pub(super) fn returned_by(&self, slot: Slot, position: Position) -> Option<u32> {
        self.returned
            .get(&position)
            .filter(|returned| returned.slot == slot)
            .map(|returned| returned.delivery_count)
    }

    /// Whether record `slot` says how far a priority was delivered.
    pub(super) fn marked_by(&self, slot: Slot, priority: u8, position: Position) -> bool {
        self.marks
            .iter()
            .any(|mark| mark.slot == slot && mark.priority == priority && mark.position == position)
    }
}
