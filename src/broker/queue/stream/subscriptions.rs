//! Those who speak the stream protocol: consumers that take chunks, publishers that declare themselves, and offsets that are stored
//! and asked for by name.

use super::consumers::{At, Begin, Bounds};
use super::reader::{Found, Reader};
use super::{State, Stream, StreamFilter, StreamOffset};
use crate::broker::delivery::{Outbox, Outgoing, StreamChunk};
use crate::broker::error::BrokerError;
use crate::broker::observe::stats::MessageStats;
use crate::broker::queue::{NewConsumer, Window};
use crate::broker::turn::Turn;
use crate::message::{ConnectionId, ConsumerId, EncodedTable, LinkId};
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a consumer of chunks asks for.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Where in the stream it begins.
    pub offset: StreamOffset,
    /// Which messages it wants. What it does not want is in none of its chunks.
    pub filter: StreamFilter,
    /// The name under which it stores its offsets.
    pub name: Option<Arc<str>>,
    /// Of those with that name one at a time is given messages.
    pub single_active: bool,
    /// Which partition of a super stream this is, from 0 on, where its consumers of a name share the partitions.
    pub partition: Option<usize>,
}

/// Who publishes to a stream by having declared so.
#[derive(Clone, Debug)]
pub struct StreamPublisher {
    /// The connection that it is on.
    pub connection: ConnectionId,
    /// Where in its session it is.
    pub link: LinkId,
    /// The name under which its publishing ids are remembered.
    pub reference: Option<Arc<str>>,
    /// Its number on its connection.
    pub number: u8,
    /// What it has done so far.
    pub counts: Arc<PublisherCounts>,
    /// Where it hears that the stream is gone.
    pub outbox: Arc<Outbox>,
}

/// What a publisher has done; its session counts.
#[derive(Debug, Default)]
pub struct PublisherCounts {
    /// Messages that it has published.
    pub published: AtomicU64,
    /// Of those the ones that were confirmed, by their publishing ids.
    pub confirmed: AtomicU64,
    /// Of those the ones that were refused, by their publishing ids.
    pub errored: AtomicU64,
}

/// How a consumer of chunks stands.
#[derive(Clone, Debug)]
pub struct SubscriptionState {
    /// The connection that it is on.
    pub connection: ConnectionId,
    /// Where in its session it is.
    pub link: LinkId,
    /// Chunks that it may still be given.
    pub credits: u32,
    /// Messages that it was given.
    pub consumed: u64,
    /// The offset of the last one; 0 before the first.
    pub offset: u64,
    /// Messages that follow that one.
    pub lag: u64,
    /// Whether it is given messages; one of a name that has to be alone may wait.
    pub active: bool,
    /// Whether of those with its name one at a time is given messages.
    pub single_active: bool,
    /// As it was declared with.
    pub arguments: EncodedTable,
}

impl StreamPublisher {
    pub(super) fn tell_gone(self, id: ConsumerId, turn: &mut Turn) {
        self.outbox.open(self.link).push_back(Outgoing::Cancelled { link: self.link, consumer: id });
        turn.wake(&self.outbox);
    }
}

/// Someone asks for an offset that only the log knows.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) at: At,
    outbox: Arc<Outbox>,
    link: LinkId,
    id: ConsumerId,
}

impl Question {
    pub(super) fn answer(self, offset: u64, turn: &mut Turn) {
        let Question { outbox, link, id, .. } = self;
        outbox.open(link).push_back(Outgoing::Resolved { link, question: id, offset });
        turn.wake(&outbox);
    }
}

/// The most messages of a chunk: those who speak the stream protocol count them in 16 bits.
const CHUNK_MESSAGES_MAX: usize = u16::MAX as usize;

/// Bytes of messages after which a chunk ends; a larger message has one of its own.
const CHUNK_BYTES: usize = 128 << 10;

impl Reader {
    /// Gives as many chunks as there is credit for; returns the offset that is wanted next, if any was taken.
    pub(super) fn give_chunks(
        &mut self,
        mut found: Peekable<impl Iterator<Item = Found>>,
        mut credit: u32,
        window: Window,
        stats: &mut MessageStats,
        turn: &mut Turn,
    ) -> Option<u64> {
        let mut next = None;
        while credit > 0
            && self.unsent_bytes < window.bytes
            && let Some(first) = found.next()
        {
            next = Some(first.offset + 1);
            if !self.filter.passes(&first.message) {
                continue;
            }
            let chunk = self.chunk(first, &mut found);
            next = Some(chunk.last_readable + 1);
            credit -= 1;
            self.unsent += 1;
            self.unsent_bytes += chunk.bytes;
            self.new.credit.spend(1);
            stats.deliver_no_ack += chunk.messages.len() as u64;
            self.consumed += chunk.messages.len() as u64;
            self.given_up_to = next;
            let (link, consumer) = (self.new.link, self.new.id);
            let mut outbox = self.new.outbox.open(link);
            if outbox.is_empty() {
                turn.wake(&self.new.outbox);
            }
            outbox.push_back(Outgoing::Chunk { link, consumer, chunk: Box::new(chunk) });
        }
        next
    }

    /// A message with those that follow it and pass the filter, too.
    fn chunk(&self, first: Found, found: &mut Peekable<impl Iterator<Item = Found>>) -> StreamChunk {
        let Found { offset: first, enqueued_at, message } = first;
        let mut bytes = message.size_bytes();
        let (mut messages, mut next) = (vec![message], first + 1);
        while messages.len() < CHUNK_MESSAGES_MAX
            && bytes < CHUNK_BYTES
            && let Some(found) =
                found.next_if(|found| found.offset == next && self.filter.passes(&found.message))
        {
            bytes += found.message.size_bytes();
            messages.push(found.message);
            next += 1;
        }
        StreamChunk { first, enqueued_at, messages, bytes, last_readable: next - 1 }
    }

    /// It is the active one of its name; one that takes chunks hears that, and says where it begins.
    pub(super) fn tell_active(&mut self, turn: &mut Turn) {
        if self.takes_chunks {
            self.awaits_place = true;
            self.tell(true, turn);
        }
    }

    /// It is to be active no longer, and says when it has heard.
    pub(super) fn step_down(&mut self, turn: &mut Turn) {
        self.is_stepping_down = true;
        self.tell(false, turn);
    }

    fn tell(&self, active: bool, turn: &mut Turn) {
        let (link, consumer) = (self.new.link, self.new.id);
        self.new.outbox.open(link).push_back(Outgoing::Activated { link, consumer, active });
        turn.wake(&self.new.outbox);
    }
}

impl Stream {
    /// Adds a consumer that takes chunks.
    ///
    /// # Errors
    /// When the stream is in exclusive use, is gone, or has too many names.
    pub(in crate::broker::queue) fn subscribe(
        self: &Arc<Self>,
        consumer: NewConsumer,
        subscription: Subscription,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        self.add_consumer(consumer, Begin::of_subscription(subscription), turn)
    }

    /// A consumer that was told that it is the active one begins there, or where it asked to when it subscribed.
    pub(in crate::broker::queue) fn place_subscriber(
        self: &Arc<Self>,
        consumer: ConsumerId,
        offset: Option<StreamOffset>,
        turn: &mut Turn,
    ) {
        let mut state = self.state.lock();
        self.look_at_journal(&mut state);
        let State { readers, tracking, kept, tail, .. } = &mut *state;
        readers.place_subscriber(consumer, offset, &Bounds::of(kept, tail, tracking));
        self.serve(&mut state, consumer, turn);
    }

    /// A consumer that was to be active no longer has heard that: another one may be.
    pub(in crate::broker::queue) fn stepped_down(self: &Arc<Self>, consumer: ConsumerId, turn: &mut Turn) {
        let mut state = self.state.lock();
        if let Some(name) = state.readers.stepped_down(consumer) {
            self.choose_active(&mut state, &name, turn);
        }
    }

    /// Sees that the right consumer of a name is active.
    pub(super) fn choose_active(self: &Arc<Self>, state: &mut State, name: &str, turn: &mut Turn) {
        let State { readers, tracking, kept, tail, .. } = &mut *state;
        if let Some(active) = readers.choose_active(name, &Bounds::of(kept, tail, tracking), turn) {
            self.serve(state, active, turn);
        }
    }

    /// The offset that a consumer would begin at. Where only the log knows, `None`, and the answer comes into the outbox.
    pub(in crate::broker::queue) fn resolve_offset(
        self: &Arc<Self>,
        offset: StreamOffset,
        (outbox, link, id): (&Arc<Outbox>, LinkId, ConsumerId),
    ) -> Option<u64> {
        let mut state = self.state.lock();
        self.look_at_journal(&mut state);
        let bounds = Bounds::of(&state.kept, &state.tail, &state.tracking);
        match bounds.place(offset, None) {
            At::Offset(at) => Some(at.next.min(state.tail.readable())),
            at => {
                state.questions.push(Question { at, outbox: outbox.clone(), link, id });
                drop(state);
                self.streams.ring(self);
                None
            }
        }
    }

    /// Adds a publisher, which hears when the stream is gone. False when it is gone already.
    pub(in crate::broker::queue) fn add_publisher(&self, id: ConsumerId, publisher: StreamPublisher) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            state.publishers.insert(id, publisher);
        }
        !state.closed
    }

    /// The publishers that have declared themselves, in the order in which they did.
    pub(in crate::broker::queue) fn declared_publishers(&self) -> Vec<StreamPublisher> {
        self.state.lock().publishers.values().cloned().collect()
    }

    /// The consumers that take chunks, the oldest first.
    pub(in crate::broker::queue) fn subscriptions(&self) -> Vec<SubscriptionState> {
        let state = self.state.lock();
        let readable = state.tail.readable();
        let readers = state.readers.iter().filter(|reader| reader.takes_chunks);
        let states = readers.map(|reader| {
            let next = reader.given_up_to.unwrap_or(0);
            SubscriptionState {
                connection: reader.new.connection,
                link: reader.new.link,
                credits: reader.new.credit.left(false, 0),
                consumed: reader.consumed,
                offset: next.saturating_sub(1),
                lag: readable.saturating_sub(next.max(state.kept.first)),
                active: !reader.is_standby,
                single_active: reader.single_active,
                arguments: reader.new.arguments.clone(),
            }
        });
        states.collect()
    }

    /// A publisher has ended.
    pub(in crate::broker::queue) fn remove_publisher(&self, id: ConsumerId) {
        self.state.lock().publishers.remove(&id);
    }

    /// Remembers an offset for a name: any, also one that is before what it was.
    ///
    /// # Errors
    /// When the stream remembers as many names as it may.
    pub(in crate::broker::queue) fn store_offset(
        self: &Arc<Self>,
        name: &str,
        offset: u64,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        let mut state = self.state.lock();
        self.check_names(&state, name)?;
        state.tracking.commit(name, offset, turn);
        turn.track(self);
        self.look_soon(&mut state, turn.now);
        Ok(())
    }

    /// The offset that is remembered for a name.
    pub(in crate::broker::queue) fn stored_offset(&self, name: &str) -> Option<u64> {
        self.state.lock().tracking.committed(name).map(|committed| committed.offset)
    }
}
