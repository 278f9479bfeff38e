//! A queue: a plain struct that knows no lock, no socket and no clock. [`super::QueueHandle`] owns it; sessions and the timer call it.
//!
//! Invariant: an entry is in exactly one place: ready here, in a consumer's outbox, or unacked in a channel. What the queue
//! wants done elsewhere it leaves in the [`Turn`] as effects.

mod consumers;
mod credit;
mod dead_letter;
mod discard;
mod limits;
mod look;
mod pace;
mod paged_deliveries;
mod paging;
mod persistent;
mod policed;
mod ready;
mod settle;
mod waiting_for_credit;

pub use consumers::{NewConsumer, Window};
pub use credit::Credit;
pub(in crate::broker) use dead_letter::cycles;
pub use dead_letter::{DeadLetter, DeathReason};
pub use discard::Discard;
pub use look::{ConsumerState, Glimpse, QueueState, SeenMessage};
pub use paged_deliveries::DeliveredRun;
pub use persistent::Persistent;
pub use ready::PageRequest;

use super::published::Published;
use super::{Got, QueueCounts, QueueDefinition, QueueSettings};
use crate::broker::Shared;
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::error::BrokerError;
use crate::broker::observe::lengths::Lengths;
use crate::broker::observe::stats::{MessageStats, QueueSample, Samples};
use crate::broker::policy::Applied;
use crate::broker::turn::{Effect, Turn};
use crate::message::{ConsumerId, Message, Millis, Position};
use crate::steps;
use consumers::{Consumer, Consumers};
use dead_letter::dead_letter;
use pace::Pace;
use paged_deliveries::{DeadLettering, PagedDeliveries};
use paging::Pager;
use ready::Ready;
use std::collections::VecDeque;
use std::sync::Arc;

/// The state of a queue, behind its handle's lock; see the module.
#[derive(Debug)]
pub(in crate::broker::queue) struct Queue {
    definition: Arc<QueueDefinition>,
    /// What is in force of arguments and policies.
    settings: Arc<QueueSettings>,
    /// The policies that are in it.
    applied: Applied,
    window: Window,
    ready: Ready,
    pager: Pager,
    consumers: Consumers,
    unacked: usize,
    unacked_bytes: u64,
    unacked_persistent: Persistent,
    /// Those of them that are not in memory.
    paged_deliveries: PagedDeliveries,
    dead_lettering: DeadLettering,
    /// Bytes of messages that are read back at a time.
    page_bytes: usize,
    /// Dead letters that had nowhere to go and may not get lost.
    held: VecDeque<(Entry, DeathReason)>,
    /// How many of them, the first ones, have yet to be tried again in this round.
    retrying: usize,
    had_consumer: bool,
    pace: Pace,
    /// When a message was last given to a consumer.
    last_delivered: Millis,
    /// When the queue was last used, for x-expires.
    last_used: Millis,
    /// The earliest time at which it has asked to be looked at.
    wake_at: Option<Millis>,
    /// Whether there was more to do than a turn has time for.
    is_behind: bool,
    closed: bool,
    stats: MessageStats,
    published: Published,
    samples: Samples<QueueSample>,
    lengths: Lengths,
}

/// Deliveries under one lock; the rest follows soon. The windows of very many consumers may be empty at once.
const DELIVERED_AT_ONCE: usize = 16_384;

impl Queue {
    pub(in crate::broker::queue) fn new(
        definition: Arc<QueueDefinition>,
        shared: &Shared,
        turn: &mut Turn,
    ) -> Queue {
        let consumers = Consumers::new(definition.single_active_consumer);
        let mut queue = Queue {
            settings: Arc::new(definition.declared.clone()),
            applied: Applied::default(),
            definition,
            window: shared.limits.window,
            ready: Ready::default(),
            pager: Pager::new(shared),
            consumers,
            unacked: 0,
            unacked_bytes: 0,
            unacked_persistent: Persistent::default(),
            paged_deliveries: PagedDeliveries::default(),
            dead_lettering: DeadLettering::default(),
            page_bytes: shared.limits.page_bytes,
            held: VecDeque::new(),
            retrying: 0,
            had_consumer: false,
            pace: Pace::default(),
            last_delivered: 0,
            last_used: turn.now,
            wake_at: None,
            is_behind: false,
            closed: false,
            stats: MessageStats::default(),
            published: Published::default(),
            samples: Samples::default(),
            lengths: Lengths::default(),
        };
        queue.ask_for_wake(turn);
        queue
    }

    /// Counts of ready and unacked messages and of consumers.
    pub(in crate::broker::queue) fn counts(&self) -> QueueCounts {
        QueueCounts { ready: self.ready.len(), unacked: self.unacked, consumers: self.consumers.len() }
    }

    /// Takes published messages; the first has the position `first`, the others the next ones. The indices of those that
    /// the overflow rule refused go into `refused`.
    pub(in crate::broker::queue) fn publish(
        &mut self,
        first: Position,
        messages: impl Iterator<Item = Message>,
        turn: &mut Turn,
        refused: &mut Vec<usize>,
    ) {
        let (mut count, mut bytes) = (0, 0);
        let before = self.stats.publish;
        for (index, message) in messages.enumerate() {
            if index == 0 {
                self.published.turn_to(message.exchange());
            }
            count += 1;
            bytes += message.body_bytes() as u64;
            let entry = self.entry(Position(first.0 + index as u64), message, turn.now);
            if self.closed {
                self.drop_entry(&entry, turn);
            } else if self.would_refuse(&entry.message) {
                refused.push(index);
                self.refuse(entry, turn);
            } else {
                self.stats.publish += 1;
                self.enqueue(entry, turn);
            }
        }
        self.published.add(self.stats.publish - before);
        self.dispatch(turn);
        turn.hold_back_ns += self.hold_back_ns(count, bytes, turn.now);
    }

    /// Takes a message that comes from another queue, whatever the overflow rule says. False when the queue is gone.
    pub(in crate::broker::queue) fn admit(
        &mut self,
        position: Position,
        message: Message,
        turn: &mut Turn,
    ) -> bool {
        if self.closed {
            return false;
        }
        self.published.turn_to(message.exchange());
        self.published.add(1);
        let entry = self.entry(position, message, turn.now);
        self.stats.publish += 1;
        self.enqueue(entry, turn);
        self.dispatch(turn);
        true
    }

    #[inline]
    fn enqueue(&mut self, entry: Entry, turn: &mut Turn) {
        self.put(entry);
        if self.has_limits() {
            // A message that a consumer takes at once never counts.
            self.deliver(turn);
            self.drop_head(turn);
            self.drop_expired(turn);
        }
    }

    #[inline]
    fn entry(&self, position: Position, message: Message, now: Millis) -> Entry {
        Entry {
            position,
            enqueued_at: now,
            expires_at: self.settings.expires_at(&message, now),
            delivery_count: 0,
            priority: self.definition.priority_of(&message),
            redelivered: false,
            journaled: self.definition.journals(&message),
            persistent: self.definition.counts_as_persistent(&message),
            message,
        }
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// When the queue is in exclusive use, or would have to be.
    pub(in crate::broker::queue) fn consume(
        &mut self,
        consumer: NewConsumer,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        if self.closed {
            return Err(BrokerError::NotFound(self.definition.resource()));
        }
        let single_active = self.definition.single_active_consumer;
        if self.consumers.has_exclusive()
            || (consumer.exclusive && (single_active || !self.consumers.is_empty()))
        {
            return Err(BrokerError::ExclusiveUse(self.definition.resource()));
        }
        self.had_consumer = true;
        self.consumers.add(consumer);
        self.dispatch(turn);
        Ok(())
    }

    /// Removes a consumer; its unacknowledged deliveries stay out.
    pub(in crate::broker::queue) fn cancel(&mut self, consumer: ConsumerId, turn: &mut Turn) {
        if self.consumers.remove(consumer).is_none() {
            return;
        }
        if self.consumers.is_empty() {
            self.last_used = turn.now;
            if self.has_lost_its_consumers() {
                turn.effects
                    .push(Effect::Delete { name: self.definition.name.clone(), id: self.definition.id });
            }
        }
        self.dispatch(turn);
    }

    /// Takes one message for basic.get, and says how many ready ones are left.
    pub(in crate::broker::queue) fn get(&mut self, no_ack: bool, turn: &mut Turn) -> Got {
        self.last_used = turn.now;
        self.drop_expired(turn);
        if self.ready.is_front_expired(turn.now) {
            self.ask_for_wake(turn);
            return Got::NotYet;
        }
        let Some(entry) = self.ready.pop_front() else {
            if self.ready.is_empty() {
                self.stats.get_empty += 1;
                self.ask_for_wake(turn);
                return Got::Empty;
            }
            self.request_page(true, turn);
            return Got::NotInMemory;
        };
        self.stats.redeliver += u64::from(entry.redelivered);
        if no_ack {
            self.stats.get_no_ack += 1;
            self.drop_entry(&entry, turn);
        } else {
            self.stats.get += 1;
            self.unacked += 1;
            self.unacked_bytes += entry.message.body_bytes() as u64;
            self.unacked_persistent += Persistent::of(&entry);
            if entry.journaled {
                let delivered = Queue::note_delivered(self.definition.id, None, &entry, turn);
                Queue::write_delivered(self.definition.id, delivered, turn);
            }
        }
        self.drop_expired(turn);
        self.account(turn);
        self.ask_for_page(turn);
        self.ask_for_wake(turn);
        Got::Message { entry: Box::new(entry), left: self.ready.len() }
    }

    /// Deliveries have left the consumer's outbox. Says how long they may go unacknowledged, if this queue says.
    pub(in crate::broker::queue) fn sent(
        &mut self,
        consumer: ConsumerId,
        messages: u32,
        bytes: usize,
        turn: &mut Turn,
    ) -> Option<u64> {
        self.consumers.sent(consumer, messages, bytes);
        self.dispatch(turn);
        self.settings.consumer_timeout_ms
    }

    /// Drops all ready messages, and says how many there were.
    pub(in crate::broker::queue) fn purge(&mut self, turn: &mut Turn) -> usize {
        self.drop_expired(turn);
        self.discard_all(true, turn)
    }

    /// Looks at what time has done.
    pub(in crate::broker::queue) fn handle_timeout(&mut self, turn: &mut Turn) {
        self.wake_at = None;
        self.is_behind = false;
        let unused_until = self.unused_until();
        if unused_until.is_some_and(|at| at <= turn.now) || self.has_lost_its_consumers() {
            turn.effects.push(Effect::Delete { name: self.definition.name.clone(), id: self.definition.id });
            return;
        }
        self.go_on_expiring_anew(turn);
        self.go_on_dead_lettering(turn);
        self.retry_held(turn);
        self.drop_head(turn);
        self.dispatch(turn);
    }

    /// Whether it is an auto-delete queue whose last consumer has left.
    fn has_lost_its_consumers(&self) -> bool {
        self.definition.auto_delete && self.had_consumer && self.consumers.is_empty()
    }

    /// Takes a dead letter back that has nowhere to go now, to try again later.
    pub(in crate::broker::queue) fn hold(&mut self, entry: Entry, reason: DeathReason, turn: &mut Turn) {
        if !self.closed {
            self.held.push_back((entry, reason));
            self.ask_for_wake(turn);
        }
    }

    /// The queue was declared again, if only passively, which counts as use.
    pub(in crate::broker::queue) fn touch(&mut self, turn: &mut Turn) {
        self.last_used = turn.now;
        self.ask_for_wake(turn);
    }

    /// The link of that consumer has credit again.
    pub(in crate::broker::queue) fn resume(&mut self, consumer: ConsumerId, turn: &mut Turn) {
        self.consumers.resume(consumer);
        self.dispatch(turn);
    }

    /// Ends the queue: drops everything, and cancels the consumers.
    pub(in crate::broker::queue) fn close(&mut self, turn: &mut Turn) -> usize {
        self.closed = true;
        let count = self.discard_all(false, turn);
        if self.definition.survives_restart() || self.pager.has_spilled() {
            turn.changes.drop_queue(self.definition.id);
        }
        for consumer in self.consumers.take_all() {
            consumer
                .outbox
                .open(consumer.link)
                .push_back(Outgoing::Cancelled { link: consumer.link, consumer: consumer.id });
            turn.wake(&consumer.outbox);
        }
        count
    }

    /// Gives ready messages to consumers, and does what time wants done.
    fn dispatch(&mut self, turn: &mut Turn) {
        self.deliver(turn);
        self.drop_expired(turn);
        if self.consumers.are_draining() {
            self.drain_credit(turn);
        }
        self.account(turn);
        self.ask_for_page(turn);
        self.ask_for_wake(turn);
    }

    fn deliver(&mut self, turn: &mut Turn) {
        let mut delivered = 0;
        // What is not in memory has to be read back before it can be delivered.
        while self.ready.has_front() {
            let Some((consumer, count)) = self.consumers.next_turn(self.window, self.ready.len()) else {
                return;
            };
            let Consumer { new: consumer, outstanding, .. } = consumer;
            let mut outbox = consumer.outbox.open(consumer.link);
            if outbox.is_empty() {
                turn.wake(&consumer.outbox);
            }
            self.last_delivered = turn.now;
            let (mut taken, mut bytes, mut persistent) = (0, 0, Persistent::default());
            let had_unsent_bytes = outstanding.unsent_bytes;
            let mut room = true;
            let mut furthest = None;
            while room && taken < count {
                let Some(entry) = self.ready.pop_front() else { break };
                if entry.expires_at < turn.now {
                    let is_lettered = self.settings.dead_letter_exchange.is_some();
                    self.stats.count_dead(DeathReason::Expired, 1, is_lettered);
                    dead_letter(&self.definition, &self.settings, entry, DeathReason::Expired, turn);
                    if turn.is_spent() {
                        break;
                    }
                    continue;
                }
                taken += 1;
                bytes += entry.message.body_bytes() as u64;
                persistent += Persistent::of(&entry);
                self.stats.redeliver += u64::from(entry.redelivered);
                room = outstanding.add(&entry, consumer.no_ack, self.window);
                if !consumer.no_ack {
                    if entry.journaled {
                        furthest = Queue::note_delivered(self.definition.id, furthest, &entry, turn);
                    }
                } else if entry.journaled {
                    turn.changes.settle(self.definition.id, entry.position);
                }
                outbox.push_back(Outgoing::Deliver { link: consumer.link, consumer: consumer.id, entry });
            }
            self.pace.give(u64::from(taken), bytes, turn.now);
            if consumer.no_ack {
                self.stats.deliver_no_ack += u64::from(taken);
            } else {
                self.unacked += taken as usize;
                self.unacked_bytes += bytes;
                self.unacked_persistent += persistent;
                self.stats.deliver += u64::from(taken);
            }
            Queue::write_delivered(self.definition.id, furthest, turn);
            if taken < count && !consumer.no_ack {
                // Another queue may have been refused meanwhile; only the session knows of that one.
                if consumer.link_credit.release(count - taken) {
                    outbox.push_back(Outgoing::CreditFreed { link: consumer.link });
                }
            }
            consumer.credit.spend(taken);
            let unsent_bytes = if consumer.no_ack { outstanding.unsent_bytes - had_unsent_bytes } else { 0 };
            drop(outbox);
            self.consumers.add_unsent(unsent_bytes);
            delivered += taken as usize;
            if delivered >= steps::at_once(DELIVERED_AT_ONCE) || self.has_no_time_for_front(turn) {
                self.is_behind = true;
                return;
            }
        }
    }

    /// An entry is gone without a trace.
    fn drop_entry(&self, entry: &Entry, turn: &mut Turn) {
        if entry.journaled {
            turn.changes.settle(self.definition.id, entry.position);
        }
    }

    fn dead_letter(&mut self, entry: Entry, reason: DeathReason, turn: &mut Turn) {
        self.stats.count_dead(reason, 1, self.settings.dead_letter_exchange.is_some());
        dead_letter(&self.definition, &self.settings, entry, reason, turn);
    }
}
