//! The one place that holds every deadline of the core: when which queue wants to be looked at.

use crate::message::{Millis, Name};
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

/// A queue that wants to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The time of the deadline.
    pub at: Millis,
    /// Name of the queue's vhost.
    pub vhost: Name,
    /// Name of the queue that has something to do then.
    pub queue: Name,
}

/// The deadlines of all queues, in one heap.
#[derive(Default)]
pub struct Timer {
    deadlines: Mutex<Deadlines>,
    waker: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

/// One deadline for each queue, its earliest: a queue that is looked at asks again.
#[derive(Default)]
struct Deadlines {
    in_order: BTreeSet<Deadline>,
    by_queue: HashMap<(Name, Name), Millis>,
}

impl Timer {
    /// Has `waker` called when an earlier deadline than all others has come.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        *self.waker.lock() = Some(waker);
    }

    /// Adds a deadline, unless the queue has an earlier one.
    pub fn push(&self, deadline: Deadline) {
        let is_first = {
            let Deadlines { in_order, by_queue } = &mut *self.deadlines.lock();
            match by_queue.entry((deadline.vhost.clone(), deadline.queue.clone())) {
                Entry::Occupied(entry) if *entry.get() <= deadline.at => return,
                Entry::Occupied(mut entry) => {
                    let later = Deadline { at: entry.insert(deadline.at), ..deadline.clone() };
                    in_order.remove(&later);
                }
                Entry::Vacant(entry) => _ = entry.insert(deadline.at),
            }
            let is_first = in_order.first().is_none_or(|first| deadline.at < first.at);
            in_order.insert(deadline);
            is_first
        };
        if is_first {
            self.ring();
        }
    }

    /// There is something to do at once.
    pub(super) fn ring(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker();
        }
    }

    /// Forgets the deadline of a queue that is gone.
    pub fn forget(&self, vhost: &Name, queue: &Name) {
        let Deadlines { in_order, by_queue } = &mut *self.deadlines.lock();
        if let Some(at) = by_queue.remove(&(vhost.clone(), queue.clone())) {
            in_order.remove(&Deadline { at, vhost: vhost.clone(), queue: queue.clone() });
        }
    }

    /// The first deadline's time.
    pub fn next(&self) -> Option<Millis> {
        self.deadlines.lock().in_order.first().map(|first| first.at)
    }

    /// Takes the first deadline, if it has come.
    pub fn pop_due(&self, now: Millis) -> Option<Deadline> {
        let Deadlines { in_order, by_queue } = &mut *self.deadlines.lock();
        in_order.first().filter(|first| first.at <= now)?;
        let first = in_order.pop_first()?;
        by_queue.remove(&(first.vhost.clone(), first.queue.clone()));
        Some(first)
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("next", &self.next()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(queue: &str, at: Millis) -> Deadline {
        Deadline { at, vhost: "/".into(), queue: queue.into() }
    }

    #[test]
    fn a_queue_has_one_deadline_the_earliest() {
        let timer = Timer::default();
        for (queue, at) in [("a", 30), ("b", 20), ("a", 10), ("a", 40)] {
            timer.push(deadline(queue, at));
        }
        assert_eq!(timer.next(), Some(10));
        assert_eq!(timer.pop_due(9), None);
        assert_eq!(timer.pop_due(50), Some(deadline("a", 10)));
        assert_eq!(timer.pop_due(50), Some(deadline("b", 20)));
        assert_eq!((timer.pop_due(50), timer.next()), (None, None));
    }

    #[test]
    fn queues_that_come_and_go_leave_nothing() {
        let timer = Timer::default();
        for n in 0..100 {
            let at = deadline(&format!("q{n}"), 1000 - n);
            timer.push(at.clone());
            timer.push(Deadline { at: 5000, ..at.clone() });
            timer.forget(&at.vhost, &at.queue);
        }
        assert_eq!(timer.next(), None);
        assert!(timer.deadlines.lock().by_queue.is_empty());
    }
}
