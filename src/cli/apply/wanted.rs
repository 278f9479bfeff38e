//! What a file declares.

use super::thing::{Id, Kind, Things};
use leveret::api::{
    self, Binding, ExchangeDefinition, Permission, QueueDefinition, Table, Tags, TopicPermission,
    VhostMetadata,
};
use leveret::config::{Argument, Arguments, Config, Credentials, Policy, User, Vhost};
use serde_json::Value;

/// All that stands in the file; what is there without being written is not the file's.
pub(super) fn things(config: &Config) -> Things {
    let mut things = Things::new();
    let mut add = |id: Id, fields: Table| drop(things.insert(id, fields));
    for vhost in config.vhosts.iter().filter(|vhost| vhost.declared_at.is_some()) {
        add(Id::new(Kind::Vhost, &vhost.name, &[]), self::vhost(vhost));
    }
    for user in config.users.iter().filter(|user| user.declared_at.is_some()) {
        add(Id::new(Kind::User, "", &[&user.name]), self::user(user));
    }
    for item in config.permissions.iter().filter(|item| item.declared_at.is_some()) {
        let [configure, write, read] =
            [&item.configure, &item.write, &item.read].map(|text| Some(text.clone()));
        let patterns = Permission { configure, write, read, ..Permission::default() };
        add(Id::new(Kind::Permission, &item.vhost, &[&item.user]), api::object(&patterns));
    }
    for item in &config.topic_permissions {
        let [write, read] = [&item.write, &item.read].map(|text| Some(text.clone()));
        let patterns = TopicPermission { write, read, ..TopicPermission::default() };
        add(
            Id::new(Kind::TopicPermission, &item.vhost, &[&item.user, &item.exchange]),
            api::object(&patterns),
        );
    }
    for item in &config.policies {
        add(Id::new(Kind::Policy, &item.vhost, &[&item.name]), policy(item));
    }
    for item in &config.operator_policies {
        add(Id::new(Kind::OperatorPolicy, &item.vhost, &[&item.name]), policy(item));
    }
    for item in &config.exchanges {
        let exchange = ExchangeDefinition {
            kind: Some(item.exchange_type.as_str().into()),
            durable: Some(item.durable),
            auto_delete: item.auto_delete,
            internal: item.internal,
            arguments: table(&item.arguments),
            ..ExchangeDefinition::default()
        };
        add(Id::new(Kind::Exchange, &item.vhost, &[&item.name]), api::object(&exchange));
    }
    for item in &config.queues {
        let queue = QueueDefinition {
            durable: Some(item.durable),
            auto_delete: item.auto_delete,
            arguments: table(&item.arguments),
            ..QueueDefinition::default()
        };
        add(Id::new(Kind::Queue, &item.vhost, &[&item.name]), api::object(&queue));
    }
    for item in &config.bindings {
        let arguments = table(&item.arguments);
        let destination = (item.destination_type.name(), item.destination.as_str());
        let id =
            Id::binding(&item.vhost, &item.source, destination, &item.routing_key, &arguments.clone().into());
        let binding = Binding { routing_key: item.routing_key.clone(), arguments, ..Binding::default() };
        add(id, api::object(&binding));
    }
    things
}

fn vhost(vhost: &Vhost) -> Table {
    let about = VhostMetadata {
        description: vhost.description.clone(),
        tags: vhost.tags.clone().map(Tags),
        default_queue_type: vhost.default_queue_type.map(|queue_type| queue_type.name().to_owned()),
        tracing: vhost.tracing,
        ..VhostMetadata::default()
    };
    let limits = [("max-connections", vhost.max_connections), ("max-queues", vhost.max_queues)];
    let mut fields = api::object(&about);
    fields.insert("limits".to_owned(), set(&limits).into());
    fields
}

fn user(user: &User) -> Table {
    let limits = [("max-connections", user.max_connections), ("max-channels", user.max_channels)];
    let wanted =
        api::User { tags: Some(Tags(user.tags.clone())), limits: set(&limits), ..api::User::default() };
    let mut fields = api::object(&match &user.credentials {
        Credentials::Password(password) => api::User { password: Some(password.clone()), ..wanted },
        Credentials::PasswordHash { hash, algorithm } => api::User {
            password_hash: Some(hash.clone()),
            hashing_algorithm: Some(algorithm.name().to_owned()),
            ..wanted
        },
    });
    // Of what differs the password comes last.
    for name in ["password", "password_hash", "hashing_algorithm"] {
        fields.shift_remove(name).into_iter().for_each(|value| drop(fields.insert(name.to_owned(), value)));
    }
    fields
}

/// Those limits that are said.
fn set(limits: &[(&str, Option<i64>)]) -> Table {
    limits.iter().filter_map(|(name, limit)| Some(((*name).to_owned(), Value::from((*limit)?)))).collect()
}

fn policy(policy: &Policy) -> Table {
    let wanted = api::Policy {
        pattern: policy.pattern.clone(),
        apply_to: policy.apply_to.name().to_owned(),
        priority: policy.priority.into(),
        definition: table(&policy.definition),
        ..api::Policy::default()
    };
    api::object(&wanted)
}

fn table(arguments: &Arguments) -> Table {
    arguments.iter().map(|(name, argument)| (name.clone(), value(argument))).collect()
}

fn value(argument: &Argument) -> Value {
    match argument {
        Argument::Integer(number) => (*number).into(),
        Argument::Float(number) => (*number).into(),
        Argument::String(text) => text.as_str().into(),
        Argument::Boolean(flag) => (*flag).into(),
        Argument::Array(values) => values.iter().map(value).collect(),
        Argument::Table(fields) => table(fields).into(),
    }
}
