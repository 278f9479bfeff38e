//! Vhosts, users and permissions as field tables.

use super::{fields, text};
use crate::broker::access::passwords::{HashingAlgorithm, PasswordHash};
use crate::broker::access::permissions::{Patterns, Permission, TopicPatterns, TopicPermission};
use crate::broker::access::users::{User, UserLimits};
use crate::broker::queue::QueueType;
use crate::broker::topology::vhost_settings::{VhostLimits, VhostSettings};
use crate::message::{DecodeError, FieldTable, Name, Value};
use std::sync::Arc;

pub(super) fn vhost_table(name: &Name, settings: &VhostSettings) -> FieldTable {
    let queue_type = settings.default_queue_type.map_or("", QueueType::name);
    fields([
        ("name", text(name)),
        ("description", text(&settings.description)),
        ("tags", texts(&settings.tags)),
        ("default_queue_type", text(queue_type)),
        ("tracing", Value::Bool(settings.tracing)),
        ("max_connections", limit(settings.limits.max_connections)),
        ("max_queues", limit(settings.limits.max_queues)),
    ])
}

/// A table without these fields is of a broker that did not have them.
pub(super) fn vhost_settings(table: &FieldTable) -> VhostSettings {
    VhostSettings {
        description: optional(table, "description").to_owned(),
        tags: read_texts(table, "tags"),
        default_queue_type: QueueType::named(optional(table, "default_queue_type")),
        tracing: table.field("tracing") == Some(&Value::Bool(true)),
        limits: VhostLimits {
            max_connections: read_limit(table, "max_connections"),
            max_queues: read_limit(table, "max_queues"),
        },
    }
}

pub(super) fn user_table(user: &User) -> FieldTable {
    fields([
        ("name", text(&user.name)),
        ("password_hash", text(user.password.as_str())),
        ("hashing_algorithm", text(user.password.algorithm().name())),
        ("tags", texts(&user.tags)),
        ("max_connections", limit(user.limits.max_connections)),
        ("max_channels", limit(user.limits.max_channels)),
    ])
}

pub(super) fn user(table: &FieldTable) -> Result<User, DecodeError> {
    let algorithm = HashingAlgorithm::named(required(table, "hashing_algorithm")?);
    let password =
        algorithm.and_then(|algorithm| PasswordHash::encoded(optional(table, "password_hash"), algorithm));
    Ok(User {
        name: required(table, "name")?.into(),
        password: password.ok_or(DecodeError::Truncated)?,
        tags: read_texts(table, "tags"),
        limits: UserLimits {
            max_connections: read_limit(table, "max_connections"),
            max_channels: read_limit(table, "max_channels"),
        },
    })
}

pub(super) fn permission_table(permission: &Permission) -> FieldTable {
    fields([
        ("user", text(&permission.user)),
        ("vhost", text(&permission.vhost)),
        ("configure", text(permission.patterns.configure.as_str())),
        ("write", text(permission.patterns.write.as_str())),
        ("read", text(permission.patterns.read.as_str())),
    ])
}

pub(super) fn permission(table: &FieldTable) -> Result<Permission, DecodeError> {
    let pattern = |name| optional(table, name);
    let patterns = Patterns::new(pattern("configure"), pattern("write"), pattern("read"));
    Ok(Permission {
        user: required(table, "user")?.into(),
        vhost: required(table, "vhost")?.into(),
        patterns: Arc::new(patterns.map_err(|_| DecodeError::Truncated)?),
    })
}

pub(super) fn topic_permission_table(permission: &TopicPermission) -> FieldTable {
    fields([
        ("user", text(&permission.user)),
        ("vhost", text(&permission.vhost)),
        ("exchange", text(&permission.exchange)),
        ("write", text(permission.patterns.write.as_str())),
        ("read", text(permission.patterns.read.as_str())),
    ])
}

pub(super) fn topic_permission(table: &FieldTable) -> Result<TopicPermission, DecodeError> {
    let (user, vhost) = (required(table, "user")?, required(table, "vhost")?);
    let patterns = TopicPatterns::new(user, vhost, optional(table, "write"), optional(table, "read"));
    Ok(TopicPermission {
        user: user.into(),
        vhost: vhost.into(),
        exchange: optional(table, "exchange").into(),
        patterns: Arc::new(patterns.map_err(|_| DecodeError::Truncated)?),
    })
}

fn required<'a>(table: &'a FieldTable, field: &str) -> Result<&'a str, DecodeError> {
    table.field(field).and_then(Value::as_str).ok_or(DecodeError::Truncated)
}

fn optional<'a>(table: &'a FieldTable, field: &str) -> &'a str {
    table.field(field).and_then(Value::as_str).unwrap_or_default()
}

fn texts(list: &[String]) -> Value {
    Value::Array(list.iter().map(|item| text(item)).collect())
}

fn read_texts(table: &FieldTable, field: &str) -> Vec<String> {
    match table.field(field) {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn limit(limit: Option<i64>) -> Value {
    limit.map_or(Value::Void, Value::I64)
}

fn read_limit(table: &FieldTable, field: &str) -> Option<i64> {
    table.field(field).and_then(Value::as_integer)
}
