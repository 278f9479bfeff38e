//! What can be done with a queue, by any owner of its handle. Each verb takes the queue's lock for itself and for work in memory
//! alone; nothing else does, so callers need not know that there is one. What is to be done elsewhere is in the turn's effects.
//! Each says for each kind of queue what it does; callers know no kinds.

use super::handle::Kind;
use super::{
    ConsumerState, Credit, DeathReason, DeliveredRun, Glimpse, Got, NewConsumer, PageRequest, Persistent,
    QueueCounts, QueueHandle, QueueSettings, QueueState, SeenMessage, StreamGroup, StreamOffset, StreamState,
};
use crate::broker::delivery::Entry;
use crate::broker::error::BrokerError;
use crate::broker::observe::lengths::Lengths;
use crate::broker::observe::stats::{MessageStats, QueueSample, Samples};
use crate::broker::policy::Applied;
use crate::broker::turn::Turn;
use crate::message::{ConsumerId, Message, Millis, Position};
use crate::store::StoredMessage;
use std::sync::Arc;

/// Messages that come into the queue: published, requeued, or read back.
impl QueueHandle {
    /// Takes messages at positions that were reserved for them. The indices of those that the overflow rule refused go into
    /// `refused`.
    pub fn publish(
        &self,
        first: Position,
        messages: impl Iterator<Item = Message>,
        turn: &mut Turn,
        refused: &mut Vec<usize>,
    ) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().publish(first, messages, turn, refused),
            Kind::Stream(stream) => drop(stream.publish(first, messages, turn)),
        }
    }

    /// Takes a message that comes from another queue, whatever the overflow rule says. False when the queue is gone.
    pub(in crate::broker) fn admit(&self, position: Position, message: Message, turn: &mut Turn) -> bool {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().admit(position, message, turn),
            Kind::Stream(stream) => stream.publish(position, std::iter::once(message), turn),
        }
    }

    /// Whether the overflow rule would refuse this message now.
    pub fn would_refuse(&self, message: &Message) -> bool {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().would_refuse(message),
            Kind::Stream(_) => false,
        }
    }
}

/// Messages that leave the queue: consumed, fetched, moved, purged.
impl QueueHandle {
    /// Adds a consumer.
    ///
    /// # Errors
    /// When the queue is in exclusive use, or would have to be.
    pub fn consume(&self, consumer: NewConsumer, turn: &mut Turn) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().consume(consumer, turn),
            Kind::Stream(stream) => stream.consume(consumer, turn),
        }
    }

    /// Removes a consumer; its unacknowledged deliveries stay out.
    pub fn cancel(&self, consumer: ConsumerId, turn: &mut Turn) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().cancel(consumer, turn),
            Kind::Stream(stream) => stream.cancel(consumer, turn),
        }
    }

    /// Takes one message for basic.get, and says how many ready ones are left.
    pub fn get(&self, no_ack: bool, turn: &mut Turn) -> Got {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().get(no_ack, turn),
            Kind::Stream(_) => Got::Empty,
        }
    }

    /// Deliveries have left the consumer's outbox. Says how long they may go unacknowledged, if this queue says.
    pub fn sent(&self, consumer: ConsumerId, messages: u32, bytes: usize, turn: &mut Turn) -> Option<u64> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().sent(consumer, messages, bytes, turn),
            Kind::Stream(stream) => {
                stream.sent(consumer, messages, bytes, turn);
                None
            }
        }
    }

    /// A consumer grants credit, or changes its prefetch count. Where it has its credit drained, what it gets no messages for at once
    /// comes back as [`Outgoing::Drained`](crate::broker::delivery::Outgoing::Drained).
    pub fn grant(&self, consumer: ConsumerId, credit: Credit, turn: &mut Turn) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().grant(consumer, credit, turn),
            Kind::Stream(stream) => stream.grant(consumer, credit, turn),
        }
    }

    /// The link of that consumer has credit again.
    pub fn resume(&self, consumer: ConsumerId, turn: &mut Turn) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().resume(consumer, turn),
            Kind::Stream(stream) => stream.resume(consumer, turn),
        }
    }

    /// Takes a ready message that was seen, wherever it is by now among the ready ones. The turn notes for the journal that it has
    /// left the queue. `None` when it has left already.
    pub fn take(&self, seen: &SeenMessage, turn: &mut Turn) -> Option<Entry> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().take(seen, turn),
            Kind::Stream(_) => None,
        }
    }

    /// Drops all ready messages, and says how many there were.
    pub fn purge(&self, turn: &mut Turn) -> usize {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().purge(turn),
            Kind::Stream(_) => 0,
        }
    }
}

/// What becomes of deliveries.
impl QueueHandle {
    /// Delivered messages are done with: `messages` of them with `bytes` of bodies. The journal has been told.
    pub fn settle(
        &self,
        consumer: Option<ConsumerId>,
        messages: usize,
        bytes: u64,
        persistent: Persistent,
        turn: &mut Turn,
    ) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().settle(consumer, messages, bytes, persistent, turn),
            Kind::Stream(stream) => stream.settle(consumer, messages, true, turn),
        }
    }

    /// Deliveries at these positions, from the first to the last of each, have been acknowledged: what a stream remembers of its
    /// consumers. [`QueueHandle::settle`] has to follow. Other queues need no more than that.
    pub fn acknowledge(
        &self,
        consumer: Option<ConsumerId>,
        positions: impl Iterator<Item = (Position, Position)>,
        turn: &mut Turn,
    ) {
        if let Kind::Stream(stream) = &self.kind {
            stream.acknowledge(consumer, positions, turn);
        }
    }

    /// Deliveries that are not in memory are done with. The journal has been told.
    pub fn settle_paged(&self, consumer: Option<ConsumerId>, run: &DeliveredRun, turn: &mut Turn) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().settle_paged(consumer, run, turn),
            Kind::Stream(stream) => stream.settle(consumer, as_usize(run.count), true, turn),
        }
    }

    /// Delivered messages come back, those in `paged` without being in memory. `failed` says that their delivery counts as one
    /// that failed.
    pub fn requeue(
        &self,
        consumer: Option<ConsumerId>,
        entries: Vec<Entry>,
        paged: Vec<DeliveredRun>,
        failed: bool,
        turn: &mut Turn,
    ) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().requeue(consumer, entries, paged, failed, turn),
            Kind::Stream(stream) => stream.requeue(consumer, entries, &paged, turn),
        }
    }

    /// Delivered messages were refused for good, those in `paged` without being in memory.
    pub fn reject(
        &self,
        consumer: Option<ConsumerId>,
        entries: Vec<Entry>,
        paged: Vec<DeliveredRun>,
        turn: &mut Turn,
    ) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().reject(consumer, entries, paged, turn),
            Kind::Stream(stream) => {
                let here = entries.iter().map(|entry| (entry.position, entry.position));
                let positions = here.chain(paged.iter().map(|run| (run.first, run.last())));
                stream.acknowledge(consumer, positions, turn);
                stream.settle(consumer, count(&entries, &paged), false, turn);
            }
        }
    }

    /// Deliveries that wait for an acknowledgement leave memory; what only memory holds is spilled. Says whether the journal
    /// holds them then: it does not when the queue is gone.
    pub fn page_out_delivered<'a>(&self, entries: impl Iterator<Item = &'a Entry>, turn: &mut Turn) -> bool {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().page_out_delivered(entries, turn),
            // They can be read again, and are not the journal's.
            Kind::Stream(_) => false,
        }
    }

    /// Entries of a run that were read back, as they were when they were paged out.
    pub(in crate::broker) fn entries_of(
        &self,
        run: &DeliveredRun,
        read: Vec<StoredMessage>,
        into: &mut Vec<Entry>,
    ) {
        let Kind::Classic(queue) = &self.kind else { return };
        let queue = queue.lock();
        into.extend(read.into_iter().filter_map(|stored| queue.entry_read_back(run, stored)));
    }

    /// Takes a dead letter back that has nowhere to go now, to try again later.
    pub(in crate::broker) fn retry(&self, entry: Entry, reason: DeathReason, turn: &mut Turn) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().hold(entry, reason, turn),
            // A stream has no dead letters.
            Kind::Stream(_) => {}
        }
    }
}

/// What the broker does with a queue.
impl QueueHandle {
    /// The queue was declared again, if only passively, which counts as use. Says how it stands.
    pub fn touch(&self, turn: &mut Turn) -> QueueCounts {
        match &self.kind {
            Kind::Classic(queue) => {
                let mut queue = queue.lock();
                queue.touch(turn);
                queue.counts()
            }
            Kind::Stream(stream) => stream.counts(),
        }
    }

    /// Looks at what time has done.
    pub(in crate::broker) fn handle_timeout(&self, turn: &mut Turn) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().handle_timeout(turn),
            // Its deadlines are kept by `Streams`.
            Kind::Stream(_) => {}
        }
    }

    /// Takes messages that were read back; `None` when they could not be read.
    pub(in crate::broker) fn paged_in(
        &self,
        request: PageRequest,
        read: Option<Vec<StoredMessage>>,
        turn: &mut Turn,
    ) {
        let Kind::Classic(queue) = &self.kind else { return };
        match read {
            Some(messages) => queue.lock().paged_in(request, messages, turn),
            None => queue.lock().paging_failed(),
        }
    }

    /// Takes messages that are to be dead-lettered and were read back; `None` when they could not be read.
    pub(in crate::broker) fn dead_letters_read(&self, read: Option<Vec<StoredMessage>>, turn: &mut Turn) {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().dead_letters_read(read, turn),
            Kind::Stream(_) => {}
        }
    }

    /// Follows these policies from now on, and no others. What they change counts for messages that are there already. False when
    /// it followed just these.
    pub(in crate::broker) fn apply(&self, applied: Applied, turn: &mut Turn) -> bool {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().apply(applied, turn),
            Kind::Stream(stream) => stream.apply(applied),
        }
    }

    /// Ends the queue, and says how many ready messages were in it.
    ///
    /// # Errors
    /// When `if_unused` is set and it has consumers, or `if_empty` and it has ready messages; then it goes on.
    pub fn close(&self, if_unused: bool, if_empty: bool, turn: &mut Turn) -> Result<usize, BrokerError> {
        let queue = match &self.kind {
            Kind::Classic(queue) => queue,
            // RabbitMQ asks neither, and counts nothing.
            Kind::Stream(stream) => {
                stream.close(turn);
                return Ok(0);
            }
        };
        let mut queue = queue.lock();
        let counts = queue.counts();
        if if_empty && counts.ready > 0 {
            return Err(BrokerError::NotEmpty(self.definition().resource()));
        }
        if if_unused && counts.consumers > 0 {
            return Err(BrokerError::InUse(self.definition().resource()));
        }
        Ok(queue.close(turn))
    }
}

/// Looking at a queue.
impl QueueHandle {
    /// Counts of ready and unacknowledged messages and of consumers.
    pub fn counts(&self) -> QueueCounts {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().counts(),
            Kind::Stream(stream) => stream.counts(),
        }
    }

    /// How the queue stands.
    pub fn state(&self) -> QueueState {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().state(),
            Kind::Stream(stream) => stream.state(),
        }
    }

    /// How many messages came through which exchanges; only the first 64 exchanges are counted apart.
    pub fn published(&self) -> Vec<(String, u64)> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().published(),
            Kind::Stream(stream) => stream.published(),
        }
    }

    /// What is in force of arguments and policies.
    pub fn settings(&self) -> Arc<QueueSettings> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().settings().clone(),
            Kind::Stream(stream) => stream.settings(),
        }
    }

    /// How long a consumer may take to acknowledge, if this queue says; in milliseconds, 0 is no limit.
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().settings().consumer_timeout_ms,
            Kind::Stream(_) => None,
        }
    }

    /// The policies that apply.
    pub fn applied(&self) -> Applied {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().applied().clone(),
            Kind::Stream(stream) => stream.applied(),
        }
    }

    /// The consumers, the oldest first.
    pub fn consumers(&self) -> Vec<ConsumerState> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().consumers(),
            Kind::Stream(stream) => stream.consumers(),
        }
    }

    /// What was done with its messages.
    pub fn stats(&self) -> MessageStats {
        match &self.kind {
            Kind::Classic(queue) => *queue.lock().stats(),
            Kind::Stream(stream) => stream.stats(),
        }
    }

    /// How it stood when samples were taken.
    pub fn samples(&self) -> Samples<QueueSample> {
        match &self.kind {
            Kind::Classic(queue) => *queue.lock().samples(),
            Kind::Stream(stream) => stream.samples(),
        }
    }

    /// How many messages it had.
    pub fn lengths(&self) -> Lengths {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().lengths().clone(),
            Kind::Stream(stream) => stream.lengths(),
        }
    }

    /// A number of ready messages in the order of delivery, from the place behind `after` on.
    pub fn glimpse(&self, after: Option<(u8, Position)>, max: usize) -> Vec<Glimpse> {
        match &self.kind {
            Kind::Classic(queue) => queue.lock().glimpse(after, max),
            Kind::Stream(_) => Vec::new(),
        }
    }

    /// Takes a sample of its counters, and says how it stands.
    pub(in crate::broker) fn sample(&self, now: Millis) -> QueueCounts {
        match &self.kind {
            Kind::Classic(queue) => {
                let mut queue = queue.lock();
                queue.sample(now);
                queue.counts()
            }
            Kind::Stream(stream) => stream.sample(now),
        }
    }

    /// Those who consume a stream by name; none of other queues.
    pub fn stream_groups(&self) -> Vec<StreamGroup> {
        match &self.kind {
            Kind::Classic(_) => Vec::new(),
            Kind::Stream(stream) => stream.groups(),
        }
    }

    /// Lets the consumers of that name go on at an offset, or a time.
    ///
    /// # Errors
    /// When one of them is connected, or this is no stream.
    pub fn reset_stream_group(
        &self,
        name: &str,
        to: StreamOffset,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Classic(_) => Err(self.is_no_stream()),
            Kind::Stream(stream) => stream.reset(name, to, turn),
        }
    }

    /// Forgets how far the consumers of that name have got. False when nothing was known.
    ///
    /// # Errors
    /// When one of them is connected, or this is no stream.
    pub fn forget_stream_group(&self, name: &str, turn: &mut Turn) -> Result<bool, BrokerError> {
        match &self.kind {
            Kind::Classic(_) => Err(self.is_no_stream()),
            Kind::Stream(stream) => stream.forget(name, turn),
        }
    }

    fn is_no_stream(&self) -> BrokerError {
        BrokerError::Precondition(format!("{} is no stream", self.definition().resource()))
    }

    /// What a stream has that other queues don't; `None` for those.
    pub fn stream_state(&self) -> Option<StreamState> {
        match &self.kind {
            Kind::Classic(_) => None,
            Kind::Stream(stream) => Some(stream.stream_state()),
        }
    }
}

/// How many deliveries these are.
fn count(entries: &[Entry], paged: &[DeliveredRun]) -> usize {
    entries.len() + paged.iter().map(|run| as_usize(run.count)).sum::<usize>()
}

fn as_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
