//! The commands about vhosts, limits, policies and parameters.

use super::super::client::ClientError;
use super::super::path::path;
use super::super::vhosts;
use super::format::{Cell, write_list};
use super::lists::no_vhost;
use super::{Call, Command, Done, Refusal, command, status};
use leveret::api::{ClusterName, Setting, Tags, VhostMetadata};
use serde::Serialize;
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "add_vhost",
        (1, 1),
        add_vhost,
        "<vhost> [--description <text> --tags <tags> --default-queue-type <type>]",
    ),
    command("delete_vhost", (1, 1), delete_vhost, "<vhost>"),
    command("trace_on", (0, 0), trace_on, "[--vhost <vhost>]"),
    command("trace_off", (0, 0), trace_off, "[--vhost <vhost>]"),
    command("set_vhost_limits", (1, 1), set_vhost_limits, "[--vhost <vhost>] <definition>"),
    command("clear_vhost_limits", (0, 0), clear_vhost_limits, "[--vhost <vhost>]"),
    command("list_vhost_limits", (0, 0), list_vhost_limits, "[--vhost <vhost>] [--global]"),
    command("set_policy", (3, 3), set_policy, POLICY_USAGE),
    command("clear_policy", (1, 1), clear_policy, "[--vhost <vhost>] <name>"),
    command("set_operator_policy", (3, 3), set_operator_policy, POLICY_USAGE),
    command("clear_operator_policy", (1, 1), clear_operator_policy, "[--vhost <vhost>] <name>"),
    command("set_parameter", (3, 3), set_parameter, "[--vhost <vhost>] <component_name> <name> <value>"),
    command("clear_parameter", (2, 2), clear_parameter, "[--vhost <vhost>] <component_name> <name>"),
    command("set_global_parameter", (2, 2), set_global_parameter, "<name> <value>"),
    command("clear_global_parameter", (1, 1), clear_global_parameter, "<name>"),
    command("set_cluster_name", (1, 1), set_cluster_name, "<name>"),
];

const POLICY_USAGE: &str =
    "[--vhost <vhost>] [--priority <priority>] [--apply-to <apply-to>] <name> <pattern> <definition>";

/// What a value in JSON says.
pub(super) fn parse_json(text: &str) -> Result<Value, Refusal> {
    serde_json::from_str(text)
        .map_err(|error| Refusal::Error(status::UNAVAILABLE, format!("JSON decoding error. Reason: {error}")))
}

fn add_vhost(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    let option = |name| call.typed.option(name).map(str::to_owned);
    let about = VhostMetadata {
        description: option("--description"),
        tags: option("--tags").as_deref().map(Tags::from),
        default_queue_type: option("--default-queue-type"),
        ..VhostMetadata::default()
    };
    call.banner(&format!("Adding vhost \"{name}\" ..."))?;
    call.client.put(&path(&["vhosts", &name]), &about)?;
    Ok(())
}

fn delete_vhost(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Deleting vhost \"{name}\" ..."))?;
    match call.client.delete(&path(&["vhosts", &name])) {
        Err(ClientError::NotFound(_)) => Err(no_vhost(&name)),
        deleted => Ok(deleted?),
    }
}

fn trace_on(call: &mut Call) -> Done {
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Starting tracing for vhost \"{vhost}\" ..."))?;
    set_tracing(call, &vhost, true)?;
    call.result(&format!("Trace enabled for vhost {vhost}"))
}

fn trace_off(call: &mut Call) -> Done {
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Stopping tracing for vhost \"{vhost}\" ..."))?;
    set_tracing(call, &vhost, false)?;
    call.result(&format!("Trace disabled for vhost {vhost}"))
}

/// Has the vhost traced. One that is not there is refused, where RabbitMQ says that it is traced.
fn set_tracing(call: &mut Call, vhost: &str, tracing: bool) -> Done {
    match vhosts::set_tracing(&mut call.client, vhost, tracing) {
        Err(ClientError::NotFound(_)) => Err(no_vhost(vhost)),
        put => Ok(put?),
    }
}

/// Sets each limit of an object, of a user or vhost that is there.
pub(super) fn put_limits(call: &mut Call, kind: &str, name: &str, limits: &Value) -> Done {
    for (limit, value) in limits.as_object().into_iter().flatten() {
        call.client.put(&path(&[kind, name, limit]), &Setting { value: value.clone() })?;
    }
    Ok(())
}

/// Takes limits away, those that are there.
pub(super) fn clear_limits(call: &mut Call, kind: &str, name: &str, limits: &[&str]) -> Done {
    for limit in limits {
        match call.client.delete(&path(&[kind, name, limit])) {
            Err(ClientError::NotFound(_)) => {}
            deleted => deleted?,
        }
    }
    Ok(())
}

/// Says the limits of one user or vhost, as an object.
pub(super) fn say_limits(call: &mut Call, segments: &[&str]) -> Done {
    let listed: Vec<Setting> = call.client.get(&path(segments))?;
    let limits = listed.into_iter().next().map_or(json!({}), |limited| limited.value);
    Ok(call.say(&limits.to_string())?)
}

/// Lists the limits of all users or vhosts.
pub(super) fn list_limits(call: &mut Call, kind: &str, of: &str) -> Done {
    let listed: Vec<Value> = call.client.get(&path(&[kind]))?;
    let rows: Vec<Vec<Cell>> = listed
        .iter()
        .map(|item| vec![Cell::Plain(item[of].clone()), Cell::Json(item["value"].clone())])
        .collect();
    let (format, headers) = (call.typed.format(), call.typed.has_headers());
    Ok(write_list(call.out, format, headers, &[of, "limits"], &rows)?)
}

/// Refuses when the vhost that was typed is not there.
fn check_vhost(call: &mut Call) -> Result<String, Refusal> {
    let vhost = call.typed.vhost().to_owned();
    match call.client.check(&path(&["vhosts", &vhost])) {
        Err(ClientError::NotFound(_)) => Err(no_vhost(&vhost)),
        got => Ok(got.map(|()| vhost)?),
    }
}

fn set_vhost_limits(call: &mut Call) -> Done {
    let (vhost, definition) = (call.typed.vhost(), call.argument(0).to_owned());
    call.banner(&format!("Setting vhost limits to \"{definition}\" for vhost \"{vhost}\" ..."))?;
    let limits = parse_json(&definition)?;
    let vhost = check_vhost(call)?;
    put_limits(call, "vhost-limits", &vhost, &limits)
}

fn clear_vhost_limits(call: &mut Call) -> Done {
    call.banner(&format!("Clearing vhost \"{}\" limits ...", call.typed.vhost()))?;
    let vhost = check_vhost(call)?;
    clear_limits(call, "vhost-limits", &vhost, &["max-connections", "max-queues"])
}

fn list_vhost_limits(call: &mut Call) -> Done {
    if call.typed.has("--global") {
        call.banner("Listing limits for all vhosts ...")?;
        return list_limits(call, "vhost-limits", "vhost");
    }
    call.banner(&format!("Listing limits for vhost \"{}\" ...", call.typed.vhost()))?;
    let vhost = check_vhost(call)?;
    say_limits(call, &["vhost-limits", &vhost])
}

fn set_policy(call: &mut Call) -> Done {
    put_policy(call, "policies", "policy")
}

fn set_operator_policy(call: &mut Call) -> Done {
    put_policy(call, "operator-policies", "operator policy override")
}

fn put_policy(call: &mut Call, kind: &str, text: &str) -> Done {
    let [name, pattern, definition] = [0, 1, 2].map(|index| call.argument(index).to_owned());
    let vhost = call.typed.vhost().to_owned();
    let priority = call.typed.option("--priority").unwrap_or("0").to_owned();
    let apply_to = call.typed.option("--apply-to").unwrap_or("all").to_owned();
    call.banner(&format!(
        "Setting {text} \"{name}\" for pattern \"{pattern}\" to \"{definition}\" with priority \"{priority}\" \
         for vhost \"{vhost}\" ..."
    ))?;
    // The broker judges what was typed, whatever it is.
    let body = json!({
        "pattern": pattern,
        "definition": parse_json(&definition)?,
        "priority": serde_json::from_str(&priority).unwrap_or(Value::String(priority)),
        "apply-to": apply_to,
    });
    put(call, &[kind, &vhost, &name], &body)
}

/// Puts something into the vhost that was typed; the broker's refusal is all there is to say about it.
fn put<B: Serialize>(call: &mut Call, segments: &[&str], body: &B) -> Done {
    match call.client.put(&path(segments), body) {
        Err(ClientError::NotFound(_)) => Err(no_vhost(call.typed.vhost())),
        Err(ClientError::Refused { reason, .. }) => {
            Err(Refusal::Error(status::UNAVAILABLE, format!("{reason}\n")))
        }
        put => Ok(put.map(drop)?),
    }
}

/// Clears a parameter or what is one to RabbitMQ.
fn clear(call: &mut Call, segments: &[&str]) -> Done {
    match call.client.delete(&path(segments)) {
        Err(ClientError::NotFound(_)) => {
            Err(Refusal::Error(status::UNAVAILABLE, "Parameter does not exist".to_owned()))
        }
        deleted => Ok(deleted?),
    }
}

fn clear_policy(call: &mut Call) -> Done {
    let (name, vhost) = (call.argument(0).to_owned(), call.typed.vhost().to_owned());
    call.banner(&format!("Clearing policy \"{name}\" on vhost \"{vhost}\" ..."))?;
    check_vhost(call)?;
    clear(call, &["policies", &vhost, &name])
}

fn clear_operator_policy(call: &mut Call) -> Done {
    let (name, vhost) = (call.argument(0).to_owned(), call.typed.vhost().to_owned());
    call.banner(&format!("Clearing operator policy \"{name}\" on vhost \"{vhost}\" ..."))?;
    check_vhost(call)?;
    clear(call, &["operator-policies", &vhost, &name])
}

fn set_parameter(call: &mut Call) -> Done {
    let [component, name, value] = [0, 1, 2].map(|index| call.argument(index).to_owned());
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!(
        "Setting runtime parameter \"{name}\" for component \"{component}\" to \"{value}\" in vhost \"{vhost}\" ..."
    ))?;
    let body = Setting { value: parse_json(&value)? };
    put(call, &["parameters", &component, &vhost, &name], &body)
}

fn clear_parameter(call: &mut Call) -> Done {
    let [component, name] = [0, 1].map(|index| call.argument(index).to_owned());
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!(
        "Clearing runtime parameter \"{name}\" for component \"{component}\" on vhost \"{vhost}\" ..."
    ))?;
    clear(call, &["parameters", &component, &vhost, &name])
}

fn set_global_parameter(call: &mut Call) -> Done {
    let [name, value] = [0, 1].map(|index| call.argument(index).to_owned());
    call.banner(&format!("Setting global runtime parameter \"{name}\" to \"{value}\" ..."))?;
    let body = Setting { value: parse_json(&value)? };
    put(call, &["global-parameters", &name], &body)
}

fn clear_global_parameter(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Clearing global runtime parameter \"{name}\" ..."))?;
    clear(call, &["global-parameters", &name])
}

fn set_cluster_name(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Setting cluster name to {name} ..."))?;
    call.client.put(&path(&["cluster-name"]), &ClusterName { name })?;
    Ok(())
}
