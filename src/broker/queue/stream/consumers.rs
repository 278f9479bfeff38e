//! The consumers of a stream. Each reads for itself: where it is, what it may be given, and what it wants.

use super::Kept;
use super::StreamOffset;
use super::offset::StreamFilter;
use super::reader::{Found, Named, PassedOver, Reader};
use super::subscriptions::Subscription;
use super::tail::Tail;
use super::tracking::Tracking;
use crate::broker::delivery::Entry;
use crate::broker::error::{ArgumentFault, BrokerError, Resource};
use crate::broker::observe::stats::MessageStats;
use crate::broker::queue::{NewConsumer, Window};
use crate::broker::turn::Turn;
use crate::message::{ConsumerId, FieldTable, Millis, Value};
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
    takes_chunks: bool,
    partition: Option<usize>,
}

/// Tags that the broker has chosen begin so.
const GIVEN_TAG: &str = "amq.ctag-";

impl Begin {
    /// The name under which its acknowledgements are to be remembered.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name of which one consumer at a time is given messages, if it has to be so.
    pub(super) fn single_active_name(&self) -> Option<Arc<str>> {
        self.name.clone().filter(|_| self.single_active)
    }

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
        let filter = StreamFilter::of(arguments, resource)?;
        Ok(Begin { offset, filter, name, single_active, takes_chunks: false, partition: None })
    }

    /// Of a consumer that takes chunks.
    pub(super) fn of_subscription(subscription: Subscription) -> Begin {
        let Subscription { offset, filter, name, single_active, partition } = subscription;
        Begin { offset, filter, name, single_active, takes_chunks: true, partition }
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

    pub(super) fn place(&self, begin: StreamOffset, name: Option<&str>) -> At {
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

/// All consumers of a stream, see the module.
#[derive(Debug)]
pub(super) struct Readers {
    /// The stream.
    resource: Resource,
    by_id: BTreeMap<ConsumerId, Reader>,
    window: Window,
    exclusive: Option<ConsumerId>,
    /// What consumers were not given, being no messages.
    passed_over: PassedOver,
}

impl Readers {
    pub(super) fn new(window: Window, resource: Resource) -> Readers {
        Readers {
            resource,
            by_id: BTreeMap::new(),
            window,
            exclusive: None,
            passed_over: PassedOver::default(),
        }
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

    pub(super) fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Reader> {
        self.by_id.get_mut(&id)
    }

    /// Adds one. Of those with a name of which one at a time is given messages it is not the active one yet.
    pub(super) fn add(&mut self, new: NewConsumer, begin: Begin, bounds: &Bounds<'_>) {
        if new.exclusive {
            self.exclusive = Some(new.id);
        }
        let Begin { offset, filter, name, single_active, takes_chunks, partition } = begin;
        let reader = Reader {
            filter,
            // Who takes chunks asks for what is remembered of its name, and says where it begins.
            at: bounds.place(offset, name.as_deref().filter(|_| !takes_chunks)),
            begin: offset,
            single_active,
            is_standby: single_active,
            partition,
            is_stepping_down: false,
            takes_chunks,
            awaits_place: false,
            passed_over: PassedOver::default(),
            consumed: 0,
            given_up_to: None,
            named: name.map(|name| Named { name, in_flight: VecDeque::new(), returned: BTreeMap::new() }),
            unacked: 0,
            unsent: 0,
            unsent_bytes: 0,
            waits: None,
            new,
        };
        self.by_id.insert(reader.new.id, reader);
    }

    /// Removes one; returns its name, if of those with it one at a time is given messages.
    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<Arc<str>> {
        self.exclusive.take_if(|exclusive| *exclusive == id);
        let mut gone = self.by_id.remove(&id)?;
        gone.stop_waiting();
        gone.named.map(|named| named.name).filter(|_| gone.single_active)
    }

    /// A consumer that was to step down has; returns its name.
    pub(super) fn stepped_down(&mut self, id: ConsumerId) -> Option<Arc<str>> {
        let reader = self.by_id.get_mut(&id).filter(|reader| reader.is_stepping_down)?;
        reader.is_stepping_down = false;
        reader.is_standby = true;
        reader.named.as_ref().map(|named| named.name.clone())
    }

    /// A consumer is the active one of its name from now on, and goes on where that has got.
    pub(super) fn activate(&mut self, id: ConsumerId, bounds: &Bounds<'_>, turn: &mut Turn) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.is_standby = false;
            reader.at = bounds.place(reader.begin, reader.name().filter(|_| !reader.takes_chunks));
            reader.tell_active(turn);
        }
    }

    /// A consumer says where it begins, or that it begins where it asked to.
    pub(super) fn place_subscriber(
        &mut self,
        id: ConsumerId,
        offset: Option<StreamOffset>,
        bounds: &Bounds<'_>,
    ) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.awaits_place = false;
            reader.at = bounds.place(offset.unwrap_or(reader.begin), None);
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

    /// Whether a consumer is still there.
    pub(super) fn is_at(&self, id: ConsumerId, at: &At) -> bool {
        self.by_id.get(&id).is_some_and(|reader| match (&reader.at, at) {
            (At::Offset(now), At::Offset(before)) => now.next == before.next,
            (At::Time(now), At::Time(before)) => now == before,
            (At::LastChunk, At::LastChunk) => true,
            _ => false,
        })
    }

    /// A consumer is there now.
    pub(super) fn move_to(&mut self, id: ConsumerId, at: ReadAt) {
        if let Some(reader) = self.by_id.get_mut(&id) {
            reader.at = At::Offset(at);
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
        self.note_passed_over(id);
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
        let next = self.by_id.get_mut(&id)?.give(found, window, stats, turn);
        self.note_passed_over(id);
        next
    }

    fn note_passed_over(&mut self, id: ConsumerId) {
        let Some(reader) = self.by_id.get_mut(&id).filter(|reader| reader.passed_over.count > 0) else {
            return;
        };
        let PassedOver { count, first } = std::mem::take(&mut reader.passed_over);
        self.passed_over.count += count;
        if self.passed_over.first.is_none()
            && let Some((offset, error)) = first
        {
            self.passed_over.first = first;
            tracing::warn!(
                "entry {offset} of {} is no message: {error}. Consumers that want messages are not given it. It is \
                 logged once for this stream, and counted",
                self.resource
            );
        }
    }

    /// How many times an entry was not given to a consumer, being no message.
    pub(super) fn passed_over(&self) -> u64 {
        self.passed_over.count
    }
}
