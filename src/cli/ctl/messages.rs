//! Messages: one is published, some are looked at or taken.

use super::super::client::Client;
use super::super::output::{Look, printable, write_json, write_table};
use super::super::path::{path, path_with};
use super::super::{About, Failure};
use super::browse::Page;
use super::{Setting, Vhost, setting, table};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use leveret::api::{self, Published};
use serde_json::Value;
use std::io::{self, Read, Write};

/// The default exchange in paths of the management API, whose name is empty.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// Messages that the broker shows at once.
const PAGE_MAX: usize = 500;

/// What a table shows of messages.
const COLUMNS: [&str; 6] =
    ["exchange", "routing_key", "redelivered", "payload_bytes", "properties", "payload"];

/// Publishes a message, and says whether a queue took it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  leveret ctl publish --routing-key orders 'hello'                   straight to the queue orders
  leveret ctl publish --exchange events --routing-key order.new 'x'
  leveret ctl publish -k orders --property content_type=application/json --header retry=3 - < order.json

Properties are content_type, content_encoding, correlation_id, reply_to, expiration, message_id, priority, timestamp, type,
user_id and app_id. It ends with 1 when no queue took the message.")]
pub(super) struct Publish {
    /// The body; - reads it from standard input
    body: String,
    /// The exchange [default: the default exchange, where the routing key is the name of a queue]
    #[arg(long, short = 'x', value_name = "NAME", default_value = "", hide_default_value = true)]
    exchange: String,
    /// The routing key
    #[arg(long, short = 'k', value_name = "KEY", default_value = "", hide_default_value = true)]
    routing_key: String,
    /// A property, such as content_type=text/plain; may be said more than once
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = setting)]
    properties: Vec<Setting>,
    /// A header, such as retry=3; may be said more than once
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = setting)]
    headers: Vec<Setting>,
    /// It is gone after a restart of the broker
    #[arg(long)]
    transient: bool,
    #[command(flatten)]
    vhost: Vhost,
}

impl Publish {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let mut properties = table(&self.properties);
        let mode = if self.transient { 1 } else { 2 };
        properties.insert("delivery_mode".to_owned(), mode.into());
        if !self.headers.is_empty() {
            properties.insert("headers".to_owned(), table(&self.headers).into());
        }
        let body = api::Publish {
            routing_key: self.routing_key.clone(),
            properties,
            payload: STANDARD.encode(self.bytes()?),
            payload_encoding: "base64".to_owned(),
        };
        let exchange = if self.exchange.is_empty() { DEFAULT_EXCHANGE } else { &self.exchange };
        let answer: Published = client
            .post(&path(&["exchanges", &self.vhost.name, exchange, "publish"]), &body)
            .about(|| format!("the message was not published to {}", self.place()))?;
        if !answer.routed {
            return Err(Failure::State(format!(
                "the message reached no queue from {} (leveret ctl list bindings shows where messages go)",
                self.place()
            )));
        }
        Ok(writeln!(out, "published to {}", self.place())?)
    }

    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        if self.body != "-" {
            return Ok(self.body.clone().into_bytes());
        }
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::State(format!("standard input can't be read: {error}")))?;
        Ok(bytes)
    }

    fn place(&self) -> String {
        let (exchange, key, vhost) = (&self.exchange, &self.routing_key, &self.vhost.name);
        let exchange = if exchange.is_empty() {
            "the default exchange".to_owned()
        } else {
            format!("exchange '{exchange}'")
        };
        format!("{exchange} in vhost '{vhost}' with key '{key}'")
    }
}

/// Shows the first messages of a queue and leaves them there, or takes them
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  leveret ctl get orders                           the first message, which stays as it is
  leveret ctl get orders --count 10 --json
  leveret ctl get orders --take --payload          its body alone; it is out of the queue then")]
pub(super) struct Get {
    /// The queue
    queue: String,
    /// How many messages, at most
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 1)]
    count: usize,
    /// Takes them out of the queue: they are gone when they have been shown
    #[arg(long)]
    take: bool,
    /// Only their bodies, as they are, and nothing between them
    #[arg(long, conflicts_with = "json")]
    payload: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vhost: Vhost,
}

impl Get {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let mut left = self.count;
        let mut after = None;
        let mut messages = Vec::new();
        while left > 0 {
            let (page, next) =
                if self.take { self.take(client, left)? } else { self.look(client, left, after)? };
            left = left.saturating_sub(page.len());
            messages.extend(page);
            after = next;
            if after.is_none() {
                break;
            }
        }
        if self.payload {
            return messages.iter().try_for_each(|message| Ok(out.write_all(&payload(message)?)?));
        }
        if self.json {
            return Ok(write_json(out, None, &messages)?);
        }
        if messages.is_empty() {
            return Ok(writeln!(out, "{} is empty", self.name())?);
        }
        Ok(write_table(out, &COLUMNS.map(str::to_owned), &messages, Look::of_output())?)
    }

    fn name(&self) -> String {
        format!("queue '{}' in vhost '{}'", printable(&self.queue), self.vhost.name)
    }

    /// A page of messages that stay where they are, and where the next one begins.
    fn look(
        &self,
        client: &mut Client,
        count: usize,
        after: Option<String>,
    ) -> Result<(Vec<Value>, Option<String>), Failure> {
        let (count, limit) = (count.min(PAGE_MAX).to_string(), u32::MAX.to_string());
        let mut parameters = vec![("count", count.as_str()), ("body_limit", limit.as_str())];
        if let Some(after) = &after {
            parameters.push(("after", after));
        }
        let place = path_with(&["queues", &self.vhost.name, &self.queue, "browse"], &parameters);
        let page: Page = client.get(&place).about(|| format!("{} can't be looked into", self.name()))?;
        Ok((page.items, page.next))
    }

    /// Messages that are out of the queue then. All at once: what was taken must be shown, whatever comes next.
    fn take(&self, client: &mut Client, count: usize) -> Result<(Vec<Value>, Option<String>), Failure> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let (ackmode, encoding) = ("ack_requeue_false".to_owned(), "auto".to_owned());
        let body = api::Get { ackmode, count, encoding, truncate: None };
        let place = path(&["queues", &self.vhost.name, &self.queue, "get"]);
        let taken = client.post(&place, &body).about(|| format!("nothing was taken from {}", self.name()))?;
        Ok((taken, None))
    }
}

/// The bytes of a message that was shown.
fn payload(message: &Value) -> Result<Vec<u8>, Failure> {
    let text = message["payload"].as_str().unwrap_or_default();
    if message["payload_encoding"] != "base64" {
        return Ok(text.as_bytes().to_vec());
    }
    STANDARD.decode(text).map_err(|error| Failure::State(format!("a body is no base64: {error}")))
}
