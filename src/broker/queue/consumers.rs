//! A queue's consumers: whose turn it is, and how much each may be given.
//!
//! Consumers of the highest priority that have credit take turns. One without credit steps out of the line, and joins its
//! end again when it gets some: the order RabbitMQ keeps.

use crate::broker::delivery::{ChannelCredit, Entry, Outbox};
use crate::message::{ChannelNumber, ConnectionId, ConsumerId, FieldTable};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a channel says of a new consumer.
#[derive(Debug)]
pub struct NewConsumer {
    /// Its id.
    pub id: ConsumerId,
    /// Its tag, unique within the channel.
    pub tag: Arc<str>,
    /// Its channel.
    pub channel: ChannelNumber,
    /// Its connection.
    pub connection: ConnectionId,
    /// As it was declared with.
    pub arguments: FieldTable,
    /// Where its deliveries go.
    pub outbox: Arc<Outbox>,
    /// Deliveries count as acknowledged when they are sent.
    pub no_ack: bool,
    /// Nobody else may consume from the queue.
    pub exclusive: bool,
    /// Higher ones are served first.
    pub priority: i32,
    /// Unacknowledged deliveries it may have; 0 is no limit.
    pub prefetch_count: u16,
    /// What all consumers of its channel may have together.
    pub channel_credit: Arc<ChannelCredit>,
}

/// Deliveries that may wait for a session to send them.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// How many of one consumer.
    pub messages: u32,
    /// Bytes of their names, properties and bodies; one message may exceed it.
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) new: NewConsumer,
    pub(super) outstanding: Outstanding,
    in_line: bool,
}

/// What a consumer has been given and not yet dealt with.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    unacked: u32,
    unsent: u32,
    unsent_bytes: usize,
}

impl Outstanding {
    /// Notes a delivery. False when the window's bytes are used up by it.
    pub(super) fn add(&mut self, entry: &Entry, no_ack: bool, window: Window) -> bool {
        self.unsent += 1;
        self.unsent_bytes += entry.message.size_bytes();
        self.unacked += u32::from(!no_ack);
        self.unsent_bytes < window.bytes
    }
}

impl Consumer {
    /// How many more it may be given by its own limits.
    fn credit(&self, window: Window) -> u32 {
        if self.outstanding.unsent_bytes >= window.bytes {
            return 0;
        }
        let unsent = window.messages.saturating_sub(self.outstanding.unsent);
        if self.new.no_ack || self.new.prefetch_count == 0 {
            return unsent;
        }
        unsent.min(u32::from(self.new.prefetch_count).saturating_sub(self.outstanding.unacked))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    by_id: BTreeMap<ConsumerId, Consumer>,
    line: BTreeMap<Reverse<i32>, VecDeque<ConsumerId>>,
    single_active: bool,
    active: Option<ConsumerId>,
}

impl Consumers {
    pub(super) fn new(single_active: bool) -> Consumers {
        Consumers { single_active, ..Consumers::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a consumer holds the queue for itself.
    pub(super) fn has_exclusive(&self) -> bool {
        self.by_id.values().any(|consumer| consumer.new.exclusive)
    }

    /// The tag of the one that holds the queue for itself.
    pub(super) fn exclusive_tag(&self) -> Option<Arc<str>> {
        self.by_id.values().find(|consumer| consumer.new.exclusive).map(|consumer| consumer.new.tag.clone())
    }

    /// All of them, each with whether it is given messages.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NewConsumer, bool)> {
        self.by_id.values().map(|consumer| {
            let active = !self.single_active || self.active == Some(consumer.new.id);
            (&consumer.new, active)
        })
    }

    /// The tag of the active one of a queue with a single active consumer.
    pub(super) fn active_tag(&self) -> Option<Arc<str>> {
        self.active.and_then(|id| self.by_id.get(&id)).map(|consumer| consumer.new.tag.clone())
    }

    pub(super) fn add(&mut self, new: NewConsumer) {
        let (id, priority) = (new.id, new.priority);
        let consumer = Consumer { new, outstanding: Outstanding::default(), in_line: true };
        self.by_id.insert(id, consumer);
        self.line.entry(Reverse(priority)).or_default().push_back(id);
        if self.single_active && self.active.is_none() {
            self.active = Some(id);
        }
    }

    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<NewConsumer> {
        let consumer = self.by_id.remove(&id)?;
        self.leave_line(id, consumer.new.priority);
        if self.active == Some(id) {
            self.active = self.successor();
        }
        Some(consumer.new)
    }

    /// Takes all of them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = NewConsumer> + use<> {
        std::mem::take(self).by_id.into_values().map(|consumer| consumer.new)
    }

    /// Sessions have sent deliveries of this consumer.
    pub(super) fn sent(&mut self, id: ConsumerId, messages: u32, bytes: usize) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            let outstanding = &mut consumer.outstanding;
            outstanding.unsent = outstanding.unsent.saturating_sub(messages);
            outstanding.unsent_bytes = outstanding.unsent_bytes.saturating_sub(bytes);
        }
        self.join_line(id);
    }

    /// Deliveries to this consumer are no longer outstanding.
    pub(super) fn settled(&mut self, id: ConsumerId, messages: u32) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            consumer.outstanding.unacked = consumer.outstanding.unacked.saturating_sub(messages);
        }
        self.join_line(id);
    }

    /// A consumer that may have credit again joins the end of the line.
    pub(super) fn join_line(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.by_id.get_mut(&id)
            && !consumer.in_line
        {
            consumer.in_line = true;
            self.line.entry(Reverse(consumer.new.priority)).or_default().push_back(id);
        }
    }

    /// Whose turn it is, and how many messages that turn is: one, or all that a consumer alone in line may have.
    /// The channel's credit for them has been taken.
    pub(super) fn next_turn(&mut self, window: Window, available: usize) -> Option<(&mut Consumer, u32)> {
        let (id, granted) = loop {
            let (id, alone) = self.head_of_line()?;
            let consumer = self.by_id.get_mut(&id).expect("who is in line is a consumer");
            let wanted = consumer.credit(window);
            let turn =
                if alone { u32::try_from(available).unwrap_or(u32::MAX).min(wanted) } else { wanted.min(1) };
            let granted = match turn {
                0 => 0,
                _ if consumer.new.no_ack => turn,
                _ => consumer.new.channel_credit.acquire(turn),
            };
            if granted > 0 {
                break (id, granted);
            }
            consumer.in_line = false;
            let priority = consumer.new.priority;
            self.leave_line(id, priority);
        };
        Some((self.by_id.get_mut(&id)?, granted))
    }

    /// The consumer at the head of the line, moved to its end, and whether nobody shares its priority.
    fn head_of_line(&mut self) -> Option<(ConsumerId, bool)> {
        if self.single_active {
            let active = self.active?;
            return self.by_id.get(&active)?.in_line.then_some((active, true));
        }
        let mut line = self.line.first_entry()?;
        let line = line.get_mut();
        if line.len() > 1 {
            line.rotate_left(1);
        }
        line.back().map(|id| (*id, line.len() == 1))
    }

    fn leave_line(&mut self, id: ConsumerId, priority: i32) {
        if let Some(line) = self.line.get_mut(&Reverse(priority)) {
            line.retain(|other| *other != id);
            if line.is_empty() {
                self.line.remove(&Reverse(priority));
            }
        }
    }

    /// The next single active consumer: of the highest priority, the one that registered first.
    fn successor(&self) -> Option<ConsumerId> {
        if !self.single_active {
            return None;
        }
        self.by_id
            .values()
            .min_by_key(|consumer| (Reverse(consumer.new.priority), consumer.new.id))
            .map(|c| c.new.id)
    }
}
