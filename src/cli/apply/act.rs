//! Does the steps of a plan, over the management API.

use super::super::client::{Client, ClientError};
use super::super::path::{path, path_with};
use super::super::{About, Failure};
use super::keep;
use super::plan::{Act, Plan, Step};
use super::thing::{Id, Kind, Things};
use leveret::api::Setting;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Does one step after the other, but for those that can't be done.
pub(super) fn perform(client: &mut Client, plan: &Plan, current: &Things) -> Result<(), Failure> {
    for step in plan.steps.iter().filter(|step| step.blocked.is_none()) {
        let done = match step.act {
            Act::Add | Act::Change => put(client, &step.id, &step.wanted, current),
            Act::Replace if step.id.kind == Kind::Queue => {
                keep::redeclare(client, &step.id, &step.wanted, true, current)?;
                continue;
            }
            Act::Finish => {
                keep::redeclare(client, &step.id, &step.wanted, false, current)?;
                continue;
            }
            Act::Replace => replace(client, step, plan, current),
            Act::Delete => delete(client, &step.id, current),
        };
        done.about(|| {
            format!("{} is not as the file has it, and what comes behind it is as it was", step.id)
        })?;
    }
    Ok(())
}

fn put(
    client: &mut Client,
    id: &Id,
    wanted: &Map<String, Value>,
    current: &Things,
) -> Result<(), ClientError> {
    let (vhost, name) = (id.vhost.as_str(), id.name());
    match id.kind {
        Kind::Vhost => return put_vhost(client, vhost, wanted, current.get(id)),
        Kind::User => {
            let mut body = wanted.clone();
            body.retain(|_, value| !value.is_null());
            client.put(&path(&["users", name]), &body)?;
        }
        Kind::Permission => {
            client.put(&path(&["permissions", vhost, name]), wanted)?;
        }
        Kind::TopicPermission => {
            let mut body = wanted.clone();
            body.insert("exchange".to_owned(), id.names.get(1).cloned().into());
            client.put(&path(&["topic-permissions", vhost, name]), &body)?;
        }
        Kind::Policy | Kind::OperatorPolicy | Kind::Exchange | Kind::Queue => {
            client.put(&path(&[list(id.kind), vhost, name]), wanted)?;
        }
        Kind::Binding => {
            client.post::<_, IgnoredAny>(&ends(id), wanted)?;
        }
    }
    Ok(())
}

fn list(kind: Kind) -> &'static str {
    match kind {
        Kind::Vhost => "vhosts",
        Kind::User => "users",
        Kind::Permission => "permissions",
        Kind::TopicPermission => "topic-permissions",
        Kind::Policy => "policies",
        Kind::OperatorPolicy => "operator-policies",
        Kind::Exchange => "exchanges",
        Kind::Queue => "queues",
        Kind::Binding => "bindings",
    }
}

/// The path of the bindings between a binding's ends.
pub(super) fn ends(id: &Id) -> String {
    let part = |index: usize| id.names.get(index).map_or("", String::as_str);
    let kind = if part(1) == "queue" { "q" } else { "e" };
    path(&["bindings", &id.vhost, "e", part(0), kind, part(2)])
}

/// What is not wanted of a vhost stays as it is.
fn put_vhost(
    client: &mut Client,
    vhost: &str,
    wanted: &Map<String, Value>,
    known: Option<&Map<String, Value>>,
) -> Result<(), ClientError> {
    super::super::vhosts::put(client, vhost, wanted, known)?;
    for (name, value) in wanted.get("limits").and_then(Value::as_object).into_iter().flatten() {
        client.put(&path(&["vhost-limits", vhost, name]), &Setting { value: value.clone() })?;
    }
    Ok(())
}

/// Deletes an exchange, and makes it again with the bindings that it had, but for those that are to go.
fn replace(client: &mut Client, step: &Step, plan: &Plan, current: &Things) -> Result<(), ClientError> {
    delete(client, &step.id, current)?;
    put(client, &step.id, &step.wanted, current)?;
    let goes = |id: &Id| plan.steps.iter().any(|step| step.act == Act::Delete && step.id == *id);
    for (id, fields) in current.iter().filter(|(id, _)| id.is_binding_of(&step.id) && !goes(id)) {
        put(client, id, fields, current)?;
    }
    Ok(())
}

fn delete(client: &mut Client, id: &Id, current: &Things) -> Result<(), ClientError> {
    let (vhost, name) = (id.vhost.as_str(), id.name());
    let place = match id.kind {
        Kind::Vhost => path(&["vhosts", vhost]),
        Kind::User => path(&["users", name]),
        Kind::TopicPermission => {
            path(&["topic-permissions", vhost, name, id.names.get(1).map_or("", String::as_str)])
        }
        Kind::Permission | Kind::Policy | Kind::OperatorPolicy | Kind::Exchange => {
            path(&[list(id.kind), vhost, name])
        }
        // The broker looks again: a message may have come meanwhile.
        Kind::Queue => path_with(&["queues", vhost, name], &[("if-empty", "true"), ("if-unused", "true")]),
        Kind::Binding => {
            let key = current.get(id).and_then(|fields| fields.get("properties_key")).and_then(Value::as_str);
            format!("{}/{}", ends(id), path(&[key.unwrap_or("~")]).trim_start_matches("/api/"))
        }
    };
    match client.delete(&place) {
        // It went along with something else.
        Ok(()) | Err(ClientError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
