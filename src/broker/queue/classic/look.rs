//! Looking at a queue without touching it: for lists, for metrics, and for paging through its messages.

use super::Queue;
use super::persistent::Persistent;
use super::ready::{Place, Taken};
use crate::broker::delivery::Entry;
use crate::broker::observe::lengths::{Length, Lengths};
use crate::broker::observe::stats::{MessageStats, QueueSample, Samples};
use crate::broker::turn::Turn;
use crate::message::{ChannelNumber, ConnectionId, EncodedTable, Message, Millis, Position};
use crate::store::StoredMessage;
use std::sync::Arc;

/// How a queue stands.
#[derive(Clone, Debug)]
pub struct QueueState {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that wait for an acknowledgement.
    pub unacked: u64,
    /// Those of them that are in memory.
    pub unacked_resident: u64,
    /// Bytes of the ready messages' bodies.
    pub ready_bytes: u64,
    /// Bytes of the bodies that wait for an acknowledgement.
    pub unacked_bytes: u64,
    /// Those of all these that are persistent.
    pub persistent: Persistent,
    /// Bytes of the ready messages' bodies that are not in memory.
    pub paged_bytes: u64,
    /// Bytes of the bodies, ready or not acknowledged, that are in memory.
    pub resident_body_bytes: u64,
    /// Ready messages that are in memory.
    pub resident: u64,
    /// What they take there, roughly.
    pub resident_bytes: u64,
    /// How many consumers it has.
    pub consumers: u64,
    /// Whether a consumer has room for the next message.
    pub is_waiting: bool,
    /// The tag of the consumer that has the queue for itself.
    pub exclusive_consumer_tag: Option<Arc<str>>,
    /// The tag of the single active consumer.
    pub single_active_consumer_tag: Option<Arc<str>>,
    /// When a message was last delivered, or the queue used otherwise.
    pub used_at: Millis,
    /// The property timestamp of the next message, if it is in memory.
    pub head_timestamp: Option<u64>,
    /// When the oldest ready message in memory came.
    pub oldest_at: Option<Millis>,
    /// What was done with its messages.
    pub stats: MessageStats,
    /// How fast that was.
    pub samples: Samples<QueueSample>,
}

/// A consumer as others see it.
#[derive(Clone, Debug)]
pub struct ConsumerState {
    /// Consumer tag, unique on its channel.
    pub tag: Arc<str>,
    /// The connection that its channel is on.
    pub connection: ConnectionId,
    /// The channel that it belongs to.
    pub channel: ChannelNumber,
    /// Whether its deliveries have to be acknowledged.
    pub ack_required: bool,
    /// Whether it has the queue for itself.
    pub exclusive: bool,
    /// What it may have unacknowledged; 0 is no limit.
    pub prefetch_count: u32,
    /// Whether it is given messages; of a queue's single active consumers only one is.
    pub active: bool,
    /// As it was declared with.
    pub arguments: EncodedTable,
}

/// A ready message, as browsing shows it.
#[derive(Clone, Debug)]
pub struct SeenMessage {
    /// The message with its properties and body.
    pub message: Message,
    /// Its place in the queue.
    pub position: Position,
    /// The priority of its lane.
    pub priority: u8,
    /// When it was published to the queue.
    pub enqueued_at: Millis,
    /// Whether it has been delivered before.
    pub redelivered: bool,
    /// Deliveries of it that failed.
    pub delivery_count: u32,
}

/// What browsing finds in memory alone.
#[derive(Debug)]
pub enum Glimpse {
    /// A message in memory.
    InMemory(SeenMessage),
    /// Messages that follow each other and are not in memory.
    PagedOut {
        /// The priority of their lane.
        priority: u8,
        /// The place of the first one.
        first: Position,
        /// How many they are.
        count: u64,
    },
}

impl SeenMessage {
    /// A message that was read back; `None` when it is damaged.
    pub(in crate::broker) fn of_stored(stored: StoredMessage) -> Option<SeenMessage> {
        Some(SeenMessage {
            message: Message::from_stored(stored.content, stored.shape).ok()?,
            position: stored.position,
            priority: stored.priority,
            enqueued_at: stored.enqueued_at,
            redelivered: stored.redelivered,
            delivery_count: stored.delivery_count,
        })
    }
}

impl From<&Entry> for SeenMessage {
    fn from(entry: &Entry) -> SeenMessage {
        SeenMessage {
            message: entry.message.clone(),
            position: entry.position,
            priority: entry.priority,
            enqueued_at: entry.enqueued_at,
            redelivered: entry.redelivered,
            delivery_count: entry.delivery_count,
        }
    }
}

impl Queue {
    /// How the queue stands.
    pub(in crate::broker::queue) fn state(&self) -> QueueState {
        let head = self.ready.front();
        let paged_bytes = self.ready.paged_bytes();
        let persistent = [self.ready.persistent(), self.unacked_persistent].into_iter().sum();
        QueueState {
            ready: self.ready.len() as u64,
            unacked: self.unacked as u64,
            unacked_resident: self.unacked.saturating_sub(self.paged_deliveries.messages) as u64,
            ready_bytes: self.ready.bytes(),
            unacked_bytes: self.unacked_bytes,
            persistent,
            paged_bytes,
            resident_body_bytes: (self.ready.bytes() + self.unacked_bytes)
                .saturating_sub(paged_bytes + self.paged_deliveries.body_bytes),
            resident: self.ready.resident() as u64,
            resident_bytes: self.ready.resident_bytes() as u64,
            consumers: self.consumers.len() as u64,
            is_waiting: !self.consumers.is_empty() && self.ready.is_empty(),
            exclusive_consumer_tag: self.consumers.exclusive_tag(),
            single_active_consumer_tag: self.consumers.active_tag(),
            used_at: self.last_used.max(self.last_delivered),
            head_timestamp: head.and_then(|entry| entry.message.decode_properties().timestamp),
            oldest_at: self.ready.oldest_at(),
            stats: self.stats,
            samples: self.samples,
        }
    }

    /// How many messages came through which exchanges.
    pub(in crate::broker::queue) fn published(&self) -> Vec<(String, u64)> {
        self.published.list()
    }

    /// How it stood when samples were taken.
    pub(in crate::broker::queue) fn samples(&self) -> &Samples<QueueSample> {
        &self.samples
    }

    /// How many messages it had.
    pub(in crate::broker::queue) fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    /// What was done with its messages.
    pub(in crate::broker::queue) fn stats(&self) -> &MessageStats {
        &self.stats
    }

    /// The consumers, the oldest first.
    pub(in crate::broker::queue) fn consumers(&self) -> Vec<ConsumerState> {
        let states = self.consumers.iter().map(|(consumer, active)| ConsumerState {
            tag: consumer.tag.clone(),
            connection: consumer.connection,
            channel: consumer.channel,
            ack_required: !consumer.no_ack,
            exclusive: consumer.exclusive,
            prefetch_count: consumer.credit.prefetch_count(),
            active,
            arguments: consumer.arguments.clone(),
        });
        states.collect()
    }

    /// A number of ready messages in the order of delivery, from the place behind `after` on.
    pub(in crate::broker::queue) fn glimpse(
        &self,
        after: Option<(u8, Position)>,
        max: usize,
    ) -> Vec<Glimpse> {
        let mut found = Vec::new();
        let mut left = max as u64;
        for place in self.ready.places_after(after) {
            if left == 0 {
                break;
            }
            match place {
                Place::InMemory(entry) => {
                    left -= 1;
                    found.push(Glimpse::InMemory(entry.into()));
                }
                Place::PagedOut { priority, first, count } => {
                    let count = count.min(left);
                    left -= count;
                    found.push(Glimpse::PagedOut { priority, first, count });
                }
            }
        }
        found
    }

    /// Takes a ready message that was seen, wherever it is by now among the ready ones. The turn notes for the journal that it has
    /// left the queue. `None` when it has left already.
    pub(in crate::broker::queue) fn take(&mut self, seen: &SeenMessage, turn: &mut Turn) -> Option<Entry> {
        if self.closed {
            return None;
        }
        let body_bytes = seen.message.body_bytes();
        let is_persistent = self.definition.counts_as_persistent(&seen.message);
        let persistent = match is_persistent {
            true => Persistent { messages: 1, body_bytes: body_bytes as u64 },
            false => Persistent::default(),
        };
        let entry = match self.ready.take(seen.priority, seen.position, body_bytes, persistent) {
            Taken::InMemory(entry) => entry,
            Taken::PagedOut => Entry {
                position: seen.position,
                enqueued_at: seen.enqueued_at,
                expires_at: self.settings.expires_at(&seen.message, seen.enqueued_at),
                delivery_count: seen.delivery_count,
                priority: seen.priority,
                redelivered: seen.redelivered,
                journaled: true,
                persistent: is_persistent,
                message: seen.message.clone(),
            },
            Taken::Nothing => return None,
        };
        if entry.journaled {
            turn.changes.settle(self.definition.id, entry.position);
        }
        self.account(turn);
        self.ask_for_page(turn);
        self.ask_for_wake(turn);
        Some(entry)
    }

    pub(in crate::broker::queue) fn sample(&mut self, now: Millis) {
        let counts =
            QueueSample { stats: self.stats, ready: self.ready.len() as u64, unacked: self.unacked as u64 };
        self.samples.take(now, counts);
        self.lengths.note(now, Length { ready: counts.ready, unacked: counts.unacked });
    }
}
