//! Back-pressure: how long publishers pause for consumers that are at work and do not keep up: what they publish meanwhile would only lie
//! in memory, and the processor is better used for delivering.
//!
//! The longer the backlog, the longer the pause for each message, so that publishing slows down until it is as fast as
//! delivering. Consumers that take little at a time slow no publisher: a queue is there to take what they can't yet.

use super::Queue;
use crate::message::Millis;

/// A backlog up to which no publisher pauses.
const BACKLOG_MESSAGES: u64 = 8192;
const BACKLOG_BYTES: u64 = 16 << 20;

/// With backlogs this many times as long, the pause for each message grows no more.
const FACTOR_MAX: u64 = 32;

/// About what it takes to deliver a message, and four bytes of its body.
const MESSAGE_NS: u64 = 500;
const FOUR_BYTES_NS: u64 = 1;

/// Consumers are at work when in so much time they were given what takes so much time to deliver.
const LOOK_MS: u64 = 10;
const AT_WORK_NS: u64 = 100_000;

/// What consumers were given lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Millis,
    given_ns: u64,
    were_at_work: bool,
}

impl Pace {
    /// Consumers were given messages.
    pub(super) fn give(&mut self, messages: u64, bytes: u64, now: Millis) {
        if now.saturating_sub(self.since) >= LOOK_MS {
            self.were_at_work = self.are_at_work(now);
            self.since = now;
            self.given_ns = 0;
        }
        self.given_ns += cost_ns(messages, bytes);
    }

    fn are_at_work(&self, now: Millis) -> bool {
        match now.saturating_sub(self.since) {
            ..LOOK_MS => self.were_at_work || self.given_ns >= AT_WORK_NS,
            age => age < 2 * LOOK_MS && self.given_ns >= AT_WORK_NS,
        }
    }
}

impl Queue {
    /// How long, in nanoseconds, a publisher of that much should pause.
    pub(super) fn hold_back_ns(&self, messages: u64, bytes: u64, now: Millis) -> u64 {
        let backlog = (self.ready.len() as u64 / BACKLOG_MESSAGES).max(self.ready.bytes() / BACKLOG_BYTES);
        if backlog == 0 || !self.pace.are_at_work(now) {
            return 0;
        }
        cost_ns(messages, bytes).saturating_mul(backlog.min(FACTOR_MAX))
    }
}

fn cost_ns(messages: u64, bytes: u64) -> u64 {
    messages.saturating_mul(MESSAGE_NS).saturating_add(bytes / 4 * FOUR_BYTES_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_that_take_much_are_at_work_until_they_stop() {
        let mut pace = Pace::default();
        assert!(!pace.are_at_work(1000));
        pace.give(1000, 0, 1000);
        assert!(pace.are_at_work(1000) && pace.are_at_work(1019));
        assert!(!pace.are_at_work(1020));
        pace.give(1, 0, 1010);
        assert!(pace.are_at_work(1019), "what came in the time before counts");
        assert!(!pace.are_at_work(1020), "one message in ten milliseconds is no work");
    }

    #[test]
    fn consumers_that_take_little_are_not_at_work() {
        let mut pace = Pace::default();
        for now in 1000..2000 {
            pace.give(10, 1000, now);
            assert!(!pace.are_at_work(now));
        }
        pace.give(1, 1 << 20, 2000);
        assert!(pace.are_at_work(2000), "one large message is work");
    }
}
