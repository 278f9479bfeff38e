//! What a file declares.

use super::thing::{Id, Kind, Things};
use leveret::config::{Argument, Arguments, Config, Credentials, DestinationType, Policy, User, Vhost};
use serde_json::{Map, Value, json};

/// All that stands in the file; what is there without being written is not the file's.
pub(super) fn things(config: &Config) -> Things {
    let mut things = Things::new();
    let mut add = |id: Id, fields: Value| {
        if let Value::Object(fields) = fields {
            things.insert(id, fields);
        }
    };
    for vhost in config.vhosts.iter().filter(|vhost| vhost.declared_at.is_some()) {
        add(Id::new(Kind::Vhost, &vhost.name, &[]), self::vhost(vhost));
    }
    for user in config.users.iter().filter(|user| user.declared_at.is_some()) {
        add(Id::new(Kind::User, "", &[&user.name]), self::user(user));
    }
    for item in config.permissions.iter().filter(|item| item.declared_at.is_some()) {
        let patterns = json!({ "configure": item.configure, "write": item.write, "read": item.read });
        add(Id::new(Kind::Permission, &item.vhost, &[&item.user]), patterns);
    }
    for item in &config.topic_permissions {
        let patterns = json!({ "write": item.write, "read": item.read });
        add(Id::new(Kind::TopicPermission, &item.vhost, &[&item.user, &item.exchange]), patterns);
    }
    for item in &config.policies {
        add(Id::new(Kind::Policy, &item.vhost, &[&item.name]), policy(item));
    }
    for item in &config.operator_policies {
        add(Id::new(Kind::OperatorPolicy, &item.vhost, &[&item.name]), policy(item));
    }
    for item in &config.exchanges {
        let fields = json!({
            "type": item.exchange_type,
            "durable": item.durable,
            "auto_delete": item.auto_delete,
            "internal": item.internal,
            "arguments": object(&item.arguments),
        });
        add(Id::new(Kind::Exchange, &item.vhost, &[&item.name]), fields);
    }
    for item in &config.queues {
        let fields = json!({
            "durable": item.durable,
            "auto_delete": item.auto_delete,
            "arguments": object(&item.arguments),
        });
        add(Id::new(Kind::Queue, &item.vhost, &[&item.name]), fields);
    }
    for item in &config.bindings {
        let kind = match item.destination_type {
            DestinationType::Queue => "queue",
            DestinationType::Exchange => "exchange",
        };
        let arguments = object(&item.arguments);
        let destination = (kind, item.destination.as_str());
        let id = Id::binding(&item.vhost, &item.source, destination, &item.routing_key, &arguments);
        add(id, json!({ "routing_key": item.routing_key, "arguments": arguments }));
    }
    things
}

fn vhost(vhost: &Vhost) -> Value {
    let limits = [("max-connections", vhost.max_connections), ("max-queues", vhost.max_queues)];
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        value.map(|value| fields.insert(name.to_owned(), value));
    };
    put("description", vhost.description.as_deref().map(Value::from));
    put("tags", vhost.tags.as_deref().map(Value::from));
    put("default_queue_type", vhost.default_queue_type.map(|queue_type| queue_type.as_str().into()));
    put("tracing", vhost.tracing.map(Value::from));
    put("limits", Some(set(&limits)));
    fields.into()
}

fn user(user: &User) -> Value {
    let limits = [("max-connections", user.max_connections), ("max-channels", user.max_channels)];
    let mut fields = json!({ "tags": user.tags, "limits": set(&limits) });
    match &user.credentials {
        Credentials::Password(password) => fields["password"] = password.as_str().into(),
        Credentials::PasswordHash { hash, algorithm } => {
            fields["password_hash"] = hash.as_str().into();
            fields["hashing_algorithm"] = (*algorithm).into();
        }
    }
    fields
}

/// Those limits that are said.
fn set(limits: &[(&str, Option<i64>)]) -> Value {
    limits.iter().filter_map(|(name, limit)| Some(((*name).to_owned(), Value::from((*limit)?)))).collect()
}

fn policy(policy: &Policy) -> Value {
    json!({
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "priority": policy.priority,
        "definition": object(&policy.definition),
    })
}

fn object(arguments: &Arguments) -> Value {
    arguments.iter().map(|(name, argument)| (name.clone(), value(argument))).collect()
}

fn value(argument: &Argument) -> Value {
    match argument {
        Argument::Integer(number) => (*number).into(),
        Argument::Float(number) => (*number).into(),
        Argument::String(text) => text.as_str().into(),
        Argument::Boolean(flag) => (*flag).into(),
        Argument::Array(values) => values.iter().map(value).collect(),
        Argument::Table(fields) => object(fields),
    }
}
