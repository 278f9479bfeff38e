//! What the consumers of one link may have together.

use crate::message::ConsumerId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// The limit on what all consumers of a link have together: what basic.qos with global set puts on a channel.
///
/// A consumer without credit waits, and the session asks the queues of those when it has credit again, for as long as it has: in
/// the order in which they began to wait. RabbitMQ asks them in random order.
#[derive(Debug, Default)]
pub struct LinkCredit {
    /// 0 is none.
    limit: AtomicU32,
    state: Mutex<CreditState>,
}

#[derive(Debug, Default)]
struct CreditState {
    used: u32,
    tickets: u64,
    /// Of each queue one of its consumers that wait.
    waiting: BTreeMap<u64, ConsumerId>,
}

impl LinkCredit {
    /// Sets the limit; 0 is none.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit; 0 is none.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes credit for up to `wanted` deliveries, and says for how many there was.
    pub fn acquire(&self, wanted: u32) -> u32 {
        let mut state = self.state.lock();
        let granted = match self.limit() {
            0 => wanted,
            limit => wanted.min(limit.saturating_sub(state.used)),
        };
        state.used += granted;
        granted
    }

    /// For how many deliveries there is some. Those that are not acknowledged take none, and wait while there is none all the same.
    pub fn left(&self) -> u32 {
        match self.limit() {
            0 => u32::MAX,
            limit => limit.saturating_sub(self.state.lock().used),
        }
    }

    /// Gives credit back. True when a consumer waits for it.
    pub fn release(&self, count: u32) -> bool {
        let mut state = self.state.lock();
        state.used = state.used.saturating_sub(count);
        !state.waiting.is_empty()
    }

    /// A number for a consumer that waits, greater than those before.
    pub fn ticket(&self) -> u64 {
        let mut state = self.state.lock();
        state.tickets += 1;
        state.tickets
    }

    /// That consumer waits, and perhaps others of its queue.
    pub fn wait(&self, ticket: u64, consumer: ConsumerId) {
        self.state.lock().waiting.insert(ticket, consumer);
    }

    /// The consumer with that ticket no longer waits.
    pub fn forget(&self, ticket: u64) {
        self.state.lock().waiting.remove(&ticket);
    }

    /// The consumer whose queue is to be asked next, if there is credit. It no longer waits.
    pub fn next_waiting(&self) -> Option<ConsumerId> {
        let mut state = self.state.lock();
        let limit = self.limit();
        if limit > 0 && state.used >= limit {
            return None;
        }
        state.waiting.pop_first().map(|(_, consumer)| consumer)
    }
}
