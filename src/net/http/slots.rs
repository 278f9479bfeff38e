//! Which connections for HTTP are open, and which one is closed for a new one when there are too many.
//!
//! Connecting needs no login, so a client that takes all connections there may be must not keep others from asking whether the broker
//! lives. A connection on which nothing is being answered is closed for a new one: first those that have never logged in,
//! then the one that has been quiet for the longest time. When all of them are at work, a few more are let in whose requests are
//! answered only if they need no login.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Connections beyond those of the settings, for requests that need no login.
pub(in crate::net) const SPARE: usize = 4;

/// The open connections, and how many there may be; see the module.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    open: Mutex<Open>,
    /// Rung when a connection has ended, or has become idle.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    slots: BTreeMap<u64, Arc<Slot>>,
}

/// What is known of one connection. Handlers find it among the extensions of a request.
#[derive(Debug)]
pub struct Slot {
    /// When bytes went through it last, in milliseconds.
    active_at: AtomicU64,
    /// Authenticated requests that are being answered.
    at_work: AtomicU32,
    /// Whether a request on it has been authenticated.
    is_known: AtomicBool,
    is_spare: bool,
    leave: Notify,
}

/// A connection's place, for as long as it lives.
#[derive(Debug)]
pub(super) struct Seat {
    slots: Arc<Slots>,
    number: u64,
    slot: Arc<Slot>,
}

/// An authenticated request, which keeps its connection from being closed for a new one.
#[derive(Debug)]
pub struct AtWork<'a>(&'a Slot);

impl Slots {
    pub(super) fn new(max: usize) -> Slots {
        Slots { max, open: Mutex::default(), changed: Notify::new() }
    }

    /// Waits until there is room for one more, which there is unless all that are open are at work.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.open.lock().has_room(self.max) {
                return;
            }
            changed.await;
        }
    }

    /// Lets a connection in; if there are too many, another one is asked to close. This looks at all others, of which there are
    /// some hundreds.
    pub(super) fn enter(self: &Arc<Slots>, now_ms: u64) -> Seat {
        let mut open = self.open.lock();
        let is_spare = open.at_work() >= self.max;
        let max = if is_spare { self.max + SPARE } else { self.max };
        while open.slots.len() >= max
            && let Some(quietest) = open.quietest()
        {
            open.slots.remove(&quietest).iter().for_each(|slot| slot.leave.notify_one());
        }
        let number = open.next;
        open.next += 1;
        let slot = Arc::new(Slot {
            active_at: AtomicU64::new(now_ms),
            at_work: AtomicU32::new(0),
            is_known: AtomicBool::new(false),
            is_spare,
            leave: Notify::new(),
        });
        open.slots.insert(number, slot.clone());
        Seat { slots: self.clone(), number, slot }
    }
}

impl Open {
    fn has_room(&self, max: usize) -> bool {
        self.slots.len() < max + SPARE || self.quietest().is_some()
    }

    fn at_work(&self) -> usize {
        self.slots.values().filter(|slot| slot.at_work.load(Ordering::Acquire) > 0).count()
    }

    /// The connection that would be closed for a new one.
    fn quietest(&self) -> Option<u64> {
        let idle = self.slots.iter().filter(|(_, slot)| slot.at_work.load(Ordering::Acquire) == 0);
        idle.min_by_key(|(_, slot)| {
            (slot.is_known.load(Ordering::Relaxed), slot.active_at.load(Ordering::Relaxed))
        })
        .map(|(number, _)| *number)
    }
}

impl Seat {
    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Bytes have gone through.
    pub(super) fn touch(&self, now_ms: u64) {
        self.slot.active_at.store(now_ms, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.slots.open.lock().slots.remove(&self.number);
        self.slots.changed.notify_one();
    }
}

impl Slot {
    /// Whether only what needs no login is answered here, since all other connections are at work.
    pub fn is_spare(&self) -> bool {
        self.is_spare
    }

    /// An authenticated request begins; it is being answered for as long as the result lives.
    pub fn begin(&self) -> AtWork<'_> {
        self.is_known.store(true, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::AcqRel);
        AtWork(self)
    }

    /// Waits until it is asked to close.
    pub(super) async fn is_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn is_to_leave(seat: &Seat) -> bool {
        let mut leaves = std::pin::pin!(seat.slot().is_to_leave());
        leaves.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn has_room(slots: &Slots) -> bool {
        let mut room = std::pin::pin!(slots.wait_for_room());
        room.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn who_has_been_quiet_longest_makes_way_and_strangers_come_first() {
        let slots = Arc::new(Slots::new(3));
        let [known, quiet, busy] = [1, 2, 3].map(|now| slots.enter(now));
        drop(known.slot().begin());
        busy.touch(9);
        quiet.touch(8);
        let fourth = slots.enter(10);
        assert!(is_to_leave(&quiet) && !is_to_leave(&known) && !is_to_leave(&busy));
        drop(quiet);
        let _fifth = slots.enter(11);
        assert!(is_to_leave(&busy) && !is_to_leave(&fourth));
        let _sixth = slots.enter(12);
        assert!(is_to_leave(&fourth) && !is_to_leave(&known));
        assert_eq!(slots.open.lock().slots.len(), 3);
    }

    #[test]
    fn who_is_at_work_stays_and_a_few_more_are_let_in() {
        let slots = Arc::new(Slots::new(2));
        let seats = [slots.enter(1), slots.enter(2)];
        let working = [&seats[0], &seats[1]].map(|seat| seat.slot().begin());
        let spare: Vec<Seat> = (0..SPARE as u64).map(|now| slots.enter(3 + now)).collect();
        assert!(spare[0].slot().is_spare() && !seats[0].slot().is_spare());
        assert!(!seats.iter().any(is_to_leave));
        // The spare ones are closed for each other.
        assert!(has_room(&slots));
        let last = slots.enter(100);
        assert!(last.slot().is_spare() && is_to_leave(&spare[0]) && !is_to_leave(&spare[1]));
        drop(working);
        let next = slots.enter(200);
        assert!(!next.slot().is_spare());
        assert_eq!(slots.open.lock().slots.len(), 2);
    }

    #[test]
    fn there_is_no_room_while_all_are_at_work() {
        let slots = Arc::new(Slots::new(0));
        let seats: Vec<Seat> = (0..SPARE as u64).map(|now| slots.enter(now)).collect();
        let mut working: Vec<AtWork<'_>> = seats.iter().map(|seat| seat.slot().begin()).collect();
        assert!(!has_room(&slots));
        working.pop();
        assert!(has_room(&slots));
    }
}
