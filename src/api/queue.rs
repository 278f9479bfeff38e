//! Queues.

use super::{ConnectionDetails, Consumer, Counts, Lengths, StreamFields, Table};
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A queue as it is declared: what definitions have of it, and what a request says that declares one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueDefinition {
    /// Its name; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The vhost it is in; a request has it in its path, and an export of one vhost in none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<Name>,
    /// Whether it outlives a restart. Without it definitions mean yes and requests no
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// Whether it goes with its last consumer
    pub auto_delete: bool,
    /// Optional arguments, such as x-max-length
    pub arguments: Table,
    /// Its type, where x-queue-type does not say it
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub queue_type: Option<String>,
}

/// A queue as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Queue {
    /// What it was declared with
    pub arguments: Table,
    /// Whether it goes with its last consumer
    pub auto_delete: bool,
    /// 1 when a consumer waits for its next message, and 0 when not
    pub consumer_capacity: f64,
    /// The same as `consumer_capacity`, under its older name
    pub consumer_utilisation: f64,
    /// How many consumers it has
    pub consumers: u64,
    /// Whether it outlives a restart
    pub durable: bool,
    /// What its policies set
    pub effective_policy_definition: Table,
    /// Whether it belongs to one connection, and goes with that
    pub exclusive: bool,
    /// The connection that it belongs to
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_pid_details: Option<ConnectionDetails>,
    /// The tag of the consumer that has it for itself
    pub exclusive_consumer_tag: Option<Name>,
    /// The tag of the one consumer that is served, where there is a single one
    pub single_active_consumer_tag: Option<Name>,
    /// The timestamp that the next message has, as its publisher gave it
    pub head_message_timestamp: Option<u64>,
    /// How old the oldest ready message in memory is, in milliseconds
    pub oldest_message_age_ms: Option<u64>,
    /// Since when it was not used; not there while it is in use
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<String>,
    /// Bytes of memory that its messages take, roughly
    pub memory: u64,
    /// Bytes of the bodies of all messages
    pub message_bytes: u64,
    /// Bytes of the bodies that wait for a consumer
    pub message_bytes_ready: u64,
    /// Bytes of the bodies that wait for their acknowledgement
    pub message_bytes_unacknowledged: u64,
    /// Bytes of the bodies that are in memory
    pub message_bytes_ram: u64,
    /// Bytes of the bodies of persistent messages
    pub message_bytes_persistent: u64,
    /// Messages that are persistent: of a durable queue those that asked for it, of a quorum queue all
    pub messages_persistent: u64,
    /// Ready messages that are not in memory
    pub messages_paged_out: u64,
    /// How many messages are in memory
    pub messages_ram: u64,
    /// Ready messages in memory
    pub messages_ready_ram: u64,
    /// Unacknowledged messages in memory
    pub messages_unacknowledged_ram: u64,
    /// The name of the queue
    pub name: Name,
    /// The name of the node that it is on
    pub node: Name,
    /// The operator policy that applies to it
    pub operator_policy: Option<Name>,
    /// The policy that applies to it
    pub policy: Option<Name>,
    /// Of a quorum queue: where its leader is
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<Name>,
    /// Of a quorum queue: where its copies are
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Name>>,
    /// Of a quorum queue: which of these run
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<Vec<Name>>,
    /// What a stream has that other queues don't
    #[serde(flatten)]
    pub stream: Option<StreamFields>,
    /// What it does: always `running`
    pub state: Name,
    /// The type, by its name
    #[serde(rename = "type")]
    pub queue_type: Name,
    /// The vhost it is in
    pub vhost: Name,
    /// How many messages it has
    #[serde(flatten)]
    pub lengths: Lengths,
    /// What was done with its messages, once there was something
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Counts>,
    /// Its consumers, of a queue that is shown alone
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_details: Option<Vec<Consumer>>,
    /// What each consumer got: not told
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<Value>>,
    /// What came from each exchange: not told
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Vec<Value>>,
}

/// What is to be done with a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueAction {
    /// What is asked of its mirrors, of which it has none: `sync` or `cancel_sync`
    pub action: Option<String>,
}
