//! Pacing: when which message is due.

use std::time::Duration;

/// How many messages there are to be in a second; without a limit all are due at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    per_second: Option<f64>,
}

impl Pace {
    pub(super) fn new(per_second: Option<f64>) -> Pace {
        Pace { per_second }
    }

    /// How many messages are due after that time. The first is due at once; a delay is caught up with.
    pub(super) fn due(self, elapsed: Duration) -> u64 {
        match self.per_second {
            Some(rate) => (elapsed.as_secs_f64() * rate) as u64 + 1,
            None => u64::MAX,
        }
    }

    /// When the message is due before which `sent` have gone; `None` when that is always.
    pub(super) fn next(self, sent: u64) -> Option<Duration> {
        self.per_second.map(|rate| Duration::from_secs_f64(sent as f64 / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spread_over_a_second() {
        let pace = Pace::new(Some(4.0));
        let due = |millis| pace.due(Duration::from_millis(millis));
        assert_eq!([0, 249, 250, 999, 1000].map(due), [1, 1, 2, 4, 5]);
        assert_eq!(pace.next(0), Some(Duration::ZERO));
        assert_eq!(pace.next(3), Some(Duration::from_millis(750)));
        assert_eq!(Pace::new(Some(0.5)).next(1), Some(Duration::from_secs(2)));
    }

    #[test]
    fn without_a_limit_all_is_due() {
        let pace = Pace::new(None);
        assert_eq!((pace.due(Duration::ZERO), pace.next(7)), (u64::MAX, None));
    }

    #[test]
    fn what_is_next_is_due_when_it_says_so() {
        for rate in [1.0, 3.0, 7.0, 999.0, 5000.0] {
            let pace = Pace::new(Some(rate));
            for sent in 0..2000 {
                // A nanosecond of rounding does not matter: the timer is coarser.
                let at = pace.next(sent).unwrap() + Duration::from_nanos(1);
                assert!(pace.due(at) > sent, "message {sent} at {rate} a second");
            }
        }
    }
}
