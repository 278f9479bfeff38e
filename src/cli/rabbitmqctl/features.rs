//! The commands about feature flags, and about what the broker is set to.

use super::super::client::ClientError;
use super::super::output::printable;
use super::super::path::path;
use super::broker::Facts;
use super::{Call, Command, Done, MANY, Refusal, command, lists, status};
use leveret::api::{LogLevel, ResourceLimit};
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command("enable_feature_flag", (1, 1), enable_feature_flag, "[--opt-in] <all | feature_flag>"),
    command("set_disk_free_limit", (1, 2), set_disk_free_limit, "<disk_limit> | mem_relative <fraction>"),
    command("set_log_level", (1, 1), set_log_level, "<log_level>"),
];

pub(super) const LOOKS: &[Command] = &[
    command("list_feature_flags", (0, MANY), list_feature_flags, "[<column> ...] [--timeout <timeout>]"),
    command("environment", (0, 0), environment, "[--timeout <timeout>]"),
    command("node_health_check", (0, 0), node_health_check, ""),
];

fn list_feature_flags(call: &mut Call) -> Done {
    let columns = lists::chosen(call, lists::FEATURE_FLAG, 2)?;
    call.banner("Listing feature flags ...")?;
    lists::write(call, &["feature-flags"], &columns)
}

fn enable_feature_flag(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    match name.as_str() {
        "all" => return Ok(call.banner("Enabling all feature flags ...")?),
        _ => call.banner(&format!("Enabling feature flag \"{name}\" ..."))?,
    }
    match call.client.put(&path(&["feature-flags", &name, "enable"]), &json!({})) {
        Err(ClientError::Refused { .. }) => {
            let node = call.node()?;
            let text = format!("This feature flag is not supported by node {node}");
            Err(Refusal::Error(status::USAGE, text))
        }
        enabled => Ok(enabled.map(drop)?),
    }
}

fn set_disk_free_limit(call: &mut Call) -> Done {
    let (body, text) = match call.typed.arguments.as_slice() {
        [word] if word == "mem_relative" => return Err(Refusal::Usage("not enough arguments.".to_owned())),
        [bytes] => {
            let limit = super::cluster::parse_bytes(bytes)?.into();
            (ResourceLimit { bytes: limit, ..ResourceLimit::default() }, format!("{bytes} bytes"))
        }
        [word, times] if word == "mem_relative" => {
            let factor: f64 = times.parse().map_err(|_| Refusal::Argument(".".to_owned()))?;
            if factor < 0.0 {
                return Err(Refusal::Argument(".".to_owned()));
            }
            let limit = ResourceLimit { mem_relative: factor.into(), ..ResourceLimit::default() };
            (limit, format!("{times} times the total RAM"))
        }
        _ => return Err(Refusal::Usage("too many arguments.".to_owned())),
    };
    let node = call.node()?;
    call.banner(&format!("Setting disk free limit on {node} to {text} ..."))?;
    call.client.put(&path(&["disk-limit"]), &body)?;
    Ok(())
}

/// RabbitMQ's levels, and what the broker calls them.
const LEVELS: [(&str, &str); 6] = [
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("none", "off"),
];

fn set_log_level(call: &mut Call) -> Done {
    let level = call.argument(0).to_owned();
    let Some((_, own)) = LEVELS.iter().find(|(name, _)| *name == level) else {
        let names = LEVELS.map(|(name, _)| name).join(", ");
        let text = format!("level {level} is not supported. Try one of {names}");
        return Err(Refusal::Error(status::UNAVAILABLE, text));
    };
    call.banner(&format!("Setting log level to \"{level}\" ..."))?;
    call.client.put(&path(&["log"]), &LogLevel { level: (*own).to_owned() })?;
    Ok(())
}

fn node_health_check(call: &mut Call) -> Done {
    call.result(
        "This command is DEPRECATED and is a no-op. It will be removed in a future version. \n\
         Use check_running, check_alarms and check_port_connectivity of rabbitmq-diagnostics instead.",
    )
}

/// A text as Erlang writes a binary.
fn binary(text: &str) -> String {
    format!("<<{}>>", Value::from(printable(text)))
}

/// The settings that the management API reports, as pairs like RabbitMQ's.
fn environment(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    call.banner(&format!("Application environment of node {} ...", facts.name()))?;
    let of = |protocol: &str| {
        let listeners = facts.overview.listeners.iter().filter(|listener| listener.protocol == protocol);
        let pairs = listeners
            .map(|listener| format!("{{{},{}}}", Value::from(listener.ip_address.as_str()), listener.port));
        format!("[{}]", pairs.collect::<Vec<_>>().join(","))
    };
    let (node, overview) = (&facts.node, &facts.overview);
    let pairs = [
        ("cluster_name", binary(&overview.cluster_name)),
        ("data_dir", binary(&node.db_dir)),
        ("disk_free_limit", node.disk_free_limit.to_string()),
        ("product_name", binary(&overview.product_name)),
        ("product_version", binary(&overview.product_version)),
        ("ssl_listeners", of("amqp/ssl")),
        ("tcp_listeners", of("amqp")),
        ("vm_memory_high_watermark", format!("{{absolute,{}}}", node.mem_limit)),
    ];
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{{{name},{value}}}")).collect();
    let version = binary(&overview.leveret_version);
    call.result(&format!(
        "[{{leveret,[{{version,{version}}}]}},\n {{rabbit,\n     [{}]}}]",
        pairs.join(",\n      ")
    ))
}
