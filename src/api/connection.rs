//! Connections, their channels, and consumers.

use super::{Counts, Details, Table};
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An open connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Connection {
    /// How its user has logged in
    pub auth_mechanism: String,
    /// The highest number that a channel may have
    pub channel_max: u16,
    /// Open channels
    pub channels: u32,
    /// What the client says of itself
    pub client_properties: Table,
    /// Since when it is open, in milliseconds since 1970
    pub connected_at: u64,
    /// Bytes that a frame may have
    pub frame_max: u32,
    /// The broker's address
    pub host: String,
    /// Its name
    pub name: String,
    /// Where it is
    pub node: Name,
    /// Who has signed the client's certificate
    pub peer_cert_issuer: Option<String>,
    /// Whose certificate it is
    pub peer_cert_subject: Option<String>,
    /// From when until when it is good
    pub peer_cert_validity: Option<String>,
    /// The client's address
    pub peer_host: String,
    /// The client's port
    pub peer_port: u16,
    /// The broker's port
    pub port: u16,
    /// What is spoken, such as `AMQP 0-9-1`
    pub protocol: String,
    /// How often something was read
    pub recv_cnt: u64,
    /// How often something was sent
    pub send_cnt: u64,
    /// Always 0
    pub send_pend: u64,
    /// Whether it is TLS
    pub ssl: bool,
    /// Of TLS: the cipher
    pub ssl_cipher: Option<String>,
    /// Of TLS: the hash
    pub ssl_hash: Option<String>,
    /// Of TLS: how keys are exchanged
    pub ssl_key_exchange: Option<String>,
    /// Of TLS: its version
    pub ssl_protocol: Option<String>,
    /// Whether it runs, is blocked or closing
    pub state: String,
    /// Seconds between heartbeats
    pub timeout: u16,
    /// Always `network`
    #[serde(rename = "type")]
    pub kind: String,
    /// Who has logged in
    pub user: Name,
    /// What the client calls it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_provided_name: Option<String>,
    /// Who has opened it
    pub user_who_performed_action: Name,
    /// The vhost it is in
    pub vhost: Name,
    /// Bytes that came
    pub recv_oct: u64,
    /// How that number moves
    pub recv_oct_details: Details,
    /// Bytes that were sent
    pub send_oct: u64,
    /// How that number moves
    pub send_oct_details: Details,
}

/// A connection as part of something else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectionDetails {
    /// Its name
    pub name: String,
    /// The client's address
    pub peer_host: String,
    /// The client's port
    pub peer_port: u16,
}

/// An open channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Channel {
    /// Acknowledgements in a transaction that is not committed
    pub acks_uncommitted: u64,
    /// Whether it confirms what is published
    pub confirm: bool,
    /// Its connection
    pub connection_details: ConnectionDetails,
    /// How many consumers it has
    pub consumer_count: u64,
    /// Messages that all of its consumers together may have unacknowledged; 0 is any number
    pub global_prefetch_count: u64,
    /// Messages that were delivered and not acknowledged
    pub messages_unacknowledged: u64,
    /// Messages in a transaction that is not committed
    pub messages_uncommitted: u64,
    /// Messages that were published and not confirmed
    pub messages_unconfirmed: u64,
    /// Its name: its connection's with its number
    pub name: String,
    /// Where it is
    pub node: Name,
    /// Its number in its connection
    pub number: u16,
    /// Messages that a new consumer may have unacknowledged; 0 is any number
    pub prefetch_count: u64,
    /// Always `running`
    pub state: String,
    /// Whether it has transactions
    pub transactional: bool,
    /// Who has logged in
    pub user: Name,
    /// Who has opened it
    pub user_who_performed_action: Name,
    /// The vhost it is in
    pub vhost: Name,
    /// Since when nothing was done; not there while it is in use
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<String>,
    /// What was done with messages, once there was something
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Counts>,
    /// Its consumers, of a channel that is shown alone
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_details: Option<Vec<Consumer>>,
    /// What came from each queue: not told
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<Value>>,
    /// What went to each exchange: not told
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishes: Option<Vec<Value>>,
}

/// A consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Consumer {
    /// What it was made with
    pub arguments: Table,
    /// Its channel
    pub channel_details: ChannelDetails,
    /// Whether it acknowledges what it gets
    pub ack_required: bool,
    /// Whether it is served; with a single active consumer the others wait
    pub active: bool,
    /// `up`, or `waiting`
    pub activity_status: String,
    /// Its tag
    pub consumer_tag: Name,
    /// Milliseconds that a delivery may wait for its acknowledgement; 0 is no limit
    pub consumer_timeout: u64,
    /// Whether it has the queue for itself
    pub exclusive: bool,
    /// Messages that it may have unacknowledged; 0 is any number
    pub prefetch_count: u32,
    /// Its queue
    pub queue: QueueDetails,
}

/// A channel as part of something else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChannelDetails {
    /// Its connection's name
    pub connection_name: String,
    /// Its name
    pub name: String,
    /// Where it is
    pub node: Name,
    /// Its number in its connection
    pub number: u16,
    /// The client's address
    pub peer_host: String,
    /// The client's port
    pub peer_port: u16,
    /// Who has logged in
    pub user: Name,
}

/// A queue as part of something else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueDetails {
    /// Its name
    pub name: Name,
    /// The vhost it is in
    pub vhost: Name,
}
