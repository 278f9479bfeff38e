//! Counters of what was done with messages, and how fast they move.
//!
//! A counter is a plain number in something that its writer holds anyway: a queue under its lock, a channel in its task. It
//! only grows. Now and then the broker takes a sample of each; a rate is what the last two samples differ by.

use super::lengths::Length;
use crate::broker::queue::{DeathReason, QueueType};
use crate::message::Millis;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often samples are taken.
pub const SAMPLE_INTERVAL_MS: u64 = 5000;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of messages. What they are of says which of them can be other than 0.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct MessageStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl MessageStats {
            /// Adds the counts of another one.
            #[inline]
            pub fn add(&mut self, other: &MessageStats) {
                $(self.$name += other.$name;)*
            }

            /// What has come on top of an earlier state.
            #[inline]
            pub fn since(&self, earlier: &MessageStats) -> MessageStats {
                MessageStats { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }

            /// All counts, by the names that RabbitMQ has for them.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Taken from publishers; of a queue, put into it.
    publish,
    /// Of those taken from publishers the ones on channels that confirm.
    publish_confirm,
    /// What publishers put into queues: a message that goes into three counts three times.
    routed,
    /// How many were confirmed to publishers.
    confirm,
    /// Sent back, since they were mandatory and led nowhere.
    return_unroutable,
    /// Dropped, since they led nowhere.
    drop_unroutable,
    /// Delivered to consumers that acknowledge.
    deliver,
    /// Delivered to consumers that do not.
    deliver_no_ack,
    /// Fetched, to be acknowledged.
    get,
    /// Fetched by basic.get without acknowledgement.
    get_no_ack,
    /// Fetches that found nothing.
    get_empty,
    /// Acknowledged by consumers.
    ack,
    /// Of the delivered ones those that had been delivered before.
    redeliver,
    /// Dead, since a consumer refused them.
    dead_rejected,
    /// Dead-lettered or dropped, since they expired.
    dead_expired,
    /// Dead-lettered or dropped, since the queue was full.
    dead_maxlen,
    /// Dead, since they were delivered in vain too often.
    dead_delivery_limit,
    /// Of the dead ones those that went to a dead-letter exchange.
    dead_lettered_rejected,
    /// See [`MessageStats::dead_lettered_rejected`].
    dead_lettered_expired,
    /// See [`MessageStats::dead_lettered_rejected`].
    dead_lettered_maxlen,
    /// See [`MessageStats::dead_lettered_rejected`].
    dead_lettered_delivery_limit,
}

impl MessageStats {
    /// All that went to consumers and fetchers.
    pub fn deliver_get(&self) -> u64 {
        self.deliver + self.deliver_no_ack + self.get + self.get_no_ack
    }

    /// Counts messages that were rejected, have expired or were too many, and went to a dead-letter exchange or nowhere.
    pub fn count_dead(&mut self, reason: DeathReason, messages: u64, is_lettered: bool) {
        let (dead, lettered) = match reason {
            DeathReason::Rejected => (&mut self.dead_rejected, &mut self.dead_lettered_rejected),
            DeathReason::Expired => (&mut self.dead_expired, &mut self.dead_lettered_expired),
            DeathReason::MaxLength => (&mut self.dead_maxlen, &mut self.dead_lettered_maxlen),
            DeathReason::DeliveryLimit => {
                (&mut self.dead_delivery_limit, &mut self.dead_lettered_delivery_limit)
            }
        };
        *dead += messages;
        *lettered += if is_lettered { messages } else { 0 };
    }
}

/// Counts of something at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<T> {
    /// When it was taken.
    pub at: Millis,
    /// The counts at that time.
    pub counts: T,
}

/// The last two samples of something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Samples<T> {
    last: Option<Sample<T>>,
    before: Option<Sample<T>>,
}

impl<T: Copy> Samples<T> {
    /// Adds a sample in the place of the one before the last.
    pub fn take(&mut self, at: Millis, counts: T) {
        // Two within the same moment have no rate.
        if self.last.is_some_and(|last| at <= last.at) {
            return;
        }
        self.before = self.last.replace(Sample { at, counts });
    }

    /// How much one of the counts moves in a second; 0 until there are two samples.
    pub fn rate(&self, count: impl Fn(&T) -> u64) -> f64 {
        let (Some(last), Some(before)) = (&self.last, &self.before) else { return 0.0 };
        let seconds = (last.at - before.at) as f64 / 1000.0;
        (count(&last.counts) as f64 - count(&before.counts) as f64) / seconds
    }
}

/// How the whole broker, or a vhost, stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalSample {
    /// What clients have done with messages.
    pub stats: MessageStats,
    /// Comings and goings; of a vhost none are counted.
    pub churn: Churn,
    /// Messages that waited for a consumer.
    pub ready: u64,
    /// Messages that waited for an acknowledgement.
    pub unacked: u64,
}

impl TotalSample {
    /// How many messages there were.
    pub fn length(&self) -> Length {
        Length { ready: self.ready, unacked: self.unacked }
    }
}

/// How a queue stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSample {
    /// What was done with its messages.
    pub stats: MessageStats,
    /// Messages that waited for a consumer.
    pub ready: u64,
    /// Messages that waited for an acknowledgement.
    pub unacked: u64,
}

/// What an exchange has seen. Many sessions publish to one exchange, so these are shared; each batch is counted once.
#[derive(Debug, Default)]
pub struct ExchangeCounters {
    published_in: AtomicU64,
    published_out: AtomicU64,
}

/// The counts of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeStats {
    /// Messages that were published to it.
    pub publish_in: u64,
    /// Messages that it put into queues.
    pub publish_out: u64,
}

impl ExchangeCounters {
    /// Counts messages that were each routed to that many queues.
    pub fn count(&self, messages: usize, queues: usize) {
        self.published_in.fetch_add(messages as u64, Ordering::Relaxed);
        if queues > 0 {
            self.published_out.fetch_add((messages * queues) as u64, Ordering::Relaxed);
        }
    }

    /// The counts so far.
    pub fn stats(&self) -> ExchangeStats {
        ExchangeStats {
            publish_in: self.published_in.load(Ordering::Relaxed),
            publish_out: self.published_out.load(Ordering::Relaxed),
        }
    }
}

impl ExchangeStats {
    /// Adds the counts of another one.
    pub fn add(&mut self, other: &ExchangeStats) {
        self.publish_in += other.publish_in;
        self.publish_out += other.publish_out;
    }
}

/// What moved over a connection, or over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received from clients.
    pub received_bytes: u64,
    /// Reads in which they came.
    pub received_count: u64,
    /// Bytes that were to be sent.
    pub sent_bytes: u64,
    /// Pieces in which they were handed to the socket.
    pub sent_count: u64,
}

impl Traffic {
    /// Adds what moved elsewhere.
    pub(in crate::broker) fn add(&mut self, other: &Traffic) {
        self.received_bytes += other.received_bytes;
        self.received_count += other.received_count;
        self.sent_bytes += other.sent_bytes;
        self.sent_count += other.sent_count;
    }
}

/// Upper bounds of the buckets of body sizes, in bytes: RabbitMQ's.
pub const SIZE_BOUNDS: [u64; 8] =
    [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];

/// How large the bodies of published messages were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageSizes {
    /// How many were up to each of [`SIZE_BOUNDS`] and above the one before; the last ones were above all of them.
    pub counts: [u64; SIZE_BOUNDS.len() + 1],
    /// Bytes of all of them.
    pub bytes: u64,
}

impl MessageSizes {
    /// Counts one. Each message is, and most are small.
    #[inline]
    pub fn count(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes += bytes;
        match bytes <= SIZE_BOUNDS[0] {
            true => self.counts[0] += 1,
            false => self.counts[SIZE_BOUNDS.partition_point(|bound| *bound < bytes)] += 1,
        }
    }

    /// Whether none was counted.
    pub fn is_empty(&self) -> bool {
        // One that is not in the first count has bytes.
        self.counts[0] == 0 && self.bytes == 0
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &MessageSizes) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.bytes += other.bytes;
    }
}

/// What was counted of things that are gone, so that no sum over all of them ever falls.
#[derive(Debug, Default)]
pub(in crate::broker) struct Retired {
    /// What was done with the messages of queues, by type of queue.
    pub(in crate::broker) queues: BTreeMap<QueueType, MessageStats>,
    /// What exchanges have seen.
    pub(in crate::broker) exchanges: ExchangeStats,
}

/// Comings and goings since the broker started.
#[derive(Debug, Default)]
pub struct ChurnCounters {
    channel_created: AtomicU64,
    channel_closed: AtomicU64,
    pub(in crate::broker) queue_declared: AtomicU64,
    pub(in crate::broker) queue_created: AtomicU64,
    pub(in crate::broker) queue_deleted: AtomicU64,
}

/// The counts of [`ChurnCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Connections that opened a vhost.
    pub connection_created: u64,
    /// Those of them that ended.
    pub connection_closed: u64,
    /// Channels that were opened.
    pub channel_created: u64,
    /// Those of them that ended.
    pub channel_closed: u64,
    /// Times that a queue was declared, whether it was there or not.
    pub queue_declared: u64,
    /// Queues that were made.
    pub queue_created: u64,
    /// How many queues were deleted.
    pub queue_deleted: u64,
}

impl ChurnCounters {
    /// The counts so far, with how many connections were opened and how many of those have ended.
    pub(in crate::broker) fn counts(&self, (connection_created, connection_closed): (u64, u64)) -> Churn {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Churn {
            connection_created,
            connection_closed,
            channel_created: read(&self.channel_created),
            channel_closed: read(&self.channel_closed),
            queue_declared: read(&self.queue_declared),
            queue_created: read(&self.queue_created),
            queue_deleted: read(&self.queue_deleted),
        }
    }
}

impl ChurnCounters {
    /// A channel was opened.
    pub fn channel_created(&self) {
        count(&self.channel_created);
    }

    /// A channel has ended.
    pub fn channel_closed(&self) {
        count(&self.channel_closed);
    }
}

pub(in crate::broker) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Churn {
    /// All counts, by the names that RabbitMQ has for them.
    pub fn each(&self) -> [(&'static str, u64); 7] {
        [
            ("channel_closed", self.channel_closed),
            ("channel_created", self.channel_created),
            ("connection_closed", self.connection_closed),
            ("connection_created", self.connection_created),
            ("queue_created", self.queue_created),
            ("queue_declared", self.queue_declared),
            ("queue_deleted", self.queue_deleted),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_up_to_their_bounds() {
        let mut sizes = MessageSizes::default();
        assert!(sizes.is_empty());
        sizes.count(0);
        assert!(!sizes.is_empty());
        for bytes in [100, 101, 1000, 1001, 100_000_000, 100_000_001] {
            sizes.count(bytes);
        }
        assert_eq!(sizes.counts, [2, 2, 1, 0, 0, 0, 0, 1, 1]);
        let mut twice = sizes;
        twice.add(&sizes);
        assert_eq!((twice.counts[1], twice.bytes), (4, 2 * sizes.bytes));
    }

    #[test]
    fn a_rate_is_what_two_samples_differ_by() {
        let mut samples = Samples::default();
        assert_eq!(samples.rate(|count| *count), 0.0);
        samples.take(1000, 10);
        assert_eq!(samples.rate(|count| *count), 0.0);
        samples.take(6000, 60);
        samples.take(6000, 99);
        assert_eq!(samples.rate(|count| *count), 10.0);
        samples.take(11_000, 10);
        assert_eq!(samples.rate(|count| *count), -10.0, "what is not only growing may fall");
    }
}
