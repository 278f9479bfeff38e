//! Which streams have something to do, and when. What it is they do themselves, one after another, on a thread that may wait for the
//! disk: no session and no timer does.

use super::Stream;
use crate::message::{Lsn, Millis, NEVER, QueueId};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The streams that have something to do; see the module.
#[derive(Debug, Default)]
pub struct Streams {
    due: Mutex<Due>,
    rung: Condvar,
    /// Whether something was published that is not known to be durable.
    is_awaiting: AtomicBool,
}

#[derive(Debug, Default)]
struct Due {
    now: BTreeMap<QueueId, Arc<Stream>>,
    awaiting: BTreeMap<QueueId, (Lsn, Arc<Stream>)>,
    later: BTreeMap<(Millis, QueueId), Arc<Stream>>,
}

impl Streams {
    /// A stream has something to do now.
    pub(super) fn ring(&self, stream: &Arc<Stream>) {
        self.due.lock().now.insert(stream.definition().id, stream.clone());
        self.rung.notify_one();
    }

    /// A stream has something to do when that record is durable.
    pub(super) fn await_record(&self, lsn: Lsn, stream: &Arc<Stream>) {
        let mut due = self.due.lock();
        // What was published first is durable first.
        due.awaiting.entry(stream.definition().id).or_insert_with(|| (lsn, stream.clone()));
        self.is_awaiting.store(true, Ordering::Release);
    }

    /// A stream has something to do at a time.
    pub(super) fn wake_at(&self, at: Millis, stream: &Arc<Stream>) {
        if at != NEVER {
            self.due.lock().later.insert((at, stream.definition().id), stream.clone());
        }
    }

    /// The journal may be durable further than before.
    pub fn note_durable(&self) {
        if self.is_awaiting.load(Ordering::Acquire) {
            // Under the lock, so that a thread that is about to wait is not missed.
            let _due = self.due.lock();
            self.rung.notify_one();
        }
    }

    /// Takes those that have something to do now, where the journal is durable up to `durable`.
    pub(in crate::broker) fn take_due(&self, now: Millis, durable: Lsn) -> Vec<Arc<Stream>> {
        let mut due = self.due.lock();
        let mut taken = std::mem::take(&mut due.now);
        taken.extend(
            due.awaiting.extract_if(.., |_, (lsn, _)| *lsn <= durable).map(|(id, (_, stream))| (id, stream)),
        );
        self.is_awaiting.store(!due.awaiting.is_empty(), Ordering::Release);
        let behind = due.later.split_off(&(now + 1, QueueId(0)));
        let passed = std::mem::replace(&mut due.later, behind);
        taken.extend(passed.into_iter().map(|((_, id), stream)| (id, stream)));
        taken.into_values().collect()
    }

    /// Whether some have something to do now, where the journal is durable up to `durable`.
    pub fn is_due(&self, now: Millis, durable: Lsn) -> bool {
        let due = self.due.lock();
        due.is_due(now, durable)
    }

    /// When the next of them has something to do, as far as that is known.
    pub fn next_deadline(&self) -> Millis {
        self.due.lock().next_deadline()
    }

    /// Waits until some may have something to do, or `timeout` has passed.
    pub fn wait(&self, now: Millis, durable: Lsn, timeout: Duration) {
        let mut due = self.due.lock();
        if !due.is_due(now, durable) {
            let next = Duration::from_millis(due.next_deadline().saturating_sub(now));
            self.rung.wait_for(&mut due, timeout.min(next));
        }
    }
}

impl Due {
    fn is_due(&self, now: Millis, durable: Lsn) -> bool {
        !self.now.is_empty()
            || self.awaiting.values().any(|(lsn, _)| *lsn <= durable)
            || self.next_deadline() <= now
    }

    fn next_deadline(&self) -> Millis {
        self.later.first_key_value().map_or(NEVER, |((at, _), _)| *at)
    }
}
