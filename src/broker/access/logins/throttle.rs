//! What slows down the guessing of passwords. After repeated failures an attempt waits *before* its password is checked, so that
//! hanging up and trying again gains nothing: not even the right one is answered at once.
//!
//! Failures count by address, and by user for guesses that come from many addresses. Where a user has logged in before, only
//! failures with that name from there count for it: others behind the same address may fail, and others elsewhere may guess. An
//! address without failures is never refused.

use crate::message::Millis;
use core::net::IpAddr;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Failures within this time count together.
const WINDOW_MS: u64 = 60_000;
/// How long: as long as RabbitMQ keeps an answer back.
pub(super) const DELAY_MS: u64 = 3000;
/// How many attempts of one address may wait at a time.
const WAITING_OF_ADDRESS_MAX: u32 = 16;
/// Addresses, users, and pairs of both that are remembered; then the one that was noted first is forgotten.
pub(super) const REMEMBERED_MAX: usize = 4096;

/// When something happened lately, by a digest of what it happened to: names may be long, and are the other end's choice.
#[derive(Debug, Default)]
struct Recent {
    times: BTreeMap<u64, VecDeque<Millis>>,
    /// By the last time, which the oldest are forgotten by.
    by_time: BTreeSet<(Millis, u64)>,
}

impl Recent {
    /// Notes that it happened now, and of earlier times as many as matter.
    fn note(&mut self, key: u64, now: Millis, times_max: usize) {
        let mut times = self.times.remove(&key).unwrap_or_default();
        if let Some(last) = times.back() {
            self.by_time.remove(&(*last, key));
        }
        times.retain(|time| time + WINDOW_MS > now);
        if times.len() >= times_max {
            times.pop_front();
        }
        times.push_back(now);
        self.times.insert(key, times);
        self.by_time.insert((now, key));
        if self.times.len() > REMEMBERED_MAX
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.times.remove(&oldest);
        }
    }

    fn count(&self, key: u64, now: Millis) -> usize {
        self.times.get(&key).map_or(0, |times| times.iter().filter(|time| **time + WINDOW_MS > now).count())
    }

    fn knows(&self, key: u64) -> bool {
        self.times.contains_key(&key)
    }
}

#[derive(Debug, Default)]
struct State {
    addresses: Recent,
    users: Recent,
    /// Pairs of address and user that have failed.
    pairs: Recent,
    /// Pairs of address and user that have logged in.
    welcome: Recent,
    waiting: u32,
    waiting_by_address: BTreeMap<u64, u32>,
}

/// Recent failures and successes, and the attempts that wait; see the module.
#[derive(Debug)]
pub(super) struct Throttle {
    state: Arc<Mutex<State>>,
    keys: RandomState,
    waiting_max: u32,
    /// How many failures are free; after them the next attempt waits.
    free: usize,
}

/// What comes of an attempt.
#[derive(Debug)]
pub(super) enum Admission {
    /// The password is checked now.
    Now,
    /// The attempt waits first.
    Wait(WaitingLogin),
    /// Too many wait already.
    TooMany,
}

/// An attempt's place among those that wait; free again when it is dropped.
#[derive(Debug)]
pub struct WaitingLogin {
    state: Arc<Mutex<State>>,
    address: u64,
    /// Until when it waits.
    pub until: Millis,
}

impl Drop for WaitingLogin {
    fn drop(&mut self) {
        let state = &mut *self.state.lock();
        state.waiting -= 1;
        if let Some(waiting) = state.waiting_by_address.get_mut(&self.address) {
            *waiting -= 1;
            if *waiting == 0 {
                state.waiting_by_address.remove(&self.address);
            }
        }
    }
}

impl Throttle {
    /// Without failures yet. After `free` failures attempts wait, at most `waiting_max` of them at a time.
    pub(super) fn new(waiting_max: u32, free: usize) -> Throttle {
        Throttle { state: Arc::default(), keys: RandomState::new(), waiting_max, free }
    }

    /// Whether an attempt is looked at now.
    pub(super) fn admit(&self, address: &str, user: &str, now: Millis) -> Admission {
        let (address, user, both) = self.keys(address, user);
        let state = &mut *self.state.lock();
        let is_welcome = state.welcome.knows(both);
        let failures =
            if is_welcome { state.pairs.count(both, now) } else { state.addresses.count(address, now) };
        let has_failed = failures >= self.free;
        let is_guessed_at = !is_welcome && state.users.count(user, now) >= self.free;
        if !has_failed && !is_guessed_at {
            return Admission::Now;
        }
        let of_address = state.waiting_by_address.get(&address).copied().unwrap_or(0);
        if state.waiting >= self.waiting_max || of_address >= WAITING_OF_ADDRESS_MAX {
            // Waiting attempts may not take all places from an address without failures.
            return if has_failed { Admission::TooMany } else { Admission::Now };
        }
        Admission::Wait(self.wait(state, address, now + DELAY_MS))
    }

    /// A place among the attempts that wait, for one that has just failed and may not be repeated at once.
    pub(super) fn hold(&self, address: &str, until: Millis) -> Option<WaitingLogin> {
        let (address, ..) = self.keys(address, "");
        let state = &mut *self.state.lock();
        (state.waiting < self.waiting_max).then(|| self.wait(state, address, until))
    }

    /// Notes that an attempt failed.
    pub(super) fn failed(&self, address: &str, user: &str, now: Millis) {
        let (address, user, both) = self.keys(address, user);
        let state = &mut *self.state.lock();
        state.addresses.note(address, now, self.free);
        state.users.note(user, now, self.free);
        state.pairs.note(both, now, self.free);
    }

    /// Notes that an attempt was right.
    pub(super) fn succeeded(&self, address: &str, user: &str, now: Millis) {
        let (_, _, both) = self.keys(address, user);
        let state = &mut *self.state.lock();
        state.welcome.note(both, now, 1);
    }

    fn wait(&self, state: &mut State, address: u64, until: Millis) -> WaitingLogin {
        state.waiting += 1;
        *state.waiting_by_address.entry(address).or_default() += 1;
        WaitingLogin { state: self.state.clone(), address, until }
    }

    /// Digests of the address, the user, and both together. Of an address of IPv6 half is its owner's to choose.
    fn keys(&self, address: &str, user: &str) -> (u64, u64, u64) {
        let address = match address.parse() {
            Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                self.keys.hash_one(&address.octets()[..8])
            }
            Ok(address) => self.keys.hash_one(address.to_canonical()),
            Err(_) => self.keys.hash_one(address),
        };
        (address, self.keys.hash_one(user), self.keys.hash_one((address, user)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE_FAILURES: usize = 5;

    fn is_now(throttle: &Throttle, address: &str, user: &str, now: Millis) -> bool {
        matches!(throttle.admit(address, user, now), Admission::Now)
    }

    fn fail_often(throttle: &Throttle, address: &str, user: &str, now: Millis) {
        (0..FREE_FAILURES).for_each(|_| throttle.failed(address, user, now));
    }

    #[test]
    fn who_fails_often_waits_before_the_next_attempt_whatever_it_is() {
        let throttle = Throttle::new(100, FREE_FAILURES);
        for _ in 0..FREE_FAILURES {
            assert!(is_now(&throttle, "192.0.2.1", "u", 1000));
            throttle.failed("192.0.2.1", "u", 1000);
        }
        let Admission::Wait(place) = throttle.admit("192.0.2.1", "other", 1000) else { panic!() };
        assert_eq!(place.until, 1000 + DELAY_MS);
        assert!(is_now(&throttle, "192.0.2.2", "other", 1000));
        assert!(is_now(&throttle, "192.0.2.1", "u", 1000 + WINDOW_MS));
    }

    #[test]
    fn guesses_from_everywhere_do_not_slow_who_has_logged_in_from_there() {
        let throttle = Throttle::new(100, FREE_FAILURES);
        throttle.succeeded("192.0.2.1", "u", 0);
        (1..20).for_each(|host| throttle.failed(&format!("198.51.100.{host}"), "u", 1000));
        assert!(matches!(throttle.admit("203.0.113.1", "u", 1000), Admission::Wait(_)));
        assert!(is_now(&throttle, "192.0.2.1", "u", 1000) && is_now(&throttle, "203.0.113.1", "v", 1000));
    }

    #[test]
    fn who_has_logged_in_is_slowed_by_its_own_failures_there_alone() {
        let throttle = Throttle::new(100, FREE_FAILURES);
        throttle.succeeded("192.0.2.1", "u", 0);
        fail_often(&throttle, "192.0.2.1", "v", 1000);
        assert!(is_now(&throttle, "192.0.2.1", "u", 1000) && !is_now(&throttle, "192.0.2.1", "w", 1000));
        fail_often(&throttle, "192.0.2.1", "u", 1000);
        assert!(!is_now(&throttle, "192.0.2.1", "u", 1000), "who guesses there waits like anybody");
    }

    #[test]
    fn the_places_are_bounded_and_never_all_taken_from_who_has_not_failed() {
        let throttle = Throttle::new(20, FREE_FAILURES);
        fail_often(&throttle, "192.0.2.1", "u", 0);
        fail_often(&throttle, "192.0.2.2", "u", 0);
        let mut places = Vec::new();
        for (address, waiting) in
            [("192.0.2.1", WAITING_OF_ADDRESS_MAX), ("192.0.2.2", 20 - WAITING_OF_ADDRESS_MAX)]
        {
            for _ in 0..waiting {
                let Admission::Wait(place) = throttle.admit(address, "u", 0) else { panic!() };
                places.push(place);
            }
            assert!(matches!(throttle.admit(address, "u", 0), Admission::TooMany));
        }
        assert!(throttle.hold("192.0.2.3", 1).is_none());
        assert!(is_now(&throttle, "192.0.2.3", "u", 0), "it has done nothing");
        places.clear();
        assert!(matches!(throttle.admit("192.0.2.3", "u", 0), Admission::Wait(_)));
        assert_eq!(throttle.state.lock().waiting_by_address.len(), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let throttle = Throttle::new(100, FREE_FAILURES);
        for number in 0..=REMEMBERED_MAX as u32 {
            let address = core::net::Ipv4Addr::from_bits(number).to_string();
            fail_often(&throttle, &address, &"u".repeat(number as usize), u64::from(number));
            throttle.succeeded(&address, "u", 0);
        }
        let state = throttle.state.lock();
        for recent in [&state.addresses, &state.users, &state.pairs, &state.welcome] {
            assert_eq!((recent.times.len(), recent.by_time.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
            assert!(recent.times.values().all(|times| times.len() <= FREE_FAILURES));
        }
        drop(state);
        assert!(is_now(&throttle, "0.0.0.0", "other", 0) && !is_now(&throttle, "0.0.0.9", "other", 0));
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one() {
        let throttle = Throttle::new(100, FREE_FAILURES);
        for host in 1..=FREE_FAILURES {
            throttle.failed(&format!("2001:db8:0:1::{host}"), &format!("u{host}"), 0);
        }
        assert!(
            !is_now(&throttle, "2001:db8:0:1:a::", "u", 0) && is_now(&throttle, "2001:db8:0:2::1", "u", 0)
        );
        fail_often(&throttle, "192.0.2.1", "v", 0);
        assert!(!is_now(&throttle, "::ffff:192.0.2.1", "w", 0), "the same machine");
    }
}
