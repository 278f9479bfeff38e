//! What is counted: messages, and how long their confirms and deliveries took.

use hdrhistogram::Histogram;
use std::ops::AddAssign;

/// Longer latencies count as this long: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Percentiles are right within a hundredth.
const DIGITS: u8 = 2;

/// How many messages there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) confirmed: u64,
    /// basic.nack.
    pub(super) rejected: u64,
    /// basic.return.
    pub(super) returned: u64,
    pub(super) received: u64,
    /// Those of them that came as redelivered.
    pub(super) redelivered: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.published += other.published;
        self.confirmed += other.confirmed;
        self.rejected += other.rejected;
        self.returned += other.returned;
        self.received += other.received;
        self.redelivered += other.redelivered;
    }
}

/// How long things took, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// The distribution of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) least: u64,
    pub(super) p50: u64,
    pub(super) p75: u64,
    pub(super) p95: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) most: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        Latencies(histogram.expect("the bounds are in order"))
    }
}

impl Latencies {
    pub(super) fn record(&mut self, us: u64) {
        self.0.saturating_record(us);
    }

    /// `None` when there was nothing.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.0.value_at_quantile(quantile).min(self.0.max());
        (!self.0.is_empty()).then(|| Percentiles {
            least: self.0.min(),
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            most: self.0.max(),
        })
    }

    fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both have the same bounds");
    }
}

/// What one connection, or all of them, have counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    pub(super) counts: Counts,
    /// From publishing to the confirm.
    pub(super) confirm: Latencies,
    /// From publishing to the delivery.
    pub(super) delivery: Latencies,
    /// When something was last counted, in microseconds since the epoch.
    pub(super) last_us: u64,
    /// Why the broker takes no messages at present, in its own words.
    pub(super) blocked: Option<String>,
}

impl Meter {
    /// Moves what was counted into `whole`.
    pub(super) fn drain_into(&mut self, whole: &mut Meter) {
        let counts = std::mem::take(&mut self.counts);
        whole.counts += counts;
        whole.last_us = whole.last_us.max(self.last_us);
        for (own, into) in
            [(&mut self.confirm, &mut whole.confirm), (&mut self.delivery, &mut whole.delivery)]
        {
            if !own.0.is_empty() {
                into.add(own);
                own.0.reset();
            }
        }
        if self.blocked.is_some() {
            whole.blocked.clone_from(&self.blocked);
        }
    }
}

/// What happened in some time, as a rule a second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// When it ended, in seconds since the start.
    pub(super) at_s: f64,
    pub(super) seconds: f64,
    pub(super) counts: Counts,
    pub(super) confirm: Option<Percentiles>,
    pub(super) delivery: Option<Percentiles>,
}

impl Sample {
    pub(super) fn of(meter: &Meter, from_s: f64, at_s: f64) -> Sample {
        Sample {
            at_s,
            seconds: at_s - from_s,
            counts: meter.counts,
            confirm: meter.confirm.percentiles(),
            delivery: meter.delivery.percentiles(),
        }
    }

    /// How many there are in a second.
    pub(super) fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_hundredth() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        (1..=10_000).for_each(|us| latencies.record(us));
        let found = latencies.percentiles().unwrap();
        let right = [1, 5000, 7500, 9500, 9900, 9990, 10_000];
        let all = [found.least, found.p50, found.p75, found.p95, found.p99, found.p999, found.most];
        for (found, right) in all.into_iter().zip(right) {
            assert!(found.abs_diff(right) * 100 <= right, "{found} instead of {right}");
        }
        latencies.record(u64::MAX);
        assert!(latencies.percentiles().unwrap().most >= LATENCY_US_MAX);
    }

    #[test]
    fn what_is_drained_counts_once() {
        let (mut one, mut whole) = (Meter::default(), Meter::default());
        one.counts.published = 3;
        one.confirm.record(10);
        one.last_us = 7;
        one.blocked = Some("low on memory".to_owned());
        one.drain_into(&mut whole);
        one.drain_into(&mut whole);
        assert_eq!((whole.counts.published, whole.last_us), (3, 7));
        assert_eq!(whole.confirm.0.len(), 1);
        assert_eq!(whole.blocked.as_deref(), Some("low on memory"));
        let sample = Sample::of(&whole, 1.0, 3.0);
        assert_eq!((sample.rate(3), sample.confirm.unwrap().p50, sample.delivery), (1.5, 10, None));
    }
}
