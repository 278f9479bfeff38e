//! Definitions: all that is declared and configured, as one document in RabbitMQ's form.

use super::{
    Binding, ExchangeDefinition, GlobalParameter, Parameter, Permission, Policy, QueueDefinition,
    TopicPermission, User, VhostDefinition,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A document of definitions. That of a single vhost has no users, vhosts, permissions and global parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Definitions {
    /// The version of RabbitMQ that has exported it
    pub rabbit_version: String,
    /// The same as `rabbit_version`, under another name
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq_version: Option<String>,
    /// What has exported it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// The version of the broker that exported them
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_version: Option<String>,
    /// Users, with the hashes of their passwords
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<User>>,
    /// Virtual hosts, with their limits and metadata
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhosts: Option<Vec<VhostDefinition>>,
    /// What users may do in vhosts
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<Permission>>,
    /// Which routing keys users may use
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_permissions: Option<Vec<TopicPermission>>,
    /// Runtime parameters, and what RabbitMQ keeps as such: operator policies and limits of vhosts
    pub parameters: Vec<Parameter>,
    /// Runtime parameters that are in no vhost
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_parameters: Option<Vec<GlobalParameter>>,
    /// Policies of the vhosts
    pub policies: Vec<Policy>,
    /// Durable queues with their arguments
    pub queues: Vec<QueueDefinition>,
    /// Durable exchanges with their arguments, without those that each vhost has
    pub exchanges: Vec<ExchangeDefinition>,
    /// Bindings between durable exchanges and queues
    pub bindings: Vec<Binding>,
}

/// What an import says of its entries, where not all is just as it stood there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Imported {
    /// What there is to say
    pub notes: Vec<ImportNote>,
}

/// What there is to say of an entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImportNote {
    /// The list that it is in
    pub section: String,
    /// Its place there, counted from 0
    pub index: usize,
    /// Its name; of a binding that of its source, of permissions that of the user
    pub name: String,
    /// The vhost it says that it is in
    pub vhost: Option<String>,
    /// `left_out`, `changed` or `without_effect`
    pub outcome: String,
    /// Why the entry was left out
    pub reason: String,
    /// All of that in a line
    pub message: String,
}
