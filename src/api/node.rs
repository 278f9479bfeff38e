//! The broker as a whole, and the machine that it runs on.

use super::{Counts, Details, Lengths, Table};
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the broker is, and what it holds in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Overview {
    /// The version of RabbitMQ that it speaks as
    pub management_version: String,
    /// How rates are kept: always `basic`
    pub rates_mode: String,
    /// For how many seconds samples are kept
    pub sample_retention_policies: Table,
    /// The types of exchanges
    pub exchange_types: Vec<Available>,
    /// The version of RabbitMQ that it speaks as
    pub product_version: String,
    /// What it calls its product
    pub product_name: String,
    /// The version of RabbitMQ that it speaks as
    pub rabbitmq_version: String,
    /// The version of Leveret
    pub leveret_version: String,
    /// Losses of what the store kept that are not acknowledged
    pub losses: u64,
    /// The name of the cluster, which is one node
    pub cluster_name: String,
    /// Whether the release still gets fixes: always `supported`
    pub release_series_support_status: String,
    /// Whether statistics are off: always false
    pub disable_stats: bool,
    /// Whether queues show totals without statistics: always false
    pub enable_queue_totals: bool,
    /// The type of queues whose declaration and vhost name none
    pub default_queue_type: String,
    /// What was done with messages
    pub message_stats: Counts,
    /// What was opened, closed, declared and deleted
    pub churn_rates: Counts,
    /// How many messages there are
    pub queue_totals: Lengths,
    /// How many things there are
    pub object_totals: ObjectTotals,
    /// How far statistics are behind, in events: always 0
    pub statistics_db_event_queue: u64,
    /// The node that answers
    pub node: Name,
    /// The sockets that the broker listens on
    pub listeners: Vec<Listener>,
    /// The listeners for HTTP
    pub contexts: Vec<Context>,
}

/// How many things there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ObjectTotals {
    /// How many channels are open
    pub channels: u64,
    /// How many connections are open
    pub connections: u64,
    /// How many consumers there are
    pub consumers: u64,
    /// How many exchanges there are
    pub exchanges: u64,
    /// How many queues there are
    pub queues: u64,
}

/// Something that can be used, such as a type of exchanges or a way to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Available {
    /// The name of the type or mechanism
    pub name: String,
    /// What it is for, in a sentence
    pub description: String,
    /// Whether it can be used
    pub enabled: bool,
}

/// A socket that listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Listener {
    /// The name of the node that it is on
    pub node: Name,
    /// What is spoken there, such as `amqp` or `http`
    pub protocol: String,
    /// The address that it listens on
    pub ip_address: String,
    /// The port that it listens on
    pub port: u16,
    /// How sockets are set
    pub socket_opts: Table,
}

/// A listener for HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Context {
    /// The application that answers there, in a sentence
    pub description: String,
    /// The path below which it answers
    pub path: String,
    /// The address that it listens on
    pub ip: String,
    /// The port that it listens on
    pub port: String,
    /// Where it is; not in a node's own answer
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
}

/// A node: what it runs on, and what it takes of that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Node {
    /// Nodes that this one has lost sight of: always empty
    pub partitions: Vec<Value>,
    /// The number of its process
    pub os_pid: String,
    /// File descriptors that it may have
    pub fd_total: u64,
    /// Connections that it may have
    pub sockets_total: u64,
    /// Bytes of memory above which publishers are blocked
    pub mem_limit: u64,
    /// Whether they are, for memory
    pub mem_alarm: bool,
    /// Bytes that have to stay free on the disk
    pub disk_free_limit: u64,
    /// Whether publishers are blocked, for the disk
    pub disk_free_alarm: bool,
    /// Whether publishers are blocked, since the store is out of room or file descriptors
    pub store_alarm: bool,
    /// Losses of what the store kept that are not acknowledged
    pub losses: u64,
    /// Threads that it may have
    pub proc_total: u64,
    /// How rates are kept: always `basic`
    pub rates_mode: String,
    /// Milliseconds since it started
    pub uptime: u64,
    /// Erlang's processes that wait for a processor: always 0
    pub run_queue: u64,
    /// Processors that it may use
    pub processors: u64,
    /// The types of exchanges
    pub exchange_types: Vec<Available>,
    /// How users may log in
    pub auth_mechanisms: Vec<Available>,
    /// What it is made of
    pub applications: Vec<Application>,
    /// The listeners for HTTP
    pub contexts: Vec<Context>,
    /// Where its log goes
    pub log_files: Vec<String>,
    /// Where messages are kept
    pub db_dir: String,
    /// Files of RabbitMQ's own configuration: always empty
    pub config_files: Vec<String>,
    /// Seconds in which a silent node counts as gone: always 60
    pub net_ticktime: u64,
    /// The plugins of RabbitMQ whose work it does
    pub enabled_plugins: Vec<String>,
    /// How memory is measured: always `rss`, the resident memory of the process
    pub mem_calculation_strategy: String,
    /// The name of the node
    pub name: Name,
    /// The kind of node: always `disc`
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the node runs: always true, since it answers
    pub running: bool,
    /// Always false: it is alone, and clients have nowhere else to go
    pub being_drained: bool,
    /// Connections to other nodes: always empty
    pub cluster_links: Vec<Value>,
    /// Bytes of memory that it takes
    pub mem_used: u64,
    /// How that moves: not told
    pub mem_used_details: Details,
    /// File descriptors that it has
    pub fd_used: u64,
    /// How that moves: not told
    pub fd_used_details: Details,
    /// How many connections are open
    pub sockets_used: u64,
    /// How that moves: not told
    pub sockets_used_details: Details,
    /// Threads that it has
    pub proc_used: u64,
    /// How that moves: not told
    pub proc_used_details: Details,
    /// Bytes that are free on the disk
    pub disk_free: u64,
    /// How that moves: not told
    pub disk_free_details: Details,
    /// What was opened, closed, declared and deleted
    #[serde(flatten)]
    pub churn: Counts,
}

/// A part of the broker, with its version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Application {
    /// The name of the application
    pub name: String,
    /// What it is for, in a sentence
    pub description: String,
    /// The version of the application
    pub version: String,
}

/// What a node's memory is used for, in bytes or in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeMemory {
    /// The parts of the memory in use
    pub memory: MemoryParts,
}

/// What memory is used for, under the names of RabbitMQ's processes that hold it there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MemoryParts {
    /// Messages that are ready
    pub queue_procs: u64,
    /// Unacknowledged messages, and transactions
    pub connection_channels: u64,
    /// Messages of which a part has come
    pub connection_readers: u64,
    /// What waits to be sent
    pub connection_writers: u64,
    /// Arguments of what is declared
    pub mnesia: u64,
    /// Bodies of HTTP requests
    pub mgmt_db: u64,
    /// Everything that has no part of its own
    pub other_proc: u64,
    /// How the whole was found out, where it is bytes
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// The whole: of bytes an object with `erlang`, `rss` and `allocated`, which are the same here; of percent 100
    pub total: Value,
}

/// The name of the cluster, as GET and PUT /api/cluster-name have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterName {
    /// The name of the cluster
    pub name: String,
}

/// How much memory the broker may take before publishers are blocked, or how much of the disk has to stay free.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResourceLimit {
    /// In bytes; null is no limit of memory, and lets the size of the volume decide how much has to be free
    pub bytes: Value,
    /// Of a request about memory: a part of what there is, from 0.0 to 1.0
    #[serde(skip_serializing_if = "Value::is_null")]
    pub fraction: Value,
    /// Of a request about the disk: times the memory that there is
    #[serde(skip_serializing_if = "Value::is_null")]
    pub mem_relative: Value,
}

/// The level from which on the log has lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogLevel {
    /// A level, or several by target, such as `info,leveret::amqp=debug`
    pub level: String,
}

/// Something that was found to be lost of what the store kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Loss {
    /// When it was found
    pub found_at: String,
    /// What it is: `users`, `queues` and so on, `records` of messages, or `definitions` of whatever kind
    pub what: String,
    /// How many; 0 where some are as they were before their last change
    pub lost: u64,
    /// Of how many, where that is known
    pub of: Option<u64>,
    /// The same in a sentence
    pub text: String,
}

/// How often it was tried to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoginAttempts {
    /// From where, of counts by address and user
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// As whom, of counts by address and user
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The protocol that was spoken
    pub protocol: String,
    /// How many logins were tried
    pub auth_attempts: u64,
    /// How often in vain
    pub auth_attempts_failed: u64,
    /// How often not in vain
    pub auth_attempts_succeeded: u64,
}

/// What a health check has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Health {
    /// `ok` when the check passes, or `failed`
    pub status: String,
    /// Why the check failed, in a sentence
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The alarms in effect
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<Vec<RaisedAlarm>>,
    /// The listeners whose certificates end soon
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<Vec<ExpiringCertificate>>,
    /// The port that was asked for, where something listens
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The protocol that was asked for, where something speaks it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// What was asked for and is not there, a port or a protocol
    #[serde(skip_serializing_if = "Value::is_null")]
    pub missing: Value,
    /// The ports that there are
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    /// The protocols that there are
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<String>>,
}

/// An alarm in effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RaisedAlarm {
    /// The name of the node that raised it
    pub node: Name,
    /// What there is too little of: memory, disk or file descriptors
    pub resource: String,
}

/// A listener whose certificates end soon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExpiringCertificate {
    /// The file with the authorities
    pub cacertfile: String,
    /// When those end that end soon
    pub cacertfile_expires_on: Vec<String>,
    /// The file with the certificate
    pub certfile: String,
    /// When it ends, if that is soon
    pub certfile_expires_on: Vec<String>,
    /// The address that the listener is bound to
    pub interface: String,
    /// The name of the node that it is on
    pub node: Name,
    /// The port that the listener is bound to
    pub port: u16,
    /// What is spoken there
    pub protocol: String,
}

/// A feature that can be switched on in RabbitMQ; here all are on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FeatureFlag {
    /// The name of the feature flag
    pub name: String,
    /// What it is for, in a sentence
    pub desc: String,
    /// A page about it: always empty
    pub doc_url: String,
    /// Whether it is on: always `enabled`
    pub state: String,
    /// How mature it is: always `stable`
    pub stability: String,
    /// The application that brings it
    pub provided_by: String,
}

/// A feature that RabbitMQ has deprecated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeprecatedFeature {
    /// The name of the feature
    pub name: String,
    /// What it was for: always empty
    pub desc: String,
    /// How far that has come in RabbitMQ
    pub deprecation_phase: String,
    /// The page that explains it
    pub doc_url: String,
    /// The application that brings it
    pub provided_by: String,
    /// `permitted` if it can be used here, or else `denied`; not in the list of those in use
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A member of a quorum queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QuorumMember {
    /// The name of the node that it is on
    #[serde(rename = "Node Name")]
    pub node_name: Name,
    /// The part of the node in the Raft group: always `leader`
    #[serde(rename = "Raft State")]
    pub raft_state: String,
    /// What it may do
    #[serde(rename = "Membership")]
    pub membership: String,
}
