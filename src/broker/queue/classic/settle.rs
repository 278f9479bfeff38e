//! What becomes of deliveries: they are acknowledged, requeued, dead-lettered or dropped.

use super::Queue;
use crate::broker::delivery::Entry;
use crate::broker::queue::{DeathReason, DeliveredRun, Persistent};
use crate::broker::turn::Turn;
use crate::message::ConsumerId;

impl Queue {
    /// Delivered messages are done with: `messages` of them with `bytes` of bodies.
    pub(in crate::broker::queue) fn settle(
        &mut self,
        consumer: Option<ConsumerId>,
        messages: usize,
        bytes: u64,
        persistent: Persistent,
        turn: &mut Turn,
    ) {
        self.stats.ack += messages as u64;
        self.no_longer_unacked(consumer, messages, bytes, persistent);
        self.dispatch(turn);
    }

    /// Delivered messages come back, those in `paged` without being in memory. `failed` says that their delivery counts as one
    /// that failed.
    pub(in crate::broker::queue) fn requeue(
        &mut self,
        consumer: Option<ConsumerId>,
        entries: Vec<Entry>,
        paged: Vec<DeliveredRun>,
        failed: bool,
        turn: &mut Turn,
    ) {
        self.entries_no_longer_unacked(consumer, &entries);
        let mut back = Vec::with_capacity(entries.len());
        for mut entry in entries {
            entry.redelivered = true;
            entry.delivery_count = entry.delivery_count.saturating_add(failed.into());
            // It may have been out while a policy changed.
            entry.expires_at = self.settings.expires_at(&entry.message, entry.enqueued_at);
            if self.closed {
                self.drop_entry(&entry, turn);
            } else if self.settings.delivery_limit.is_some_and(|limit| entry.delivery_count > limit) {
                self.dead_letter(entry, DeathReason::DeliveryLimit, turn);
            } else {
                if entry.journaled {
                    turn.changes.requeue(self.definition.id, entry.position, entry.delivery_count);
                }
                back.push(entry);
            }
        }
        self.put_all(back);
        if !paged.is_empty() {
            self.take_back(consumer, paged, failed, turn);
        }
        self.drop_head(turn);
        self.drop_expired(turn);
        self.dispatch(turn);
    }

    /// Delivered messages were refused for good, those in `paged` without being in memory.
    pub(in crate::broker::queue) fn reject(
        &mut self,
        consumer: Option<ConsumerId>,
        entries: Vec<Entry>,
        paged: Vec<DeliveredRun>,
        turn: &mut Turn,
    ) {
        self.entries_no_longer_unacked(consumer, &entries);
        if !paged.is_empty() || self.is_dead_lettering() {
            self.reject_paged(consumer, entries, paged, turn);
        } else {
            for entry in entries {
                self.dead_letter(entry, DeathReason::Rejected, turn);
            }
        }
        self.dispatch(turn);
    }

    fn entries_no_longer_unacked(&mut self, consumer: Option<ConsumerId>, entries: &[Entry]) {
        let bytes = entries.iter().map(|entry| entry.message.body_bytes() as u64).sum();
        let persistent = entries.iter().map(Persistent::of).sum();
        self.no_longer_unacked(consumer, entries.len(), bytes, persistent);
    }

    pub(super) fn no_longer_unacked(
        &mut self,
        consumer: Option<ConsumerId>,
        messages: usize,
        bytes: u64,
        persistent: Persistent,
    ) {
        self.unacked = self.unacked.saturating_sub(messages);
        self.unacked_bytes = self.unacked_bytes.saturating_sub(bytes);
        self.unacked_persistent -= persistent;
        if let Some(consumer) = consumer {
            self.consumers.settled(consumer, u32::try_from(messages).unwrap_or(u32::MAX));
        }
    }
}
