//! Users, and what they may do.

use super::{Table, Tags};
use crate::message::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A user, as definitions and lists have it, and as a request puts it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct User {
    /// Its name; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Of a request: the password
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What is kept of its password; empty if no password logs it in
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// How that was made
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashing_algorithm: Option<String>,
    /// What it may do here: administrator, monitoring, policymaker, management; others mean nothing
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// How the oldest clients say that it has the tag administrator
    #[serde(skip_serializing)]
    pub administrator: Option<Value>,
    /// How many connections and channels it may have
    pub limits: Table,
}

/// What a user may do in a vhost: regular expressions for names of queues and exchanges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Permission {
    /// The user; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// The vhost; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<Name>,
    /// What it may declare and delete
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configure: Option<String>,
    /// What it may publish to and bind
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<String>,
    /// What it may consume, purge and bind to
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

/// Which routing keys a user may use with a topic exchange: regular expressions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TopicPermission {
    /// The user; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// The vhost; a request has it in its path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<Name>,
    /// The exchange whose topics the patterns are for
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Name>,
    /// Keys that it may publish with
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<String>,
    /// Keys that it may bind with
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

/// The user who asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WhoAmI {
    /// The name that the user has logged in with
    pub name: Name,
    /// The tags that say what the user may do over HTTP
    pub tags: Vec<String>,
}

/// The limits of a user that has some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UserLimits {
    /// The user whose limits these are
    pub user: Name,
    /// How many there may be: `max-connections`, `max-channels`
    pub value: Table,
}

/// Users that are to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BulkDelete {
    /// The names of the users to delete
    pub users: Vec<String>,
}
