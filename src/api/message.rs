//! Messages: published, fetched, looked at and moved over HTTP.

use super::Table;
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The properties of a message; only those that it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Properties {
    /// What kind of message it is
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The message's id, as its publisher chose it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Which message it answers
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where answers are to go
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// After how many milliseconds it expires, as a text
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
    /// The user who publishes it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The program that publishes it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// Deprecated by AMQP 0-9-1, and passed on
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// What the body is, such as application/json
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How it is packed, such as gzip
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// When it was made, in seconds since 1970
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// The higher ones come first, in a queue with priorities
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// 2: it outlives a restart in a durable queue; 1: it does not
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_mode: Option<u8>,
    /// Headers, for the application and for headers exchanges
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Table>,
}

/// A message that is to be published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Publish {
    /// What the exchange routes it by
    pub routing_key: String,
    /// The properties that it gets
    #[schemars(with = "Properties")]
    pub properties: Table,
    /// The body, as text or in base64
    pub payload: String,
    /// How the body is written: `string` or `base64`
    pub payload_encoding: String,
}

/// What became of a message that was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Published {
    /// Whether it is in a queue
    pub routed: bool,
}

/// Which messages are to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Get {
    /// What becomes of them: ack_requeue_true, reject_requeue_true, ack_requeue_false or reject_requeue_false
    pub ackmode: String,
    /// How many, at most
    pub count: i64,
    /// How bodies are written: `auto`, as text where they are text, or `base64`
    pub encoding: String,
    /// After how many bytes a body is cut
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<i64>,
}

/// A message that was fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fetched {
    /// How long its body is
    pub payload_bytes: usize,
    /// Whether it was delivered before
    pub redelivered: bool,
    /// The exchange that it was published to
    pub exchange: String,
    /// The routing key that it was published with
    pub routing_key: String,
    /// How many messages were left behind it
    pub message_count: usize,
    /// The properties that it was published with
    pub properties: Properties,
    /// Its body, or the beginning of it
    pub payload: String,
    /// How that is written: `string` or `base64`
    pub payload_encoding: String,
}

/// A page of a queue's messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Browsed {
    /// The messages of this page
    pub items: Vec<Seen>,
    /// Where the next page begins; null when this is the last one
    pub next: Option<String>,
    /// How many messages were looked at
    pub scanned: u64,
    /// Of unacknowledged ones: how many connections have not said in time what they have
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_connections: Option<usize>,
}

/// A message in a queue, looked at where it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Seen {
    /// Its place in the queue
    pub place: String,
    /// `ready` in the queue, or `unacked` by a consumer that has it
    pub state: String,
    /// The exchange that it was published to
    pub exchange: String,
    /// The routing key that it was published with
    pub routing_key: String,
    /// Whether it was delivered before
    pub redelivered: bool,
    /// How often it was delivered in vain
    pub delivery_count: u32,
    /// Its priority in the queue
    pub priority: u8,
    /// When it came, in milliseconds since 1970
    pub enqueued_at: u64,
    /// How long its body is
    pub payload_bytes: usize,
    /// The properties that it was published with
    pub properties: Properties,
    /// Its body, or the beginning of it
    pub payload: String,
    /// How that is written: `string` or `base64`
    pub payload_encoding: String,
    /// Of an unacknowledged one: who has it
    #[serde(flatten)]
    pub holder: Option<Holder>,
}

/// Who has an unacknowledged message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// The name of the connection that has it unacknowledged
    pub connection_name: String,
    /// The number of the channel that has it unacknowledged
    pub channel_number: u16,
    /// The consumer; null if it was fetched
    pub consumer_tag: Option<Name>,
    /// When it was delivered, in milliseconds since 1970
    pub delivered_at: u64,
}

/// Which messages of a queue are to be moved, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Move {
    /// Only those with these headers, with these values where they are not null
    pub headers: Table,
    /// Whether nothing is moved, and only said what would be
    pub dry_run: bool,
    /// How many are looked at, at most
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<i64>,
    /// How many are moved, at most
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// The queue that they go to; without one dead letters go back to the queue that x-first-death-queue names
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How many a second, at most
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<i64>,
    /// Only those behind this place
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What became of messages that were to be moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MoveReport {
    /// How many were looked at
    pub scanned: u64,
    /// How many were moved
    pub moved: u64,
    /// How many of them into which queue
    pub targets: BTreeMap<String, u64>,
    /// How many stay, and why
    pub skipped: BTreeMap<String, u64>,
    /// The place of the last one that was looked at, to go on from; null at the end of the queue
    pub next: Option<String>,
    /// Whether nothing was moved
    pub dry_run: bool,
}
