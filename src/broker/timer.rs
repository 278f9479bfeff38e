//! The one heap that holds every deadline of the core: when which queue wants to be looked at.

use crate::message::{Millis, Name};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue that wants to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// When.
    pub at: Millis,
    /// Its vhost.
    pub vhost: Name,
    /// Its name.
    pub queue: Name,
}

/// See the module.
#[derive(Default)]
pub struct Timer {
    heap: Mutex<BinaryHeap<Reverse<Deadline>>>,
    waker: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Timer {
    /// Has `waker` called when an earlier deadline than all others has come.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        *self.waker.lock() = Some(waker);
    }

    /// Adds a deadline.
    pub fn push(&self, deadline: Deadline) {
        let is_first = {
            let mut heap = self.heap.lock();
            let is_first = heap.peek().is_none_or(|Reverse(first)| deadline.at < first.at);
            heap.push(Reverse(deadline));
            is_first
        };
        if is_first && let Some(waker) = &*self.waker.lock() {
            waker();
        }
    }

    /// The first deadline's time.
    pub fn next(&self) -> Option<Millis> {
        self.heap.lock().peek().map(|Reverse(first)| first.at)
    }

    /// Takes the first deadline, if it has come.
    pub fn pop_due(&self, now: Millis) -> Option<Deadline> {
        let mut heap = self.heap.lock();
        heap.peek()
            .is_some_and(|Reverse(first)| first.at <= now)
            .then(|| heap.pop())
            .flatten()
            .map(|Reverse(first)| first)
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("next", &self.next()).finish_non_exhaustive()
    }
}
