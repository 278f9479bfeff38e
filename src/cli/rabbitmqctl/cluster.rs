//! The commands about a cluster and its nodes, of which there is one.

use super::super::output::printable;
use super::super::path::path;
use super::arguments::Format;
use super::broker::{Facts, listener_line};
use super::{Call, Command, Done, Refusal, command};
use leveret::api::{FeatureFlag, ResourceLimit};
use serde_json::{Map, Value, json};

pub(super) const COMMANDS: &[Command] =
    &[command("set_vm_memory_high_watermark", (1, 2), set_memory_limit, "<fraction> | absolute <value>")];

pub(super) const LOOKS: &[Command] =
    &[command("cluster_status", (0, 0), cluster_status, "[--timeout <timeout>]")];

fn cluster_status(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    let flags: Vec<FeatureFlag> = call.client.get(&path(&["feature-flags"]))?;
    if call.typed.format() == Format::Json {
        return Ok(call.say(&as_json(&facts, &flags).to_string())?);
    }
    call.banner(&format!("Cluster status of node {} ...", facts.name()))?;
    Ok(call.say(&as_text(&facts, &flags))?)
}

/// What is said of the one node there is, under its name.
fn of_node(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn as_json(facts: &Facts, flags: &[FeatureFlag]) -> Value {
    let name = facts.name();
    json!({
        "alarms": facts.alarms_json(),
        "cluster_name": facts.overview.cluster_name,
        "disk_nodes": [name],
        "feature_flags": flags,
        "listeners": of_node(&name, facts.listeners_json()),
        "maintenance_status": of_node(&name, "not under maintenance".into()),
        "partitions": {},
        "ram_nodes": [],
        "running_nodes": [name],
        "versions": of_node(&name, json!({
            "leveret_version": facts.overview.leveret_version,
            "rabbitmq_name": facts.overview.product_name,
            "rabbitmq_version": facts.overview.product_version,
        })),
    })
}

fn as_text(facts: &Facts, flags: &[FeatureFlag]) -> String {
    let name = facts.name();
    let listeners = facts.overview.listeners.iter();
    let listeners = listeners.map(|listener| format!("Node: {name}, i{}", &listener_line(listener)[1..]));
    let flags = flags.iter().map(|flag| format!("Flag: {}, state: {}", flag.name, flag.state));
    let overview = &facts.overview;
    [
        ("Basics", format!("Cluster name: {}", printable(&overview.cluster_name))),
        ("Disk Nodes", name.clone()),
        ("Running Nodes", name.clone()),
        (
            "Versions",
            format!(
                "{name}: {} {} on Leveret {}",
                printable(&overview.product_name),
                printable(&overview.product_version),
                printable(&overview.leveret_version),
            ),
        ),
        ("Maintenance status", format!("Node: {name}, status: not under maintenance")),
        ("Alarms", facts.alarms_text()),
        ("Network Partitions", "(none)".to_owned()),
        ("Listeners", listeners.collect::<Vec<_>>().join("\n")),
        ("Feature flags", flags.collect::<Vec<_>>().join("\n")),
    ]
    .map(|(title, text)| format!("{title}\n\n{text}"))
    .join("\n\n")
}

fn set_memory_limit(call: &mut Call) -> Done {
    let (body, text) = match call.typed.arguments.as_slice() {
        [word] if word == "absolute" => return Err(Refusal::Usage("not enough arguments.".to_owned())),
        [fraction] => {
            let limit = parse_fraction(fraction)?.into();
            (ResourceLimit { fraction: limit, ..ResourceLimit::default() }, fraction.clone())
        }
        [word, value] if word == "absolute" => {
            let limit = parse_bytes(value)?.into();
            (ResourceLimit { bytes: limit, ..ResourceLimit::default() }, format!("{value} bytes"))
        }
        _ => return Err(Refusal::Usage("too many arguments.".to_owned())),
    };
    let name = call.node()?;
    call.banner(&format!("Setting memory threshold on {name} to {text} ..."))?;
    call.client.put(&path(&["memory-limit"]), &body)?;
    Ok(())
}

fn parse_fraction(text: &str) -> Result<f64, Refusal> {
    let fraction: f64 = text.parse().map_err(|_| Refusal::Argument(".".to_owned()))?;
    if (0.0..=1.0).contains(&fraction) {
        return Ok(fraction);
    }
    Err(Refusal::Argument(": The threshold should be a fraction between 0.0 and 1.0".to_owned()))
}

/// A number with or without one of RabbitMQ's units, in bytes.
pub(super) fn parse_bytes(text: &str) -> Result<u64, Refusal> {
    let (digits, unit) =
        text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" => Some(1),
        "k" | "kiB" | "K" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        "G" | "GiB" => Some(1 << 30),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| Refusal::Argument(".".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_rabbitmqs_units() {
        for (text, bytes) in [
            ("7", 7),
            ("2k", 2048),
            ("2kB", 2000),
            ("3MiB", 3 << 20),
            ("3MB", 3_000_000),
            ("1G", 1 << 30),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GB", "1.5GB", "-1", "1 GB", "99999999999999999999", "99999999999GB", "1TB"] {
            assert!(matches!(parse_bytes(text), Err(Refusal::Argument(_))), "{text}");
        }
    }
}
