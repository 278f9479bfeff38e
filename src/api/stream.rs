//! Streams: what they have that other queues don't, and what they remember of those who use them by name.

use super::{ConnectionDetails, QueueDetails, Table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a stream has that other queues don't.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamFields {
    /// Of a stream: how many segments its log has
    pub segments: u64,
    /// Of a stream: when its first message was published, in milliseconds; 0 while there is none
    pub first_timestamp: u64,
    /// Of a stream: how many consumers read it, by node
    pub readers: BTreeMap<String, u64>,
    /// Of a stream: the offset of its first message
    pub first_offset: u64,
    /// Of a stream: the offset behind its last message
    pub next_offset: u64,
    /// Of a stream: how far the consumer that is furthest back is from its end; null without consumers
    pub max_offset_lag: Option<u64>,
    /// Of a stream: how often a consumer over AMQP 0-9-1 or STOMP was not given an entry that is no message of AMQP 1.0
    pub entries_passed_over: u64,
    /// Of a stream: how many messages of publishers with names were there already
    pub duplicates: u64,
    /// Of a stream: how many were refused, since a later epoch has taken over the publisher's name
    pub refused: u64,
}

/// How far the consumers of a stream have got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamTracking {
    /// By name, the last offset that it has acknowledged with all before it
    pub offsets: BTreeMap<String, u64>,
    /// By name, the highest publishing id that was taken of a publisher
    pub writers: BTreeMap<String, u64>,
    /// The names with all that is known of them
    pub groups: Vec<StreamGroup>,
    /// The publishers with all that is known of them
    pub publishers: Vec<StreamWriter>,
}

/// A publisher of a stream that has a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamWriter {
    /// The name
    pub name: String,
    /// The highest publishing id that was taken of it
    pub publishing_id: u64,
    /// The highest epoch that it has published with; 0 without one
    pub epoch: u64,
    /// When it published last, in milliseconds
    pub published_at: u64,
}

/// A super stream: an exchange that leads to streams, its partitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SuperStream {
    /// The name, which is that of its exchange
    pub name: String,
    /// The vhost
    pub vhost: String,
    /// The partitions in their order
    pub partitions: Vec<String>,
}

/// A super stream to be created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
pub struct SuperStreamDefinition {
    /// How many partitions it has, which are bound by their numbers
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u64>,
    /// In the place of that: a key for each partition
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding_keys: Option<Vec<String>>,
    /// Arguments of the partitions, such as `max-age`; with `x-` before them or without
    pub arguments: Table,
    /// Arguments of the exchange, such as `x-algorithm`
    pub exchange_arguments: Table,
}

/// Those who consume a stream under one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamGroup {
    /// The name
    pub name: String,
    /// The last offset that it has acknowledged with all before it; null before the first
    pub offset: Option<u64>,
    /// When it did, in milliseconds
    pub committed_at: Option<u64>,
    /// How many messages follow that
    pub lag: u64,
    /// How long the first of those has been there; 0 when none does, null while it is being looked up: ask again
    pub lag_seconds: Option<u64>,
    /// How many messages it has not had that are not kept any more
    pub trimmed: u64,
    /// How many consumers of that name are connected
    pub members: u64,
}

/// Where the consumers of a name go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamReset {
    /// The offset that they get next, or `first`, `last`, `next`
    pub offset: Option<StreamResetOffset>,
    /// In the place of that: the first message published at that time or later, in milliseconds since 1970
    pub timestamp: Option<u64>,
}

/// An offset, or a word for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StreamResetOffset {
    /// That offset
    Number(u64),
    /// `first`, `last` or `next`
    Word(String),
}

/// A publisher of the stream protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamPublisher {
    /// The connection that it is on
    pub connection_details: ConnectionDetails,
    /// Messages that were confirmed to it, by their publishing ids
    pub confirmed: u64,
    /// Messages that were refused, by their publishing ids
    pub errored: u64,
    /// Messages that it has published
    pub published: u64,
    /// Its number on its connection
    pub publisher_id: u8,
    /// The stream
    pub queue: QueueDetails,
    /// The name under which its publishing ids are remembered; empty without one
    pub reference: String,
}

/// A consumer of the stream protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamConsumer {
    /// The connection that it is on
    pub connection_details: ConnectionDetails,
    /// Whether it is given messages
    pub active: bool,
    /// `up`, or of those of which one at a time is given messages `single_active` and `waiting`
    pub activity_status: String,
    /// Messages that it was sent
    pub consumed: u64,
    /// Chunks that it may still be sent
    pub credits: u32,
    /// The offset of the last message that it was sent
    pub offset: u64,
    /// How many messages follow that
    pub offset_lag: u64,
    /// What it has said of itself when it subscribed
    pub properties: Table,
    /// The stream
    pub queue: QueueDetails,
    /// Its number on its connection
    pub subscription_id: u8,
}
