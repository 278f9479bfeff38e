//! What passes between queues and sessions: entries of a queue, and the outbox a session is given them through.

mod link_credit;

pub use link_credit::LinkCredit;

use super::memory::{MemoryAccount, MemoryUse};
use super::turn::{DurableWaiter, StoreError};
use crate::message::{ConsumerId, LinkId, Lsn, Message, Millis, NEVER, Position};
use crate::steps;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One message in one queue. It is in exactly one place: ready in its queue, in an outbox, or unacked in a channel.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The message, shared with other queues that have it.
    pub message: Message,
    /// Its place in the queue, kept for as long as it lives.
    pub position: Position,
    /// When it was published to the queue.
    pub enqueued_at: Millis,
    /// When it expires, or [`NEVER`].
    pub expires_at: Millis,
    /// Deliveries that failed, as a quorum queue counts them.
    pub delivery_count: u32,
    /// The lane of a priority queue.
    pub priority: u8,
    /// Whether it has been delivered before.
    pub redelivered: bool,
    /// Whether the journal holds it.
    pub journaled: bool,
    /// Whether it counts as a persistent message of its queue, see [`super::queue::QueueDefinition::counts_as_persistent`].
    pub persistent: bool,
}

/// Entries are moved by value, and a backlog is a ring of them.
const _: () = assert!(size_of::<Entry>() <= 72, "an entry costs each ready message more");

impl Entry {
    /// Its offset in a stream, where positions count from 1.
    pub fn offset(&self) -> u64 {
        self.position.0.saturating_sub(1)
    }

    /// Whether it has an expiration, by itself or by its queue's TTL.
    pub fn expires(&self) -> bool {
        self.expires_at != NEVER
    }
}

/// Messages of a stream that follow one another, for a consumer that takes them together.
#[derive(Debug)]
pub struct StreamChunk {
    /// The offset of the first one; those of the others follow.
    pub first: u64,
    /// When the first one was published, in milliseconds.
    pub enqueued_at: Millis,
    /// The messages; at least one.
    pub messages: Vec<Message>,
    /// Bytes of all of them.
    pub bytes: usize,
    /// The offset of the last message that could be read when they were given.
    pub last_readable: u64,
}

/// What an item takes besides its message's bytes, roughly.
const ITEM_BYTES: usize = 128;

/// Something for a session.
#[derive(Debug)]
pub enum Outgoing {
    /// A message for a consumer.
    Deliver {
        /// The consumer's link.
        link: LinkId,
        /// The consumer.
        consumer: ConsumerId,
        /// The message that is delivered.
        entry: Entry,
    },
    /// Messages of a stream for a consumer that takes them in chunks.
    Chunk {
        /// The consumer's link.
        link: LinkId,
        /// The consumer.
        consumer: ConsumerId,
        /// The messages that are delivered.
        chunk: Box<StreamChunk>,
    },
    /// A consumer of a stream is the active one of its name from now on, or no longer. One that takes chunks is given some when it has
    /// said where it begins, see [`super::queue::QueueHandle::place_subscriber`].
    Activated {
        /// The consumer's link.
        link: LinkId,
        /// The consumer.
        consumer: ConsumerId,
        /// Whether it is active.
        active: bool,
    },
    /// The offset in a stream that was asked for, see [`super::queue::QueueHandle::resolve_offset`].
    Resolved {
        /// The link that has asked.
        link: LinkId,
        /// The number that it has asked under.
        question: ConsumerId,
        /// The offset.
        offset: u64,
    },
    /// The queue of a consumer is gone, and the consumer with it.
    Cancelled {
        /// The consumer's link.
        link: LinkId,
        /// The consumer.
        consumer: ConsumerId,
    },
    /// Credit of the link's own limit was given back that a consumer of another queue may have been refused meanwhile.
    CreditFreed {
        /// The link.
        link: LinkId,
    },
    /// How long deliveries may go unacknowledged has changed for a queue of this link.
    TimeoutChanged {
        /// The link.
        link: LinkId,
    },
    /// A consumer that has its credit drained gets nothing more for what was left of it.
    Drained {
        /// The consumer's link.
        link: LinkId,
        /// The consumer.
        consumer: ConsumerId,
        /// How much was left; its delivery count is greater by that. May be 0.
        count: u32,
    },
    /// A reply for the link's direct reply-to consumer.
    Reply {
        /// The consumer's link.
        link: LinkId,
        /// The consumer: the link may be another one by now.
        consumer: ConsumerId,
        /// The reply, as it was published.
        message: Message,
    },
}

impl Outgoing {
    /// The link it is for.
    pub fn link(&self) -> LinkId {
        match self {
            Outgoing::Deliver { link, .. }
            | Outgoing::Chunk { link, .. }
            | Outgoing::Activated { link, .. }
            | Outgoing::Resolved { link, .. }
            | Outgoing::Cancelled { link, .. }
            | Outgoing::CreditFreed { link }
            | Outgoing::TimeoutChanged { link }
            | Outgoing::Drained { link, .. }
            | Outgoing::Reply { link, .. } => *link,
        }
    }

    /// What it takes while it waits, roughly.
    fn size_bytes(&self) -> usize {
        let message_bytes = match self {
            Outgoing::Deliver { entry, .. } => entry.message.size_bytes(),
            Outgoing::Reply { message, .. } => message.size_bytes(),
            Outgoing::Chunk { chunk, .. } => chunk.bytes,
            Outgoing::Activated { .. }
            | Outgoing::Resolved { .. }
            | Outgoing::Cancelled { .. }
            | Outgoing::CreditFreed { .. }
            | Outgoing::TimeoutChanged { .. }
            | Outgoing::Drained { .. } => 0,
        };
        ITEM_BYTES + message_bytes
    }

    /// What it takes of the room for replies.
    fn reply_bytes(&self) -> u64 {
        match self {
            Outgoing::Reply { .. } => self.size_bytes() as u64,
            _ => 0,
        }
    }
}

/// Rings a session's bell; called at most once until the session has looked.
pub type Waker = Box<dyn Fn() + Send + Sync>;

/// What waits for a session to fetch it. Queues put deliveries in under their own lock, so that order can't invert.
pub struct Outbox {
    items: Mutex<Items>,
    /// What replies take, which are counted here; deliveries are counted by their queues.
    reply_bytes: AtomicU64,
    memory: Arc<MemoryAccount>,
    waker: Waker,
}

/// What waits, by link: one that ends, or cancels a consumer, takes what is its own whatever waits for others.
#[derive(Default)]
struct Items {
    /// In the order of their numbers; a link has one once something came for it.
    lanes: Vec<Lane>,
    /// Those in which something waits, in the order in which that came.
    ready: VecDeque<LinkId>,
}

struct Lane {
    link: LinkId,
    items: VecDeque<Outgoing>,
}

impl Items {
    fn find(&self, link: LinkId) -> Result<usize, usize> {
        match &self.lanes[..] {
            [only] if only.link == link => Ok(0),
            lanes => lanes.binary_search_by_key(&link, |lane| lane.link),
        }
    }

    fn lane(&mut self, link: LinkId) -> usize {
        self.find(link).unwrap_or_else(|at| {
            self.lanes.insert(at, Lane { link, items: VecDeque::new() });
            at
        })
    }

    #[inline(always)]
    fn push(&mut self, at: usize, item: Outgoing) {
        let lane = &mut self.lanes[at];
        if lane.items.is_empty() {
            self.ready.push_back(lane.link);
        }
        lane.items.push_back(item);
    }
}

/// A link's part of an outbox, open for several things to be put in at once.
pub struct OpenOutbox<'a> {
    items: MutexGuard<'a, Items>,
    at: usize,
}

impl OpenOutbox<'_> {
    /// Whether nothing waits for the link.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.lanes[self.at].items.is_empty()
    }

    /// Puts something in, for the link that it was opened for.
    #[inline(always)]
    pub fn push_back(&mut self, item: Outgoing) {
        self.items.push(self.at, item);
    }
}

impl Outbox {
    /// An empty outbox, whose session `waker` wakes, and which counts replies in that account.
    pub fn new(waker: Waker, memory: Arc<MemoryAccount>) -> Outbox {
        Outbox { items: Mutex::default(), reply_bytes: AtomicU64::new(0), memory, waker }
    }

    /// Opens the outbox to put several things in at once for a link.
    pub fn open(&self, link: LinkId) -> OpenOutbox<'_> {
        let mut items = self.items.lock();
        let at = items.lane(link);
        OpenOutbox { items, at }
    }

    /// Takes what has come, until that takes `bytes_max`, and says whether more is waiting. Links take turns.
    pub fn take(&self, into: &mut Vec<Outgoing>, bytes_max: usize) -> bool {
        let Items { lanes, ready } = &mut *self.items.lock();
        let (mut bytes, mut reply_bytes) = (0, 0);
        while bytes < bytes_max
            && let Some(link) = ready.pop_front()
        {
            let at = match &lanes[..] {
                [only] if only.link == link => 0,
                lanes => lanes.partition_point(|lane| lane.link < link),
            };
            let items = &mut lanes[at].items;
            while bytes < bytes_max
                && let Some(item) = items.pop_front()
            {
                bytes += item.size_bytes();
                reply_bytes += item.reply_bytes();
                into.push(item);
            }
            if !items.is_empty() {
                ready.push_back(link);
            }
        }
        self.replies_left(reply_bytes);
        !ready.is_empty()
    }

    fn replies_left(&self, bytes: u64) {
        if bytes > 0 {
            self.reply_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.memory.add(MemoryUse::Outboxes, -signed(bytes));
        }
    }

    /// What it takes that waits, roughly.
    pub fn waiting_bytes(&self) -> u64 {
        let items = self.items.lock();
        items.lanes.iter().flat_map(|lane| &lane.items).map(Outgoing::size_bytes).sum::<usize>() as u64
    }

    /// Takes all that has come for one link.
    pub fn take_link(&self, link: LinkId) -> VecDeque<Outgoing> {
        let mut items = self.items.lock();
        let Ok(at) = items.find(link) else { return VecDeque::new() };
        let taken = items.lanes.remove(at).items;
        if !taken.is_empty() {
            steps::count(items.ready.len() + taken.len());
            items.ready.retain(|other| *other != link);
        }
        self.replies_left(taken.iter().map(Outgoing::reply_bytes).sum());
        taken
    }

    /// Puts in a direct reply-to message, unless those that wait take `limit_bytes`: then it is dropped, as one is whose
    /// requester is gone. Returns whether the session has to be woken.
    pub fn reply(&self, link: LinkId, consumer: ConsumerId, message: Message, limit_bytes: u64) -> bool {
        let reply = Outgoing::Reply { link, consumer, message };
        let mut items = self.open(link);
        if self.reply_bytes.load(Ordering::Relaxed) > limit_bytes {
            return false;
        }
        let bytes = reply.reply_bytes();
        self.reply_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.memory.add(MemoryUse::Outboxes, signed(bytes));
        let was_empty = items.is_empty();
        items.push_back(reply);
        was_empty
    }

    /// Rings the session's bell.
    pub fn wake(&self) {
        (self.waker)();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.replies_left(self.reply_bytes.load(Ordering::Relaxed));
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A session that waits for an answer looks when it is woken.
impl DurableWaiter for Outbox {
    fn durable(&self, _: Lsn, _: bool) {
        self.wake();
    }

    fn failed(&self, _: &StoreError) {
        self.wake();
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("ready", &self.items.lock().ready.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freed(link: u32) -> Outgoing {
        Outgoing::CreditFreed { link: LinkId(link) }
    }

    fn links(taken: impl IntoIterator<Item = Outgoing>) -> Vec<u32> {
        taken.into_iter().map(|item| item.link().0).collect()
    }

    #[test]
    fn links_take_turns_and_each_keeps_its_order() {
        let outbox = Outbox::new(Box::new(|| ()), Arc::default());
        for (link, count) in [(3, 4), (1, 3), (2, 1)] {
            (0..count).for_each(|_| outbox.open(LinkId(link)).push_back(freed(link)));
        }
        let mut taken = Vec::new();
        assert!(outbox.take(&mut taken, 2 * ITEM_BYTES));
        assert!(outbox.take(&mut taken, 4 * ITEM_BYTES));
        assert!(!outbox.take(&mut taken, usize::MAX));
        assert_eq!(links(taken), [3, 3, 1, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn taking_what_is_one_link_s_costs_the_same_whatever_waits_for_others() {
        let outbox = Outbox::new(Box::new(|| ()), Arc::default());
        (0..10_000).for_each(|_| outbox.open(LinkId(1)).push_back(freed(1)));
        let (_, steps) = steps::of(|| {
            for _ in 0..100 {
                outbox.open(LinkId(2)).push_back(freed(2));
                assert_eq!(links(outbox.take_link(LinkId(2))), [2]);
                assert!(outbox.take_link(LinkId(3)).is_empty());
            }
        });
        assert!(steps < 1000, "{steps} steps");
        let mut taken = Vec::new();
        outbox.take(&mut taken, usize::MAX);
        assert_eq!(links(taken), [1; 10_000]);
    }

    #[test]
    fn replies_count_until_they_are_taken_or_their_session_is_gone() {
        let memory = Arc::new(MemoryAccount::default());
        let outbox = Outbox::new(Box::new(|| ()), memory.clone());
        let counted = || memory.used_bytes(MemoryUse::Outboxes);
        let reply = |link| {
            let message = Message::new("", b"key", &[0, 0], &[b'x'; 1000]).expect("it is a message");
            outbox.reply(LinkId(link), ConsumerId(1), message, 3000)
        };
        reply(1);
        let each = counted();
        assert!(each > 1000, "{each}");
        reply(2);
        reply(1);
        assert!(!reply(1), "there is no room for more");
        assert_eq!(counted(), 3 * each);
        let mut taken = Vec::new();
        assert!(outbox.take(&mut taken, 1));
        assert_eq!((taken.len(), counted()), (1, 2 * each));
        assert_eq!(outbox.take_link(LinkId(2)).len(), 1);
        assert_eq!(counted(), each);
        drop(outbox);
        assert_eq!(counted(), 0);
    }
}
