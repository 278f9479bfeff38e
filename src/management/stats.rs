//! Counters and rates as RabbitMQ writes them: each number with its `_details`.

use crate::api::{Counts, Details, Lengths};
use crate::broker::observe::stats::{Churn, ExchangeStats, MessageStats, Samples, TotalSample};
use crate::message::Millis;
use jiff::Timestamp;

/// What a `message_stats` is of, which says what there is to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatsOf {
    /// A queue: nothing is confirmed or unroutable there.
    Queue,
    /// A channel, a vhost or the whole broker.
    Clients,
}

impl StatsOf {
    /// Whether a count is reported.
    fn counts(self, name: &str) -> bool {
        let is_of_clients = matches!(name, "confirm" | "return_unroutable" | "drop_unroutable");
        let has_own_row = name.starts_with("dead_") || matches!(name, "publish_confirm" | "routed");
        !(has_own_row || self == StatsOf::Queue && is_of_clients)
    }
}

/// `message_stats`; nothing at all where nothing was ever done.
pub(super) fn message_stats(
    of: StatsOf,
    stats: &MessageStats,
    rate: impl Fn(&dyn Fn(&MessageStats) -> u64) -> f64,
) -> Option<Counts> {
    if *stats == MessageStats::default() {
        return None;
    }
    let mut counts = Counts::default();
    for (index, (name, count)) in stats.each().enumerate() {
        if !of.counts(name) {
            continue;
        }
        let rate = rate(&|stats| stats.each().nth(index).map_or(0, |(_, count)| count));
        counts.put(name, count, rate);
    }
    counts.put("deliver_get", stats.deliver_get(), rate(&MessageStats::deliver_get));
    Some(counts)
}

/// `message_stats` of a vhost or of the whole broker.
pub(super) fn total_stats(stats: &MessageStats, samples: &Samples<TotalSample>) -> Counts {
    message_stats(StatsOf::Clients, stats, |count| samples.rate(|sample| count(&sample.stats)))
        .unwrap_or_default()
}

/// How many messages one queue has, or several; `lengths` takes ready and unacked ones out of a sample.
pub(super) fn lengths<T: Copy>(
    (ready, unacked): (u64, u64),
    samples: &Samples<T>,
    lengths: impl Fn(&T) -> (u64, u64),
) -> Lengths {
    let details = |count: fn((u64, u64)) -> u64| Details::of(samples.rate(|sample| count(lengths(sample))));
    Lengths {
        messages: ready + unacked,
        messages_details: details(|(ready, unacked)| ready + unacked),
        messages_ready: ready,
        messages_ready_details: details(|(ready, _)| ready),
        messages_unacknowledged: unacked,
        messages_unacknowledged_details: details(|(_, unacked)| unacked),
    }
}

/// `churn_rates`.
pub(super) fn churn_rates(churn: &Churn, samples: &Samples<TotalSample>) -> Counts {
    let mut counts = Counts::default();
    for (index, (name, count)) in churn.each().into_iter().enumerate() {
        counts.put(name, count, samples.rate(|sample| sample.churn.each()[index].1));
    }
    counts
}

/// `message_stats` of an exchange.
pub(super) fn exchange_stats(stats: &ExchangeStats, samples: &Samples<ExchangeStats>) -> Option<Counts> {
    if *stats == ExchangeStats::default() {
        return None;
    }
    let mut counts = Counts::default();
    counts.put("publish_in", stats.publish_in, samples.rate(|stats| stats.publish_in));
    counts.put("publish_out", stats.publish_out, samples.rate(|stats| stats.publish_out));
    Some(counts)
}

/// How long something has to lie idle until `idle_since` says so, as RabbitMQ's processes do before they sleep.
const IDLE_AFTER_MS: Millis = 1000;

/// `idle_since` of what was last used at a time; `None` while it is in use, for clients that take the field's presence as the sign.
pub(super) fn idle_since(used_at: Millis, now: Millis) -> Option<String> {
    (now.saturating_sub(used_at) >= IDLE_AFTER_MS).then(|| iso8601(used_at))
}

/// A time as RabbitMQ writes `idle_since`: `2026-01-31T12:34:56.789+00:00`.
pub(super) fn iso8601(at: Millis) -> String {
    written(at, "%Y-%m-%dT%H:%M:%S%.3f+00:00")
}

/// A time in UTC, in the form that `strftime` has for it; the last one there is, if it is later.
pub(super) fn written(at: Millis, form: &str) -> String {
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.unwrap_or(Timestamp::MAX).strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_out() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000+00:00"),
            (951_782_399_999, "2000-02-28T23:59:59.999+00:00"),
            (951_782_400_000, "2000-02-29T00:00:00.000+00:00"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001+00:00"),
            (1_795_274_962_937, "2026-11-21T15:29:22.937+00:00"),
        ] {
            assert_eq!(iso8601(at), text);
        }
    }

    #[test]
    fn only_what_is_idle_says_since_when() {
        assert_eq!(idle_since(5000, 5999), None);
        assert_eq!(idle_since(5000, 4000), None, "the clock was set back");
        assert_eq!(idle_since(5000, 6000), Some("1970-01-01T00:00:05.000+00:00".into()));
    }

    #[test]
    fn a_queue_that_nothing_was_done_with_has_no_stats() {
        assert_eq!(message_stats(StatsOf::Queue, &MessageStats::default(), |_| 0.0), None);
        let stats = MessageStats { get: 2, ack: 1, ..MessageStats::default() };
        let shown = message_stats(StatsOf::Queue, &stats, |count| count(&stats) as f64).unwrap();
        assert_eq!(shown.0["deliver_get"], 2);
        assert_eq!(shown.0["ack_details"]["rate"], 1.0);
        assert!(shown.0.get("confirm").is_none() && shown.0.get("dead_expired").is_none());
    }
}
