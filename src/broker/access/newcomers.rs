//! Connections that have not logged in: how many there may be, of all addresses and of one. Each costs a descriptor and
//! some memory before its user is known, and must not take them from users who are known.
//!
//! When there are too many, the next one waits where it costs the broker nothing, in the system's queue, until one of them has logged
//! in, is gone, or has had [`GRACE_MS`]. Then the oldest one of the address that has most of them is closed.

use crate::message::Millis;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How long a client has at least until it may be closed for others, in milliseconds: many times what a login takes.
pub const GRACE_MS: u64 = 1000;

/// Where a connection comes from: its address, or with IPv6 the network of it, as a number that the listener makes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(pub u128);

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewcomerLimits {
    /// Of all addresses; 0 is any number.
    pub max: usize,
    /// Of one address; 0 is any number.
    pub per_address_max: usize,
}

/// The connections that have not logged in; see the module.
#[derive(Debug)]
pub struct Newcomers {
    limits: NewcomerLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    by_origin: HashMap<Origin, usize>,
    /// Those that have been asked to close.
    leaving: usize,
}

struct Waiting {
    origin: Option<Origin>,
    since: Millis,
    /// Asks it to close; gone once it was called.
    leave: Option<Box<dyn FnOnce() + Send>>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("origin", &self.origin).field("since", &self.since).finish()
    }
}

/// One of them, until it is dropped: it has logged in, or is gone.
#[derive(Debug)]
pub struct Newcomer {
    newcomers: Arc<Newcomers>,
    number: u64,
}

/// A connection is refused: its address has that many already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany(pub usize);

impl Newcomers {
    /// An account without connections, under these limits.
    pub fn new(limits: NewcomerLimits) -> Newcomers {
        Newcomers { limits, state: Mutex::default() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Whether there is room for one more; `is_full` says that there is none for any connection, known or not. One at a time is
    /// asked to close, and there is room when it is gone. Without newcomers there is none that could be.
    pub fn has_room(&self, now: Millis, is_full: bool) -> bool {
        let mut state = self.state.lock();
        let is_full = is_full || (self.limits.max > 0 && state.waiting.len() >= self.limits.max);
        if !is_full || state.waiting.is_empty() {
            return true;
        }
        if state.leaving > 0 {
            return false;
        }
        let Some(first) = state.first_of_most().filter(|first| first.since + GRACE_MS <= now) else {
            return false;
        };
        let leave = first.leave.take();
        state.leaving += usize::from(leave.is_some());
        drop(state);
        leave.into_iter().for_each(|leave| leave());
        false
    }

    /// Lets one in. `leave` is called when it has to close for others. Where it comes from may become known later,
    /// see [`Newcomer::comes_from`].
    ///
    /// # Errors
    /// When there are too many of that address.
    pub fn enter(
        self: &Arc<Newcomers>,
        origin: Option<Origin>,
        now: Millis,
        leave: impl FnOnce() + Send + 'static,
    ) -> Result<Newcomer, TooMany> {
        let mut state = self.state.lock();
        self.limits.count(&mut state, origin)?;
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, Waiting { origin, since: now, leave: Some(Box::new(leave)) });
        Ok(Newcomer { newcomers: self.clone(), number })
    }
}

impl NewcomerLimits {
    /// Counts one that comes from there.
    fn count(&self, state: &mut State, origin: Option<Origin>) -> Result<(), TooMany> {
        let Some(origin) = origin else { return Ok(()) };
        let count = state.by_origin.entry(origin).or_default();
        if self.per_address_max > 0 && *count >= self.per_address_max {
            return Err(TooMany(self.per_address_max));
        }
        *count += 1;
        Ok(())
    }
}

impl State {
    /// The first that came of the address that has most of them.
    fn first_of_most(&mut self) -> Option<&mut Waiting> {
        let most = self.by_origin.iter().max_by_key(|(_, count)| **count).map(|(origin, _)| *origin);
        let of_most = self.waiting.iter().find(|(_, waiting)| waiting.origin == most);
        let first = of_most.or_else(|| self.waiting.iter().next()).map(|(number, _)| *number)?;
        self.waiting.get_mut(&first)
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.leaving -= usize::from(waiting.leave.is_none());
        if let Some(origin) = waiting.origin
            && let Some(count) = self.by_origin.get_mut(&origin)
        {
            *count -= 1;
            if *count == 0 {
                self.by_origin.remove(&origin);
            }
        }
        Some(waiting)
    }
}

impl Newcomer {
    /// Says where it comes from, behind a load balancer.
    ///
    /// # Errors
    /// When there are too many of that address.
    pub fn comes_from(&self, origin: Origin) -> Result<(), TooMany> {
        let mut state = self.newcomers.state.lock();
        let is_known = state.waiting.get(&self.number).is_none_or(|waiting| waiting.origin.is_some());
        if is_known {
            return Ok(());
        }
        self.newcomers.limits.count(&mut state, Some(origin))?;
        if let Some(waiting) = state.waiting.get_mut(&self.number) {
            waiting.origin = Some(origin);
        }
        Ok(())
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let waiting = self.newcomers.state.lock().remove(self.number);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn newcomers(max: usize, per_address_max: usize) -> Arc<Newcomers> {
        Arc::new(Newcomers::new(NewcomerLimits { max, per_address_max }))
    }

    #[test]
    fn the_next_one_waits_and_after_a_while_another_makes_way() {
        let newcomers = newcomers(3, 0);
        let told = Arc::new(AtomicU64::new(0));
        let enter = |origin: u128, now| {
            let told = told.clone();
            let leave = move || told.store(now, Ordering::Relaxed);
            newcomers.enter(Some(Origin(origin)), now, leave).unwrap()
        };
        let (_one, two) = (enter(10, 1), enter(20, 2));
        assert!(newcomers.has_room(2, false));
        let three = enter(20, 3);
        assert!(!newcomers.has_room(1 + GRACE_MS, false));
        assert_eq!(told.load(Ordering::Relaxed), 0, "none has had its time");
        assert!(!newcomers.has_room(2 + GRACE_MS, false));
        assert_eq!(told.load(Ordering::Relaxed), 2, "the first one of the address that has most");
        assert!(!newcomers.has_room(9 + GRACE_MS, false));
        assert_eq!(told.load(Ordering::Relaxed), 2, "it is not gone yet");
        drop(two);
        assert!(newcomers.has_room(9 + GRACE_MS, false));
        drop(three);
        assert!(
            !newcomers.has_room(9 + GRACE_MS, true),
            "all connections are taken, and one of them by a newcomer"
        );
        assert_eq!((told.load(Ordering::Relaxed), newcomers.count()), (1, 1));
    }

    #[test]
    fn without_newcomers_nobody_can_make_room() {
        assert!(newcomers(3, 0).has_room(0, true));
    }

    #[test]
    fn an_address_has_a_number_of_its_own() {
        let newcomers = newcomers(0, 2);
        let enter = |origin| newcomers.enter(Some(Origin(origin)), 0, || ());
        let one = enter(1).unwrap();
        let _two = enter(1).unwrap();
        assert_eq!(enter(1).unwrap_err(), TooMany(2));
        let _other = enter(2).unwrap();
        drop(one);
        enter(1).unwrap();
    }

    #[test]
    fn behind_a_balancer_the_address_comes_later() {
        let newcomers = newcomers(0, 1);
        let enter = || newcomers.enter(None, 0, || ()).unwrap();
        let (one, two) = (enter(), enter());
        assert_eq!(one.comes_from(Origin(1)), Ok(()));
        assert_eq!(one.comes_from(Origin(1)), Ok(()), "it is known already");
        assert_eq!(two.comes_from(Origin(1)), Err(TooMany(1)));
        drop((one, two));
        assert!(newcomers.state.lock().by_origin.is_empty());
    }
}
