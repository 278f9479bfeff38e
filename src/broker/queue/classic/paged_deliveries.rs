//! Deliveries that wait for an acknowledgement and whose messages have left memory. Of them their channels keep only the places;
//! the journal has the rest. One that comes back goes among the ready messages that are not in memory; one that is dead-lettered is read
//! back on its way to the dead-letter exchange, a page at a time, so that no turn takes long however many there are.

use super::Queue;
use super::dead_letter::dead_letter;
use super::persistent::Persistent;
use super::ready::PagedRun;
use crate::broker::delivery::Entry;
use crate::broker::queue::{DeathReason, QueueType};
use crate::broker::turn::{Effect, Turn};
use crate::message::{ConsumerId, Millis, Position};
use crate::store::StoredMessage;
use std::collections::VecDeque;

/// Neighbouring entries of a queue that were handed out, of which only the journal has the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveredRun {
    /// The first one's place; the others follow without a gap.
    pub first: Position,
    /// How many there are.
    pub count: u64,
    /// Bytes of all their bodies.
    pub body_bytes: u64,
    /// Those of them that are persistent.
    pub persistent: Persistent,
    /// See [`Entry::delivery_count`]; the same for all.
    pub delivery_count: u32,
    /// The priority of their lane.
    pub priority: u8,
    /// Whether one of them may expire.
    pub expires: bool,
    /// Whether the journal holds them. It does not when their queue is gone, or their end is in the journal already.
    pub journaled: bool,
}

impl DeliveredRun {
    /// An entry whose message is paged out.
    pub fn of(entry: &Entry, journaled: bool) -> DeliveredRun {
        DeliveredRun {
            first: entry.position,
            count: 1,
            body_bytes: entry.message.body_bytes() as u64,
            persistent: Persistent::of(entry),
            delivery_count: entry.delivery_count,
            priority: entry.priority,
            expires: entry.expires(),
            journaled,
        }
    }

    /// The last one's place.
    pub fn last(&self) -> Position {
        Position(self.first.0 + self.count - 1)
    }

    /// Takes in a run that follows this one without a gap, if it is of the same kind. True when it did.
    pub fn join(&mut self, next: &DeliveredRun) -> bool {
        let is_next = self.first.0 + self.count == next.first.0
            && (self.priority, self.delivery_count, self.journaled)
                == (next.priority, next.delivery_count, next.journaled);
        if is_next {
            self.count += next.count;
            self.body_bytes += next.body_bytes;
            self.persistent += next.persistent;
            self.expires |= next.expires;
        }
        is_next
    }

    /// Leaves the first `count`, at least one and not all of them, and returns the others. A run knows its bytes, and which of them are
    /// persistent, only as a whole.
    pub fn split_off(&mut self, count: u64) -> DeliveredRun {
        let body_bytes = (u128::from(self.body_bytes) * u128::from(count) / u128::from(self.count)) as u64;
        let persistent = self.persistent.share(count, self.count);
        let mut rest = DeliveredRun {
            first: Position(self.first.0 + count),
            count: self.count - count,
            body_bytes: self.body_bytes - body_bytes,
            ..*self
        };
        rest.persistent -= persistent;
        (self.count, self.body_bytes, self.persistent) = (count, body_bytes, persistent);
        rest
    }
}

/// How many deliveries of a queue are paged out while they wait for an acknowledgement, and bytes of their bodies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PagedDeliveries {
    pub(super) messages: usize,
    pub(super) body_bytes: u64,
}

/// Messages on their way to the dead-letter exchange that have yet to be read back.
#[derive(Debug, Default)]
pub(super) struct DeadLettering {
    runs: VecDeque<(DeliveredRun, DeathReason)>,
    /// Whether some have been asked for.
    is_reading: bool,
    /// When the next are asked for.
    next_at: Option<Millis>,
    /// How much more may be read in this turn.
    left_bytes: usize,
}

impl DeadLettering {
    pub(super) fn next_at(&self) -> Option<Millis> {
        self.next_at.filter(|_| !self.runs.is_empty())
    }
}

/// What a read costs beside its bytes.
const READ_COST_BYTES: usize = 4 << 10;

/// How long it waits before it tries again to read what could not be read.
const RETRY_MS: u64 = 1000;

impl Queue {
    /// Deliveries that wait for an acknowledgement leave memory; what only memory holds is spilled. Says whether the journal
    /// holds them then: it does not when the queue is gone.
    pub(in crate::broker::queue) fn page_out_delivered<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        turn: &mut Turn,
    ) -> bool {
        let mut delivered = None;
        for entry in entries {
            self.paged_deliveries.messages += 1;
            self.paged_deliveries.body_bytes += entry.message.body_bytes() as u64;
            if !entry.journaled && !self.closed {
                self.pager.spill(self.definition.id, entry);
                delivered = Queue::note_delivered(self.definition.id, delivered, entry, turn);
            }
        }
        Queue::write_delivered(self.definition.id, delivered, turn);
        self.account(turn);
        !self.closed
    }

    /// Deliveries that are paged out are settled.
    pub(in crate::broker::queue) fn settle_paged(
        &mut self,
        consumer: Option<ConsumerId>,
        run: &DeliveredRun,
        turn: &mut Turn,
    ) {
        self.stats.ack += run.count;
        self.no_longer_paged(consumer, std::slice::from_ref(run));
        self.dispatch(turn);
    }

    fn no_longer_paged(&mut self, consumer: Option<ConsumerId>, runs: &[DeliveredRun]) {
        let messages = usize::try_from(runs.iter().map(|run| run.count).sum::<u64>()).unwrap_or(usize::MAX);
        let body_bytes = runs.iter().map(|run| run.body_bytes).sum();
        self.paged_deliveries.messages = self.paged_deliveries.messages.saturating_sub(messages);
        self.paged_deliveries.body_bytes = self.paged_deliveries.body_bytes.saturating_sub(body_bytes);
        let persistent = runs.iter().map(|run| run.persistent).sum();
        self.no_longer_unacked(consumer, messages, body_bytes, persistent);
    }

    /// Deliveries that are paged out come back, see [`Queue::requeue`].
    pub(super) fn take_back(
        &mut self,
        consumer: Option<ConsumerId>,
        runs: Vec<DeliveredRun>,
        failed: bool,
        turn: &mut Turn,
    ) {
        self.no_longer_paged(consumer, &runs);
        let mut back = Vec::with_capacity(runs.len());
        for mut run in runs {
            run.delivery_count = run.delivery_count.saturating_add(failed.into());
            if self.closed {
                self.drop_run(&run, turn);
            } else if self.settings.delivery_limit.is_some_and(|limit| run.delivery_count > limit) {
                self.dead_letter_run(run, DeathReason::DeliveryLimit, turn);
            } else {
                // That they were delivered the journal knows. How often counts in quorum queues alone.
                if failed && self.definition.queue_type == QueueType::Quorum {
                    for position in run.first.0..=run.last().0 {
                        turn.changes.requeue(self.definition.id, Position(position), run.delivery_count);
                    }
                }
                let DeliveredRun { first, count, body_bytes, persistent, .. } = run;
                let paged = PagedRun { first, count, body_bytes, persistent };
                back.push((run.priority, paged, run.expires));
            }
        }
        for entry in self.ready.insert_runs(back) {
            self.pager.spill(self.definition.id, &entry);
        }
    }

    /// Deliveries were rejected of which some are not in memory: they are dead-lettered in the order of their places.
    pub(super) fn reject_paged(
        &mut self,
        consumer: Option<ConsumerId>,
        entries: Vec<Entry>,
        mut runs: Vec<DeliveredRun>,
        turn: &mut Turn,
    ) {
        self.no_longer_paged(consumer, &runs);
        for entry in entries {
            if !entry.journaled && !self.closed {
                self.pager.spill(self.definition.id, &entry);
            }
            runs.push(DeliveredRun::of(&entry, !self.closed));
        }
        runs.sort_by_key(|run| run.first);
        for run in runs {
            self.dead_letter_run(run, DeathReason::Rejected, turn);
        }
    }

    /// An entry of a run that was read back, if it is one.
    pub(in crate::broker::queue) fn entry_read_back(
        &self,
        run: &DeliveredRun,
        stored: StoredMessage,
    ) -> Option<Entry> {
        if stored.position > run.last() {
            return None;
        }
        let entry = self.restored_entry(stored)?;
        Some(Entry { delivery_count: run.delivery_count, redelivered: true, ..entry })
    }

    /// Whether what is dead-lettered now has to wait for others that are read back before it.
    pub(super) fn is_dead_lettering(&self) -> bool {
        !self.dead_lettering.runs.is_empty()
    }

    fn drop_run(&self, run: &DeliveredRun, turn: &mut Turn) {
        if run.journaled {
            turn.changes.settle_range(self.definition.id, run.first, run.last());
        }
    }

    fn dead_letter_run(&mut self, run: DeliveredRun, reason: DeathReason, turn: &mut Turn) {
        let is_lettered = self.settings.dead_letter_exchange.is_some();
        self.stats.count_dead(reason, run.count, is_lettered);
        if self.closed || !is_lettered {
            self.drop_run(&run, turn);
            return;
        }
        let last = self.dead_lettering.runs.back_mut().filter(|(_, why)| *why == reason);
        if !last.is_some_and(|(last, _)| last.join(&run)) {
            self.dead_lettering.runs.push_back((run, reason));
        }
        self.dead_lettering.left_bytes = self.page_bytes;
        self.read_dead_letters(turn);
    }

    fn read_dead_letters(&mut self, turn: &mut Turn) {
        if let Some((run, _)) = self.dead_lettering.runs.front()
            && !self.dead_lettering.is_reading
        {
            self.dead_lettering.is_reading = true;
            self.dead_lettering.next_at = None;
            let bytes_max = usize::try_from(run.body_bytes).unwrap_or(usize::MAX).clamp(1, self.page_bytes);
            let (queue, priority, from) = (self.definition.clone(), run.priority, run.first);
            turn.effects.push(Effect::ReadDeadLetters { queue, priority, from, bytes_max });
        }
    }

    /// It is time to go on with those that are dead-lettered.
    pub(super) fn go_on_dead_lettering(&mut self, turn: &mut Turn) {
        if self.dead_lettering.next_at().is_some_and(|at| at <= turn.now) {
            self.dead_lettering.left_bytes = self.page_bytes;
            self.read_dead_letters(turn);
        }
    }

    /// Dead-letters those of the first run that were read back, and goes on with the rest: now, or soon when it was much. `None`
    /// when they could not be read.
    pub(in crate::broker::queue) fn dead_letters_read(
        &mut self,
        read: Option<Vec<StoredMessage>>,
        turn: &mut Turn,
    ) {
        self.dead_lettering.is_reading = false;
        if self.closed {
            self.dead_lettering = DeadLettering::default();
            return;
        }
        let Some((mut run, reason)) = self.dead_lettering.runs.pop_front() else { return };
        let Some(read) = read else {
            self.dead_lettering.runs.push_front((run, reason));
            self.dead_lettering.next_at = Some(turn.now + RETRY_MS);
            self.ask_for_wake(turn);
            return;
        };
        // What is not among those that were read, up to the last of them, is not there any more.
        let behind = read.last().map_or(run.last(), |last| last.position.min(run.last())).0 + 1;
        let cost_bytes = read.iter().map(|stored| stored.content.len()).sum::<usize>() + READ_COST_BYTES;
        for entry in read.into_iter().filter_map(|stored| self.entry_read_back(&run, stored)) {
            dead_letter(&self.definition, &self.settings, entry, reason, turn);
        }
        if behind <= run.last().0 && behind > run.first.0 {
            let rest = run.split_off(behind - run.first.0);
            self.dead_lettering.runs.push_front((rest, reason));
        }
        self.dead_lettering.left_bytes = self.dead_lettering.left_bytes.saturating_sub(cost_bytes);
        if self.dead_lettering.left_bytes > 0 {
            self.read_dead_letters(turn);
        } else {
            self.dead_lettering.next_at = Some(turn.now + 1);
            self.ask_for_wake(turn);
        }
    }
}

/// What a delivery costs in memory beside its body, roughly.
const UNACKED_BYTES: usize = 224;

impl Queue {
    /// What the deliveries that wait for an acknowledgement and are not paged out take in memory, roughly.
    pub(super) fn unacked_resident_bytes(&self) -> u64 {
        let messages = self.unacked.saturating_sub(self.paged_deliveries.messages);
        self.unacked_bytes.saturating_sub(self.paged_deliveries.body_bytes)
            + (messages * UNACKED_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u64, body_bytes: u64) -> DeliveredRun {
        DeliveredRun {
            first: Position(first),
            count,
            body_bytes,
            persistent: Persistent { messages: count, body_bytes },
            delivery_count: 0,
            priority: 0,
            expires: false,
            journaled: true,
        }
    }

    #[test]
    fn runs_are_joined_and_split() {
        let mut whole = run(3, 2, 10);
        assert!(!whole.join(&run(6, 1, 1)));
        assert!(!whole.join(&DeliveredRun { delivery_count: 1, ..run(5, 1, 1) }));
        assert!(whole.join(&run(5, 4, 11)));
        assert_eq!((whole, whole.last()), (run(3, 6, 21), Position(8)));
        let rest = whole.split_off(2);
        assert_eq!((whole, rest), (run(3, 2, 7), run(5, 4, 14)));
    }
}
