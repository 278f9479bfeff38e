//! A stream: a queue that keeps what it is given, and which is read from any offset on, by any number of consumers.
//!
//! What is published to it is a record of the journal, as for every durable queue, and can be read once that is durable: a consumer that
//! has seen an offset finds the same message there after a crash. From memory, the *tail*, it is written to the stream's log
//! (`store::stream`) later, and the journal forgets it when that is synced.
//!
//! A consumer is a cursor with credit. While it is near the end it is served from the tail, in the turn of the session that gives it
//! credit or of the thread that learns what is durable; one that is further back is served by that thread from the log.
//!
//! Locks: the state's is for work in memory alone. The log's is taken before it, and only by the thread that does the streams' work
//! (`work.rs`).

mod active;
mod consumers;
mod expiry;
mod groups;
mod look;
mod offset;
mod publishers;
mod reader;
mod restoring;
mod streams;
mod subscriptions;
mod tail;
mod tracking;
mod unread;
mod work;

pub use groups::StreamGroup;
pub use look::StreamState;
pub(in crate::broker) use offset::age_ms;
pub use offset::{StreamFilter, StreamOffset};
pub use publishers::{Sequenced, Verdict};
pub use streams::Streams;
use subscriptions::Question;
pub use subscriptions::{PublisherCounts, StreamPublisher, Subscription, SubscriptionState};
pub(in crate::broker) use tracking::tracking_queue;

use super::published::Published;
use super::{Credit, DeliveredRun, NewConsumer, QueueCounts, QueueDefinition, QueueSettings};
use crate::broker::Shared;
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::error::BrokerError;
use crate::broker::memory::{MemoryAccount, MemoryUse};
use crate::broker::observe::lengths::Lengths;
use crate::broker::observe::stats::{MessageStats, QueueSample, Samples};
use crate::broker::policy::{self, Applied};
use crate::broker::turn::Turn;
use crate::message::{ConsumerId, Lsn, Message, Millis, Position, QueueId};
use crate::store::Journal;
use crate::store::stream::{StreamLog, StreamLogOptions, TrackingNotes};
use consumers::{Begin, Bounds, Readers};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tail::Tail;
use tracking::Tracking;
use unread::Unread;

/// A stream, behind its handle; see the module.
#[derive(Debug)]
pub(in crate::broker) struct Stream {
    definition: Arc<QueueDefinition>,
    journal: Arc<Journal>,
    streams: Arc<Streams>,
    state: Mutex<State>,
    log: Mutex<StreamLog>,
}

/// Offsets and positions count the same; a queue's positions begin with 1.
pub(in crate::broker::queue) fn offset_of(position: Position) -> u64 {
    position.0.saturating_sub(1)
}

/// See [`offset_of`].
pub(in crate::broker::queue) fn position_of(offset: u64) -> Position {
    Position(offset + 1)
}

/// What the log had when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// The first offset, and when it was published.
    first: u64,
    first_at: Option<Millis>,
    entries: u64,
    bytes: u64,
    segments: usize,
}

#[derive(Debug)]
struct State {
    settings: Arc<QueueSettings>,
    applied: Applied,
    tail: Tail,
    kept: Kept,
    readers: Readers,
    /// Those who publish to it by declaring so, and hear when it is gone.
    publishers: BTreeMap<ConsumerId, StreamPublisher>,
    tracking: Tracking,
    /// Messages of publishers with names that were there already, and those that were refused.
    duplicates: u64,
    refused: u64,
    /// Names whose offsets are to become those of a time, which the log has to be asked for.
    resets: Vec<(String, Millis)>,
    /// Who has asked for an offset that only the log knows.
    questions: Vec<Question>,
    /// When what is written is to be synced; `None` while all is.
    sync_at: Option<Millis>,
    /// When what is remembered of consumers is to be written; `None` while all is.
    track_at: Option<Millis>,
    unread: Unread,
    /// When the next of the names may have expired.
    names_due: Millis,
    /// The earliest time for which it has asked to be looked at.
    wake_at: Option<Millis>,
    last_used: Millis,
    closed: bool,
    /// From when on the files of a closed one may be removed.
    removed_from: Option<Millis>,
    /// Whether its files are gone.
    is_removed: bool,
    stats: MessageStats,
    published: Published,
    samples: Samples<QueueSample>,
    lengths: Lengths,
    memory: Arc<MemoryAccount>,
    /// Bytes of the tail that the account knows of.
    counted: i64,
}

/// Bytes in memory that are not in the log yet, after which publishers hold back: the disk can't keep up.
const UNWRITTEN_BYTES_MAX: usize = 64 << 20;

impl Stream {
    /// Opens the stream; one that is new is empty.
    ///
    /// # Errors
    /// When its files can't be read.
    pub(super) fn open(
        definition: &Arc<QueueDefinition>,
        shared: &Shared,
        now: Millis,
    ) -> Result<Arc<Stream>, BrokerError> {
        let mut options = StreamLogOptions::default();
        if let Some(bytes) = definition.segment_bytes {
            options.segment_bytes = bytes;
        }
        let failed =
            |error| BrokerError::Store(format!("{} can't be opened: {error}", definition.resource()));
        let files = shared.journal.stream_files().clone();
        let notes = TrackingNotes::read(&*files, definition.id).map_err(failed)?;
        let log = StreamLog::open(files, definition.id, options).map_err(failed)?;
        let state = State {
            settings: Arc::new(definition.declared.clone()),
            applied: Applied::default(),
            tail: Tail::new(log.next_offset()),
            kept: Kept::of(&log),
            readers: Readers::new(shared.limits.window, definition.resource()),
            publishers: BTreeMap::new(),
            tracking: Tracking::new(definition.id, notes),
            duplicates: 0,
            refused: 0,
            resets: Vec::new(),
            questions: Vec::new(),
            sync_at: None,
            track_at: None,
            unread: Unread::default(),
            names_due: 0,
            wake_at: None,
            last_used: now,
            closed: false,
            removed_from: None,
            is_removed: false,
            stats: MessageStats::default(),
            published: Published::default(),
            samples: Samples::default(),
            lengths: Lengths::default(),
            memory: shared.memory.clone(),
            counted: 0,
        };
        Ok(Arc::new(Stream {
            definition: definition.clone(),
            journal: shared.journal.clone(),
            streams: shared.streams.clone(),
            state: Mutex::new(state),
            log: Mutex::new(log),
        }))
    }

    pub(super) fn definition(&self) -> &QueueDefinition {
        &self.definition
    }

    /// The queue's id.
    pub(in crate::broker) fn id(&self) -> QueueId {
        self.definition.id
    }

    /// The offset that the next message gets.
    pub(super) fn next_offset(&self) -> u64 {
        self.state.lock().tail.next()
    }

    /// Takes messages at positions that were reserved for them, the first at `first`. They can be read when they are durable.
    pub(super) fn publish(
        self: &Arc<Self>,
        first: Position,
        messages: impl Iterator<Item = Message>,
        turn: &mut Turn,
    ) -> bool {
        let offset = offset_of(first);
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.closed {
            let count = messages.count() as u64;
            if count > 0 {
                turn.changes.settle_range(self.definition.id, first, Position(first.0 + count - 1));
            }
            return false;
        }
        let messages: Vec<Message> = messages.collect();
        let Some(message) = messages.first() else { return true };
        state.published.turn_to(message.exchange());
        state.published.add(messages.len() as u64);
        state.stats.publish += messages.len() as u64;
        // A part of something that was appended in an earlier turn is in one of the records so far.
        let lsn = turn.appended().unwrap_or_else(|| self.journal.last_appended());
        state.tail.push(offset, messages, lsn, turn.now);
        state.count_memory();
        if state.tail.unwritten_bytes() > UNWRITTEN_BYTES_MAX {
            turn.hold_back();
        }
        self.streams.await_record(lsn, self);
        if self.journal.durable() >= lsn {
            self.streams.note_durable();
        }
        true
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// When the stream is in exclusive use or would have to be, or an argument makes no sense.
    pub(super) fn consume(
        self: &Arc<Self>,
        consumer: NewConsumer,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        let resource = self.definition.resource();
        let arguments = consumer.arguments.decode();
        let begin = Begin::of(&arguments, &consumer.tag, turn.now, &resource)?;
        self.add_consumer(consumer, begin, turn)
    }

    fn add_consumer(
        self: &Arc<Self>,
        consumer: NewConsumer,
        begin: Begin,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        let resource = self.definition.resource();
        let mut state = self.state.lock();
        if state.closed {
            return Err(BrokerError::NotFound(resource));
        }
        if state.readers.has_exclusive() || (consumer.exclusive && !state.readers.is_empty()) {
            return Err(BrokerError::ExclusiveUse(resource));
        }
        if let Some(name) = begin.name() {
            self.check_names(&state, name)?;
        }
        state.last_used = turn.now;
        let id = consumer.id;
        self.look_at_journal(&mut state);
        let State { readers, tracking, kept, tail, .. } = &mut *state;
        let name = begin.single_active_name();
        readers.add(consumer, begin, &Bounds::of(kept, tail, tracking));
        match name {
            Some(name) => self.choose_active(&mut state, &name, turn),
            None => self.serve(&mut state, id, turn),
        }
        Ok(())
    }

    /// Removes a consumer.
    pub(super) fn cancel(self: &Arc<Self>, consumer: ConsumerId, turn: &mut Turn) {
        let mut state = self.state.lock();
        state.last_used = turn.now;
        if let Some(name) = state.readers.remove(consumer) {
            self.choose_active(&mut state, &name, turn);
        }
    }

    /// Deliveries have left the consumer's outbox.
    pub(super) fn sent(self: &Arc<Self>, consumer: ConsumerId, messages: u32, bytes: usize, turn: &mut Turn) {
        let mut state = self.state.lock();
        state.readers.sent(consumer, messages, bytes);
        self.serve(&mut state, consumer, turn);
    }

    /// Deliveries have been answered, whatever the answer was: each is credit for another one.
    pub(super) fn settle(
        self: &Arc<Self>,
        consumer: Option<ConsumerId>,
        messages: usize,
        acked: bool,
        turn: &mut Turn,
    ) {
        let mut state = self.state.lock();
        if acked {
            state.stats.ack += messages as u64;
        }
        let Some(consumer) = consumer else { return };
        state.readers.settled(consumer, messages);
        self.serve(&mut state, consumer, turn);
    }

    /// A consumer grants credit, or changes its prefetch count.
    pub(super) fn grant(self: &Arc<Self>, consumer: ConsumerId, credit: Credit, turn: &mut Turn) {
        let mut state = self.state.lock();
        state.readers.grant(consumer, credit);
        self.serve(&mut state, consumer, turn);
    }

    /// Deliveries at these positions have been acknowledged, or refused for good: a consumer with a name has got that far.
    pub(super) fn acknowledge(
        self: &Arc<Self>,
        consumer: Option<ConsumerId>,
        positions: impl Iterator<Item = (Position, Position)>,
        turn: &mut Turn,
    ) {
        let Some(consumer) = consumer else { return };
        let mut state = self.state.lock();
        let State { readers, tracking, .. } = &mut *state;
        let offsets = positions.flat_map(|(first, last)| offset_of(first)..=offset_of(last));
        if let Some((name, offset)) = readers.acknowledge(consumer, offsets)
            && tracking.committed(&name).is_none_or(|committed| committed.offset < offset)
        {
            tracking.commit(&name, offset, turn);
            turn.track(self);
            self.look_soon(&mut state, turn.now);
        }
    }

    /// Deliveries come back. A consumer with a name gets them again; to others they are credit.
    pub(super) fn requeue(
        self: &Arc<Self>,
        consumer: Option<ConsumerId>,
        entries: Vec<Entry>,
        away: &[DeliveredRun],
        turn: &mut Turn,
    ) {
        let Some(consumer) = consumer else { return };
        let mut state = self.state.lock();
        let count = entries.len() + away.iter().map(|run| run.count as usize).sum::<usize>();
        state.readers.settled(consumer, count);
        let first_away = away.iter().map(|run| offset_of(run.first)).min();
        state.readers.come_back(consumer, entries, first_away);
        self.serve(&mut state, consumer, turn);
    }

    /// A turn with changes of what is remembered has been handed to the journal.
    pub(in crate::broker) fn note_tracked(&self, lsn: Lsn) {
        self.state.lock().tracking.note_appended(lsn);
    }

    /// The link of that consumer has credit again.
    pub(super) fn resume(self: &Arc<Self>, consumer: ConsumerId, turn: &mut Turn) {
        let mut state = self.state.lock();
        state.readers.resume(consumer);
        self.serve(&mut state, consumer, turn);
    }

    /// What a client was told to be durable others find, although the streams' thread has not come to it yet.
    fn look_at_journal(self: &Arc<Self>, state: &mut State) {
        if let Some(lsn) = state.tail.note_durable(self.journal.durable()) {
            self.streams.await_record(lsn, self);
        }
        self.streams.ring(self);
    }

    /// Gives a consumer what it may have from memory. Where that is in the log, it is read from there soon.
    fn serve(self: &Arc<Self>, state: &mut State, consumer: ConsumerId, turn: &mut Turn) {
        let State { readers, tail, stats, .. } = state;
        if readers.serve(consumer, tail, stats, turn) {
            self.streams.ring(self);
        }
    }

    /// Follows these policies from now on. False when it followed just these.
    pub(super) fn apply(self: &Arc<Self>, applied: Applied) -> bool {
        let mut state = self.state.lock();
        if state.applied.is(&applied) {
            return false;
        }
        state.settings = Arc::new(policy::settings(&self.definition, &applied.definition()));
        state.applied = applied;
        state.names_due = 0;
        drop(state);
        self.streams.ring(self);
        true
    }

    /// Ends the stream, and cancels its consumers.
    pub(super) fn close(self: &Arc<Self>, turn: &mut Turn) {
        let mut state = self.state.lock();
        state.closed = true;
        turn.changes.drop_queue(self.definition.id);
        turn.changes.drop_queue(tracking_queue(self.definition.id));
        for consumer in state.readers.take_all() {
            let cancelled = Outgoing::Cancelled { link: consumer.link, consumer: consumer.id };
            consumer.outbox.open(consumer.link).push_back(cancelled);
            turn.wake(&consumer.outbox);
        }
        for (id, publisher) in std::mem::take(&mut state.publishers) {
            publisher.tell_gone(id, turn);
        }
        state.tail.clear();
        state.count_memory();
        drop(state);
        self.streams.ring(self);
    }

    /// Counts of messages and consumers.
    pub(super) fn counts(&self) -> QueueCounts {
        self.state.lock().counts()
    }
}

impl Kept {
    fn of(log: &StreamLog) -> Kept {
        Kept {
            first: log.first_offset(),
            first_at: log.first_at(),
            entries: log.entries(),
            bytes: log.bytes(),
            segments: log.segments(),
        }
    }
}

impl State {
    fn messages(&self) -> u64 {
        self.kept.entries + self.tail.unwritten_entries()
    }

    fn counts(&self) -> QueueCounts {
        QueueCounts {
            ready: usize::try_from(self.messages()).unwrap_or(usize::MAX),
            unacked: 0,
            consumers: self.readers.len(),
        }
    }

    /// Brings the memory account to what the tail takes.
    fn count_memory(&mut self) {
        let bytes = i64::try_from(self.tail.bytes()).unwrap_or(i64::MAX);
        if bytes != self.counted {
            self.memory.add(MemoryUse::StreamTails, bytes - self.counted);
            self.counted = bytes;
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.memory.add(MemoryUse::StreamTails, -self.counted);
    }
}
