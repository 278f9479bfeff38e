//! The commands that list.

use super::super::client::ClientError;
use super::super::output::at_path;
use super::super::path::path;
use super::format::{Cell, write_list};
use super::{Call, Command, Done, MANY, Refusal, command, status};
use serde_json::Value;

pub(super) const COMMANDS: &[Command] = &[
    command("list_queues", (0, MANY), queues, QUEUES_USAGE),
    command("list_exchanges", (0, MANY), exchanges, "[--vhost <vhost>] [--no-table-headers] [<column>, ...]"),
    command("list_bindings", (0, MANY), bindings, "[--vhost <vhost>] [--no-table-headers] [<column>, ...]"),
    command("list_connections", (0, MANY), connections, "[--no-table-headers] [<column>, ...]"),
    command("list_stomp_connections", (0, MANY), stomp_connections, "[--no-table-headers] [<column>, ...]"),
    command("list_channels", (0, MANY), channels, "[--no-table-headers] [<column>, ...]"),
    command("list_consumers", (0, MANY), consumers, "[--vhost <vhost>] [--no-table-headers] [<column>, ...]"),
    command("list_vhosts", (0, MANY), vhosts, "[--no-table-headers] [<column>, ...]"),
    command("list_users", (0, 0), users, "[--no-table-headers]"),
    command("list_permissions", (0, 0), permissions, "[--vhost <vhost>] [--no-table-headers]"),
    command("list_user_permissions", (1, 1), user_permissions, "[--no-table-headers] <username>"),
    command("list_topic_permissions", (0, 0), topic_permissions, "[--vhost <vhost>] [--no-table-headers]"),
    command("list_user_topic_permissions", (1, 1), user_topic_permissions, "[--no-table-headers] <username>"),
    command("list_policies", (0, 0), policies, "[--vhost <vhost>] [--no-table-headers]"),
    command("list_operator_policies", (0, 0), operator_policies, "[--vhost <vhost>] [--no-table-headers]"),
    command("list_parameters", (0, 0), parameters, "[--vhost <vhost>] [--no-table-headers]"),
    command("list_global_parameters", (0, 0), global_parameters, "[--no-table-headers]"),
    command(
        "list_unresponsive_queues",
        (0, MANY),
        unresponsive_queues,
        "[--local] [--queue-timeout <seconds>] [<column> ...] [--no-table-headers] [--timeout <timeout>]",
    ),
];

const QUEUES_USAGE: &str = "[--vhost <vhost>] [--online] [--offline] [--local] [--no-table-headers] [<column>, ...] \
                            [--timeout <timeout>]";

/// A column, and where in the management API's answer its value is.
#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    from: From,
}

#[derive(Clone, Copy)]
enum From {
    /// What a path leads to, as it is.
    Field(&'static str),
    /// A field of the API's answer that is a field table.
    Table(&'static str),
    /// JSON within a table too.
    Json(&'static str),
    /// A list of words.
    Words(&'static str),
    /// A constant, since there is nothing that could differ.
    Fixed(&'static str),
}

pub(super) const fn field(name: &'static str) -> Column {
    Column { name, from: From::Field(name) }
}

pub(super) const fn at(name: &'static str, path: &'static str) -> Column {
    Column { name, from: From::Field(path) }
}

pub(super) const fn table(name: &'static str) -> Column {
    Column { name, from: From::Table(name) }
}

const fn json(name: &'static str) -> Column {
    Column { name, from: From::Json(name) }
}

const fn words(name: &'static str, path: &'static str) -> Column {
    Column { name, from: From::Words(path) }
}

impl Column {
    fn cell(&self, item: &Value) -> Cell {
        match self.from {
            From::Field(path) => Cell::Plain(at_path(item, path).clone()),
            From::Table(path) => Cell::Table(at_path(item, path).clone()),
            From::Json(path) => Cell::Json(at_path(item, path).clone()),
            From::Words(path) => Cell::Words(words_of(at_path(item, path))),
            From::Fixed(text) => Cell::Plain(text.into()),
        }
    }
}

/// Words in an array, or in a text with commas.
pub(super) fn words_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

const QUEUE: &[Column] = &[
    field("name"),
    field("messages"),
    field("type"),
    field("durable"),
    field("auto_delete"),
    field("exclusive"),
    table("arguments"),
    at("pid", "name"),
    at("owner_pid", "owner_pid_details.name"),
    field("exclusive_consumer_tag"),
    field("single_active_consumer_tag"),
    field("policy"),
    field("operator_policy"),
    table("effective_policy_definition"),
    field("messages_ready"),
    field("messages_unacknowledged"),
    field("messages_ram"),
    field("messages_persistent"),
    field("message_bytes"),
    field("message_bytes_ready"),
    field("message_bytes_unacknowledged"),
    field("message_bytes_ram"),
    field("message_bytes_persistent"),
    field("head_message_timestamp"),
    field("consumers"),
    field("consumer_utilisation"),
    field("consumer_capacity"),
    field("memory"),
    field("state"),
    field("leader"),
    words("members", "members"),
    words("online", "online"),
];

const EXCHANGE: &[Column] = &[
    field("name"),
    field("type"),
    field("durable"),
    field("auto_delete"),
    field("internal"),
    table("arguments"),
    field("policy"),
];

const BINDING: &[Column] = &[
    at("source_name", "source"),
    Column { name: "source_kind", from: From::Fixed("exchange") },
    at("destination_name", "destination"),
    at("destination_kind", "destination_type"),
    field("routing_key"),
    table("arguments"),
];

const CONNECTION: &[Column] = &[
    field("user"),
    field("peer_host"),
    field("peer_port"),
    field("state"),
    at("pid", "name"),
    field("name"),
    field("host"),
    field("port"),
    field("ssl"),
    field("ssl_protocol"),
    field("ssl_key_exchange"),
    field("ssl_cipher"),
    field("ssl_hash"),
    field("peer_cert_subject"),
    field("peer_cert_issuer"),
    field("peer_cert_validity"),
    field("channels"),
    field("protocol"),
    field("auth_mechanism"),
    field("vhost"),
    field("timeout"),
    field("frame_max"),
    field("channel_max"),
    table("client_properties"),
    field("connected_at"),
    field("recv_oct"),
    field("recv_cnt"),
    field("send_oct"),
    field("send_cnt"),
    field("send_pend"),
];

const CHANNEL: &[Column] = &[
    at("pid", "name"),
    field("user"),
    field("consumer_count"),
    field("messages_unacknowledged"),
    at("connection", "connection_details.name"),
    field("name"),
    field("number"),
    field("vhost"),
    field("transactional"),
    field("confirm"),
    field("messages_uncommitted"),
    field("acks_uncommitted"),
    field("messages_unconfirmed"),
    field("prefetch_count"),
    field("global_prefetch_count"),
    field("state"),
];

const CONSUMER: &[Column] = &[
    at("queue_name", "queue.name"),
    at("channel_pid", "channel_details.name"),
    field("consumer_tag"),
    field("ack_required"),
    field("prefetch_count"),
    field("active"),
    table("arguments"),
];

const VHOST: &[Column] = &[
    field("name"),
    field("tracing"),
    field("description"),
    words("tags", "tags"),
    field("default_queue_type"),
];

const USER: &[Column] = &[at("user", "name"), words("tags", "tags")];

const PERMISSION: &[Column] = &[field("user"), field("configure"), field("write"), field("read")];

const POLICY: &[Column] = &[
    field("vhost"),
    field("name"),
    field("pattern"),
    field("apply-to"),
    json("definition"),
    field("priority"),
];

pub(super) const FEATURE_FLAG: &[Column] = &[
    field("name"),
    field("state"),
    field("stability"),
    field("provided_by"),
    field("desc"),
    field("doc_url"),
];

/// RabbitMQ's names, as far as there is something to show; its `session_id` is known to the client alone.
const STOMP_CONNECTION: &[Column] = &[
    at("conn_name", "name"),
    field("user"),
    field("vhost"),
    field("protocol"),
    field("host"),
    field("port"),
    field("peer_host"),
    field("peer_port"),
    field("channels"),
    field("channel_max"),
    field("frame_max"),
    field("timeout"),
    field("state"),
    field("ssl"),
    field("ssl_protocol"),
    field("auth_mechanism"),
    field("recv_oct"),
    field("recv_cnt"),
    field("send_oct"),
    field("send_cnt"),
    field("connected_at"),
];

/// The columns that a command can be asked for.
pub(super) fn columns(command: &str) -> Option<Vec<&'static str>> {
    let columns = match command {
        "list_queues" | "list_unresponsive_queues" => QUEUE,
        "list_exchanges" => EXCHANGE,
        "list_bindings" => BINDING,
        "list_connections" => CONNECTION,
        "list_stomp_connections" => STOMP_CONNECTION,
        "list_channels" => CHANNEL,
        "list_consumers" => CONSUMER,
        "list_vhosts" => VHOST,
        "list_feature_flags" => FEATURE_FLAG,
        other => super::streams::columns(other)?,
    };
    Some(columns.iter().map(|column| column.name).collect())
}

/// Lists what `segments` leads to.
pub(super) fn write(call: &mut Call, segments: &[&str], columns: &[Column]) -> Done {
    let listed: Value = call.client.get(&path(segments))?;
    write_items(call, &listed, columns)
}

pub(super) fn write_items(call: &mut Call, listed: &Value, columns: &[Column]) -> Done {
    write_rows(call, listed, columns, call.typed.has_headers())
}

fn write_rows(call: &mut Call, listed: &Value, columns: &[Column], headers: bool) -> Done {
    let rows: Vec<Vec<Cell>> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| columns.iter().map(|column| column.cell(item)).collect())
        .collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    Ok(write_list(call.out, call.typed.format(), headers, &names, &rows)?)
}

/// The columns that were typed, or the first `usual` of those that there are.
pub(super) fn chosen(call: &Call, all: &[Column], usual: usize) -> Result<Vec<Column>, Refusal> {
    // Names may have commas between them instead of spaces.
    let names = call.typed.arguments.iter().flat_map(|argument| argument.split(','));
    let names: Vec<&str> = names.map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Ok(all.iter().take(usual).copied().collect());
    }
    let find = |name: &&str| all.iter().find(|column| column.name == *name).copied();
    let wrong: Vec<&str> = names.iter().filter(|name| find(name).is_none()).copied().collect();
    if !wrong.is_empty() {
        return Err(Refusal::Usage(format!("Info key(s) {} are not supported", wrong.join(","))));
    }
    Ok(names.iter().filter_map(find).collect())
}

/// Lists what is in a vhost. One that is not there has nothing in it, as in RabbitMQ.
fn write_in_vhost(call: &mut Call, segments: &[&str], columns: &[Column]) -> Done {
    match write(call, segments, columns) {
        Err(Refusal::Client(ClientError::NotFound(_))) => {
            write_items(call, &Value::Array(Vec::new()), columns)
        }
        done => done,
    }
}

fn queues(call: &mut Call) -> Done {
    let columns = chosen(call, QUEUE, 2)?;
    let vhost = call.typed.vhost().to_owned();
    let timeout_s = call.typed.timeout_s().unwrap_or(60.0);
    call.banner(&format!("Timeout: {timeout_s:?} seconds ..."))?;
    call.banner(&format!("Listing queues for vhost {vhost} ..."))?;
    write_in_vhost(call, &["queues", &vhost], &columns)
}

/// Asks every queue how it stands. The list comes when all have answered, so that none is left to be named.
fn unresponsive_queues(call: &mut Call) -> Done {
    let columns = chosen(call, QUEUE, 1)?;
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing unresponsive queues for vhost {vhost} ..."))?;
    match call.client.check(&path(&["queues", &vhost])) {
        Ok(()) | Err(ClientError::NotFound(_)) => write_items(call, &Value::Array(Vec::new()), &columns),
        Err(error) => Err(error.into()),
    }
}

fn exchanges(call: &mut Call) -> Done {
    let columns = chosen(call, EXCHANGE, 2)?;
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing exchanges for vhost {vhost} ..."))?;
    write_in_vhost(call, &["exchanges", &vhost], &columns)
}

fn bindings(call: &mut Call) -> Done {
    let columns = chosen(call, BINDING, BINDING.len())?;
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing bindings for vhost {vhost}..."))?;
    write_in_vhost(call, &["bindings", &vhost], &columns)
}

fn connections(call: &mut Call) -> Done {
    let columns = chosen(call, CONNECTION, 4)?;
    call.banner("Listing connections ...")?;
    write(call, &["connections"], &columns)
}

/// Lists the connections that speak STOMP.
fn stomp_connections(call: &mut Call) -> Done {
    let columns = chosen(call, STOMP_CONNECTION, 2)?;
    call.banner("Listing STOMP connections ...")?;
    let mut listed: Value = call.client.get(&path(&["connections"]))?;
    if let Some(connections) = listed.as_array_mut() {
        connections.retain(|connection| {
            connection["protocol"].as_str().is_some_and(|protocol| protocol.starts_with("STOMP"))
        });
    }
    write_items(call, &listed, &columns)
}

fn channels(call: &mut Call) -> Done {
    let columns = chosen(call, CHANNEL, 4)?;
    call.banner("Listing channels ...")?;
    write(call, &["channels"], &columns)
}

fn consumers(call: &mut Call) -> Done {
    let columns = chosen(call, CONSUMER, CONSUMER.len())?;
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing consumers in vhost {vhost} ..."))?;
    write_in_vhost(call, &["consumers", &vhost], &columns)
}

fn vhosts(call: &mut Call) -> Done {
    let columns = chosen(call, VHOST, 1)?;
    call.banner("Listing vhosts ...")?;
    write(call, &["vhosts"], &columns)
}

fn users(call: &mut Call) -> Done {
    call.banner("Listing users ...")?;
    write(call, &["users"], USER)
}

/// Lists what a vhost has to have to be listed.
fn write_of_vhost(call: &mut Call, segments: &[&str], columns: &[Column]) -> Done {
    let vhost = call.typed.vhost().to_owned();
    match write(call, segments, columns) {
        Err(Refusal::Client(ClientError::NotFound(_))) => Err(no_vhost(&vhost)),
        done => done,
    }
}

/// The vhost is not there.
pub(super) fn no_vhost(vhost: &str) -> Refusal {
    Refusal::Bare(status::DATA, format!("Virtual host '{vhost}' does not exist"))
}

fn permissions(call: &mut Call) -> Done {
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing permissions for vhost \"{vhost}\" ..."))?;
    write_of_vhost(call, &["vhosts", &vhost, "permissions"], PERMISSION)
}

fn topic_permissions(call: &mut Call) -> Done {
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing topic permissions for vhost \"{vhost}\" ..."))?;
    let columns = [field("user"), field("exchange"), field("write"), field("read")];
    write_of_vhost(call, &["vhosts", &vhost, "topic-permissions"], &columns)
}

fn user_permissions(call: &mut Call) -> Done {
    let user = call.argument(0).to_owned();
    call.banner(&format!("Listing permissions for user \"{user}\" ..."))?;
    let listed = of_user(call, &user, "permissions")?;
    write_items(call, &listed, &[field("vhost"), field("configure"), field("write"), field("read")])
}

fn user_topic_permissions(call: &mut Call) -> Done {
    let user = call.argument(0).to_owned();
    call.banner(&format!("Listing topic permissions for user \"{user}\" ..."))?;
    let listed = of_user(call, &user, "topic-permissions")?;
    // Of all lists this one has no header.
    write_rows(call, &listed, &[field("vhost"), field("exchange"), field("write"), field("read")], false)
}

fn of_user(call: &mut Call, user: &str, what: &str) -> Result<Value, Refusal> {
    match call.client.get(&path(&["users", user, what])) {
        Err(ClientError::NotFound(_)) => {
            Err(Refusal::Error(status::UNAVAILABLE, format!("{{:no_such_user, \"{user}\"}}")))
        }
        listed => Ok(listed?),
    }
}

fn policies(call: &mut Call) -> Done {
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing policies for vhost \"{vhost}\" ..."))?;
    write_of_vhost(call, &["policies", &vhost], POLICY)
}

fn operator_policies(call: &mut Call) -> Done {
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing operator policy overrides for vhost \"{vhost}\" ..."))?;
    write_of_vhost(call, &["operator-policies", &vhost], POLICY)
}

fn parameters(call: &mut Call) -> Done {
    let vhost = call.typed.vhost().to_owned();
    call.banner(&format!("Listing runtime parameters for vhost \"{vhost}\" ..."))?;
    let mut listed: Vec<Value> = call.client.get(&path(&["parameters"]))?;
    listed.retain(|item| item["vhost"] == *vhost);
    write_items(call, &listed.into(), &[field("component"), field("name"), json("value")])
}

fn global_parameters(call: &mut Call) -> Done {
    call.banner("Listing global runtime parameters ...")?;
    write(call, &["global-parameters"], &[field("name"), json("value")])
}
