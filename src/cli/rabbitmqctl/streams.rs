//! The commands of rabbitmq-streams: who speaks the stream protocol, and what streams remember of them. What is about replicas is not
//! there: there are none.

use super::super::client::ClientError;
use super::super::path::path;
use super::lists::{Column, at, chosen, field, table, write};
use super::{Call, Command, Done, MANY, Refusal, command, status};
use leveret::api::{StreamReset, StreamResetOffset, StreamTracking};
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command("list_stream_connections", (0, MANY), connections, "[<column> ...]"),
    command("list_stream_consumers", (0, MANY), consumers, "[--vhost <vhost>] [<column> ...]"),
    command("list_stream_publishers", (0, MANY), publishers, "[--vhost <vhost>] [<column> ...]"),
    command(
        "list_stream_tracking",
        (1, 1),
        tracking,
        "<stream> [--all | --offset | --writer] [--vhost <vhost>]",
    ),
    command(
        "reset_offset",
        (0, 0),
        reset_offset,
        "--stream <stream> --reference <reference> [--vhost <vhost>]",
    ),
];

const CONNECTION: &[Column] = &[
    field("node"),
    at("conn_name", "name"),
    field("auth_mechanism"),
    table("client_properties"),
    field("connected_at"),
    at("connection_state", "state"),
    field("frame_max"),
    at("heartbeat", "timeout"),
    field("host"),
    field("peer_cert_issuer"),
    field("peer_cert_subject"),
    field("peer_cert_validity"),
    field("peer_host"),
    field("peer_port"),
    at("pid", "name"),
    field("port"),
    field("ssl"),
    field("ssl_cipher"),
    field("ssl_hash"),
    field("ssl_key_exchange"),
    field("ssl_protocol"),
    field("user"),
    field("vhost"),
];

const CONSUMER: &[Column] = &[
    field("subscription_id"),
    at("stream", "queue.name"),
    at("messages_consumed", "consumed"),
    field("offset"),
    field("offset_lag"),
    field("credits"),
    field("active"),
    field("activity_status"),
    table("properties"),
    at("connection_pid", "connection_details.name"),
];

const PUBLISHER: &[Column] = &[
    field("publisher_id"),
    at("stream", "queue.name"),
    field("reference"),
    at("messages_published", "published"),
    at("messages_confirmed", "confirmed"),
    at("messages_errored", "errored"),
    at("connection_pid", "connection_details.name"),
];

const TRACKED: &[Column] = &[field("type"), field("name"), field("tracking_value")];

/// The columns that a command can list.
pub(super) fn columns(command: &str) -> Option<&'static [Column]> {
    match command {
        "list_stream_connections" => Some(CONNECTION),
        "list_stream_consumers" => Some(CONSUMER),
        "list_stream_publishers" => Some(PUBLISHER),
        _ => None,
    }
}

fn connections(call: &mut Call) -> Done {
    let columns = chosen(call, CONNECTION, 2)?;
    call.banner("Listing stream connections ...")?;
    write(call, &["stream", "connections"], &columns)
}

fn consumers(call: &mut Call) -> Done {
    let columns = chosen(call, CONSUMER, 9)?;
    let vhost = call.typed.vhost().to_owned();
    call.banner("Listing stream consumers ...")?;
    write(call, &["stream", "consumers", &vhost], &columns)
}

fn publishers(call: &mut Call) -> Done {
    let columns = chosen(call, PUBLISHER, 6)?;
    let vhost = call.typed.vhost().to_owned();
    call.banner("Listing stream publishers ...")?;
    write(call, &["stream", "publishers", &vhost], &columns)
}

/// What a stream remembers of those who use it by name.
fn tracked(call: &mut Call, stream: &str) -> Result<StreamTracking, Refusal> {
    let vhost = call.typed.vhost().to_owned();
    match call.client.get(&path(&["stream", &vhost, stream, "tracking"])) {
        Err(ClientError::NotFound(_)) => {
            Err(Refusal::Error(status::DATA, "The stream does not exist.".to_owned()))
        }
        tracked => Ok(tracked?),
    }
}

fn tracking(call: &mut Call) -> Done {
    let stream = call.argument(0).to_owned();
    call.banner(&format!("Listing tracking information for stream {stream} ..."))?;
    let StreamTracking { offsets, writers, .. } = tracked(call, &stream)?;
    let row =
        |kind: &str, name: &String, value: u64| json!({"type": kind, "name": name, "tracking_value": value});
    let mut rows: Vec<Value> = Vec::new();
    if !call.typed.has("--offset") {
        rows.extend(writers.iter().map(|(name, value)| row("writer", name, *value)));
    }
    if !call.typed.has("--writer") {
        rows.extend(offsets.iter().map(|(name, value)| row("offset", name, *value)));
    }
    super::lists::write_items(call, &Value::Array(rows), TRACKED)
}

/// A name goes on at the beginning. RabbitMQ stores the offset 0, behind which that is the next one.
fn reset_offset(call: &mut Call) -> Done {
    let wanted = |option: &str| {
        let given = call.typed.option(option).map(str::to_owned);
        given.ok_or_else(|| Refusal::Usage(format!("{option} is missing")))
    };
    let (stream, reference) = (wanted("--stream")?, wanted("--reference")?);
    call.banner("Resetting stored offset ...")?;
    if !tracked(call, &stream)?.offsets.contains_key(&reference) {
        let text = "There is no stored offset for this reference, no need to reset";
        return Err(Refusal::Error(status::DATA, text.to_owned()));
    }
    let vhost = call.typed.vhost().to_owned();
    let to = StreamReset { offset: Some(StreamResetOffset::Number(1)), timestamp: None };
    call.client.put(&path(&["stream", &vhost, &stream, "tracking", &reference]), &to)?;
    call.result("Done")
}
