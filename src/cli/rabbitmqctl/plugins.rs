//! The commands of rabbitmq-plugins. There are none: the broker does the work of some of RabbitMQ's, and that is always on. What
//! asks for one of those gets it, and a question for another one fails.

use super::super::client::ClientError;
use super::super::output::printable;
use super::super::path::path;
use super::arguments::Format;
use super::{Call, Command, Done, MANY, Refusal, command, status};
use leveret::api::{Node, Overview};
use regex::Regex;
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command("list", (0, 1), list, "[pattern] [--verbose] [--minimal] [--enabled] [--implicitly-enabled]"),
    command("is_enabled", (1, MANY), is_enabled, "<plugin1> [ <plugin2>] [--offline] [--online]"),
    command("directories", (0, 0), directories, "[--offline] [--online]"),
    command("enable", (0, MANY), enable, "<plugin1> [ <plugin2>] | --all [--offline] [--online]"),
    command("disable", (0, MANY), disable, "<plugin1> [ <plugin2>] | --all [--offline] [--online]"),
];

/// What RabbitMQ enables because another one needs it.
const IMPLICIT: &str = "rabbitmq_management_agent";

/// The node's name, the version it speaks as, and the plugins whose work it does.
fn ask(call: &mut Call) -> Result<(String, String, Vec<String>), Refusal> {
    let overview: Overview = call.client.get(&path(&["overview"]))?;
    let nodes: Vec<Node> = call.client.get(&path(&["nodes"]))?;
    let names = nodes.into_iter().next().unwrap_or_default().enabled_plugins;
    Ok((printable(&overview.node), printable(&overview.rabbitmq_version), names))
}

fn list(call: &mut Call) -> Done {
    let pattern = call.typed.arguments.first().map_or(".*", String::as_str).to_owned();
    let wanted = Regex::new(&pattern).map_err(|_| Refusal::Argument(".".to_owned()))?;
    // What is wanted is asked for before anything is said: whether it runs stands above the list.
    let asked = ask(call);
    call.banner(&format!("Listing plugins with pattern \"{pattern}\" ..."))?;
    let (node, version, mut names) = asked?;
    let explicit_only = call.typed.has("--enabled") && !call.typed.has("--implicitly-enabled");
    names.retain(|name| wanted.is_match(name) && !(explicit_only && name == IMPLICIT));
    if call.typed.format() == Format::Json {
        let plugin = |name: &String| {
            json!({
                "enabled": if name == IMPLICIT { "implicit" } else { "enabled" },
                "name": name, "running": true, "version": version, "running_version": version,
            })
        };
        let plugins: Vec<Value> = names.iter().map(plugin).collect();
        let listed = json!({ "status": "running", "format": "normal", "plugins": plugins });
        return Ok(call.say(&listed.to_string())?);
    }
    if call.typed.has("--minimal") {
        return names.iter().try_for_each(|name| Ok(call.say(name)?));
    }
    call.banner(&format!(
        " Configured: E = explicitly enabled; e = implicitly enabled\n | Status: * = running on {node}\n |/"
    ))?;
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    for name in &names {
        let how = if name == IMPLICIT { 'e' } else { 'E' };
        let line = match call.typed.has("--verbose") {
            true => format!(
                "[{how}*] {name}\n     Version:     \t{version}\n     Description: \tdone by the broker itself"
            ),
            false => format!("[{how}*] {name:width$} {version}"),
        };
        call.say(&line)?;
    }
    Ok(())
}

fn is_enabled(call: &mut Call) -> Done {
    let (node, _, enabled) = ask(call)?;
    let asked = call.typed.arguments.clone();
    let (noun, verb) = if asked.len() == 1 { ("Plugin", "is") } else { ("Plugins", "are") };
    let names = asked.join(", ");
    call.banner(&format!("Asking node {node} if {} {names} {verb} enabled...", noun.to_lowercase()))?;
    let missing: Vec<&str> =
        asked.iter().filter(|name| !enabled.contains(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return call.result(&format!("{noun} {names} {verb} enabled on node {node}"));
    }
    let (noun, verb) = if missing.len() == 1 { ("Plugin", "is") } else { ("Plugins", "are") };
    let text = format!(
        "{noun} {} {verb} not enabled on node {node}. Enabled plugins and dependencies: {}",
        missing.join(", "),
        enabled.join(", ")
    );
    Err(Refusal::Error(status::UNAVAILABLE, text))
}

fn directories(call: &mut Call) -> Done {
    call.banner("Listing plugin directories used by the broker")?;
    call.result("There are none: what the broker does of RabbitMQ's plugins is part of it.")
}

/// As [`ask`]; a broker that does not run yet, as in the building of an image, does the same work once it does.
fn ask_or_know(call: &mut Call) -> Result<Vec<String>, Refusal> {
    match ask(call) {
        Ok((_, _, names)) => Ok(names),
        Err(Refusal::Client(ClientError::Unreachable { .. })) if call.typed.has("--offline") => {
            let names = [
                "rabbitmq_consistent_hash_exchange",
                "rabbitmq_management",
                IMPLICIT,
                "rabbitmq_prometheus",
                "rabbitmq_random_exchange",
            ];
            Ok(names.map(str::to_owned).to_vec())
        }
        Err(refusal) => Err(refusal),
    }
}

fn enable(call: &mut Call) -> Done {
    let (asked, enabled) = (call.typed.arguments.clone(), ask_or_know(call)?);
    if asked.is_empty() && !call.typed.has("--all") {
        return Err(Refusal::Usage("not enough arguments.".to_owned()));
    }
    let place = call.place();
    call.banner(&format!("Enabling plugins on node {place}:\n{}", asked.join("\n")))?;
    if let Some(name) = asked.iter().find(|name| !enabled.contains(name)) {
        let text = format!(
            "{name} can't be enabled: there are no plugins, and the broker does not do its work. It does that of {}",
            enabled.join(", ")
        );
        return Err(Refusal::Error(status::UNAVAILABLE, text));
    }
    unchanged(call, &enabled)
}

fn disable(call: &mut Call) -> Done {
    let (asked, enabled) = (call.typed.arguments.clone(), ask_or_know(call)?);
    if asked.is_empty() && !call.typed.has("--all") {
        return Err(Refusal::Usage("not enough arguments.".to_owned()));
    }
    let place = call.place();
    call.banner(&format!("Disabling plugins on node {place}:\n{}", asked.join("\n")))?;
    if let Some(name) = enabled.iter().find(|name| asked.is_empty() || asked.contains(name)) {
        let text = format!("{name} can't be disabled: its work is part of the broker's");
        return Err(Refusal::Error(status::UNAVAILABLE, text));
    }
    unchanged(call, &enabled)
}

fn unchanged(call: &mut Call, enabled: &[String]) -> Done {
    let names: Vec<String> = enabled.iter().map(|name| format!("  {name}")).collect();
    call.result(&format!("The following plugins have been configured:\n{}", names.join("\n")))?;
    call.result("Plugin configuration unchanged.")
}
