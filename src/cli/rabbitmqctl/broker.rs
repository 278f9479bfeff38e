//! The commands about queues, connections and the broker as a whole.

use super::super::client::ClientError;
use super::super::output::printable;
use super::super::path::{path, path_with};
use super::arguments::Format;
use super::{Call, Command, Done, Refusal, command, status};
use leveret::api::{Connection, Lengths, Listener, Node, Overview};
use serde_json::Value;
use std::time::{Duration, Instant};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "delete_queue",
        (1, 1),
        delete_queue,
        "[--vhost <vhost>] <queue_name> [--if-empty|-e] [--if-unused|-u]",
    ),
    command("purge_queue", (1, 1), purge_queue, "[--vhost <vhost>] <queue>"),
    command("close_connection", (2, 2), close_connection, "<connectionpid> <explanation>"),
    command(
        "close_all_connections",
        (1, 1),
        close_all_connections,
        "[--vhost <vhost> --limit <limit>] [-n <node> --global] <explanation>",
    ),
    command("close_all_user_connections", (2, 2), close_all_user_connections, "<username> <explanation>"),
    command("await_startup", (0, 0), await_startup, "[--timeout <seconds>]"),
];

pub(super) const LOOKS: &[Command] = &[
    command("ping", (0, 0), ping, ""),
    command("status", (0, 0), status_of_broker, ""),
    command("version", (0, 0), version, ""),
];

/// Seconds that await_startup waits by default.
const STARTUP_S: f64 = 300.0;

/// Between two attempts to reach a broker that is starting.
const STARTUP_PAUSE: Duration = Duration::from_millis(100);

fn delete_queue(call: &mut Call) -> Done {
    let (queue, vhost) = (call.argument(0).to_owned(), call.typed.vhost().to_owned());
    let mut parameters = Vec::new();
    let mut conditions = Vec::new();
    for (option, parameter, text) in
        [("--if-empty", "if-empty", "if queue is empty"), ("--if-unused", "if-unused", "if queue is unused")]
    {
        if call.typed.has(option) {
            parameters.push((parameter, "true"));
            conditions.push(text);
        }
    }
    let conditions =
        if conditions.is_empty() { String::new() } else { format!(" {}", conditions.join(" and ")) };
    call.banner(&format!("Deleting queue '{queue}' on vhost '{vhost}'{conditions} ..."))?;
    let refused = |text: &str| Err(Refusal::Error(status::USAGE, text.to_owned()));
    let ready = match call.client.get::<Lengths>(&path(&["queues", &vhost, &queue])) {
        Err(ClientError::NotFound(_)) => return refused("Queue not found"),
        got => got?.messages_ready,
    };
    match call.client.delete(&path_with(&["queues", &vhost, &queue], &parameters)) {
        Err(ClientError::Refused { reason, .. }) if reason.contains("in use") => refused("Queue is in use"),
        Err(ClientError::Refused { reason, .. }) if reason.contains("not empty") => {
            refused("Queue is not empty")
        }
        Err(ClientError::NotFound(_)) => refused("Queue not found"),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(call.banner(&format!("Queue was successfully deleted with {ready} ready messages"))?),
    }
}

fn purge_queue(call: &mut Call) -> Done {
    let (queue, vhost) = (call.argument(0).to_owned(), call.typed.vhost().to_owned());
    call.banner(&format!("Purging queue '{queue}' in vhost '{vhost}' ..."))?;
    match call.client.delete(&path(&["queues", &vhost, &queue, "contents"])) {
        Err(ClientError::NotFound(_)) => Err(Refusal::Error(status::UNAVAILABLE, "not_found".to_owned())),
        purged => Ok(purged.map(drop)?),
    }
}

/// Closes a connection by what list_connections shows as its pid, which is its name. One that is gone is closed.
fn close(call: &mut Call, name: &str, reason: &str) -> Result<bool, Refusal> {
    match call.client.delete_because(&path(&["connections", name]), reason) {
        Err(ClientError::NotFound(_)) => Ok(false),
        closed => Ok(closed.map(|()| true)?),
    }
}

fn close_connection(call: &mut Call) -> Done {
    let (name, reason) = (call.argument(0).to_owned(), call.argument(1).to_owned());
    call.banner(&format!("Closing connection {name}, reason: {reason}..."))?;
    if close(call, &name, &reason)? || is_erlang_pid(&name) {
        return Ok(());
    }
    let text = format!("there is no connection {name}; list_connections pid shows those that are open");
    Err(Refusal::Error(status::UNAVAILABLE, text))
}

/// Whether it looks like what RabbitMQ names a connection by, such as `<rabbit@host.1700000000.1234.0>`. To RabbitMQ one of
/// those that is gone is closed.
fn is_erlang_pid(name: &str) -> bool {
    let inner = name.strip_prefix('<').and_then(|name| name.strip_suffix('>')).unwrap_or_default();
    let parts: Vec<&str> = inner.rsplitn(4, '.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == 4 && parts[..3].iter().all(is_number)
}

fn close_all_connections(call: &mut Call) -> Done {
    let (vhost, reason) = (call.typed.vhost().to_owned(), call.argument(0).to_owned());
    let everywhere = call.typed.has("--global");
    let limit = call.typed.option("--limit").and_then(|limit| limit.parse().ok()).unwrap_or(0);
    if everywhere {
        call.banner(&format!("Closing all connections, reason: {reason}..."))?;
    } else {
        call.banner(&format!("Closing all connections in vhost {vhost}, reason: {reason}..."))?;
    }
    let listed: Vec<Connection> = call.client.get(&path(&["connections"]))?;
    let meant = listed.into_iter().filter(|connection| everywhere || *connection.vhost == *vhost);
    let names: Vec<String> = meant.map(|connection| connection.name).collect();
    let most = if limit == 0 { names.len() } else { limit };
    close_each(call, names.into_iter().take(most).collect(), &reason)
}

fn close_all_user_connections(call: &mut Call) -> Done {
    let (user, reason) = (call.argument(0).to_owned(), call.argument(1).to_owned());
    call.banner(&format!("Closing all connections of user {user}, reason: {reason}..."))?;
    let listed: Vec<Connection> = call.client.get(&path(&["connections", "username", &user]))?;
    close_each(call, listed.into_iter().map(|connection| connection.name).collect(), &reason)
}

fn close_each(call: &mut Call, names: Vec<String>, reason: &str) -> Done {
    let mut closed = 0;
    for name in names {
        closed += usize::from(close(call, &name, reason)?);
    }
    Ok(call.say(&format!("Closed {closed} connections"))?)
}

fn await_startup(call: &mut Call) -> Done {
    let began = Instant::now();
    let patience = Duration::from_secs_f64(call.typed.timeout_s().unwrap_or(STARTUP_S).clamp(0.0, 1e9));
    loop {
        match call.client.check(&path(&["whoami"])) {
            Err(ClientError::Unreachable { .. } | ClientError::Garbled { .. })
                if began.elapsed() < patience =>
            {
                std::thread::park_timeout(STARTUP_PAUSE);
            }
            got => return Ok(got?),
        }
    }
}

fn ping(call: &mut Call) -> Done {
    let url = call.client.url();
    call.banner(&format!("Will ping {url}. This only checks if the broker answers there."))?;
    call.client.check("/health/live")?;
    call.result("Ping succeeded")
}

fn version(call: &mut Call) -> Done {
    let overview: Overview = call.client.get(&path(&["overview"]))?;
    Ok(call.say(&printable(&overview.rabbitmq_version))?)
}

fn status_of_broker(call: &mut Call) -> Done {
    let facts = Facts::ask(call)?;
    if call.typed.format() == Format::Json {
        return Ok(call.say(&facts.json().to_string())?);
    }
    call.banner(&format!("Status of node {} ...", facts.name()))?;
    Ok(call.say(&facts.text())?)
}

/// What a status is made of.
pub(super) struct Facts {
    pub(super) overview: Overview,
    pub(super) node: Node,
    vhosts: usize,
}

impl Facts {
    pub(super) fn ask(call: &mut Call) -> Result<Facts, Refusal> {
        let overview = call.client.get(&path(&["overview"]))?;
        let nodes: Vec<Node> = call.client.get(&path(&["nodes"]))?;
        let vhosts: Vec<Value> = call.client.get(&path(&["vhosts"]))?;
        Ok(Facts { overview, node: nodes.into_iter().next().unwrap_or_default(), vhosts: vhosts.len() })
    }

    /// The node's name.
    pub(super) fn name(&self) -> String {
        printable(&self.overview.node)
    }

    /// Whether an alarm is up.
    pub(super) fn has_alarms(&self) -> bool {
        self.alarms().next().is_some()
    }

    /// The resources of the alarms that are up, and how RabbitMQ calls these alarms.
    fn alarms(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let alarms = [
            (self.node.disk_free_alarm, ("disk", "Free disk space alarm")),
            (self.node.mem_alarm, ("memory", "Memory alarm")),
        ];
        alarms.into_iter().filter(|(is_up, _)| *is_up).map(|(_, alarm)| alarm)
    }

    pub(super) fn alarms_json(&self) -> Value {
        let alarm = |(resource, _)| serde_json::json!({ "node": self.name(), "resource": resource, "type": "resource_limit" });
        self.alarms().map(alarm).collect()
    }

    pub(super) fn alarms_text(&self) -> String {
        let lines: Vec<String> =
            self.alarms().map(|(_, text)| format!("{text} on node {}", self.name())).collect();
        if lines.is_empty() { "(none)".to_owned() } else { lines.join("\n") }
    }

    pub(super) fn listeners_json(&self) -> Value {
        let listener = |listener: &Listener| {
            serde_json::json!({
                "interface": listener.ip_address, "node": listener.node, "port": listener.port,
                "protocol": listener.protocol, "purpose": purpose(&listener.protocol),
            })
        };
        self.overview.listeners.iter().map(listener).collect()
    }

    fn json(&self) -> Value {
        let (node, overview) = (&self.node, &self.overview);
        serde_json::json!({
            "alarms": self.alarms_json(),
            "disk_free": node.disk_free,
            "disk_free_limit": node.disk_free_limit,
            "file_descriptors": {
                "total_limit": node.fd_total, "total_used": node.fd_used,
                "sockets_limit": node.sockets_total, "sockets_used": node.sockets_used,
            },
            "is_under_maintenance": false,
            "listeners": self.listeners_json(),
            "memory": { "strategy": "rss", "total": { "rss": node.mem_used } },
            "os": std::env::consts::OS,
            "pid": node.os_pid.parse::<u64>().ok(),
            "product_name": overview.product_name,
            "product_version": overview.product_version,
            "rabbitmq_version": overview.rabbitmq_version,
            "leveret_version": overview.leveret_version,
            "run_queue": node.run_queue,
            "totals": {
                "virtual_host_count": self.vhosts, "connection_count": overview.object_totals.connections,
                "queue_count": overview.object_totals.queues,
            },
            "uptime": node.uptime / 1000,
            "vm_memory_high_watermark_limit": node.mem_limit,
        })
    }

    fn text(&self) -> String {
        let (node, overview) = (&self.node, &self.overview);
        let gigabytes = |bytes: u64| format!("{:.4} gb", bytes as f64 / 1e9);
        let listeners: Vec<String> = overview.listeners.iter().map(listener_line).collect();
        [
            ("Runtime", format!(
                "OS PID: {}\nOS: {}\nUptime (seconds): {}\nIs under maintenance?: false\nRabbitMQ version: {}\n\
                 Leveret version: {}\nNode name: {}",
                printable(&node.os_pid),
                std::env::consts::OS,
                node.uptime / 1000,
                printable(&overview.rabbitmq_version),
                printable(&overview.leveret_version),
                self.name(),
            )),
            ("Alarms", self.alarms_text()),
            ("Memory", format!(
                "Total memory used: {}\nCalculation strategy: rss\nMemory high watermark setting: computed to: {}",
                gigabytes(node.mem_used),
                gigabytes(node.mem_limit),
            )),
            ("File Descriptors", format!(
                "Total: {}, limit: {}\nSockets: {}, limit: {}",
                node.fd_used, node.fd_total, node.sockets_used, node.sockets_total,
            )),
            ("Free Disk Space", format!(
                "Low free disk space watermark: {}\nFree disk space: {}",
                gigabytes(node.disk_free_limit),
                gigabytes(node.disk_free),
            )),
            ("Totals", format!(
                "Connection count: {}\nQueue count: {}\nVirtual host count: {}",
                overview.object_totals.connections, overview.object_totals.queues, self.vhosts,
            )),
            ("Listeners", listeners.join("\n")),
        ]
        .map(|(title, text)| format!("{title}\n\n{text}"))
        .join("\n\n")
    }
}

/// A listener in a line.
pub(super) fn listener_line(listener: &Listener) -> String {
    let (address, protocol) = (printable(&listener.ip_address), printable(&listener.protocol));
    let purpose = purpose(&protocol);
    format!("Interface: {address}, port: {}, protocol: {protocol}, purpose: {purpose}", listener.port)
}

/// What a protocol is for, in RabbitMQ's words.
fn purpose(protocol: &str) -> &'static str {
    match protocol {
        "amqp" => "AMQP 0-9-1",
        "amqp/ssl" => "AMQP 0-9-1 over TLS",
        "stomp" => "STOMP",
        "stomp/ssl" => "STOMP over TLS",
        "http" => "HTTP API",
        "https" => "HTTPS API",
        "http/websocket" => "WebSocket",
        "https/websocket" => "WebSocket over TLS (HTTPS)",
        "http/prometheus" => "Prometheus exporter API over HTTP",
        "https/prometheus" => "Prometheus exporter API over TLS (HTTPS)",
        _ => "(unknown)",
    }
}
