//! The bell of a log whose records become durable after a sync has returned: it has the committer look again.

use super::gathering::Gathering;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the committer waits at.
#[derive(Default)]
pub(super) struct Doorbell {
    is_rung: AtomicBool,
    work: Condvar,
}

impl Doorbell {
    /// Has the committer look how far its log is durable. Called by the log, from whichever thread.
    pub(super) fn ring(&self, gathering: &Arc<Mutex<Gathering>>) {
        self.is_rung.store(true, Ordering::Release);
        // The committer looks at the bell under this lock before it waits.
        let _gathering = gathering.lock();
        self.work.notify_one();
    }

    /// Whether it was rung since it was last answered.
    pub(super) fn is_rung(&self) -> bool {
        self.is_rung.load(Ordering::Acquire)
    }

    /// The same, and it is answered.
    pub(super) fn answer(&self) -> bool {
        self.is_rung() && self.is_rung.swap(false, Ordering::AcqRel)
    }

    /// There is something to commit.
    pub(super) fn notify(&self) {
        self.work.notify_one();
    }

    /// Waits until there is, or it is rung, or that time has passed.
    pub(super) fn wait(&self, gathering: &mut MutexGuard<'_, Gathering>, timeout: Duration) {
        if !self.is_rung() {
            self.work.wait_for(gathering, timeout);
        }
    }
}
