//! Reading a stream at a terminal: from any place on, and on as it grows.

use super::super::client::Client;
use super::super::output::printable;
use super::super::path::path;
use super::super::{About, Failure};
use super::Vhost;
use crate::perf::stream::{self, Reading};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use leveret::management::shown_properties;
use serde_json::{Value, json};
use std::io::{self, Write};

/// How a message is shown.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Offset, routing key and body, on a line
    Line,
    /// The body as it is, and the end of a line
    Body,
    /// A JSON object on a line, with properties and headers
    Json,
}

/// Reads a stream from any place on, and takes nothing away
///
/// It consumes over AMQP 0-9-1, without a name: nobody else's offset changes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  leveret ctl stream read visits --from first                  all of it
  leveret ctl stream read visits --from 2h                     what was published in the last two hours
  leveret ctl stream read visits --from 2026-12-01T10:00:00Z --limit 10
  leveret ctl stream read visits --follow                      what is published from now on, until Ctrl-C
  leveret ctl stream read visits --from 1200 --format json")]
pub(super) struct Read {
    /// The stream
    stream: String,
    /// Where to begin: first, last, next, an offset, an interval such as 2h or 7D, or a time such as 2026-12-01T10:00:00Z [default: first, or next with --follow]
    #[arg(long, value_name = "PLACE")]
    from: Option<String>,
    /// Goes on with what is published meanwhile, until Ctrl-C
    #[arg(long, short = 'f')]
    follow: bool,
    /// How many messages, at most
    #[arg(long, short = 'n', value_name = "NUMBER")]
    limit: Option<u64>,
    /// How each is shown
    #[arg(long, value_enum, default_value = "line")]
    format: Format,
    /// Only messages whose header x-stream-filter-value is this; may be said more than once
    #[arg(long = "filter", value_name = "TEXT")]
    filters: Vec<String>,
    /// Where it speaks AMQP, with user and password
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    #[arg(default_value = "amqp://guest:guest@127.0.0.1:5672")]
    amqp_url: String,
    #[command(flatten)]
    vhost: Vhost,
}

impl Read {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let end = if self.follow { None } else { Some(self.end(client)?) };
        if end == Some(0) {
            return Ok(());
        }
        let from = if self.follow { "next" } else { "first" };
        let reading = Reading {
            url: self.amqp_url.clone(),
            vhost: (self.vhost.name != "/").then(|| self.vhost.name.clone()),
            stream: self.stream.clone(),
            from: self.from.clone().unwrap_or_else(|| from.to_owned()),
            filters: self.filters.clone(),
            limit: self.limit.unwrap_or(u64::MAX),
            end,
        };
        if reading.from == "next" && end.is_some() {
            return Ok(());
        }
        let read = stream::read(&reading, &mut |read| {
            write_message(out, self.format, &read)?;
            // A reader that follows wants to see it now.
            if self.follow { out.flush() } else { Ok(()) }
        });
        read.map_err(Failure::from)
    }

    /// The offset behind the last message.
    fn end(&self, client: &mut Client) -> Result<u64, Failure> {
        let Read { stream, vhost, .. } = self;
        let queue: Value = client
            .get(&path(&["queues", &vhost.name, stream]))
            .about(|| format!("stream '{stream}' in vhost '{}' can't be read", vhost.name))?;
        queue["next_offset"].as_u64().ok_or_else(|| {
            Failure::State(format!(
                "queue '{stream}' in vhost '{}' is no stream; leveret ctl browse {stream} shows its messages",
                vhost.name
            ))
        })
    }
}

fn write_message(out: &mut dyn Write, format: Format, read: &stream::Read) -> io::Result<()> {
    match format {
        Format::Line => {
            let (key, body) = (printable(&read.routing_key), String::from_utf8_lossy(&read.body));
            writeln!(out, "{}  {key}  {}", read.offset, printable(&body))
        }
        Format::Body => {
            out.write_all(&read.body)?;
            out.write_all(b"\n")
        }
        Format::Json => {
            let (payload, encoding) = match std::str::from_utf8(&read.body) {
                Ok(text) => (text.to_owned(), "string"),
                Err(_) => (STANDARD.encode(&read.body), "base64"),
            };
            let message = json!({
                "offset": read.offset,
                "exchange": read.exchange,
                "routing_key": read.routing_key,
                "properties": shown_properties(&read.properties),
                "payload": payload,
                "payload_encoding": encoding,
            });
            writeln!(out, "{message}")
        }
    }
}
