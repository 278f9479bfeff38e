//! Metrics of streams: how far behind those are who consume them, and what publishers have sent again.

use super::exposition::Metric;
use super::objects::float;
use crate::broker::queue::{StreamGroup, StreamState};
use crate::message::Millis;

/// Those who consume a stream under one name, at one time.
pub(super) struct Group {
    group: StreamGroup,
    lag_ms: u64,
}

impl Group {
    pub(super) fn at(now: Millis, group: StreamGroup) -> Group {
        let lag_ms = group.unread_at.map_or(0, |at| now.saturating_sub(at));
        Group { group, lag_ms }
    }
}

/// The family `stream_consumer_metrics`.
pub(super) const STREAM_LAGS: &[Metric<StreamState>] = &[Metric::greatest(
    "stream_consumer_max_offset_lag",
    "How far the consumer that is furthest back is from the end of its stream",
    |stream| float(stream.max_lag.unwrap_or(0)),
)];

/// Leveret's own: publishers of streams with names.
pub(super) const STREAM_PUBLISHERS: &[Metric<StreamState>] = &[
    Metric::counter(
        "stream_publishes_duplicate_total",
        "Messages that a publisher with a name has sent again",
        |stream| float(stream.duplicates),
    ),
    Metric::counter(
        "stream_publishes_refused_total",
        "Messages of publishers whose name was taken over by a later epoch",
        |stream| float(stream.refused),
    ),
];

/// Leveret's own: those who consume streams by name, whether they are connected or not.
pub(super) const STREAM_GROUPS: &[Metric<Group>] = &[
    Metric::greatest(
        "stream_group_lag",
        "Messages that follow what the consumers of a name have acknowledged; of all names the most",
        |group| float(group.group.lag),
    ),
    Metric::greatest(
        "stream_group_lag_seconds",
        "How long the first message has been there that the consumers of a name have not acknowledged; of all names the longest",
        |group| float(group.lag_ms) / 1000.0,
    ),
    Metric::single(
        "stream_group_committed_offset",
        "The last offset that the consumers of a name have acknowledged",
        |group| group.group.committed.map_or(f64::NAN, float),
    ),
    Metric::gauge("stream_group_members", "Connected consumers with a name", |group| {
        float(group.group.members)
    }),
];
