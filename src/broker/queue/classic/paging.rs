//! Ready messages that leave memory when it runs short, and come back from the journal ahead of the consumers.
//!
//! Whatever is in a queue and durable has been appended to the journal before it came here, so it can be paged out at any
//! time. What only memory holds is spilled to the journal first; it is read back like the rest, and forgotten at a restart.

use super::Queue;
use super::persistent::Persistent;
use super::ready::{PageRequest, PagedRun};
use crate::broker::Shared;
use crate::broker::delivery::Entry;
use crate::broker::memory::{MemoryAccount, MemoryUse};
use crate::broker::turn::Effect;
use crate::broker::turn::Turn;
use crate::message::{Message, Position, QueueId};
use crate::store::{Changes, Journal, RecoveredRun, StoredMessage};
use std::sync::Arc;

/// What is spilled together ends up in one record, and is read back together.
const SPILLED_AT_ONCE_BYTES: usize = 192 << 10;

/// What a queue has counted in the account of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    ready: i64,
    /// Deliveries that wait for an acknowledgement, in outboxes or in channels.
    unacked: i64,
    /// Deliveries in outboxes that wait for none.
    unsent: i64,
    /// The consumers' arguments.
    arguments: i64,
}

#[inline]
fn as_counted(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What a queue needs to let messages go.
pub(super) struct Pager {
    journal: Arc<Journal>,
    memory: Arc<MemoryAccount>,
    /// What has been counted in `memory` for this queue.
    counted: Counted,
    /// What is being spilled in this turn.
    spilling: Changes,
    has_spilled: bool,
    /// Whether more was spilled than the journal keeps up with.
    is_too_fast: bool,
}

impl Pager {
    pub(super) fn new(shared: &Shared) -> Pager {
        Pager {
            journal: shared.journal.clone(),
            memory: shared.memory.clone(),
            counted: Counted::default(),
            spilling: Changes::default(),
            has_spilled: false,
            is_too_fast: false,
        }
    }

    /// The account that messages are counted in.
    pub(super) fn memory(&self) -> &Arc<MemoryAccount> {
        &self.memory
    }

    /// Whether the journal holds messages of this queue that only memory held.
    pub(super) fn has_spilled(&self) -> bool {
        self.has_spilled
    }

    pub(super) fn spill(&mut self, queue: QueueId, entry: &Entry) {
        self.has_spilled = true;
        let target = (queue, entry.position, entry.priority);
        self.spilling.spill(entry.message.stored(), entry.enqueued_at, &[target]);
        if self.spilling.encoded_bytes() >= SPILLED_AT_ONCE_BYTES {
            self.finish_spilling();
        }
    }

    /// The journal has to hold what is spilled before anybody can ask for it.
    fn finish_spilling(&mut self) {
        if !self.spilling.is_empty() {
            self.journal.append(&mut self.spilling, None);
            self.journal.wake_committer();
            self.is_too_fast |= self.journal.is_behind();
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        let Counted { ready, unacked, unsent, arguments } = self.counted;
        let counted = [
            (MemoryUse::Ready, ready),
            (MemoryUse::Unacked, unacked),
            (MemoryUse::Outboxes, unsent),
            (MemoryUse::Arguments, arguments),
        ];
        for (kind, bytes) in counted {
            self.memory.add(kind, -bytes);
        }
    }
}

impl std::fmt::Debug for Pager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pager").field("counted", &self.counted).finish_non_exhaustive()
    }
}

/// Deliveries that the journal should know of, so that they come back redelivered after a crash: how far they went, in the
/// lane that they came from.
pub(super) type Delivered = Option<(u8, Position)>;

impl Queue {
    /// Puts an entry among the ready ones.
    pub(super) fn put(&mut self, entry: Entry) {
        if let Some(entry) = self.ready.insert(entry) {
            self.pager.spill(self.definition.id, &entry);
        }
    }

    /// Puts entries that come back among the ready ones.
    pub(super) fn put_all(&mut self, entries: Vec<Entry>) {
        for entry in self.ready.insert_all(entries) {
            self.pager.spill(self.definition.id, &entry);
        }
    }

    /// Notes a delivery. What is noted is written when a delivery comes from another lane.
    pub(super) fn note_delivered(
        queue: QueueId,
        noted: Delivered,
        entry: &Entry,
        turn: &mut Turn,
    ) -> Delivered {
        match noted {
            Some((priority, position)) if priority == entry.priority => {
                Some((priority, position.max(entry.position)))
            }
            _ => {
                Queue::write_delivered(queue, noted, turn);
                Some((entry.priority, entry.position))
            }
        }
    }

    pub(super) fn write_delivered(queue: QueueId, noted: Delivered, turn: &mut Turn) {
        if let Some((priority, position)) = noted {
            turn.changes.delivered(queue, priority, position);
        }
    }

    /// Counts what the ready messages take, and lets most of them go when all queues together take too much.
    pub(super) fn account(&mut self, turn: &mut Turn) {
        if self.count_memory() {
            for entry in self.ready.page_out() {
                self.pager.spill(self.definition.id, &entry);
            }
            self.count_memory();
        }
        self.pager.finish_spilling();
        if std::mem::take(&mut self.pager.is_too_fast) {
            turn.hold_back();
        }
    }

    /// True when all queues together take too much.
    fn count_memory(&mut self) -> bool {
        let now = Counted {
            ready: as_counted(self.ready.resident_bytes() as u64),
            unacked: as_counted(self.unacked_resident_bytes()),
            unsent: as_counted(self.consumers.unsent_bytes() as u64),
            arguments: as_counted(self.consumers.argument_bytes() as u64),
        };
        let Pager { counted, memory, .. } = &mut self.pager;
        if now == *counted {
            return false;
        }
        let before = std::mem::replace(counted, now);
        if now.unacked != before.unacked {
            memory.add(MemoryUse::Unacked, now.unacked - before.unacked);
        }
        if now.unsent != before.unsent {
            memory.add(MemoryUse::Outboxes, now.unsent - before.unsent);
        }
        if now.arguments != before.arguments {
            memory.add(MemoryUse::Arguments, now.arguments - before.arguments);
        }
        now.ready != before.ready && memory.add(MemoryUse::Ready, now.ready - before.ready)
    }

    /// Asks for messages that are not in memory, if they will be wanted.
    pub(super) fn ask_for_page(&mut self, turn: &mut Turn) {
        let settings = &self.settings;
        let wanted = !self.consumers.is_empty()
            || self.has_limits()
            || settings.message_ttl_ms.is_some()
            || settings.dead_letter_exchange.is_some()
            || self.ready.may_expire_unseen();
        if wanted {
            self.request_page(false, turn);
        }
    }

    /// Asks for the front of the queue, unless it is in memory; again, if `even_if_asked`.
    pub(super) fn request_page(&mut self, even_if_asked: bool, turn: &mut Turn) {
        if let Some(wanted) = self.ready.page_request(even_if_asked) {
            turn.effects.push(Effect::PageIn { queue: self.definition.clone(), wanted });
        }
    }

    /// Takes messages that were read back.
    pub(in crate::broker::queue) fn paged_in(
        &mut self,
        request: PageRequest,
        messages: Vec<StoredMessage>,
        turn: &mut Turn,
    ) {
        if self.closed {
            return;
        }
        let entries = messages.into_iter().filter_map(|stored| self.restored_entry(stored)).collect();
        self.ready.paged_in(request, entries);
        self.drop_expired(turn);
        self.drop_head(turn);
        self.dispatch(turn);
    }

    pub(super) fn restored_entry(&self, stored: StoredMessage) -> Option<Entry> {
        let message = match Message::from_stored(stored.content, stored.shape) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(
                    "message {} of {} is damaged and lost: {error}",
                    stored.position,
                    self.definition.resource()
                );
                return None;
            }
        };
        Some(Entry {
            position: stored.position,
            enqueued_at: stored.enqueued_at,
            expires_at: self.settings.expires_at(&message, stored.enqueued_at),
            delivery_count: stored.delivery_count,
            priority: stored.priority,
            redelivered: stored.redelivered,
            journaled: true,
            persistent: self.definition.counts_as_persistent(&message),
            message,
        })
    }

    /// What was asked for could not be read.
    pub(in crate::broker::queue) fn paging_failed(&mut self) {
        self.ready.paging_failed();
    }

    /// Takes over what the journal recovered.
    pub(in crate::broker::queue) fn restore(&mut self, runs: &[RecoveredRun]) {
        for run in runs {
            let RecoveredRun { first, body_bytes, .. } = *run;
            let count = run.count.into();
            // Nothing else outlives a restart.
            let persistent = Persistent { messages: count, body_bytes };
            let paged = PagedRun { first, count, body_bytes, persistent };
            self.ready.restore(run.priority, paged, run.expires);
        }
    }
}
