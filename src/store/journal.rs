//! The journal: gathers what every session changed, writes it as one record per commit, and says how far that is durable.
//!
//! Sessions call [`Journal::append`] at the end of a turn; the committer calls [`Journal::commit`] over and over. While one
//! commit syncs, the next one gathers.

use super::{Store, StoreError};
use crate::message::{Lsn, Millis, Position, QueueId, StoredShape};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one turn changed in durable queues. All of it lands in one record, so it happens whole or not at all.
#[derive(Debug, Default)]
pub struct Changes {
    encoded: Vec<u8>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// A message went into queues; its content is written once for all of them.
    pub fn enqueue(
        &mut self,
        stored: (&[u8], StoredShape),
        enqueued_at: Millis,
        targets: &[(QueueId, Position)],
    ) {
        let _ = (stored, enqueued_at, targets);
        self.encoded.push(b'e');
    }

    /// A message has left its queue for good.
    pub fn settle(&mut self, queue: QueueId, position: Position) {
        let _ = (queue, position);
        self.encoded.push(b's');
    }

    /// A message was delivered and came back: it is redelivered from now on.
    pub fn requeue(&mut self, queue: QueueId, position: Position, delivery_count: u32) {
        let _ = (queue, position, delivery_count);
        self.encoded.push(b'r');
    }

    /// A queue is gone, with all that is in it.
    pub fn drop_queue(&mut self, queue: QueueId) {
        let _ = queue;
        self.encoded.push(b'd');
    }
}

/// Who wants to know when a record is durable.
pub trait DurableWaiter: Send + Sync {
    /// Everything up to `lsn` is durable.
    fn durable(&self, lsn: Lsn);
}

/// See the module.
pub struct Journal {
    store: Box<dyn Store>,
    gathering: Mutex<Gathering>,
    work: Condvar,
    durable: AtomicU64,
}

#[derive(Default)]
struct Gathering {
    encoded: Vec<u8>,
    /// The record that what is gathered now will become.
    lsn: Lsn,
    waiters: Vec<Arc<dyn DurableWaiter>>,
}

impl Journal {
    /// A journal above an engine.
    pub fn new(store: Box<dyn Store>) -> Journal {
        let gathering = Mutex::new(Gathering { lsn: Lsn(1), ..Gathering::default() });
        Journal { store, gathering, work: Condvar::new(), durable: AtomicU64::new(0) }
    }

    /// The engine's table of definitions.
    pub fn definitions(&self) -> &dyn Store {
        &*self.store
    }

    /// Takes a turn's changes; returns the record that they will be in. `waiter` is told when that is durable.
    pub fn append(&self, changes: &mut Changes, waiter: Option<Arc<dyn DurableWaiter>>) -> Lsn {
        let mut gathering = self.gathering.lock();
        gathering.encoded.append(&mut changes.encoded);
        gathering.waiters.extend(waiter);
        self.work.notify_one();
        gathering.lsn
    }

    /// How far the journal is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Waits until there is something to commit, or `timeout` has passed.
    pub fn wait_for_work(&self, timeout: Duration) {
        let mut gathering = self.gathering.lock();
        if gathering.encoded.is_empty() {
            self.work.wait_for(&mut gathering, timeout);
        }
    }

    /// Writes what has been gathered as one record, makes it durable, and tells who waits for that.
    ///
    /// # Errors
    /// When the engine failed: nothing more may be confirmed.
    pub fn commit(&self) -> Result<Lsn, StoreError> {
        let (lsn, waiters) = {
            let mut gathering = self.gathering.lock();
            if gathering.encoded.is_empty() {
                return Ok(self.durable());
            }
            let lsn = gathering.lsn;
            gathering.lsn = Lsn(lsn.0 + 1);
            gathering.encoded.clear();
            (lsn, std::mem::take(&mut gathering.waiters))
        };
        self.store.sync()?;
        self.durable.store(lsn.0, Ordering::Release);
        for waiter in waiters {
            waiter.durable(lsn);
        }
        Ok(lsn)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("durable", &self.durable()).finish_non_exhaustive()
    }
}
