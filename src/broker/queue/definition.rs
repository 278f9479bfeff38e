//! What was declared: a queue's properties, and the arguments that it recognises. It never changes, so it is shared freely;
//! what policies can change is in [`QueueSettings`], of which the queue keeps those in force.

use crate::broker::error::Resource;
use crate::message::{ConnectionId, EncodedTable, Message, Millis, NEVER, Name, QueueId, ShortStr};

pub use crate::vocabulary::QueueType;

/// Quorum queues know priorities 0 to 31; a message without one has 4.
pub(super) const QUORUM_PRIORITY_MAX: u8 = 31;
const QUORUM_PRIORITY_DEFAULT: u8 = 4;

/// What a full queue does with the next message: x-overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest messages make room.
    #[default]
    DropHead,
    /// New ones are refused.
    RejectPublish,
    /// New ones are refused and dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    /// The words that there are.
    pub const NAMES: [&'static str; 3] = ["drop-head", "reject-publish", "reject-publish-dlx"];

    /// What the word stands for.
    pub fn named(name: &str) -> Option<Overflow> {
        match name {
            "drop-head" => Some(Overflow::DropHead),
            "reject-publish" => Some(Overflow::RejectPublish),
            "reject-publish-dlx" => Some(Overflow::RejectPublishDlx),
            _ => None,
        }
    }
}

/// How surely a dead letter arrives: x-dead-letter-strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    /// A message that has nowhere to go is dropped.
    #[default]
    AtMostOnce,
    /// It stays until it has.
    AtLeastOnce,
}

impl DeadLetterStrategy {
    /// The words that there are.
    pub const NAMES: [&'static str; 2] = ["at-most-once", "at-least-once"];

    /// What the word stands for.
    pub fn named(name: &str) -> Option<DeadLetterStrategy> {
        match name {
            "at-most-once" => Some(DeadLetterStrategy::AtMostOnce),
            "at-least-once" => Some(DeadLetterStrategy::AtLeastOnce),
            _ => None,
        }
    }
}

/// A queue's settings in effect, from its arguments and the policies that match it. Arguments alone can't be overruled in the rest:
/// that is in [`QueueDefinition`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueSettings {
    /// Every message's time to live.
    pub message_ttl_ms: Option<u64>,
    /// How long the queue may be unused before it is deleted, in milliseconds.
    pub expires_ms: Option<u64>,
    /// The most ready messages.
    pub max_length: Option<u64>,
    /// Bytes of ready bodies.
    pub max_length_bytes: Option<u64>,
    /// What happens at those limits.
    pub overflow: Overflow,
    /// Where dead messages go.
    pub dead_letter_exchange: Option<Name>,
    /// Under which key; the message's own when there is none.
    pub dead_letter_routing_key: Option<ShortStr>,
    /// Whether a dead message may get lost.
    pub dead_letter_strategy: DeadLetterStrategy,
    /// Failed deliveries after which a message is dead.
    pub delivery_limit: Option<u32>,
    /// How long a consumer may take to acknowledge; in milliseconds; 0 is no limit, `None` the broker's own setting.
    pub consumer_timeout_ms: Option<u64>,
    /// How old the entries of a stream may get, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// How long a stream remembers a publisher's name that is not used, in milliseconds.
    pub publisher_expires_ms: Option<u64>,
    /// The same of a consumer's.
    pub offset_expires_ms: Option<u64>,
}

impl QueueSettings {
    /// When a message that came at `enqueued_at` expires, or [`NEVER`].
    pub(super) fn expires_at(&self, message: &Message, enqueued_at: Millis) -> Millis {
        let ttl_ms = match (self.message_ttl_ms, message.expiration_ms()) {
            (Some(queue), Some(message)) => Some(queue.min(message)),
            (queue, message) => queue.or(message),
        };
        ttl_ms.map_or(NEVER, |ttl_ms| enqueued_at.saturating_add(ttl_ms))
    }
}

/// What was declared. It never changes.
#[derive(Clone, Debug)]
pub struct QueueDefinition {
    /// The queue's id, which is never used again.
    pub id: QueueId,
    /// The name of its vhost.
    pub vhost: Name,
    /// Its name, unique in the vhost.
    pub name: Name,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Deleted when its last consumer leaves.
    pub auto_delete: bool,
    /// Belongs to one connection, and goes with it.
    pub exclusive_owner: Option<ConnectionId>,
    /// Its arguments, as declared.
    pub arguments: EncodedTable,
    /// Its type, from x-queue-type or the vhost's default.
    pub queue_type: QueueType,
    /// The highest priority that is distinguished; `None` when priorities are ignored.
    pub max_priority: Option<u8>,
    /// One consumer at a time.
    pub single_active_consumer: bool,
    /// Of a stream: bytes after which a segment of its log is sealed; `None` is the default.
    pub segment_bytes: Option<u64>,
    /// What its arguments say of what policies can change. What counts is [`super::QueueHandle::settings`].
    pub declared: QueueSettings,
}

impl QueueDefinition {
    /// The queue as error texts name it.
    pub fn resource(&self) -> Resource {
        Resource::queue(&self.vhost, &self.name)
    }

    /// Whether the queue's messages outlive the broker if they are persistent.
    pub fn survives_restart(&self) -> bool {
        self.durable && self.exclusive_owner.is_none()
    }

    /// The lane of the queue that the message goes to.
    pub fn priority_of(&self, message: &Message) -> u8 {
        let default = if self.queue_type == QueueType::Quorum { QUORUM_PRIORITY_DEFAULT } else { 0 };
        self.max_priority.map_or(0, |max| message.priority().unwrap_or(default).min(max))
    }

    /// Whether this message is to be kept by the journal.
    pub fn journals(&self, message: &Message) -> bool {
        self.exclusive_owner.is_none() && self.counts_as_persistent(message)
    }

    /// Whether it is a persistent message here: in a durable queue one that asked for it, in a quorum queue or a stream each.
    pub fn counts_as_persistent(&self, message: &Message) -> bool {
        self.durable && (message.is_persistent() || self.queue_type != QueueType::Classic)
    }
}
