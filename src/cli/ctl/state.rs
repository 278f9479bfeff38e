//! The broker as a whole, and its connections.

use super::super::client::{Client, ClientError};
use super::super::output::{cell, printable};
use super::super::path::path;
use super::super::{About, Failure};
use clap::Args;
use serde_json::Value;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Between two attempts to reach a broker that is starting.
const WAIT_PAUSE: Duration = Duration::from_millis(100);

/// Says what the broker is and holds.
pub(super) fn status(client: &mut Client, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let failed = || "the status is not known".to_owned();
    let overview = client.get(&path(&["overview"])).about(failed)?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &overview).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    // A user may see the overview and not the node.
    let node = match client.get(&path(&["nodes"])) {
        Ok(nodes) => nodes.get(0).cloned(),
        Err(ClientError::Forbidden { .. }) => None,
        Err(error) => return Err(error).about(failed),
    };
    let name = node.as_ref().and_then(|node| node["name"].as_str());
    let kept = name.map(|name| client.get(&path(&["nodes", name, "memory"]))).transpose().about(failed)?;
    write_status(out, &client.url(), &overview, node.as_ref(), kept.as_ref())?;
    Ok(())
}

/// The kinds of memory that are shown, as the management API names them and as people do.
const KEPT: [(&str, &str); 5] = [
    ("queue_procs", "of ready messages"),
    ("connection_channels", "of unacknowledged ones and transactions"),
    ("connection_writers", "that wait to be sent"),
    ("mnesia", "of arguments"),
    ("mgmt_db", "of HTTP requests"),
];

fn write_status(
    out: &mut dyn Write,
    url: &str,
    overview: &Value,
    node: Option<&Value>,
    kept: Option<&Value>,
) -> io::Result<()> {
    let mut line = |name: &str, text: String| writeln!(out, "{name:<12}{text}");
    let own_version = match &overview["leveret_version"] {
        Value::String(version) => format!("Leveret {version}, as "),
        _ => String::new(),
    };
    let product = (cell(&overview["product_name"]), cell(&overview["product_version"]));
    line("broker", format!("{own_version}{} {}, at {url}", product.0, product.1))?;
    line("node", format!("{} in cluster {}", cell(&overview["node"]), cell(&overview["cluster_name"])))?;
    if let Some(node) = node {
        line("up for", seconds(node["uptime"].as_u64().unwrap_or_default() / 1000))?;
        let memory = (mebibytes(&node["mem_used"]), mebibytes(&node["mem_limit"]));
        line("memory", format!("{} of {}", memory.0, memory.1))?;
        if let Some(kept) = kept {
            let kept = KEPT.map(|(field, what)| format!("{} {what}", mebibytes(&kept["memory"][field])));
            line("kept", kept.join(", "))?;
        }
        let disk = (mebibytes(&node["disk_free"]), mebibytes(&node["disk_free_limit"]));
        line("disk", format!("{} free, at least {} needed", disk.0, disk.1))?;
    }
    if let Some(node) = node {
        let count = |name: &str| node[name].as_u64().unwrap_or_default();
        let (files, connections) = (count("fd_total"), count("sockets_total"));
        line(
            "descriptors",
            format!("{} of {files} open, enough for {connections} connections", count("fd_used")),
        )?;
    }
    line("alarms", alarms(node))?;
    let totals = &overview["object_totals"];
    let counted = ["connections", "channels", "consumers", "queues", "exchanges"];
    let counted = counted.map(|name| format!("{} {name}", totals[name].as_u64().unwrap_or_default()));
    line("objects", counted.join(", "))?;
    let messages = &overview["queue_totals"];
    let count = |name: &str| messages[name].as_u64().unwrap_or_default();
    let (ready, unacked) = (count("messages_ready"), count("messages_unacknowledged"));
    line("messages", format!("{ready} ready, {unacked} unacknowledged"))?;
    for listener in overview["listeners"].as_array().into_iter().flatten() {
        let (address, port) = (cell(&listener["ip_address"]), cell(&listener["port"]));
        line("listens", format!("{} on {address}:{port}", cell(&listener["protocol"])))?;
    }
    Ok(())
}

fn alarms(node: Option<&Value>) -> String {
    let Some(node) = node else { return "only a user with the tag monitoring sees them".to_owned() };
    let raised = |field: &str, text: &'static str| (node[field] == true).then_some(text);
    let raised: Vec<&str> = [
        raised("mem_alarm", "memory is short, publishers are blocked"),
        raised("disk_free_alarm", "the disk is nearly full, publishers are blocked"),
        raised("store_alarm", "the store is out of room or file descriptors, publishers are blocked"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if raised.is_empty() { "none".to_owned() } else { raised.join("; ") }
}

fn seconds(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn mebibytes(bytes: &Value) -> String {
    format!("{} MiB", bytes.as_u64().unwrap_or_default() >> 20)
}

/// Asks who the user is.
pub(super) fn ping(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let user = client.get(&path(&["whoami"])).about(|| "ping failed".to_owned())?;
    writeln!(out, "{} answers user '{}'", client.url(), printable(&cell(&user["name"])))?;
    Ok(())
}

/// Asks whether the broker is ready.
pub(super) fn health(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    client.get("/health/ready").about(|| "not ready".to_owned())?;
    Ok(writeln!(out, "{} is ready", client.url())?)
}

/// Waits until the broker answers. That it refuses the login is an answer too, and no waiting helps against it.
pub(super) fn wait(client: &mut Client, timeout_s: u64, out: &mut dyn Write) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        match client.get(&path(&["whoami"])) {
            Ok(_) => return Ok(writeln!(out, "{} answers", client.url())?),
            Err(ClientError::Unreachable { .. } | ClientError::Garbled { .. })
                if began.elapsed() < Duration::from_secs(timeout_s) =>
            {
                client.pause(WAIT_PAUSE);
            }
            Err(error) => return Err(error).about(|| format!("waited {} s", began.elapsed().as_secs())),
        }
    }
}

/// Closes a connection, or several
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  leveret ctl close-connection '127.0.0.1:51426 -> 127.0.0.1:5672' --reason maintenance
  leveret ctl close-connection --of-user app
  leveret ctl list connections shows the names.")]
pub(super) struct CloseConnection {
    /// The connection's name
    #[arg(required_unless_present_any = ["of_user", "all"])]
    name: Option<String>,
    /// Closes all connections of this user
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "all"])]
    of_user: Option<String>,
    /// Closes all connections
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// The reason that the clients get
    #[arg(long, value_name = "TEXT", default_value = "closed by an operator")]
    reason: String,
}

impl CloseConnection {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some(name) = &self.name {
            let about = || {
                format!(
                    "connection '{name}' was not closed (leveret ctl list connections shows those that are open)"
                )
            };
            client.delete_because(&path(&["connections", name]), &self.reason).about(about)?;
            writeln!(out, "connection '{name}' is closed")?;
            return Ok(());
        }
        let listed = match &self.of_user {
            Some(user) => client.get(&path(&["connections", "username", user])),
            None => client.get(&path(&["connections"])),
        };
        let listed = listed.about(|| "the connections can't be listed".to_owned())?;
        let names =
            listed.as_array().into_iter().flatten().filter_map(|connection| connection["name"].as_str());
        let mut closed = 0;
        for name in names {
            match client.delete_because(&path(&["connections", name]), &self.reason) {
                Ok(()) => closed += 1,
                // It went by itself in the meantime.
                Err(ClientError::NotFound(_)) => {}
                Err(error) => return Err(error).about(|| format!("connection '{name}' was not closed")),
            }
        }
        writeln!(out, "{closed} connections are closed")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_says_what_is_wrong() {
        let overview = json!({
            "leveret_version": "0.1.0", "product_name": "RabbitMQ", "product_version": "3.13.7",
            "node": "leveret@h", "cluster_name": "c", "object_totals": { "queues": 2 },
            "queue_totals": { "messages_ready": 5 },
            "listeners": [{ "protocol": "amqp", "ip_address": "127.0.0.1", "port": 5672 }],
        });
        let node = json!({
            "uptime": 3_725_000, "mem_used": 20 << 20, "mem_limit": 10 << 20, "mem_alarm": true,
            "disk_free": 1 << 30, "disk_free_limit": 1 << 20,
        });
        let mut out = Vec::new();
        let kept = json!({ "memory": { "queue_procs": 3 << 20, "connection_channels": 1 << 20 } });
        write_status(&mut out, "http://h:15672", &overview, Some(&node), Some(&kept)).unwrap();
        let expected = "\
broker      Leveret 0.1.0, as RabbitMQ 3.13.7, at http://h:15672
node        leveret@h in cluster c
up for      1 h 2 min
memory      20 MiB of 10 MiB
kept        3 MiB of ready messages, 1 MiB of unacknowledged ones and transactions, 0 MiB that wait to be sent, 0 MiB of arguments, 0 MiB of HTTP requests
disk        1024 MiB free, at least 1 MiB needed
descriptors 0 of 0 open, enough for 0 connections
alarms      memory is short, publishers are blocked
objects     0 connections, 0 channels, 0 consumers, 2 queues, 0 exchanges
messages    5 ready, 0 unacknowledged
listens     amqp on 127.0.0.1:5672
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
