//! Vhosts, and what is set in them.

use super::{Counts, Lengths, Table, Tags};
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A vhost as definitions have it. What is said of it may also stand beside its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VhostDefinition {
    /// Its name; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What is said of it
    #[serde(skip_serializing_if = "VhostMetadata::is_empty")]
    pub metadata: VhostMetadata,
    /// How many connections and queues it may have
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub limits: Table,
    /// Whether its messages are copied to `amq.rabbitmq.trace`; RabbitMQ reads it here, and does not write it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<bool>,
}

/// What is said of a vhost: by a request that puts it, and by definitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VhostMetadata {
    /// A line about it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What operators file it under
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// The type of queues whose declaration names none. RabbitMQ 3.10.8 reads the one name and writes the other
    #[serde(skip_serializing_if = "Option::is_none", alias = "defaultqueuetype")]
    pub default_queue_type: Option<String>,
    /// Whether what passes through it is traced
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<bool>,
    /// Whether it can't be deleted; nothing acts on it yet
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected_from_deletion: Option<bool>,
}

impl VhostMetadata {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == VhostMetadata::default()
    }
}

/// A vhost as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Vhost {
    /// The name of the vhost
    pub name: Name,
    /// A line about it
    pub description: String,
    /// What operators file it under
    pub tags: Vec<String>,
    /// The type of queues whose declaration names none, or `undefined`
    pub default_queue_type: String,
    /// The same as definitions write it
    pub metadata: VhostMetadata,
    /// Whether what passes through it is traced
    pub tracing: bool,
    /// The nodes that it runs on, each with its state
    pub cluster_state: Table,
    /// How many messages are in it, once it has or had queues
    #[serde(flatten)]
    pub lengths: Option<Lengths>,
    /// What was done with messages, once there was something
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Counts>,
}

/// A policy: settings for all queues and exchanges whose names match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Policy {
    /// The vhost it is in; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<Name>,
    /// Its name; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// A regular expression for names
    pub pattern: String,
    /// all, queues, exchanges, classic_queues, quorum_queues or streams
    #[serde(rename = "apply-to")]
    pub apply_to: String,
    /// The keys that the policy sets, with their values
    pub definition: Table,
    /// The highest of those that match applies
    pub priority: Value,
}

/// A runtime parameter, as GET /api/parameters has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Parameter {
    /// Whose it is, such as federation-upstream
    pub component: Name,
    /// The vhost it is in; an export of one vhost has it in none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<Name>,
    /// The name of the parameter within its component
    pub name: Name,
    /// What it is set to
    pub value: Value,
}

/// A runtime parameter that is in no vhost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GlobalParameter {
    /// The name of the parameter
    pub name: Name,
    /// What it is set to
    pub value: Value,
}

/// What something is set to: a parameter, or a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Setting {
    /// What it is set to
    pub value: Value,
}

/// The limits of a vhost that has some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VhostLimits {
    /// The vhost whose limits these are
    pub vhost: Name,
    /// How many there may be: `max-connections`, `max-queues`
    pub value: Table,
}
