//! The commands of rabbitmq-diagnostics alone: health checks, above all those that containers are started with. What clients are
//! served by can be asked without a login, so that a check needs no password and its failure counts as no attack.

use super::super::client::ClientError;
use super::super::output::printable;
use super::super::path::path;
use super::broker::{Facts, listener_line};
use super::{Call, Command, Done, Refusal, command, status};
use leveret::api::{Listener, Overview};

pub(super) const COMMANDS: &[Command] = &[
    command("check_running", (0, 0), check_running, "[--timeout <timeout>]"),
    command("is_running", (0, 0), is_running, ""),
    command("is_booting", (0, 0), is_booting, ""),
    command("check_port_connectivity", (0, 0), check_port_connectivity, "[--timeout <timeout>]"),
    command("check_port_listener", (1, 1), check_port_listener, "<port>"),
    command("check_protocol_listener", (1, 1), check_protocol_listener, "<protocol>"),
    command("listeners", (0, 0), listeners, ""),
    command("alarms", (0, 0), alarms, ""),
    command("check_alarms", (0, 0), check_alarms, ""),
    command("check_local_alarms", (0, 0), check_alarms, ""),
    command("check_virtual_hosts", (0, 0), check_virtual_hosts, ""),
    command(
        "check_certificate_expiration",
        (0, 0),
        check_certificate_expiration,
        "--within <period> --unit <unit>",
    ),
    command("check_if_node_is_quorum_critical", (0, 0), check_quorum_critical, ""),
    command("check_if_node_is_mirror_sync_critical", (0, 0), check_mirror_sync_critical, ""),
    command("server_version", (0, 0), server_version, ""),
    command("log_location", (0, 0), log_location, ""),
];

/// Whether clients are served; the broker says no while it stops, and when its store has failed.
fn is_ready(call: &mut Call) -> Result<bool, Refusal> {
    match call.client.check("/health/ready") {
        Ok(()) => Ok(true),
        Err(ClientError::Refused { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

const BOOTED: &str = "is fully booted and running";
const NOT_BOOTED: &str = "is not running or has not fully booted yet (check with is_booting)";

fn check_running(call: &mut Call) -> Done {
    let place = call.place();
    call.banner(&format!("Checking if RabbitMQ is running on node {place} ..."))?;
    if is_ready(call)? {
        return call.result(&format!("RabbitMQ on node {place} {BOOTED}"));
    }
    Err(Refusal::Error(status::UNAVAILABLE, format!("RabbitMQ on node {place} {NOT_BOOTED}")))
}

fn is_running(call: &mut Call) -> Done {
    let place = call.place();
    call.banner(&format!("Asking node {place} for its status ..."))?;
    let state = if is_ready(call)? { BOOTED } else { NOT_BOOTED };
    call.result(&format!("RabbitMQ on node {place} {state}"))
}

/// It answers when it has started, and not before.
fn is_booting(call: &mut Call) -> Done {
    let place = call.place();
    call.banner(&format!("Asking node {place} for its boot status ..."))?;
    is_ready(call)?;
    call.result(&format!(
        "RabbitMQ on node {place} is fully booted (check with is_running), stopped or has not started booting yet"
    ))
}

/// From where a listener is reached: its own address, unless that stands for all, or for this machine and the broker is another.
fn host(listener: &Listener, asked: &str) -> String {
    let own = printable(&listener.ip_address);
    let is_local = |host: &str| host == "localhost" || host == "::1" || host.starts_with("127.");
    match own.as_str() {
        "0.0.0.0" | "::" | "" => asked.to_owned(),
        local if is_local(local) && !is_local(asked) => asked.to_owned(),
        _ => own,
    }
}

/// All listeners, the lowest port first.
fn sorted_listeners(facts: &Facts) -> Vec<Listener> {
    let mut listeners = facts.overview.listeners.clone();
    listeners.sort_by_key(|listener| listener.port);
    listeners
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn check_port_connectivity(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    let node = facts.name();
    call.banner(&format!(
        "Testing TCP connections to all active listeners on node {node} using hostname resolution ..."
    ))?;
    let asked = call.client.host().to_owned();
    let listeners = sorted_listeners(&facts);
    let mut unreachable = Vec::new();
    for listener in &listeners {
        let (host, port) = (host(listener, &asked), listener.port);
        call.result(&format!("Will connect to {host}:{port}"))?;
        if let Err(reason) = call.client.reach(&host, port) {
            call.result(&format!("Error connecting to {host}:{port}: {reason}"))?;
            unreachable.push(listener_line(listener));
        }
    }
    if unreachable.is_empty() {
        let ports = joined(listeners.iter().map(|listener| listener.port.to_string()));
        return call.result(&format!(
            "Successfully connected to ports {ports} on node {node} (using node hostname resolution)"
        ));
    }
    let text = format!(
        "Connection to ports of the following listeners on node {node} failed: \n{}",
        unreachable.join("\n")
    );
    Err(Refusal::Error(status::UNAVAILABLE, text))
}

fn check_port_listener(call: &mut Call) -> Done {
    let wanted = call.argument(0).to_owned();
    let number: u16 = wanted.parse().map_err(|_| Refusal::Argument(".".to_owned()))?;
    let facts = Facts::ask(call)?;
    let node = facts.name();
    call.banner(&format!("Asking node {node} if there's an active listener on port {wanted} ..."))?;
    let listeners = sorted_listeners(&facts);
    if listeners.iter().any(|listener| listener.port == number) {
        return call.result(&format!("A listener for port {wanted} is running on node {node}."));
    }
    let ports = joined(listeners.iter().map(|listener| listener.port.to_string()));
    let text = format!(
        "No listener for port {wanted} is active on node {node}. Found listeners that use the following ports: {ports}"
    );
    Err(Refusal::Bare(status::UNAVAILABLE, text))
}

fn check_protocol_listener(call: &mut Call) -> Done {
    let wanted = call.argument(0).to_owned();
    let facts = Facts::ask(call)?;
    let node = facts.name();
    call.banner(&format!("Asking node {node} if there's an active listener for protocol {wanted} ..."))?;
    // As RabbitMQ, which takes several names for the same.
    let name = match wanted.to_lowercase().as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp-0-9-1" => "amqp".to_owned(),
        "amqps" | "amqp-ssl" | "amqp_ssl" => "amqp/ssl".to_owned(),
        "stomps" | "stomp+ssl" => "stomp/ssl".to_owned(),
        "prometheus" => "http/prometheus".to_owned(),
        other => other.to_owned(),
    };
    let listeners = facts.overview.listeners.iter();
    let mut protocols: Vec<String> = listeners.map(|listener| printable(&listener.protocol)).collect();
    protocols.sort();
    protocols.dedup();
    if protocols.contains(&name) {
        return call.result(&format!("A listener for protocol {wanted} is running on node {node}."));
    }
    let text = format!(
        "No listener for protocol {wanted} is active on node {node}. Found listeners for the following protocols: {}",
        protocols.join(", ")
    );
    Err(Refusal::Error(status::UNAVAILABLE, text))
}

fn listeners(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    call.banner(&format!("Asking node {} to report its protocol listeners ...", facts.name()))?;
    facts.overview.listeners.iter().try_for_each(|listener| call.result(&listener_line(listener)))
}

fn alarms(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    let node = facts.name();
    call.banner(&format!("Asking node {node} to report any known resource alarms ..."))?;
    match facts.has_alarms() {
        true => call.result(&facts.alarms_text()),
        false => call.result(&format!("Node {node} reported no alarms, local or clusterwide")),
    }
}

fn check_alarms(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    let node = facts.name();
    call.banner(&format!("Asking node {node} to report any local resource alarms ..."))?;
    match facts.has_alarms() {
        true => Err(Refusal::Bare(status::UNAVAILABLE, facts.alarms_text())),
        false if call.typed.has("--silent") => Ok(()),
        false => call.result(&format!("Node {node} reported no alarms, local or clusterwide")),
    }
}

fn check_virtual_hosts(call: &mut Call) -> Done {
    let node = call.node()?;
    call.banner(&format!("Checking if all vhosts are running on node {node} ..."))?;
    call.client.check(&path(&["health", "checks", "virtual-hosts"]))?;
    call.result(&format!("Node {node} reported all vhosts as running"))
}

fn check_certificate_expiration(call: &mut Call) -> Done {
    let (within, unit) = (call.typed.option("--within"), call.typed.option("--unit"));
    let (Some(within), Some(unit)) = (within.map(str::to_owned), unit.map(str::to_owned)) else {
        return Err(Refusal::Usage("not enough arguments.".to_owned()));
    };
    let node = call.node()?;
    call.banner(&format!("Checking certificate expiration for all certificates on node {node} ..."))?;
    match call.client.check(&path(&["health", "checks", "certificate-expiration", &within, &unit])) {
        Ok(()) => call.result(&format!("No certificates are expiring within {within} {unit}.")),
        Err(ClientError::Refused { reason, .. }) => Err(Refusal::Error(status::UNAVAILABLE, reason)),
        Err(error) => Err(error.into()),
    }
}

fn check_quorum_critical(call: &mut Call) -> Done {
    let node = call.node()?;
    call.banner(&format!("Checking if node {node} is critical for quorum of any queues/streams ..."))?;
    call.result(&format!(
        "Node {node} seems to be the only one in a single node cluster, the check does not apply"
    ))
}

fn check_mirror_sync_critical(call: &mut Call) -> Done {
    call.result("This command is DEPRECATED and is a no-op. It will be removed in a future version.")?;
    call.result("ok")
}

fn server_version(call: &mut Call) -> Done {
    let overview: Overview = call.client.get(&path(&["overview"]))?;
    call.banner(&format!("Asking node {} for its RabbitMQ version...", printable(&overview.node)))?;
    call.result(&printable(&overview.rabbitmq_version))
}

fn log_location(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    call.banner(&format!("Log file location(s) on node {} ...", facts.name()))?;
    facts.node.log_files.iter().try_for_each(|file| call.result(&printable(file)))
}
