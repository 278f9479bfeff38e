//! How many messages waited over the last minutes. What stays the same is noted once, so that a queue in which nothing moves
//! costs next to nothing.

use super::stats::SAMPLE_INTERVAL_MS;
use crate::message::Millis;
use std::collections::VecDeque;

/// How far back is remembered.
pub const HISTORY_MS: u64 = 600_000;

/// The most that is noted.
const STEPS_MAX: usize = (HISTORY_MS / SAMPLE_INTERVAL_MS) as usize + 1;

/// How many messages there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Length {
    /// Those that waited for a consumer.
    pub ready: u64,
    /// Those that waited for an acknowledgement.
    pub unacked: u64,
}

impl Length {
    fn is_nothing(&self) -> bool {
        *self == Length::default()
    }
}

/// A queue's length over the last minutes; see the module.
#[derive(Clone, Debug, Default)]
pub struct Lengths(VecDeque<(Millis, Length)>);

impl Lengths {
    /// Notes how many there are.
    pub fn note(&mut self, at: Millis, length: Length) {
        let steps = &mut self.0;
        if steps.back().map_or(Length::default(), |(_, last)| *last) != length {
            steps.push_back((at, length));
        }
        // The first one stays as long as it says how it was when all that is remembered begins.
        let begins = at.saturating_sub(HISTORY_MS);
        while steps.len() > STEPS_MAX || steps.get(1).is_some_and(|(next, _)| *next <= begins) {
            steps.pop_front();
        }
        if steps.len() == 1
            && steps.front().is_some_and(|(noted, last)| *noted <= begins && last.is_nothing())
        {
            *steps = VecDeque::new();
        }
    }

    /// How many there were.
    pub fn at(&self, at: Millis) -> Length {
        let noted = self.0.iter().rev().find(|(noted, _)| *noted <= at);
        noted.map(|(_, length)| *length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(ready: u64) -> Length {
        Length { ready, unacked: 0 }
    }

    #[test]
    fn what_was_noted_last_holds_until_the_next() {
        let mut lengths = Lengths::default();
        for (at, count) in [(5000, 0), (10_000, 3), (15_000, 3), (20_000, 1)] {
            lengths.note(at, ready(count));
        }
        let seen = [4000, 9999, 10_000, 19_999, 20_000, 99_000].map(|at| lengths.at(at).ready);
        assert_eq!(seen, [0, 0, 3, 3, 1, 1]);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut lengths = Lengths::default();
        for step in 1..1000 {
            lengths.note(step * SAMPLE_INTERVAL_MS, ready(step));
        }
        assert_eq!(lengths.0.len(), STEPS_MAX);
        let end = 999 * SAMPLE_INTERVAL_MS;
        assert_eq!(lengths.at(end - HISTORY_MS), ready(999 - 120));
        lengths.note(end + 1, ready(0));
        lengths.note(end + 1 + HISTORY_MS, ready(0));
        assert_eq!(lengths.0.capacity(), 0, "an idle queue remembers nothing");
        assert_eq!(lengths.at(end), ready(0));
    }
}
