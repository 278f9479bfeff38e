//! What the broker keeps in memory for its clients, by kind: the one account of it. The holder counts what it holds here, in
//! batches, and asks whether it has become too much.
//!
//! Above the budget ready messages and deliveries that wait for an acknowledgement leave memory, and keep only their places.
//! What the process takes beside all this, code, buffers and what the allocator keeps, is in no account; only the system
//! knows the whole, see [`crate::net::MemoryWatch`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryUse {
    /// Ready messages in memory.
    Ready,
    /// Deliveries that wait for an acknowledgement.
    Unacked,
    /// The newest messages of streams, which are not in their logs yet or are read from memory.
    StreamTails,
    /// Deliveries and direct replies that wait for a session to send them.
    Outboxes,
    /// What sessions have put together and sockets have not taken yet.
    TransmitBuffers,
    /// Messages of which a part has come.
    Arriving,
    /// Publishes that wait for a commit.
    Transactions,
    /// Argument tables of queues, exchanges, bindings and consumers.
    Arguments,
    /// Bodies of requests to the management API.
    HttpBodies,
}

impl MemoryUse {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [MemoryUse; 9] = [
        MemoryUse::Ready,
        MemoryUse::Unacked,
        MemoryUse::StreamTails,
        MemoryUse::Outboxes,
        MemoryUse::TransmitBuffers,
        MemoryUse::Arriving,
        MemoryUse::Transactions,
        MemoryUse::Arguments,
        MemoryUse::HttpBodies,
    ];

    /// Its name in metrics and in the management API.
    pub fn name(self) -> &'static str {
        match self {
            MemoryUse::Ready => "ready_messages",
            MemoryUse::Unacked => "unacked_messages",
            MemoryUse::StreamTails => "stream_tails",
            MemoryUse::Outboxes => "outboxes",
            MemoryUse::TransmitBuffers => "transmit_buffers",
            MemoryUse::Arriving => "arriving_messages",
            MemoryUse::Transactions => "transactions",
            MemoryUse::Arguments => "arguments",
            MemoryUse::HttpBodies => "http_bodies",
        }
    }
}

/// A counter by itself in its line of the processor's caches: two event loops count different kinds at once.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counter(AtomicI64);

/// What is kept, by kind; see the module.
#[derive(Debug)]
pub struct MemoryAccount {
    budget_bytes: i64,
    used: [Counter; MemoryUse::ALL.len()],
}

/// One without a budget.
impl Default for MemoryAccount {
    fn default() -> MemoryAccount {
        MemoryAccount::new(u64::MAX)
    }
}

impl MemoryAccount {
    /// An account of nothing, for messages of up to `budget_bytes`.
    pub fn new(budget_bytes: u64) -> MemoryAccount {
        MemoryAccount {
            budget_bytes: i64::try_from(budget_bytes).unwrap_or(i64::MAX),
            used: Default::default(),
        }
    }

    /// Counts bytes that were taken, or given back when they are negative. True when all of this kind together take more
    /// than the budget now.
    pub fn add(&self, kind: MemoryUse, bytes: i64) -> bool {
        self.used[kind as usize].0.fetch_add(bytes, Ordering::Relaxed) + bytes > self.budget_bytes
    }

    /// Whether messages, ready or unacknowledged, take more than the budget.
    pub fn is_over_budget(&self) -> bool {
        let used = [MemoryUse::Ready, MemoryUse::Unacked]
            .map(|kind| self.used[kind as usize].0.load(Ordering::Relaxed));
        used[0].saturating_add(used[1]) > self.budget_bytes
    }

    /// Counts `bytes` for as long as the answer lives.
    pub fn hold(self: &Arc<Self>, kind: MemoryUse, bytes: usize) -> Held {
        let mut held = Held { account: self.clone(), kind, bytes: 0 };
        held.set(bytes);
        held
    }

    /// Bytes that are taken for it.
    pub fn used_bytes(&self, kind: MemoryUse) -> u64 {
        u64::try_from(self.used[kind as usize].0.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Bytes that are taken for all of it together.
    pub fn total_bytes(&self) -> u64 {
        MemoryUse::ALL.iter().map(|kind| self.used_bytes(*kind)).sum()
    }
}

/// What one connection keeps in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Deliveries that it has not acknowledged.
    pub unacked_messages: u64,
    /// What those take, with what is kept of those that have left memory.
    pub unacked_bytes: u64,
    /// Publishes that it has not committed.
    pub transaction_bytes: u64,
    /// What waits to be sent to it.
    pub outbox_bytes: u64,
    /// Messages of which it has sent a part.
    pub arriving_bytes: u64,
}

impl Holdings {
    /// Bytes of all kinds together.
    pub fn total_bytes(&self) -> u64 {
        self.unacked_bytes + self.transaction_bytes + self.outbox_bytes + self.arriving_bytes
    }
}

/// What one connection has of a kind in less than this is not counted: most connections have little, and that changes all the time.
const LITTLE_BYTES: usize = 4 << 10;

/// Counts what changes with every turn of a session: `held` is there while it is much.
pub fn count_much(held: &mut Option<Held>, account: &Arc<MemoryAccount>, kind: MemoryUse, bytes: usize) {
    match held {
        None if bytes < LITTLE_BYTES => {}
        None => *held = Some(account.hold(kind, bytes)),
        Some(_) if bytes < LITTLE_BYTES => *held = None,
        Some(held) => held.set(bytes),
    }
}

/// Bytes that are counted for as long as this lives.
#[derive(Debug)]
pub struct Held {
    account: Arc<MemoryAccount>,
    kind: MemoryUse,
    bytes: usize,
}

impl Held {
    /// How many there are now.
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.account.add(self.kind, bytes as i64 - self.bytes as i64);
            self.bytes = bytes;
        }
    }

    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_not_counted() {
        let account = Arc::new(MemoryAccount::default());
        let mut held = None;
        for (bytes, counted) in [(100, 0), (5000, 5000), (9000, 9000), (4095, 0), (0, 0), (4096, 4096)] {
            count_much(&mut held, &account, MemoryUse::Arriving, bytes);
            assert_eq!(account.used_bytes(MemoryUse::Arriving), counted);
        }
        drop(held);
        assert_eq!(account.total_bytes(), 0);
    }

    #[test]
    fn what_is_held_counts_until_it_goes() {
        let account = Arc::new(MemoryAccount::new(100));
        let mut held = account.hold(MemoryUse::HttpBodies, 40);
        held.set(70);
        assert!(!account.add(MemoryUse::Ready, 100));
        assert!(account.add(MemoryUse::Ready, 1));
        assert_eq!((account.used_bytes(MemoryUse::HttpBodies), account.total_bytes()), (70, 171));
        drop(held);
        assert_eq!((account.used_bytes(MemoryUse::HttpBodies), account.total_bytes()), (0, 101));
    }
}
