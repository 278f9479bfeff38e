//! A queue's consumers: whose turn it is, and how much each may be given.
//!
//! Consumers of the highest priority that have credit take turns. One without credit steps out of the line, and joins its
//! end again when it gets some: the order RabbitMQ keeps. One that has credit of its own and none of its link's waits
//! until the link has some (`waiting_for_credit.rs`).

use super::credit::Credit;
use super::waiting_for_credit::WaitingForCredit;
use crate::broker::delivery::{Entry, LinkCredit, Outbox};
use crate::message::{ChannelNumber, ConnectionId, ConsumerId, EncodedTable, LinkId};
use crate::steps;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a session says of a new consumer.
#[derive(Debug)]
pub struct NewConsumer {
    /// Its id, unique in the broker.
    pub id: ConsumerId,
    /// Its tag, unique within the link.
    pub tag: Arc<str>,
    /// Where in its session it is: what it is given is put into the outbox for that link.
    pub link: LinkId,
    /// The channel that the management API shows it on; a protocol without channels says 1, as RabbitMQ does.
    pub channel: ChannelNumber,
    /// The connection that it is on.
    pub connection: ConnectionId,
    /// As it was declared with.
    pub arguments: EncodedTable,
    /// Where its deliveries go.
    pub outbox: Arc<Outbox>,
    /// Deliveries count as acknowledged when they are sent.
    pub no_ack: bool,
    /// Exclusive: no other consumer may be added to the queue.
    pub exclusive: bool,
    /// Higher ones are served first.
    pub priority: i32,
    /// How much it may be given.
    pub credit: Credit,
    /// What all consumers of its link may have together.
    pub link_credit: Arc<LinkCredit>,
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
    place: Place,
}

/// Where a consumer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    InLine,
    /// Until it has credit of its own.
    Out,
    /// Until its link has credit; with the ticket that says in which order.
    WaitingForCredit(u64),
}

/// What a consumer has been given and not yet dealt with.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    unacked: u32,
    unsent: u32,
    pub(super) unsent_bytes: usize,
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
        unsent.min(self.new.credit.left(self.new.no_ack, self.outstanding.unacked))
    }
}

/// The consumers of one queue; see the module.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    by_id: BTreeMap<ConsumerId, Consumer>,
    /// The consumers that take turns; none do where one of them is the single active one.
    line: BTreeMap<Reverse<i32>, Line>,
    /// The exclusive consumer, which is the only one then.
    exclusive: Option<ConsumerId>,
    /// The consumers that wait for credit of their links.
    waiting: WaitingForCredit,
    /// Those whose credit is to be drained.
    draining: BTreeSet<ConsumerId>,
    single_active: bool,
    active: Option<ConsumerId>,
    /// With a single active consumer: all of them, in the order in which they become it.
    succession: BTreeSet<(Reverse<i32>, ConsumerId)>,
    /// See [`Consumers::unsent_bytes`].
    unsent_bytes: usize,
    /// See [`Consumers::argument_bytes`].
    argument_bytes: usize,
}

/// Those of one priority that wait for their turn.
#[derive(Debug, Default)]
struct Line {
    /// Some of them may be gone: they are passed over when their turn comes, so that leaving costs the same in any line.
    ids: VecDeque<ConsumerId>,
    /// How many are not.
    waiting: usize,
}

/// How many that are gone may be left in any line, beside as many as are there.
const GONE_IN_LINE: usize = 16;

impl Line {
    fn join(&mut self, id: ConsumerId) {
        self.ids.push_back(id);
        self.waiting += 1;
    }

    /// One of them is gone. Those are sorted out before they are the greater part.
    fn note_gone(&mut self, is_there: impl Fn(&ConsumerId) -> bool) {
        self.waiting -= 1;
        if self.ids.len() > 2 * self.waiting + GONE_IN_LINE {
            steps::count(self.ids.len());
            self.ids.retain(is_there);
        }
    }

    /// Moves the first of them to the end.
    fn turn(&mut self, is_there: impl Fn(&ConsumerId) -> bool) -> Option<ConsumerId> {
        if self.ids.len() > 1 {
            self.ids.rotate_left(1);
            while self.ids.len() > self.waiting && !self.ids.back().is_some_and(&is_there) {
                steps::count(1);
                self.ids.pop_back();
                self.ids.rotate_left(1);
            }
        }
        self.ids.back().copied()
    }

    /// The one at the end leaves.
    fn leave(&mut self) {
        steps::count(1);
        self.ids.pop_back();
        self.waiting -= 1;
    }
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

    /// Bytes of deliveries that wait for a session to send them, and for no acknowledgement.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Bytes of their arguments.
    pub(super) fn argument_bytes(&self) -> usize {
        self.argument_bytes
    }

    /// Counts deliveries that need no acknowledgement.
    pub(super) fn add_unsent(&mut self, bytes: usize) {
        self.unsent_bytes += bytes;
    }

    /// Whether a consumer holds the queue for itself.
    pub(super) fn has_exclusive(&self) -> bool {
        self.exclusive.is_some()
    }

    /// The tag of the one that holds the queue for itself.
    pub(super) fn exclusive_tag(&self) -> Option<Arc<str>> {
        self.exclusive.and_then(|id| self.by_id.get(&id)).map(|consumer| consumer.new.tag.clone())
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
        let (id, priority) = (new.id, Reverse(new.priority));
        if new.exclusive {
            self.exclusive = Some(id);
        }
        self.argument_bytes += new.arguments.bytes();
        if new.credit.is_draining() {
            self.draining.insert(id);
        }
        let consumer = Consumer { new, outstanding: Outstanding::default(), place: Place::InLine };
        self.by_id.insert(id, consumer);
        if self.single_active {
            self.succession.insert((priority, id));
            self.active = self.active.or(Some(id));
        } else {
            self.line.entry(priority).or_default().join(id);
        }
    }

    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<NewConsumer> {
        let Consumer { new, place, outstanding } = self.by_id.remove(&id)?;
        self.argument_bytes -= new.arguments.bytes();
        if new.no_ack {
            self.unsent_bytes = self.unsent_bytes.saturating_sub(outstanding.unsent_bytes);
        }
        let priority = Reverse(new.priority);
        if let Place::WaitingForCredit(ticket) = place {
            self.waiting.leave(&new, ticket);
        }
        if place == Place::InLine
            && let Some(line) = self.line.get_mut(&priority)
        {
            line.note_gone(|other| self.by_id.contains_key(other));
            if line.waiting == 0 {
                self.line.remove(&priority);
            }
        }
        self.draining.remove(&id);
        self.exclusive.take_if(|exclusive| *exclusive == id);
        self.succession.remove(&(priority, id));
        if self.active == Some(id) {
            // Of the highest priority the one that registered first.
            self.active = self.succession.first().map(|(_, id)| *id);
        }
        Some(new)
    }

    /// Takes all of them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = NewConsumer> + use<> {
        let all = std::mem::take(self).by_id.into_values();
        all.map(|consumer| {
            if let Place::WaitingForCredit(ticket) = consumer.place {
                consumer.new.link_credit.forget(ticket);
            }
            consumer.new
        })
    }

    /// Sessions have sent deliveries of this consumer.
    pub(super) fn sent(&mut self, id: ConsumerId, messages: u32, bytes: usize) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            let outstanding = &mut consumer.outstanding;
            outstanding.unsent = outstanding.unsent.saturating_sub(messages);
            outstanding.unsent_bytes = outstanding.unsent_bytes.saturating_sub(bytes);
            if consumer.new.no_ack {
                self.unsent_bytes = self.unsent_bytes.saturating_sub(bytes);
            }
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

    /// A consumer grants credit, or changes its prefetch count.
    pub(super) fn grant(&mut self, id: ConsumerId, credit: Credit) {
        let Some(consumer) = self.by_id.get_mut(&id) else { return };
        consumer.new.credit.grant(credit);
        if consumer.new.credit.is_draining() {
            self.draining.insert(id);
        } else {
            self.draining.remove(&id);
        }
        self.join_line(id);
    }

    /// Whether the credit of some is to be drained.
    #[inline]
    pub(super) fn are_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Drains the credit of those that get nothing more at once: of all if nothing is ready, and of those that others are
    /// active before. Each with how much that was.
    pub(super) fn drain(&mut self, nothing_is_ready: bool) -> Vec<(&NewConsumer, u32)> {
        let active = self.active.filter(|_| self.single_active);
        let gets_more = |id: &ConsumerId| !nothing_is_ready && active.is_none_or(|active| active == *id);
        let drained: Vec<ConsumerId> = self.draining.extract_if(.., |id| !gets_more(id)).collect();
        let mut counts = Vec::with_capacity(drained.len());
        for id in &drained {
            steps::count(1);
            counts.extend(self.by_id.get_mut(id).map(|consumer| (consumer.new.credit.drain(), *id)));
        }
        counts.into_iter().filter_map(|(count, id)| Some((&self.by_id.get(&id)?.new, count))).collect()
    }

    /// A consumer that may have credit of its own again joins the end of the line.
    fn join_line(&mut self, id: ConsumerId) {
        if self.by_id.get(&id).is_some_and(|consumer| consumer.place == Place::Out) {
            self.put_in_line(id);
        }
    }

    fn put_in_line(&mut self, id: ConsumerId) {
        let Some(consumer) = self.by_id.get_mut(&id) else { return };
        consumer.place = Place::InLine;
        if !self.single_active {
            self.line.entry(Reverse(consumer.new.priority)).or_default().join(id);
        }
    }

    /// The link of that consumer has credit again: a consumer that waits for it has a turn.
    pub(super) fn resume(&mut self, id: ConsumerId) {
        let Some(consumer) = self.by_id.get(&id) else { return };
        for id in self.waiting.resume(&consumer.new) {
            self.put_in_line(id);
        }
    }

    /// Whose turn it is, and how many messages that turn is: one, or all that a consumer alone in line may have.
    /// The link's credit for them has been taken.
    pub(super) fn next_turn(&mut self, window: Window, available: usize) -> Option<(&mut Consumer, u32)> {
        let (id, granted) = loop {
            let (id, alone) = self.head_of_line()?;
            let consumer = self.by_id.get_mut(&id).expect("who is in line is a consumer");
            let wanted = consumer.credit(window);
            let turn =
                if alone { u32::try_from(available).unwrap_or(u32::MAX).min(wanted) } else { wanted.min(1) };
            let granted = match turn {
                0 => 0,
                _ if !consumer.new.no_ack => consumer.new.link_credit.acquire(turn),
                _ if consumer.new.link_credit.left() > 0 => turn,
                _ => 0,
            };
            if granted > 0 {
                break (id, granted);
            }
            let place = if turn == 0 {
                Some(Place::Out)
            } else {
                self.waiting.join(&consumer.new).map(Place::WaitingForCredit)
            };
            let Some(place) = place else { continue };
            consumer.place = place;
            let priority = consumer.new.priority;
            self.leave_head(priority);
        };
        Some((self.by_id.get_mut(&id)?, granted))
    }

    /// The consumer at the head of the line, moved to its end, and whether no other has its priority.
    fn head_of_line(&mut self) -> Option<(ConsumerId, bool)> {
        if self.single_active {
            let active = self.active?;
            return (self.by_id.get(&active)?.place == Place::InLine).then_some((active, true));
        }
        let mut line = self.line.first_entry()?;
        let line = line.get_mut();
        let id = line.turn(|id| self.by_id.contains_key(id))?;
        Some((id, line.waiting == 1))
    }

    /// Who was at the head of its line, and has been moved to its end, steps out of it.
    fn leave_head(&mut self, priority: i32) {
        if let Some(line) = self.line.get_mut(&Reverse(priority)) {
            line.leave();
            if line.waiting == 0 {
                self.line.remove(&Reverse(priority));
            }
        }
    }
}

#[cfg(test)]
mod tests;
