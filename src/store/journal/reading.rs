//! Paging in: messages that left memory come back from the records that hold them, see [`Journal::read`].

use super::record::{HEADER_BYTES, Operation, OperationReader};
use super::{Journal, StoreError};
use crate::message::{Lsn, Millis, Position, QueueId, StoredShape};
use crate::store::journal::changes::queue_bit;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A message read back: what [`crate::message::Message::from_stored`] wants, and what its queue needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the queue.
    pub position: Position,
    /// Names, properties and body, as [`crate::message::Message::stored`] gave them.
    pub content: Bytes,
    /// The lengths that cut the content.
    pub shape: StoredShape,
    /// When it went into the queue.
    pub enqueued_at: Millis,
    /// How often it was delivered before it came back; 0 if it never did.
    pub delivery_count: u32,
    /// Whether it was handed to a consumer before.
    pub redelivered: bool,
    /// Its priority in this queue.
    pub priority: u8,
}

/// How many messages one read plans for.
const MESSAGES_MAX: usize = 4096;

/// How many records one read opens.
const RECORDS_MAX: usize = 8;

/// A content larger than this is not copied out of its record: it does not hold up much more than itself.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// Records read lately: queues that were filled together read the same ones.
#[derive(Debug, Default)]
pub(super) struct RecordCache {
    records: VecDeque<(Lsn, Arc<Contents>)>,
}

/// The messages of a record, by queue.
#[derive(Debug)]
struct Contents {
    body: Bytes,
    messages: HashMap<QueueId, Vec<Placed>>,
}

/// Where a message lies in a record's body.
#[derive(Clone, Copy, Debug)]
struct Placed {
    position: Position,
    shape: StoredShape,
    enqueued_at: Millis,
    content_at: usize,
    content_bytes: usize,
}

/// What a read is going to do, decided under the index's lock.
#[derive(Default)]
struct Plan {
    messages: Vec<PlannedMessage>,
    sources: Vec<Source>,
}

struct PlannedMessage {
    position: Position,
    source: usize,
    delivery_count: u32,
    redelivered: bool,
}

struct Source {
    lsn: Lsn,
    /// The record's body, when it is still in memory.
    body: Option<Bytes>,
}

impl Journal {
    /// Reads messages of one queue and priority back, in order of their positions from `from` on: at least one if there is
    /// any, and more until they hold `bytes_max` bytes or the records at hand are used up. It sees all that was appended before
    /// the call. Messages already settled don't come; one settled during the call may.
    ///
    /// # Errors
    /// When the engine can't read a record.
    pub fn read(
        &self,
        queue: QueueId,
        priority: u8,
        from: Position,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        loop {
            let plan = self.plan(queue, priority, from);
            if let Some(messages) = self.carry_out(&plan, queue, priority, bytes_max)? {
                return Ok(messages);
            }
        }
    }

    fn plan(&self, queue: QueueId, priority: u8, from: Position) -> Plan {
        let mut index = self.index.lock();
        {
            let mut gathering = self.gathering.lock();
            if gathering.queues & queue_bit(queue) != 0 {
                gathering.seal();
                self.bell.notify();
            }
        }
        self.catch_up(&mut index);
        let mut plan = Plan::default();
        let Some(known) = index.queues.get(&queue) else { return plan };
        let mut slots = Vec::new();
        known.positions.live_from(from, |live| {
            if live.priority != priority {
                return true;
            }
            let source = slots.iter().position(|slot| *slot == live.slot).unwrap_or_else(|| {
                slots.push(live.slot);
                slots.len() - 1
            });
            if source == RECORDS_MAX {
                return false;
            }
            plan.messages.push(PlannedMessage {
                position: live.position,
                source,
                delivery_count: known
                    .returned
                    .get(&live.position)
                    .map_or(0, |returned| returned.delivery_count),
                redelivered: known.is_redelivered(live.position, priority),
            });
            plan.messages.len() < MESSAGES_MAX
        });
        let gathering = self.gathering.lock();
        plan.sources.extend(slots.iter().take(RECORDS_MAX).map(|slot| {
            let lsn = index.ledger.lsn(*slot);
            let sealed = gathering.sealed.iter().find(|sealed| sealed.lsn == lsn);
            Source { lsn, body: sealed.map(|sealed| sealed.body.clone()) }
        }));
        plan
    }

    /// `None` when a record was copied forward and discarded since the plan was made.
    fn carry_out(
        &self,
        plan: &Plan,
        queue: QueueId,
        priority: u8,
        bytes_max: usize,
    ) -> Result<Option<Vec<StoredMessage>>, StoreError> {
        let mut opened: Vec<Option<Arc<Contents>>> = plan.sources.iter().map(|_| None).collect();
        let mut messages = Vec::new();
        let mut bytes = 0;
        for planned in &plan.messages {
            let source = &plan.sources[planned.source];
            let contents = match &mut opened[planned.source] {
                Some(contents) => contents,
                unopened @ None => {
                    let Some(contents) = self.contents(source)? else { return Ok(None) };
                    unopened.insert(contents)
                }
            };
            let Some((placed, content)) = contents.find(queue, planned.position) else {
                let place = format!("message {} of queue {queue}", planned.position);
                return Err(StoreError::Failed(format!("record {} no longer holds {place}", source.lsn)));
            };
            bytes += content.len();
            messages.push(StoredMessage {
                position: placed.position,
                content,
                shape: placed.shape,
                enqueued_at: placed.enqueued_at,
                delivery_count: planned.delivery_count,
                redelivered: planned.redelivered,
                priority,
            });
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(Some(messages))
    }

    fn contents(&self, source: &Source) -> Result<Option<Arc<Contents>>, StoreError> {
        if let Some(body) = &source.body {
            return Ok(Some(Arc::new(Contents::of(body.clone()))));
        }
        if let Some(contents) = self.cache.lock().find(source.lsn) {
            return Ok(Some(contents));
        }
        let read = self.log.get(source.lsn).inspect_err(|_| self.distrust(source.lsn));
        let Some(record) = read? else { return Ok(None) };
        let contents = Arc::new(Contents::of(record.slice(HEADER_BYTES.min(record.len())..)));
        self.cache.lock().keep(source.lsn, &contents);
        Ok(Some(contents))
    }
}

impl Contents {
    fn of(body: Bytes) -> Contents {
        let mut messages: HashMap<QueueId, Vec<Placed>> = HashMap::new();
        for operation in OperationReader::new(&body) {
            let Operation::Enqueue(enqueue) = operation else { continue };
            for target in enqueue.targets() {
                messages.entry(target.queue).or_default().push(Placed {
                    position: target.position,
                    shape: enqueue.shape,
                    enqueued_at: enqueue.enqueued_at,
                    content_at: enqueue.content_at,
                    content_bytes: enqueue.content.len(),
                });
            }
        }
        for placed in messages.values_mut() {
            placed.sort_unstable_by_key(|placed| placed.position);
        }
        Contents { body, messages }
    }

    fn find(&self, queue: QueueId, position: Position) -> Option<(Placed, Bytes)> {
        let of_queue = self.messages.get(&queue)?;
        let at = of_queue.binary_search_by_key(&position, |placed| placed.position).ok()?;
        let placed = of_queue[at];
        let range = placed.content_at..placed.content_at + placed.content_bytes;
        let content = match placed.content_bytes < SHARED_BYTES_MIN {
            true => Bytes::copy_from_slice(&self.body[range]),
            false => self.body.slice(range),
        };
        Some((placed, content))
    }
}

const CACHED_BYTES_MAX: usize = 4 << 20;

impl RecordCache {
    fn find(&self, lsn: Lsn) -> Option<Arc<Contents>> {
        self.records.iter().find(|(cached, _)| *cached == lsn).map(|(_, contents)| contents.clone())
    }

    fn keep(&mut self, lsn: Lsn, contents: &Arc<Contents>) {
        self.records.push_back((lsn, contents.clone()));
        let mut bytes: usize = self.records.iter().map(|(_, contents)| contents.body.len()).sum();
        while bytes > CACHED_BYTES_MAX {
            let Some((_, oldest)) = self.records.pop_front() else { return };
            bytes -= oldest.body.len();
        }
    }
}
