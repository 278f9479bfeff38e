//! Copying forward: a record that is mostly dead, or tiny, holds up more than it is worth. What is still needed of it goes into
//! the record that is being gathered, and it is discarded once that is durable. A few records at a time, by the committer.
//!
//! Nothing may be appended between the look at what is alive and the copy: a settle in between would be before the copy in
//! the log, and the message back after a restart. So the copying itself happens with appends held off; it is small.

use super::changes::Changes;
use super::index::Index;
use super::ledger::Slot;
use super::positions::Known;
use super::record::{HEADER_BYTES, Operation, OperationReader, Target};
use super::{Committing, Journal, StoreError, check};
use crate::message::Lsn;
use bytes::Bytes;

/// Bytes copied at a time, about: as long as appends are held off.
const STEP_BYTES: u64 = 128 << 10;

impl Journal {
    /// Tidies up a little when it is time to; whether there was something to do, and so may be more.
    pub(super) fn tidy_if_due(&self, committing: &mut Committing, is_idle: bool) -> Result<bool, StoreError> {
        if !is_idle && committing.unlooked < self.options.copy_look_records {
            return Ok(false);
        }
        let is_anything_due = committing.uncopied_bytes >= self.options.copy_anything_bytes;
        let gain_bytes_min = if is_anything_due { 0 } else { self.options.copy_gain_bytes_min };
        let is_tidied = self.tidy(committing.written, gain_bytes_min)?;
        if is_anything_due {
            committing.uncopied_bytes = 0;
        }
        committing.unlooked = if is_tidied { self.options.copy_look_records } else { 0 };
        Ok(is_tidied)
    }

    /// Copies what is needed of a few records forward; whether there was any such record.
    fn tidy(&self, newest: Lsn, gain_bytes_min: u64) -> Result<bool, StoreError> {
        let chosen: Vec<(Slot, Lsn)> = {
            let mut index = self.index.lock();
            let age = self.options.copy_age_records;
            let slots = index.ledger.mostly_dead(newest, age, STEP_BYTES, gain_bytes_min);
            slots.into_iter().map(|slot| (slot, index.ledger.lsn(slot))).collect()
        };
        if chosen.is_empty() {
            return Ok(false);
        }
        let mut records: Vec<(Slot, Bytes)> = Vec::with_capacity(chosen.len());
        for (slot, lsn) in chosen {
            let Some(record) = self.log.get(lsn)? else { continue };
            // What can't be read can't be copied; it stays where it is, and recovery will say what it costs.
            if check(lsn, &record).is_ok() {
                records.push((slot, record.slice(HEADER_BYTES..)));
            }
        }
        if records.is_empty() {
            return Ok(false);
        }
        self.copy(&records);
        Ok(true)
    }

    fn copy(&self, records: &[(Slot, Bytes)]) {
        let mut index = self.index.lock();
        self.catch_up(&mut index);
        let mut gathering = self.gathering.lock();
        gathering.seal();
        index.apply_sealed(&gathering.sealed);
        let mut changes = Changes::default();
        let mut copied = Vec::with_capacity(records.len());
        for (slot, body) in records {
            if index.ledger.mark_copied(*slot) {
                index.write_needed(*slot, body, &mut changes);
                copied.push(*slot);
            }
        }
        let at = gathering.lsn;
        index.will_replace(copied, at);
        gathering.take(&mut changes, None);
        // Even when nothing was needed of them, a record has to say that they are gone.
        gathering.seal_even_if_empty(at);
    }
}

impl Index {
    /// Writes what is still needed of a record.
    fn write_needed(&self, slot: Slot, body: &[u8], changes: &mut Changes) {
        let mut targets: Vec<Target> = Vec::new();
        for operation in OperationReader::new(body) {
            match operation {
                Operation::Enqueue(enqueue) => {
                    targets.clear();
                    targets.extend(enqueue.targets().filter_map(|target| self.copied_target(slot, target)));
                    if !targets.is_empty() {
                        let stored = (enqueue.content, enqueue.shape);
                        changes.copy(stored, enqueue.enqueued_at, enqueue.transient, &targets);
                    }
                }
                Operation::Settle { queue, first, last } => {
                    let known = self.queues.get(&queue);
                    if known.is_some_and(|queue| queue.needs_settle(&self.ledger, first, last, slot)) {
                        changes.settle_range(queue, first, last);
                    }
                }
                Operation::Requeue { queue, position, delivery_count } => {
                    let said = self.queues.get(&queue).and_then(|queue| queue.returned_by(slot, position));
                    if said == Some(delivery_count) {
                        changes.requeue(queue, position, delivery_count);
                    }
                }
                Operation::DropQueue { queue } => {
                    if self.queues.get(&queue).is_some_and(|queue| queue.needs_drop(&self.ledger, slot)) {
                        changes.drop_queue(queue);
                    }
                }
                Operation::Delivered { queue, priority, position } => {
                    let known = self.queues.get(&queue);
                    if known.is_some_and(|queue| queue.marked_by(slot, priority, position)) {
                        changes.delivered(queue, priority, position);
                    }
                }
            }
        }
    }

    /// A target as it is to be copied: `None` when the message is gone or lives in another record.
    fn copied_target(&self, slot: Slot, target: Target) -> Option<Target> {
        let queue = self.queues.get(&target.queue)?;
        if queue.positions.find(&self.ledger, target.position) != Known::Alive(slot) {
            return None;
        }
        let returned = queue.returned.get(&target.position).map(|returned| returned.delivery_count);
        Some(Target { returned, ..target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Position, QueueId, StoredShape};
    use crate::store::{JournalOptions, MemoryStore};

    const SHAPE: StoredShape = StoredShape {
        format: 0,
        exchange_bytes: 0,
        routing_key_bytes: 0,
        properties_bytes: 0,
        dead_lettered: false,
    };

    fn open(options: JournalOptions) -> Journal {
        Journal::open(Box::new(MemoryStore::default()), options, |_| ()).unwrap().0
    }

    /// One that copies anything mostly dead after every 64 KiB.
    fn eager() -> Journal {
        open(JournalOptions {
            copy_age_records: 4,
            copy_look_records: 1,
            copy_anything_bytes: 64 << 10,
            ..JournalOptions::default()
        })
    }

    /// Writes records of 4 KiB that are not needed.
    fn pass_by(journal: &Journal, queue: QueueId, positions: std::ops::RangeInclusive<u64>) {
        let mut changes = Changes::default();
        for position in positions.map(Position) {
            changes.enqueue((&[b'x'; 4096], SHAPE), 1, &[(queue, position, 0)]);
            changes.settle_range(queue, position, position);
            journal.append(&mut changes, None);
            journal.commit().unwrap();
        }
    }

    fn oldest_kept(journal: &Journal) -> Lsn {
        journal.index.lock().ledger.kept_up_to(Lsn(u64::MAX))[0]
    }

    #[test]
    fn a_single_message_does_not_hold_up_the_log_for_good() {
        let journal = eager();
        let mut changes = Changes::default();
        changes.enqueue((b"stays", SHAPE), 1, &[(QueueId(1), Position(1), 0)]);
        journal.append(&mut changes, None);
        pass_by(&journal, QueueId(2), 1..=500);
        assert!(oldest_kept(&journal) > Lsn(400), "the oldest record kept is {}", oldest_kept(&journal));
        assert_eq!(journal.usage().messages, 1);
    }

    /// That a queue was dropped is copied too, and forgotten in the end all the same.
    #[test]
    fn a_dropped_queue_is_forgotten_although_it_was_copied() {
        let journal = eager();
        let mut changes = Changes::default();
        changes.enqueue((b"goes", SHAPE), 1, &[(QueueId(1), Position(1), 0)]);
        changes.drop_queue(QueueId(1));
        journal.append(&mut changes, None);
        pass_by(&journal, QueueId(2), 1..=500);
        let is_known = |queue| journal.index.lock().queues.contains_key(&queue);
        assert!(oldest_kept(&journal) > Lsn(400), "the oldest record kept is {}", oldest_kept(&journal));
        assert!(is_known(QueueId(1)), "a message that is on its way may still come");
        pass_by(&journal, QueueId(2), 501..=18_000);
        assert!(!is_known(QueueId(1)));
    }

    /// Each record settles what the one before it enqueued, as when consumers are a little behind.
    #[test]
    fn records_that_need_one_another_are_discarded_without_being_copied() {
        const QUEUE: QueueId = QueueId(1);
        let options = JournalOptions { copy_gain_bytes_min: u64::MAX, ..JournalOptions::default() };
        let journal = open(options);
        let mut changes = Changes::default();
        let mut records_max = 0;
        for position in 1..=1000 {
            changes.enqueue((&[b'x'; 4096], SHAPE), 1, &[(QUEUE, Position(position), 0)]);
            if position > 1 {
                changes.settle_range(QUEUE, Position(position - 1), Position(position - 1));
            }
            journal.append(&mut changes, None);
            journal.commit().unwrap();
            records_max = records_max.max(journal.usage().records);
        }
        assert!(records_max < 24, "{records_max} records for one message");
    }

    /// Of each record all but one message in eight dies, and the next one comes before the committer has nothing to do.
    #[test]
    fn a_journal_that_is_never_idle_is_tidied_too() {
        const QUEUE: QueueId = QueueId(1);
        let options =
            JournalOptions { copy_age_records: 4, copy_gain_bytes_min: 1, ..JournalOptions::default() };
        let journal = open(options);
        let mut changes = Changes::default();
        let mut records_max = 0;
        for position in 1..=8000 {
            changes.enqueue((&[b'x'; 4096], SHAPE), 1, &[(QUEUE, Position(position), 0)]);
            if position % 8 == 0 {
                changes.settle_range(QUEUE, Position(position - 7), Position(position - 1));
                journal.append(&mut changes, None);
                journal.commit().unwrap();
                records_max = records_max.max(journal.usage().records);
            }
        }
        assert_eq!(journal.usage().messages, 1000);
        assert!(records_max < 400, "{records_max} records for at most 1000 messages");
    }
}
