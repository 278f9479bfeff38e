//! The broker as a whole, and its connections.

use super::super::client::{Client, ClientError};
use super::super::output::printable;
use super::super::path::path;
use super::super::{About, Failure};
use clap::Args;
use leveret::api::{self, Connection, Form, Node, NodeMemory, Overview, WhoAmI};
use serde_json::Value;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Between two attempts to reach a broker that is starting.
const WAIT_PAUSE: Duration = Duration::from_millis(100);

/// Says what the broker is and holds.
pub(super) fn status(client: &mut Client, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let failed = || "the status is not known".to_owned();
    let asked: Value = client.get(&path(&["overview"])).about(failed)?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &asked).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    let overview: Overview = api::read(&asked, Form::Plain)
        .map_err(|fault| Failure::State(format!("{}: the overview can't be read: {fault}", failed())))?;
    // A user may see the overview and not the node.
    let node = match client.get::<Vec<Node>>(&path(&["nodes"])) {
        Ok(nodes) => nodes.into_iter().next(),
        Err(ClientError::Forbidden { .. }) => None,
        Err(error) => return Err(error).about(failed),
    };
    let kept = node.as_ref().map(|node| client.get(&path(&["nodes", &node.name, "memory"])));
    let kept: Option<NodeMemory> = kept.transpose().about(failed)?;
    write_status(out, &client.url(), &overview, node.as_ref(), kept.as_ref())?;
    Ok(())
}

fn write_status(
    out: &mut dyn Write,
    url: &str,
    overview: &Overview,
    node: Option<&Node>,
    kept: Option<&NodeMemory>,
) -> io::Result<()> {
    let mut line = |name: &str, text: String| writeln!(out, "{name:<12}{text}");
    let own_version = match overview.leveret_version.as_str() {
        "" => String::new(),
        version => format!("Leveret {version}, as "),
    };
    let product = (printable(&overview.product_name), printable(&overview.product_version));
    line("broker", format!("{own_version}{} {}, at {url}", product.0, product.1))?;
    let (name, cluster) = (printable(&overview.node), printable(&overview.cluster_name));
    line("node", format!("{name} in cluster {cluster}"))?;
    if let Some(node) = node {
        line("up for", seconds(node.uptime / 1000))?;
        line("memory", format!("{} of {}", mebibytes(node.mem_used), mebibytes(node.mem_limit)))?;
        if let Some(NodeMemory { memory }) = kept {
            let kept = [
                (memory.queue_procs, "of ready messages"),
                (memory.connection_channels, "of unacknowledged ones and transactions"),
                (memory.connection_writers, "that wait to be sent"),
                (memory.connection_readers, "of messages that are not whole"),
                (memory.mnesia, "of arguments"),
                (memory.mgmt_db, "of HTTP requests"),
            ];
            line("kept", kept.map(|(bytes, what)| format!("{} {what}", mebibytes(bytes))).join(", "))?;
        }
        let disk = (mebibytes(node.disk_free), mebibytes(node.disk_free_limit));
        line("disk", format!("{} free, at least {} needed", disk.0, disk.1))?;
        let (open, files, connections) = (node.fd_used, node.fd_total, node.sockets_total);
        line("descriptors", format!("{open} of {files} open, enough for {connections} connections"))?;
    }
    line("alarms", alarms(node))?;
    if overview.losses > 0 {
        line("losses", format!("{} not acknowledged, leveret ctl losses shows them", overview.losses))?;
    }
    let totals = &overview.object_totals;
    line(
        "objects",
        format!(
            "{} connections, {} channels, {} consumers, {} queues, {} exchanges",
            totals.connections, totals.channels, totals.consumers, totals.queues, totals.exchanges
        ),
    )?;
    let messages = &overview.queue_totals;
    let (ready, unacked) = (messages.messages_ready, messages.messages_unacknowledged);
    line("messages", format!("{ready} ready, {unacked} unacknowledged"))?;
    for listener in &overview.listeners {
        let (protocol, address) = (printable(&listener.protocol), printable(&listener.ip_address));
        line("listens", format!("{protocol} on {address}:{}", listener.port))?;
    }
    Ok(())
}

fn alarms(node: Option<&Node>) -> String {
    let Some(node) = node else { return "only a user with the tag monitoring sees them".to_owned() };
    let raised = [
        (node.mem_alarm, "memory is short, publishers are blocked"),
        (node.disk_free_alarm, "the disk is nearly full, publishers are blocked"),
        (node.store_alarm, "the store is out of room or file descriptors, publishers are blocked"),
    ];
    let raised: Vec<&str> = raised.into_iter().filter(|(is_up, _)| *is_up).map(|(_, text)| text).collect();
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

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Asks who the user is.
pub(super) fn ping(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let user: WhoAmI = client.get(&path(&["whoami"])).about(|| "ping failed".to_owned())?;
    writeln!(out, "{} answers user '{}'", client.url(), printable(&user.name))?;
    Ok(())
}

/// Asks whether the broker is ready.
pub(super) fn health(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    client.check("/health/ready").about(|| "not ready".to_owned())?;
    Ok(writeln!(out, "{} is ready", client.url())?)
}

/// Waits until the broker answers. That it refuses the login is an answer too, and no waiting helps against it.
pub(super) fn wait(client: &mut Client, timeout_s: u64, out: &mut dyn Write) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        match client.check(&path(&["whoami"])) {
            Ok(()) => return Ok(writeln!(out, "{} answers", client.url())?),
            Err(ClientError::Unreachable { .. } | ClientError::Garbled { .. })
                if began.elapsed() < Duration::from_secs(timeout_s) =>
            {
                std::thread::park_timeout(WAIT_PAUSE);
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
        let listed: Vec<Connection> = listed.about(|| "the connections can't be listed".to_owned())?;
        let mut closed = 0;
        for name in listed.iter().map(|connection| connection.name.as_str()) {
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

    fn read<T: serde::de::DeserializeOwned>(said: &Value) -> T {
        api::read(said, Form::Plain).unwrap()
    }

    #[test]
    fn a_status_says_what_is_wrong() {
        let overview = json!({
            "leveret_version": "0.1.0", "product_name": "RabbitMQ", "product_version": "3.13.7",
            "node": "leveret@h", "cluster_name": "c", "object_totals": { "queues": 2 },
            "queue_totals": { "messages_ready": 5 }, "losses": 2,
            "listeners": [{ "protocol": "amqp", "ip_address": "127.0.0.1", "port": 5672 }],
        });
        let node = json!({
            "uptime": 3_725_000, "mem_used": 20 << 20, "mem_limit": 10 << 20, "mem_alarm": true,
            "disk_free": 1 << 30, "disk_free_limit": 1 << 20,
        });
        let mut out = Vec::new();
        let kept = json!({ "memory": { "queue_procs": 3 << 20, "connection_channels": 1 << 20 } });
        let (overview, node, kept) = (read(&overview), read(&node), read(&kept));
        write_status(&mut out, "http://h:15672", &overview, Some(&node), Some(&kept)).unwrap();
        let expected = "\
broker      Leveret 0.1.0, as RabbitMQ 3.13.7, at http://h:15672
node        leveret@h in cluster c
up for      1 h 2 min
memory      20 MiB of 10 MiB
kept        3 MiB of ready messages, 1 MiB of unacknowledged ones and transactions, 0 MiB that wait to be sent, 0 MiB of messages that are not whole, 0 MiB of arguments, 0 MiB of HTTP requests
disk        1024 MiB free, at least 1 MiB needed
descriptors 0 of 0 open, enough for 0 connections
alarms      memory is short, publishers are blocked
losses      2 not acknowledged, leveret ctl losses shows them
objects     0 connections, 0 channels, 0 consumers, 2 queues, 0 exchanges
messages    5 ready, 0 unacknowledged
listens     amqp on 127.0.0.1:5672
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
