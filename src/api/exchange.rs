//! Exchanges and bindings.

use super::{Counts, Table};
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An exchange as it is declared: what definitions have of it, and what a request says that declares one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExchangeDefinition {
    /// Its name; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The vhost it is in; a request has it in its path, and an export of one vhost in none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<Name>,
    /// Its type; without it `direct`
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Name>,
    /// Whether it outlives a restart. Without it definitions mean yes and requests no
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// Whether it goes with its last binding
    pub auto_delete: bool,
    /// Whether only other exchanges may publish to it
    pub internal: bool,
    /// Optional arguments, such as alternate-exchange
    pub arguments: Table,
}

/// An exchange as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Exchange {
    /// What it was declared with
    pub arguments: Table,
    /// Whether it goes with its last binding
    pub auto_delete: bool,
    /// Whether it outlives a restart
    pub durable: bool,
    /// Whether only other exchanges may publish to it
    pub internal: bool,
    /// What came and went, once there was something
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Counts>,
    /// The name of the exchange
    pub name: Name,
    /// The policy that applies to it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Name>,
    /// The type, by its name
    #[serde(rename = "type")]
    pub kind: Name,
    /// Who declared it, which is not kept: always `rmq-internal`
    pub user_who_performed_action: String,
    /// The vhost it is in
    pub vhost: Name,
    /// What came from each channel: not told
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Vec<Value>>,
    /// What went to each queue: not told
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Vec<Value>>,
}

/// A binding, as GET /api/bindings has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Binding {
    /// The exchange that it starts from
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Name>,
    /// The vhost it is in; an export of one vhost has it in none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<Name>,
    /// The queue or exchange that it leads to
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// What it leads to: `queue`, or `exchange`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_type: Option<String>,
    /// What the exchange compares
    pub routing_key: String,
    /// Optional arguments, such as x-match
    pub arguments: Table,
    /// What tells it from others between the same two; paths have it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties_key: Option<String>,
}
