//! The consumers of a stream. Each reads for itself: where it is, what it may be given, and what it wants.

use super::StreamOffset;
use super::offset::StreamFilter;
use super::tail::Tail;
use super::tracking::Tracking;
use super::{Kept, position_of};
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::error::{ArgumentFault, BrokerError, Resource};
use crate::broker::observe::stats::MessageStats;
use crate::broker::queue::{NewConsumer, Window};
use crate::broker::turn::Turn;
use crate::message::{ConsumerId, FieldTable, Message, Millis, NEVER, Value};
use crate::store::stream::{NAME_BYTES_MAX, ReadAt};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a consumer asks for.
#[derive(Debug)]
pub(super) struct Begin {
    offset: StreamOffset,
    filter: StreamFilter,
    /// The name under which its acknowledgements are remembered.
    name: Option<Arc<str>>,
    /// Of those with that name one at a time is given messages.
    single_active: bool,
}

/// Tags that the broker has chosen begin so.
const GIVEN_TAG: &str = "amq.ctag-";

impl Begin {
    /// Reads a consumer's arguments.
    pub(super) fn of(
        arguments: &FieldTable,
        tag: &Arc<str>,
        now: Millis,
        resource: &Resource,
    ) -> Result<Begin, BrokerError> {
        let invalid = |argument: &str, fault: ArgumentFault| BrokerError::InvalidArgument {
            argument: argument.to_owned(),
            resource: resource.clone(),
            fault,
        };
        let flag = |argument: &str| match arguments.field(argument) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(invalid(argument, ArgumentFault::WrongType(other.type_name()))),
        };
        let single_active = flag("x-single-active-consumer")?;
        let tracks = flag("x-stream-automatic-offset-tracking")?;
        let name: Option<Arc<str>> = match arguments.field(CONSUMER_NAME) {
            None if tracks || single_active => Some(tag.clone()).filter(|tag| !tag.starts_with(GIVEN_TAG)),
            None => None,
            Some(value) => match value.as_str() {
                None => return Err(invalid(CONSUMER_NAME, ArgumentFault::WrongType(value.type_name()))),
                Some("") => return Err(invalid(CONSUMER_NAME, ArgumentFault::Missing)),
                Some(name) if name.len() > NAME_BYTES_MAX => {
                    let fault = ArgumentFault::TooLong { bytes: name.len(), max: NAME_BYTES_MAX };
                    return Err(invalid(CONSUMER_NAME, fault));
                }
                Some(name) => Some(name.into()),
            },
        };
        if name.is_none() && (tracks || single_active) {
            return Err(invalid(CONSUMER_NAME, ArgumentFault::Missing));
        }
        let offset = StreamOffset::of(arguments, now, resource)?;
        Ok(Begin { offset, filter: StreamFilter::of(arguments, resource)?, name, single_active })
    }
}

/// The consumer argument that names it.
const CONSUMER_NAME: &str = "x-stream-consumer-name";

/// Where consumers may begin.
pub(super) struct Bounds<'a> {
    first: u64,
    last_chunk: Option<u64>,
    next: u64,
    tracking: &'a Tracking,
}

impl Bounds<'_> {
    pub(super) fn of<'a>(kept: &Kept, tail: &Tail, tracking: &'a Tracking) -> Bounds<'a> {
        let first = if kept.entries == 0 { tail.first() } else { kept.first };
        Bounds { first, last_chunk: tail.last_chunk(), next: tail.readable(), tracking }
    }

    fn place(&self, begin: StreamOffset, name: Option<&str>) -> At {
        if let Some(committed) = name.and_then(|name| self.tracking.committed(name)) {
            return At::Offset(ReadAt::offset((committed.offset + 1).max(self.first)));
        }
        match begin {
            StreamOffset::First => At::Offset(ReadAt::offset(self.first)),
            StreamOffset::Last => {
                self.last_chunk.map_or(At::LastChunk, |last| At::Offset(ReadAt::offset(last)))
            }
            StreamOffset::Next => At::Offset(ReadAt::offset(self.next)),
            StreamOffset::Offset(offset) => At::Offset(ReadAt::offset(offset.max(self.first))),
            StreamOffset::At(time) => At::Time(time),
        }
    }
}

/// Where a consumer is.
#[derive(Clone, Debug)]
pub(super) enum At {
    /// It begins with what was published then: the log has to be asked what that is.
    Time(Millis),
    /// It begins with the last chunk of the log.
    LastChunk,
    /// It is here.
    Offset(ReadAt),
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) new: NewConsumer,
    filter: StreamFilter,
    pub(super) at: At,
    unacked: u32,
    unsent: u32,
    unsent_bytes: usize,
    /// The ticket with which it waits for credit of its link.
    waits: Option<u64>,
    /// Entries that retention had removed before it got there.
    pub(super) trimmed: u64,
    /// Where it asked to begin.
    begin: StreamOffset,
    single_active: bool,
    /// Another one of its name is given messages.
    pub(super) is_standby: bool,
    named: Option<Named>,
}

/// What is known of a consumer whose acknowledgements are remembered.
#[derive(Debug)]
struct Named {
    name: Arc<str>,
    /// The offsets that it was given and that are not all settled up to there, each with whether it is.
    in_flight: VecDeque<(u64, bool)>,
    /// Deliveries that came back.
    returned: BTreeMap<u64, Entry>,
}

impl Named {
    fn settle(&mut self, offset: u64) {
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
    fn credit(&self, window: Window) -> u32 {
        if self.unsent_bytes >= window.bytes || self.waits.is_some() || self.is_standby {
            return 0;
        }
        let unsent = window.messages.saturating_sub(self.unsent);
        unsent.min(self.new.credit.left(self.new.no_ack, self.unacked))
    }

    /// Whether it may be given something and is not where that is in memory.
    fn wants_log(&self, window: Window, tail: &Tail) -> bool {
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

    fn stop_waiting(&mut self) {
        if let Some(ticket) = self.waits.take() {
            self.new.link_credit.forget(ticket);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Readers {
    by_id: BTreeMap<ConsumerId, Reader>,
    window: Window,
    exclusive: Option<ConsumerId>,
}

/// A message on its way to a consumer.
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) enqueued_at: Millis,
    pub(super) message: Message,
}

impl Readers {
    pub(super) fn new(window: Window) -> Readers {
        Readers { by_id: BTreeMap::new(), window, exclusive: None }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn has_exclusive(&self) -> bool {
        self.exclusive.is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reader> {
        self.by_id.values()
    }

    /// Adds one.
    pub(super) fn add(&mut self, new: NewConsumer, begin: Begin, bounds: &Bounds<'_>) {
        if new.exclusive {
            self.exclusive = Some(new.id);
        }
        let Begin { offset, filter, name, single_active } = begin;
        let is_other = |reader: &Reader| reader.single_active && reader.name() == name.as_deref();
        let reader = Reader {
            filter,
            at: bounds.place(offset, name.as_deref()),
            begin: offset,
            single_active,
            is_standby: single_active && self.by_id.values().any(is_other),
            named: name.map(|name| Named { name, in_flight: VecDeque::new(), returned: BTreeMap::new() }),
            unacked: 0,
            unsent: 0,
            unsent_bytes: 0,
            waits: None,
            trimmed: 0,
            new,
        };
        self.by_id.insert(reader.new.id, reader);
    }

    /// Removes one; returns the one of the same name that takes its place, if only one at a time is given messages.
    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<ConsumerId> {
        self.exclusive.take_if(|exclusive| *exclusive == id);
        let mut gone = self.by_id.remove(&id)?;
        gone.stop_waiting();
        let was_active = gone.single_active && !gone.is_standby;
        let is_next = |reader: &&Reader| reader.is_standby && reader.name() == gone.name();
        self.by_id.values().find(is_next).filter(|_| was_active).map(|reader| reader.new.id)
    }

    /// A consumer is the active one of its name from now on, and goes on where that has got.
    pub(super) fn activate(&mut self, id: ConsumerId, bounds: &Bounds<'_>) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.is_standby = false;
            reader.at = bounds.place(reader.begin, reader.name());
        }
    }

    /// Notes that a consumer with a name has acknowledged these offsets; returns the name and up to where it has acknowledged
    /// all that it was given, if it has got further.
    pub(super) fn acknowledge(
        &mut self,
        id: ConsumerId,
        offsets: impl Iterator<Item = u64>,
    ) -> Option<(Arc<str>, u64)> {
        let reader = self.by_id.get_mut(&id)?;
        let named = reader.named.as_mut()?;
        for offset in offsets {
            named.settle(offset);
        }
        let mut got = None;
        while let Some((offset, _)) = named.in_flight.pop_front_if(|(_, is_settled)| *is_settled) {
            got = Some(offset);
        }
        Some((named.name.clone(), got?))
    }

    /// Deliveries to that consumer come back. One with a name gets them again, before newer ones; those from `reread_from` on, which are
    /// not in memory, with all that followed them.
    pub(super) fn come_back(&mut self, id: ConsumerId, entries: Vec<Entry>, reread_from: Option<u64>) {
        let Some(reader) = self.by_id.get_mut(&id) else { return };
        let Some(named) = &mut reader.named else { return };
        let bound = reread_from.unwrap_or(u64::MAX);
        named.returned.extend(entries.into_iter().map(|entry| (entry.offset(), entry)));
        if reread_from.is_some() {
            named.in_flight.retain(|(offset, _)| *offset < bound);
            named.returned.retain(|offset, _| *offset < bound);
            reader.at = At::Offset(ReadAt::offset(bound));
        }
    }

    /// Takes all of them.
    pub(super) fn take_all(&mut self) -> Vec<NewConsumer> {
        self.exclusive = None;
        let all = std::mem::take(&mut self.by_id).into_values();
        all.map(|mut reader| {
            reader.stop_waiting();
            reader.new
        })
        .collect()
    }

    /// Sessions have sent deliveries of that consumer.
    pub(super) fn sent(&mut self, id: ConsumerId, messages: u32, bytes: usize) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.unsent = reader.unsent.saturating_sub(messages);
            reader.unsent_bytes = reader.unsent_bytes.saturating_sub(bytes);
        }
    }

    /// Deliveries to that consumer have been answered.
    pub(super) fn settled(&mut self, id: ConsumerId, messages: usize) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.unacked = reader.unacked.saturating_sub(u32::try_from(messages).unwrap_or(u32::MAX));
        }
    }

    /// A consumer changes what it may be given.
    pub(super) fn grant(&mut self, id: ConsumerId, credit: crate::broker::queue::Credit) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.new.credit.grant(credit);
        }
    }

    /// The link of that consumer has credit again.
    pub(super) fn resume(&mut self, id: ConsumerId) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            // The link has forgotten the ticket.
            reader.waits = None;
        }
    }

    /// Those that may be given something which the log has.
    pub(super) fn wanting_log(&self, tail: &Tail) -> Vec<ConsumerId> {
        let wanting = self.by_id.values().filter(|reader| reader.wants_log(self.window, tail));
        wanting.map(|reader| reader.new.id).collect()
    }

    /// The lowest offset that a consumer wants which is in memory.
    pub(super) fn wanted_from(&self, first: u64) -> u64 {
        let nexts = self.by_id.values().filter_map(|reader| match &reader.at {
            At::Offset(at) if at.next >= first => Some(at.next),
            _ => None,
        });
        nexts.min().unwrap_or(u64::MAX)
    }

    /// Where a consumer is, and how many bytes it may be given at once; `None` when it may be given nothing.
    pub(super) fn place(&self, id: ConsumerId) -> Option<(At, usize)> {
        let reader = self.by_id.get(&id).filter(|reader| reader.credit(self.window) > 0)?;
        Some((reader.at.clone(), self.window.bytes.saturating_sub(reader.unsent_bytes)))
    }

    /// A consumer is there now; `trimmed` entries before that were gone.
    pub(super) fn move_to(&mut self, id: ConsumerId, at: ReadAt, trimmed: u64) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.at = At::Offset(at);
            reader.trimmed += trimmed;
        }
    }

    /// Gives a consumer what it may have from the tail. True when what it wants is in the log.
    pub(super) fn serve(
        &mut self,
        id: ConsumerId,
        tail: &Tail,
        stats: &mut MessageStats,
        turn: &mut Turn,
    ) -> bool {
        let window = self.window;
        let Some(reader) = self.by_id.get_mut(&id) else { return false };
        reader.give_returned(window, stats, turn);
        let At::Offset(at) = &reader.at else { return reader.credit(window) > 0 };
        let next = at.next;
        let Some(entries) = tail.from(next) else { return reader.credit(window) > 0 };
        let found = entries.map(|entry| Found {
            offset: entry.offset,
            enqueued_at: entry.enqueued_at,
            message: entry.message.clone(),
        });
        if let Some(next) = reader.give(found, window, stats, turn) {
            reader.at = At::Offset(ReadAt::offset(next));
        }
        false
    }

    /// Gives a consumer what was read for it; returns the offset that it wants next, if it took any.
    pub(super) fn give(
        &mut self,
        id: ConsumerId,
        found: impl Iterator<Item = Found>,
        stats: &mut MessageStats,
        turn: &mut Turn,
    ) -> Option<u64> {
        let window = self.window;
        self.by_id.get_mut(&id)?.give(found, window, stats, turn)
    }
}

impl Reader {
    /// Gives again what came back.
    fn give_returned(&mut self, window: Window, stats: &mut MessageStats, turn: &mut Turn) {
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

    fn give(
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
