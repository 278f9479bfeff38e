//! What can be changed of a vhost while it is there.

use crate::broker::queue::QueueType;

/// What operators set for a vhost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostSettings {
    /// A line about it.
    pub description: String,
    /// What operators file it under.
    pub tags: Vec<String>,
    /// The type of queues that are declared without one; `None` is the whole broker's.
    pub default_queue_type: Option<QueueType>,
    /// Whether messages are copied to `amq.rabbitmq.trace`.
    pub tracing: bool,
    /// What there may be in it.
    pub limits: VhostLimits,
}

/// What there may be in a vhost. `None` and what is below zero is no limit; 0 allows none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// The most connections at once; negative or `None` is no limit.
    pub max_connections: Option<i64>,
    /// The most queues; negative or `None` is no limit.
    pub max_queues: Option<i64>,
}

/// The limit, if `count` has reached it.
pub fn reached(limit: Option<i64>, count: usize) -> Option<i64> {
    limit.filter(|limit| *limit >= 0 && i64::try_from(count).unwrap_or(i64::MAX) >= *limit)
}

#[cfg(test)]
mod tests {
    use super::reached;

    #[test]
    fn below_zero_is_no_limit_and_zero_allows_none() {
        assert_eq!(reached(None, 5), None);
        assert_eq!(reached(Some(-1), 5), None);
        assert_eq!(reached(Some(0), 0), Some(0));
        assert_eq!((reached(Some(2), 1), reached(Some(2), 2)), (None, Some(2)));
    }
}
