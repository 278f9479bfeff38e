//! How much a consumer may be given: by a prefetch count, or by credit that it grants (AMQP 1.0 section 2.6.7).

use super::Queue;
use crate::broker::delivery::Outgoing;
use crate::broker::turn::Turn;
use crate::message::ConsumerId;

/// How much a consumer may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// It may have this many deliveries unacknowledged; 0 is no limit, nor is there one for deliveries that need no acknowledgement.
    Prefetch(u32),
    /// It may be given as many deliveries as it has granted, whatever has become of those before.
    Absolute {
        /// The deliveries that it was given, and those that it was never given because it had its credit drained. Begins
        /// anywhere, and wraps.
        delivery_count: u32,
        /// How many more it may be given.
        credit: u32,
        /// What can't be used of the credit at once is used up, and the session gets an [`Outgoing::Drained`].
        drain: bool,
    },
}

impl Credit {
    /// How many more deliveries it is good for.
    pub(in crate::broker::queue) fn left(self, no_ack: bool, unacked: u32) -> u32 {
        match self {
            Credit::Prefetch(0) => u32::MAX,
            Credit::Prefetch(_) if no_ack => u32::MAX,
            Credit::Prefetch(count) => count.saturating_sub(unacked),
            Credit::Absolute { credit, .. } => credit,
        }
    }

    /// The prefetch count; 0 is no limit, or none of its kind.
    pub(in crate::broker::queue) fn prefetch_count(self) -> u32 {
        match self {
            Credit::Prefetch(count) => count,
            Credit::Absolute { .. } => 0,
        }
    }

    /// The consumer has been given deliveries, of which there are no more than are [left](Credit::left).
    #[inline]
    pub(in crate::broker::queue) fn spend(&mut self, deliveries: u32) {
        if let Credit::Absolute { delivery_count, credit, .. } = self {
            *delivery_count = delivery_count.wrapping_add(deliveries);
            *credit = credit.saturating_sub(deliveries);
        }
    }

    /// The consumer grants credit from a delivery count that it has seen, which may be behind: what is on its way to it has used
    /// some of that already.
    pub(in crate::broker::queue) fn grant(&mut self, granted: Credit) {
        *self = match (*self, granted) {
            (
                Credit::Absolute { delivery_count, .. },
                Credit::Absolute { delivery_count: seen, credit: granted, drain },
            ) => {
                let used = delivery_count.wrapping_sub(seen);
                // A count from ahead of ours is a mistake of the client's, which gets no credit out of it.
                let credit = if used > u32::MAX / 2 { 0 } else { granted.saturating_sub(used) };
                Credit::Absolute { delivery_count, credit, drain }
            }
            (_, granted) => granted,
        };
    }

    /// Whether it is to be used up.
    pub(super) fn is_draining(self) -> bool {
        matches!(self, Credit::Absolute { drain: true, .. })
    }

    /// Uses up all that is left, and says how much that was. It is drained once, until the consumer asks for it again.
    pub(super) fn drain(&mut self) -> u32 {
        let Credit::Absolute { delivery_count, credit, drain } = self else { return 0 };
        *drain = false;
        let left = std::mem::take(credit);
        *delivery_count = delivery_count.wrapping_add(left);
        left
    }
}

impl Queue {
    /// A consumer grants credit, or changes its prefetch count.
    pub(in crate::broker::queue) fn grant(&mut self, consumer: ConsumerId, credit: Credit, turn: &mut Turn) {
        self.consumers.grant(consumer, credit);
        self.dispatch(turn);
    }

    /// What is left of the credit of consumers that have it drained, and that get nothing more at once, is used up.
    pub(super) fn drain_credit(&mut self, turn: &mut Turn) {
        for (consumer, count) in self.consumers.drain(self.ready.is_empty()) {
            let mut outbox = consumer.outbox.open(consumer.link);
            if outbox.is_empty() {
                turn.wake(&consumer.outbox);
            }
            outbox.push_back(Outgoing::Drained { link: consumer.link, consumer: consumer.id, count });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absolute(delivery_count: u32, credit: u32) -> Credit {
        Credit::Absolute { delivery_count, credit, drain: false }
    }

    #[test]
    fn prefetch_counts_what_is_unacknowledged() {
        assert_eq!(Credit::Prefetch(0).left(false, 9), u32::MAX);
        assert_eq!(Credit::Prefetch(2).left(true, 9), u32::MAX);
        assert_eq!([0, 1, 2, 3].map(|unacked| Credit::Prefetch(2).left(false, unacked)), [2, 1, 0, 0]);
        assert_eq!(Credit::Prefetch(100_000).prefetch_count(), 100_000);
    }

    #[test]
    fn granted_credit_counts_from_what_the_consumer_has_seen() {
        let mut credit = absolute(u32::MAX - 1, 5);
        credit.spend(3);
        assert_eq!(credit, absolute(1, 2));
        assert_eq!((credit.left(false, 9), credit.left(true, 9), credit.prefetch_count()), (2, 2, 0));
        // Two of the three are still on their way to it.
        credit.grant(absolute(u32::MAX, 10));
        assert_eq!(credit, absolute(1, 8));
        credit.grant(absolute(u32::MAX, 1));
        assert_eq!(credit, absolute(1, 0), "it has been given more than it grants by now");
        credit.grant(absolute(2, 7));
        assert_eq!(credit, absolute(1, 0), "it can't have seen that");
    }

    #[test]
    fn what_is_drained_counts_as_delivered() {
        let mut credit = Credit::Absolute { delivery_count: u32::MAX, credit: 3, drain: true };
        assert!(credit.is_draining());
        assert_eq!((credit.drain(), credit), (3, absolute(2, 0)));
        assert!(!credit.is_draining());
        assert_eq!(Credit::Prefetch(3).drain(), 0);
    }
}
