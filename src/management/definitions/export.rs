//! The broker's definitions as a document.

use crate::broker::exchange::{Binding, Destination, Exchange};
use crate::broker::policy::PolicyKind;
use crate::broker::queue::QueueHandle;
use crate::broker::{Broker, VirtualHost};
use crate::management::permissions::{permission_json, topic_permission_json};
use crate::management::users::user_json;
use crate::management::{ManagementSettings, bindings, exchanges, json, parameters, policies, queues};
use serde_json::{Map, Value, json};

/// All there is to export.
pub(super) fn everything(broker: &Broker, settings: &ManagementSettings) -> Value {
    let mut vhosts = broker.vhosts();
    vhosts.sort_by(|a, b| a.name().cmp(b.name()));
    let all = |of: fn(&Broker, &VirtualHost) -> Vec<Value>| -> Vec<Value> {
        vhosts.iter().flat_map(|vhost| of(broker, vhost)).collect()
    };
    let permissions = broker.permissions();
    json!({
        "rabbit_version": settings.version,
        "rabbitmq_version": settings.version,
        "product_name": settings.product,
        "product_version": settings.version,
        "users": broker.users().list().iter().map(|user| user_json(user)).collect::<Vec<_>>(),
        "vhosts": vhosts.iter().map(|vhost| self::vhost(vhost)).collect::<Vec<_>>(),
        "permissions": permissions.list().iter().map(permission_json).collect::<Vec<_>>(),
        "topic_permissions": permissions.list_topics().iter().map(topic_permission_json).collect::<Vec<_>>(),
        "parameters": all(parameters_of),
        "global_parameters": global_parameters(broker),
        "policies": all(policies_of),
        "queues": all(queues_of),
        "exchanges": all(exchanges_of),
        "bindings": all(bindings_of),
    })
}

/// What is in one vhost, without its name, so that it can be imported into another one.
pub(super) fn of_vhost(broker: &Broker, vhost: &VirtualHost, settings: &ManagementSettings) -> Value {
    let nameless = |of: fn(&Broker, &VirtualHost) -> Vec<Value>| {
        let mut items = of(broker, vhost);
        for item in &mut items {
            item.as_object_mut().and_then(|fields| fields.shift_remove("vhost"));
        }
        items
    };
    json!({
        "rabbit_version": settings.version,
        "parameters": parameters_of(broker, vhost),
        "policies": policies_of(broker, vhost),
        "queues": nameless(queues_of),
        "exchanges": nameless(exchanges_of),
        "bindings": nameless(bindings_of),
    })
}

/// A vhost; what was never said of it is left out.
fn vhost(vhost: &VirtualHost) -> Value {
    let settings = vhost.settings();
    let mut about = Map::new();
    if !settings.description.is_empty() {
        about.insert("description".to_owned(), settings.description.as_str().into());
    }
    if !settings.tags.is_empty() {
        about.insert("tags".to_owned(), json!(settings.tags));
    }
    if let Some(queue_type) = settings.default_queue_type {
        about.insert("default_queue_type".to_owned(), queue_type.name().into());
    }
    let mut fields = Map::new();
    fields.insert("name".to_owned(), (**vhost.name()).into());
    if !about.is_empty() {
        fields.insert("metadata".to_owned(), about.into());
    }
    Value::Object(fields)
}

fn global_parameters(broker: &Broker) -> Vec<Value> {
    broker.global_parameters().iter().map(|(name, value)| parameters::global_json(name, value)).collect()
}

/// The parameters, and what RabbitMQ keeps as such: limits and operator policies.
fn parameters_of(broker: &Broker, vhost: &VirtualHost) -> Vec<Value> {
    let mut found: Vec<Value> = broker
        .parameters()
        .iter()
        .filter(|(key, _)| key.vhost == *vhost.name())
        .map(|(key, value)| parameters::parameter_json(key, value))
        .collect();
    found.extend(parameters::policies_json(vhost, PolicyKind::Operator, "operator_policy"));
    found.extend(parameters::vhost_limits(vhost));
    found
}

fn policies_of(_: &Broker, vhost: &VirtualHost) -> Vec<Value> {
    let policies = vhost.policies(PolicyKind::Policy);
    policies.iter().map(|policy| policies::policy_json(vhost.name(), policy)).collect()
}

fn queues_of(_: &Broker, vhost: &VirtualHost) -> Vec<Value> {
    queues::sorted(vhost).iter().filter(|queue| is_shared(queue)).map(|queue| self::queue(queue)).collect()
}

/// An exclusive queue goes with its connection.
fn is_shared(queue: &QueueHandle) -> bool {
    queue.definition().exclusive_owner.is_none()
}

fn queue(queue: &QueueHandle) -> Value {
    let definition = queue.definition();
    json!({
        "name": &*definition.name,
        "vhost": &*definition.vhost,
        "durable": definition.durable,
        "auto_delete": definition.auto_delete,
        "arguments": json::table_to_json(&definition.arguments.decode()),
    })
}

fn exchanges_of(_: &Broker, vhost: &VirtualHost) -> Vec<Value> {
    let all = exchanges::sorted(vhost);
    // What every vhost has from the start need not be declared.
    let declared = all.iter().filter(|exchange| {
        let name = &exchange.definition().name;
        !name.is_empty() && !name.starts_with("amq.")
    });
    declared.map(|exchange| self::exchange(exchange)).collect()
}

fn exchange(exchange: &Exchange) -> Value {
    let definition = exchange.definition();
    json!({
        "name": &*definition.name,
        "vhost": &*definition.vhost,
        "type": &*definition.kind,
        "durable": definition.durable,
        "auto_delete": definition.auto_delete,
        "internal": definition.internal,
        "arguments": json::table_to_json(&definition.arguments.decode()),
    })
}

fn bindings_of(_: &Broker, vhost: &VirtualHost) -> Vec<Value> {
    let bindings = vhost.bindings();
    let leads_to_shared = |binding: &Binding| match &binding.destination {
        Destination::Queue(name) => vhost.queue(name).is_some_and(|queue| is_shared(&queue)),
        Destination::Exchange(_) => true,
    };
    let kept = bindings.iter().filter(|binding| leads_to_shared(binding));
    let mut found: Vec<Value> = kept.map(|binding| self::binding(vhost, binding)).collect();
    found.sort_by_cached_key(Value::to_string);
    found
}

fn binding(vhost: &VirtualHost, binding: &Binding) -> Value {
    let (kind, name) = bindings::destination(&binding.destination);
    json!({
        "source": &*binding.source,
        "vhost": &**vhost.name(),
        "destination": &**name,
        "destination_type": kind,
        "routing_key": json::text_of(binding.routing_key.as_bytes()),
        "arguments": json::table_to_json(&binding.arguments.decode()),
    })
}
