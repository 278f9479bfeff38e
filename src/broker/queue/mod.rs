//! Queues: [`QueueHandle`] is what others hold of one, and its verbs are what they can do with it. What a queue is behind them is
//! its kind's: `classic/` or `stream/`.

mod arguments;
mod classic;
mod definition;
mod handle;
mod published;
mod publishers;
mod stream;
mod stream_verbs;
mod verbs;

pub(crate) use arguments::{inequivalent, same_value};
pub(in crate::broker) use classic::cycles;
pub use classic::{
    ConsumerState, Credit, DeadLetter, DeathReason, DeliveredRun, Discard, Glimpse, NewConsumer, PageRequest,
    Persistent, QueueState, SeenMessage, Window,
};
pub use definition::{DeadLetterStrategy, Overflow, QueueDefinition, QueueSettings, QueueType};
pub(in crate::broker) use handle::check;
pub use handle::{ConsumeRequest, QueueDeclaration, QueueHandle};
pub use stream::{
    PublisherCounts, Sequenced, StreamFilter, StreamGroup, StreamOffset, StreamPublisher, StreamState,
    Streams, Subscription, SubscriptionState, Verdict,
};
pub(in crate::broker) use stream::{Stream, age_ms, tracking_queue};

use super::delivery::Entry;

/// Counts of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that wait for a consumer.
    pub ready: usize,
    /// Messages that wait for an acknowledgement.
    pub unacked: usize,
    /// How many consumers it has.
    pub consumers: usize,
}

/// What basic.get found in the queue.
#[derive(Debug)]
pub enum Got {
    /// A message, and how many ready ones are left.
    Message {
        /// The message that was taken.
        entry: Box<Entry>,
        /// How many are left.
        left: usize,
    },
    /// The queue is empty.
    Empty,
    /// The next message is being read back; ask again when the turn's effects are applied.
    NotInMemory,
    /// More have expired than the turn has time to drop; ask again in another turn.
    NotYet,
}
