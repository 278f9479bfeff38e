//! One consumer of a stream: where it is, what it may be given, and what of that is on its way.

use super::StreamOffset;
use super::consumers::At;
use super::offset::StreamFilter;
use super::position_of;
use super::tail::Tail;
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::observe::stats::MessageStats;
use crate::broker::queue::{NewConsumer, Window};
use crate::broker::turn::Turn;
use crate::message::amqp10::{EntryError, to_091};
use crate::message::{FORMAT_AMQP_091, Message, Millis, NEVER};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) new: NewConsumer,
    pub(super) filter: StreamFilter,
    pub(super) at: At,
    pub(super) unacked: u32,
    pub(super) unsent: u32,
    pub(super) unsent_bytes: usize,
    /// The ticket with which it waits for credit of its link.
    pub(super) waits: Option<u64>,
    /// Where it asked to begin.
    pub(super) begin: StreamOffset,
    pub(super) single_active: bool,
    /// Another one of its name is given messages.
    pub(super) is_standby: bool,
    pub(super) named: Option<Named>,
    /// Which partition of a super stream this is to it, where it shares those with others of its name.
    pub(super) partition: Option<usize>,
    /// It is to be active no longer, and has yet to say that it has heard.
    pub(super) is_stepping_down: bool,
    /// It takes messages in chunks: its credit counts those, and nothing is acknowledged.
    pub(super) takes_chunks: bool,
    /// Messages that it was given in chunks, and the offset behind the last of them.
    pub(super) consumed: u64,
    pub(super) given_up_to: Option<u64>,
    /// It has been told that it is the active one of its name, and has yet to say where it begins.
    pub(super) awaits_place: bool,
    /// What was passed over and is not noted yet.
    pub(super) passed_over: PassedOver,
}

/// Entries that are no messages, which consumers that want messages are not given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PassedOver {
    /// How many times one was passed over.
    pub(super) count: u64,
    /// The offset of the first one, and what is wrong with it.
    pub(super) first: Option<(u64, EntryError)>,
}

/// What is known of a consumer whose acknowledgements are remembered.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    /// The offsets that it was given and that are not all settled up to there, each with whether it is.
    pub(super) in_flight: VecDeque<(u64, bool)>,
    /// Deliveries that came back.
    pub(super) returned: BTreeMap<u64, Entry>,
}

impl Named {
    pub(super) fn settle(&mut self, offset: u64) {
        if let Ok(at) = self.in_flight.binary_search_by_key(&offset, |(offset, _)| *offset) {
            self.in_flight[at].1 = true;
        }
    }
}

impl Reader {
    /// The name under which its acknowledgements are remembered.
    pub(super) fn name(&self) -> Option<&str> {
        self.named.as_ref().map(|named| &*named.name)
    }

    /// How many more messages it may be given, by its own limits.
    pub(super) fn credit(&self, window: Window) -> u32 {
        let is_active = !(self.is_standby || self.is_stepping_down || self.awaits_place);
        if self.unsent_bytes >= window.bytes || self.waits.is_some() || !is_active {
            return 0;
        }
        let unsent = window.messages.saturating_sub(self.unsent);
        unsent.min(self.new.credit.left(self.new.no_ack, self.unacked))
    }

    /// Whether it may be given something and is not where that is in memory.
    pub(super) fn wants_log(&self, window: Window, tail: &Tail) -> bool {
        self.credit(window) > 0
            && match &self.at {
                At::Time(_) | At::LastChunk => true,
                At::Offset(at) => tail.from(at.next).is_none(),
            }
    }

    /// Takes credit of its link for up to that many deliveries. Where there is none it waits, and says so.
    fn acquire(&mut self, wanted: u32) -> u32 {
        let granted = self.new.link_credit.acquire(wanted);
        if granted == 0 && wanted > 0 {
            let ticket = self.new.link_credit.ticket();
            self.new.link_credit.wait(ticket, self.new.id);
            if self.new.link_credit.left() > 0 {
                // Some was given back before the session could see that a consumer waits.
                self.new.link_credit.forget(ticket);
                return self.new.link_credit.acquire(wanted);
            }
            self.waits = Some(ticket);
        }
        granted
    }

    pub(super) fn stop_waiting(&mut self) {
        if let Some(ticket) = self.waits.take() {
            self.new.link_credit.forget(ticket);
        }
    }
}

/// A message on its way to a consumer.
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) enqueued_at: Millis,
    pub(super) message: Message,
}

impl Reader {
    /// Gives again what came back.
    pub(super) fn give_returned(&mut self, window: Window, stats: &mut MessageStats, turn: &mut Turn) {
        let is_any = self.named.as_ref().is_some_and(|named| !named.returned.is_empty());
        let wanted = if is_any { self.credit(window) } else { 0 };
        let granted = if wanted > 0 { self.acquire(wanted) } else { 0 };
        let mut given = Given::of(granted);
        let Reader { new, named: Some(named), unsent_bytes, .. } = self else { return };
        while given.has_room()
            && let Some((_, entry)) = named.returned.pop_first()
        {
            *unsent_bytes += entry.message.size_bytes();
            given.give(new, Entry { redelivered: true, ..entry });
        }
        stats.redeliver += u64::from(given.count);
        self.end_giving(given, stats, turn);
    }

    pub(super) fn give(
        &mut self,
        found: impl Iterator<Item = Found>,
        window: Window,
        stats: &mut MessageStats,
        turn: &mut Turn,
    ) -> Option<u64> {
        let wanted = self.credit(window);
        let mut found = found.peekable();
        if wanted == 0 || found.peek().is_none() {
            return None;
        }
        if self.takes_chunks {
            return self.give_chunks(found, wanted, window, stats, turn);
        }
        let mut given = Given::of(self.acquire(wanted));
        let mut next = None;
        while given.has_room()
            && self.unsent_bytes < window.bytes
            && let Some(Found { offset, enqueued_at, message }) = found.next()
        {
            next = Some(offset + 1);
            if !self.filter.passes(&message) {
                continue;
            }
            let message = match message.format() {
                FORMAT_AMQP_091 => message,
                _ => match to_091(&message) {
                    Ok(message) => message,
                    Err(error) => {
                        self.passed_over.count += 1;
                        self.passed_over.first.get_or_insert((offset, error));
                        continue;
                    }
                },
            };
            self.unsent_bytes += message.size_bytes();
            if let Some(named) = &mut self.named {
                named.in_flight.push_back((offset, false));
            }
            given.give(&self.new, entry(offset, enqueued_at, message));
        }
        self.end_giving(given, stats, turn);
        next
    }

    fn end_giving(&mut self, given: Given, stats: &mut MessageStats, turn: &mut Turn) {
        let Given { granted, count, was_empty } = given;
        if was_empty {
            turn.wake(&self.new.outbox);
        }
        self.unsent += count;
        self.unacked += count;
        self.new.credit.spend(count);
        stats.deliver += u64::from(count);
        if count < granted && self.new.link_credit.release(granted - count) {
            // A consumer of another queue may have been refused meanwhile; only the session knows of that one.
            self.new.outbox.open(self.new.link).push_back(Outgoing::CreditFreed { link: self.new.link });
            turn.wake(&self.new.outbox);
        }
    }
}

/// What a consumer is given at once.
struct Given {
    granted: u32,
    count: u32,
    /// Nothing waited for its link before.
    was_empty: bool,
}

impl Given {
    fn of(granted: u32) -> Given {
        Given { granted, count: 0, was_empty: false }
    }

    fn has_room(&self) -> bool {
        self.count < self.granted
    }

    #[inline]
    fn give(&mut self, to: &NewConsumer, entry: Entry) {
        let mut outbox = to.outbox.open(to.link);
        self.was_empty |= outbox.is_empty();
        self.count += 1;
        outbox.push_back(Outgoing::Deliver { link: to.link, consumer: to.id, entry });
    }
}

/// A message of a stream on its way to a consumer.
fn entry(offset: u64, enqueued_at: Millis, message: Message) -> Entry {
    Entry {
        message,
        position: position_of(offset),
        enqueued_at,
        expires_at: NEVER,
        delivery_count: 0,
        priority: 0,
        redelivered: false,
        persistent: true,
        journaled: false,
    }
}
