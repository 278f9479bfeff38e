//! The only source of now. Everything below the edge is handed its time; a test hands in its own.

use crate::message::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that never runs backwards.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Millis;
}

/// The machine's clock: the wall clock at the start, then the monotonic one, so that a correction of the machine's time
/// neither expires messages nor drops connections.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    started_at: Millis,
}

impl SystemClock {
    /// Reads the wall clock once.
    pub fn new() -> SystemClock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SystemClock { started: Instant::now(), started_at: millis(since_epoch.as_millis()) }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        self.started_at + millis(self.started.elapsed().as_millis())
    }
}

fn millis(count: u128) -> Millis {
    Millis::try_from(count).unwrap_or(Millis::MAX)
}

/// A clock that stands still until a test moves it. Clones show the same time.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// A clock that stands at `now` until it is moved.
    pub fn at(now: Millis) -> TestClock {
        TestClock(Arc::new(AtomicU64::new(now)))
    }

    /// Moves the clock forward by that many milliseconds.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::Relaxed)
    }
}
