//! What ready messages take in memory, over all queues: when it is too much, queues let the later ones of theirs go.

use std::sync::atomic::{AtomicI64, Ordering};

/// See the module.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    limit_bytes: i64,
    used_bytes: AtomicI64,
}

impl MemoryBudget {
    pub(super) fn new(limit_bytes: u64) -> MemoryBudget {
        MemoryBudget {
            limit_bytes: i64::try_from(limit_bytes).unwrap_or(i64::MAX),
            used_bytes: AtomicI64::new(0),
        }
    }

    /// Counts what a queue took or gave back, and says whether all of them together take too much now.
    pub(super) fn add(&self, bytes: i64) -> bool {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit_bytes
    }

    /// What all queues together take.
    pub(super) fn used_bytes(&self) -> u64 {
        u64::try_from(self.used_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
