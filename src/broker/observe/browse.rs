//! Looking at a queue's messages without touching them, and moving single ones into another queue.

use super::connections::LiveConnection;
use crate::broker::VirtualHost;
use crate::broker::delivery::Entry;
use crate::broker::error::BrokerError;
use crate::broker::queue::{DeliveredRun, Glimpse, QueueHandle, SeenMessage};
use crate::broker::turn::Turn;
use crate::message::{ChannelNumber, Message, Millis, Position, QueueId};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A place in a queue: the lane and the position.
pub type Cursor = (u8, Position);

/// What became of a message that was to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is in the other queue.
    Done,
    /// It had left its queue already.
    Gone,
    /// The other queue is full, or was just deleted: then it is behind all others where it was.
    Refused,
}

impl VirtualHost {
    /// Up to `max` ready messages in the order of delivery, from the place behind `after` on; fewer once they hold
    /// `bytes_max` bytes, and none only at the end of the queue. What is not in memory is read for the occasion.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn browse(
        &self,
        queue: &QueueHandle,
        after: Option<Cursor>,
        max: usize,
        bytes_max: usize,
    ) -> Result<Vec<SeenMessage>, BrokerError> {
        let glimpses = queue.glimpse(after, max);
        let mut seen = Seen { messages: Vec::new(), bytes: 0, max, bytes_max };
        for glimpse in glimpses {
            if seen.is_enough() {
                break;
            }
            match glimpse {
                Glimpse::InMemory(message) => seen.add(message),
                Glimpse::PagedOut { priority, first, count } => {
                    self.read_back(queue, (priority, first), count, &mut seen)?;
                }
            }
        }
        Ok(seen.messages)
    }

    /// A message that waits for its acknowledgement, read back if need be. `None` when it is gone, or damaged.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn seen_unacked(
        &self,
        queue: &QueueHandle,
        seen: SeenOrPaged,
    ) -> Result<Option<SeenMessage>, BrokerError> {
        let (priority, position) = match seen {
            SeenOrPaged::Seen(seen) => return Ok(Some(seen)),
            SeenOrPaged::Paged { priority, position } => (priority, position),
        };
        let read = self.shared().journal.read(queue.definition().id, priority, position, 1);
        let read = read.map_err(|error| BrokerError::Store(error.to_string()))?;
        let found = read.into_iter().find(|stored| stored.position == position);
        Ok(found.and_then(SeenMessage::of_stored))
    }

    /// Entries that are paged out, in memory again; those that can't be read, or are not there any more, are left out.
    pub fn read_paged(&self, queue: &QueueHandle, run: &DeliveredRun) -> Vec<Entry> {
        let (mut entries, mut from) = (Vec::new(), run.first);
        while run.journaled && from <= run.last() {
            let shared = self.shared();
            let read =
                shared.journal.read(queue.definition().id, run.priority, from, shared.limits.page_bytes);
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    tracing::error!(
                        "messages of {} can't be read back: {error}",
                        queue.definition().resource()
                    );
                    break;
                }
            };
            let Some(last) = read.last() else { break };
            from = Position(last.position.0 + 1);
            queue.entries_of(run, read, &mut entries);
        }
        entries
    }

    fn read_back(
        &self,
        queue: &QueueHandle,
        (priority, first): Cursor,
        count: u64,
        seen: &mut Seen,
    ) -> Result<(), BrokerError> {
        let (mut from, end) = (first, first.0 + count);
        while from.0 < end && !seen.is_enough() {
            let shared = self.shared();
            let read = shared.journal.read(queue.definition().id, priority, from, shared.limits.page_bytes);
            let read = read.map_err(|error| BrokerError::Store(error.to_string()))?;
            // All that follow have been settled meanwhile.
            let Some(last) = read.last() else { return Ok(()) };
            from = Position(last.position.0 + 1);
            for stored in read.into_iter().filter(|stored| stored.position.0 < end) {
                if seen.is_enough() {
                    break;
                }
                // A damaged one is logged when its turn comes to be delivered.
                SeenMessage::of_stored(stored).into_iter().for_each(|message| seen.add(message));
            }
        }
        Ok(())
    }

    /// Moves a ready message that was seen in `source` into `target`, as `message`. It leaves the one and enters the other in
    /// one record of the journal, so that it is in one of them whatever happens.
    pub fn move_message(
        &self,
        source: &Arc<QueueHandle>,
        seen: &SeenMessage,
        target: &Arc<QueueHandle>,
        message: Message,
        turn: &mut Turn,
    ) -> Moved {
        if target.would_refuse(&message) {
            return Moved::Refused;
        }
        let Some(entry) = source.take(seen, turn) else { return Moved::Gone };
        let moved = self.admit(target, message, turn);
        if !moved {
            // The other queue was deleted just now.
            self.admit(source, entry.message, turn);
        }
        self.apply_effects(turn);
        if moved { Moved::Done } else { Moved::Refused }
    }
}

struct Seen {
    messages: Vec<SeenMessage>,
    bytes: usize,
    max: usize,
    bytes_max: usize,
}

impl Seen {
    fn add(&mut self, message: SeenMessage) {
        self.bytes += message.message.size_bytes();
        self.messages.push(message);
    }

    fn is_enough(&self) -> bool {
        self.messages.len() >= self.max || self.bytes >= self.bytes_max
    }
}

/// A message that waits for its acknowledgement, if its channel has it in memory.
#[derive(Clone, Debug)]
pub enum SeenOrPaged {
    /// The channel has it.
    Seen(SeenMessage),
    /// Only the journal has it.
    Paged {
        /// The priority of its lane.
        priority: u8,
        /// Its place in the queue.
        position: Position,
    },
}

impl SeenOrPaged {
    /// Its place in the queue.
    pub fn position(&self) -> Position {
        match self {
            SeenOrPaged::Seen(seen) => seen.position,
            SeenOrPaged::Paged { position, .. } => *position,
        }
    }
}

/// A message that waits for its acknowledgement, as its channel reports it.
#[derive(Clone, Debug)]
pub struct UnackedMessage {
    /// The message, or where it is.
    pub seen: SeenOrPaged,
    /// The channel that has it.
    pub channel: ChannelNumber,
    /// The consumer that it was delivered to; `None` if it was fetched.
    pub consumer_tag: Option<Arc<str>>,
    /// When it was delivered.
    pub delivered_at: Millis,
}

/// Takes what a connection reports.
pub type Answer = Box<dyn FnOnce(Vec<UnackedMessage>) + Send>;

/// A question to a connection.
#[derive(Debug)]
pub enum Inquiry {
    /// What it has unacknowledged of a queue.
    Unacked(UnackedInquiry),
    /// What it keeps in memory: see [`LiveConnection::holdings`].
    Holdings,
}

/// The question what a connection has unacknowledged of a queue.
pub struct UnackedInquiry {
    /// The queue that is asked about.
    pub queue: QueueId,
    /// Only what has higher positions.
    pub after: Position,
    /// At most this many, those of the lowest positions.
    pub max: usize,
    /// Called with the answer.
    pub answer: Answer,
}

impl fmt::Debug for UnackedInquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnackedInquiry")
            .field("queue", &self.queue)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// The inquiries that a connection has not answered yet.
#[derive(Debug, Default)]
pub struct Inquiries {
    are_there: AtomicBool,
    asked: Mutex<Vec<Inquiry>>,
}

impl Inquiries {
    /// Whether there are any.
    #[inline]
    pub fn are_there(&self) -> bool {
        self.are_there.load(Ordering::Acquire)
    }

    /// Takes all inquiries that wait, in the order in which they were made.
    pub fn take(&self) -> Vec<Inquiry> {
        if !self.are_there() || !self.are_there.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.asked.lock())
    }

    fn add(&self, inquiry: Inquiry) {
        self.asked.lock().push(inquiry);
        self.are_there.store(true, Ordering::Release);
    }
}

impl LiveConnection {
    /// Asks the connection, which answers with its next turn. One that ends before never does.
    pub fn inquire(&self, inquiry: Inquiry) {
        self.inquiries.add(inquiry);
        self.wake();
    }
}
