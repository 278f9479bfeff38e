//! Connections, their channels, and consumers.

use super::{Counts, Details, Table};
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A connection that is open, as GET /api/connections has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Connection {
    /// How its user has logged in
    pub auth_mechanism: String,
    /// The highest number that a channel may have
    pub channel_max: u16,
    /// How many channels are open on it
    pub channels: u32,
    /// What the client says of itself
    pub client_properties: Table,
    /// Since when it is open, in milliseconds since 1970
    pub connected_at: u64,
    /// Bytes that a frame may have
    pub frame_max: u32,
    /// The address of the broker that the client connected to
    pub host: String,
    /// The name of the connection: the addresses of client and broker
    pub name: String,
    /// The name of the node that it is on
    pub node: Name,
    /// Who has signed the client's certificate
    pub peer_cert_issuer: Option<String>,
    /// Whose certificate it is
    pub peer_cert_subject: Option<String>,
    /// From when until when it is good
    pub peer_cert_validity: Option<String>,
    /// The address that the client connects from
    pub peer_host: String,
    /// The port that the client connects from
    pub peer_port: u16,
    /// The port of the broker that the client connected to
    pub port: u16,
    /// What is spoken, such as `AMQP 0-9-1`
    pub protocol: String,
    /// How often something was read
    pub recv_cnt: u64,
    /// How often something was sent
    pub send_cnt: u64,
    /// Bytes that wait in the operating system, which is not known here: always 0
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
    /// Seconds between heartbeats, as both sides agreed; 0 is without
    pub timeout: u16,
    /// Whether it came over a network: always `network`
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
    /// How many bytes have come from the client
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
    /// The name of the connection
    pub name: String,
    /// The address that the client connects from
    pub peer_host: String,
    /// The port that the client connects from
    pub peer_port: u16,
}

/// A channel that is open, as GET /api/channels has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Channel {
    /// Acknowledgements in a transaction that is not committed
    pub acks_uncommitted: u64,
    /// Whether it confirms what is published
    pub confirm: bool,
    /// The connection that it is a channel of
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
    /// The name of the node that it is on
    pub node: Name,
    /// Its number in its connection
    pub number: u16,
    /// Messages that a new consumer may have unacknowledged; 0 is any number
    pub prefetch_count: u64,
    /// What it does: always `running`
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

/// A consumer of a queue, as GET /api/consumers has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Consumer {
    /// What it was made with
    pub arguments: Table,
    /// The channel that it consumes on
    pub channel_details: ChannelDetails,
    /// Whether it acknowledges what it gets
    pub ack_required: bool,
    /// Whether it is served; with a single active consumer the others wait
    pub active: bool,
    /// `up`, or `waiting` while another consumer of the queue is the single active one
    pub activity_status: String,
    /// The consumer tag, by which the client knows it
    pub consumer_tag: Name,
    /// Milliseconds that a delivery may wait for its acknowledgement; 0 is no limit
    pub consumer_timeout: u64,
    /// Whether it has the queue for itself
    pub exclusive: bool,
    /// Messages that it may have unacknowledged; 0 is any number
    pub prefetch_count: u32,
    /// The queue that it consumes from
    pub queue: QueueDetails,
}

/// A channel as part of something else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChannelDetails {
    /// The name of the connection that it is on
    pub connection_name: String,
    /// The name of the channel
    pub name: String,
    /// The name of the node that it is on
    pub node: Name,
    /// Its number in its connection
    pub number: u16,
    /// The address that the client connects from
    pub peer_host: String,
    /// The port that the client connects from
    pub peer_port: u16,
    /// Who has logged in
    pub user: Name,
}

/// A queue as part of something else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueDetails {
    /// The name of the queue
    pub name: Name,
    /// The vhost it is in
    pub vhost: Name,
}
