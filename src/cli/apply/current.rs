//! What a broker has.

use super::super::client::{Client, ClientError};
use super::super::path::path_with;
use super::thing::{Id, Kind, Things};
use serde_json::{Map, Value};

const QUEUE_COLUMNS: &str =
    "name,vhost,type,durable,auto_delete,exclusive,arguments,messages,messages_unacknowledged,consumers";

/// All that the broker has, but for what is in every vhost and what belongs to one connection.
pub(super) fn things(client: &mut Client) -> Result<Things, ClientError> {
    let mut things = Things::new();
    for (list, kind) in [
        ("vhosts", Kind::Vhost),
        ("users", Kind::User),
        ("permissions", Kind::Permission),
        ("topic-permissions", Kind::TopicPermission),
        ("policies", Kind::Policy),
        ("operator-policies", Kind::OperatorPolicy),
        ("exchanges", Kind::Exchange),
        ("bindings", Kind::Binding),
    ] {
        for fields in items(client, list, &[])? {
            let id = id(kind, &fields);
            if is_lasting(&id, &fields) {
                things.insert(id, fields);
            }
        }
    }
    for fields in items(client, "queues", &[("columns", QUEUE_COLUMNS)])? {
        let id = id(Kind::Queue, &fields);
        if is_lasting(&id, &fields) {
            things.insert(id, fields);
        }
    }
    for limits in items(client, "vhost-limits", &[])? {
        let id = Id::new(Kind::Vhost, text(&limits, "vhost"), &[]);
        if let (Some(vhost), Some(value)) = (things.get_mut(&id), limits.get("value")) {
            vhost.insert("limits".to_owned(), value.clone());
        }
    }
    Ok(things)
}

fn items(
    client: &mut Client,
    list: &str,
    query: &[(&str, &str)],
) -> Result<Vec<Map<String, Value>>, ClientError> {
    client.get(&path_with(&[list], query))
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn id(kind: Kind, fields: &Map<String, Value>) -> Id {
    let text = |name| text(fields, name);
    let (vhost, name, user) = (text("vhost"), text("name"), text("user"));
    match kind {
        Kind::Vhost => Id::new(kind, name, &[]),
        Kind::User => Id::new(kind, "", &[name]),
        Kind::Permission => Id::new(kind, vhost, &[user]),
        Kind::TopicPermission => Id::new(kind, vhost, &[user, text("exchange")]),
        Kind::Policy | Kind::OperatorPolicy | Kind::Exchange | Kind::Queue => Id::new(kind, vhost, &[name]),
        Kind::Binding => {
            let none = Value::Object(Map::new());
            let arguments = fields.get("arguments").filter(|value| value.is_object()).unwrap_or(&none);
            let destination = (text("destination_type"), text("destination"));
            Id::binding(vhost, text("source"), destination, text("routing_key"), arguments)
        }
    }
}

/// Whether a file could declare it: no exchange that every vhost has, no queue of a connection.
fn is_lasting(id: &Id, fields: &Map<String, Value>) -> bool {
    match id.kind {
        Kind::Exchange => !id.name().is_empty() && !id.name().starts_with("amq."),
        Kind::Queue => fields.get("exclusive") != Some(&Value::Bool(true)) && !id.name().starts_with("amq."),
        Kind::Binding => !id.name().is_empty(),
        Kind::TopicPermission => id.names.iter().all(|name| !name.is_empty()),
        _ => true,
    }
}
