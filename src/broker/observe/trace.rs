//! The firehose, RabbitMQ's message tracing: while a vhost is traced, a copy of each message that is published in it or delivered
//! from one of its queues goes to the exchange `amq.rabbitmq.trace`, with the key `publish.EXCHANGE` or `deliver.QUEUE`. The copy
//! has the message's body, and tells the rest in its headers.
//!
//! The headers of a copy fit into a frame: where those of the message leave no room, its largest ones are not there, and the header
//! `left_out` names them.
//!
//! A copy is a message like any other: it counts in the queues that take it, and their limits bound how many there are. It is made
//! only where something is bound to that exchange. Messages that came through it are not traced again.

use crate::broker::exchange::Exchange;
use crate::broker::routing::{Route, listed_keys};
use crate::broker::turn::Turn;
use crate::broker::vhost::VirtualHost;
use crate::message::amqp10;
use crate::message::{ChannelNumber, FieldTable, Message, Properties, ShortStr, Value};
use std::sync::Arc;

/// The exchange that the copies are published to.
const EXCHANGE: &str = "amq.rabbitmq.trace";

/// A routing key is a short string.
const KEY_BYTES_MAX: usize = 255;

/// Who published a message, or was given it.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Name of the connection that published or consumes.
    pub connection: &'a str,
    /// Number of the channel on that connection.
    pub channel: ChannelNumber,
    /// Name of the user that is logged in.
    pub user: &'a str,
}

/// A message that was taken from a queue.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    /// The queue's name; the reply address for a direct reply, which is in no queue.
    pub queue: &'a [u8],
    /// The message as it was published.
    pub message: &'a Message,
    /// The properties that it is sent with: property flags and list.
    pub properties: &'a [u8],
    /// Whether it has been delivered before.
    pub redelivered: bool,
}

impl VirtualHost {
    /// Copies a message to the firehose that was published, whatever becomes of it on its `route`.
    pub fn trace_publish(&self, party: Party<'_>, message: &Message, route: &Route, turn: &mut Turn) {
        let Some(firehose) = self.firehose_for(message) else { return };
        let queues = Value::Array(routed_queues(message, route));
        // What is no message is shown as the bytes that came.
        let as_091 = amqp10::to_091(message).ok();
        let message = as_091.as_ref().unwrap_or(message);
        let key = ("publish.", message.exchange());
        let copy = self.copy(party, message, key, message.properties(), ("routed_queues", queues));
        self.publish_copy(&firehose, copy, turn);
    }

    /// Copies a message to the firehose that is being delivered, for basic.get too.
    pub fn trace_delivery(&self, party: Party<'_>, delivered: Delivered<'_>, turn: &mut Turn) {
        let Delivered { queue, message, properties, redelivered } = delivered;
        let Some(firehose) = self.firehose_for(message) else { return };
        let redelivered = Value::I32(redelivered.into());
        let copy = self.copy(party, message, ("deliver.", queue), properties, ("redelivered", redelivered));
        self.publish_copy(&firehose, copy, turn);
    }

    /// The exchange that a copy of a message goes to. Nothing is copied where nothing is bound, nor what came from there itself:
    /// as it is, or as a dead letter, which would come round again and again.
    fn firehose_for(&self, message: &Message) -> Option<Arc<Exchange>> {
        let came_from_it = message.exchange() == EXCHANGE.as_bytes()
            || message.is_dead_lettered()
                && first_death_exchange(message) == Some(EXCHANGE.as_bytes().to_vec());
        let firehose = self.exchange(EXCHANGE).filter(|_| !came_from_it)?;
        let leads_somewhere = !firehose.bindings().is_empty() || firehose.alternate_exchange().is_some();
        leads_somewhere.then_some(firehose)
    }

    fn copy(
        &self,
        party: Party<'_>,
        message: &Message,
        (prefix, name): (&str, &[u8]),
        properties: &[u8],
        said: (&str, Value),
    ) -> Message {
        let text = |text: &str| Value::LongStr(text.as_bytes().to_vec());
        let keys = listed_keys(message).into_iter().map(Value::LongStr).collect();
        let mut headers: FieldTable = [
            ("channel", Value::I32(party.channel.into())),
            ("connection", text(party.connection)),
            ("exchange_name", Value::LongStr(message.exchange().to_vec())),
            ("node", text(self.shared().node_name())),
            ("properties", Value::Table(properties_table(properties))),
            ("routing_keys", Value::Array(keys)),
            ("user", text(party.user)),
            ("vhost", text(self.name())),
            said,
        ]
        .into_iter()
        .collect();
        let left_out = fit(&mut headers, self.shared().limits.trace_header_bytes);
        if !left_out.is_empty() {
            headers.insert("left_out", Value::Array(left_out));
        }
        headers.sort();
        let key = routing_key(prefix, name);
        message.rewritten(EXCHANGE, &key, &Properties { headers: Some(headers), ..Properties::default() })
    }

    fn publish_copy(&self, firehose: &Arc<Exchange>, copy: Message, turn: &mut Turn) {
        let route = self.route(firehose, &copy);
        // What a full queue refuses is gone: nobody waits for it.
        self.publish(&route, &mut vec![copy], turn, &mut Vec::new());
    }
}

/// Makes headers no larger than that, about, by leaving out the largest headers of the message, or else lists of names. Returns what was
/// left out.
fn fit(headers: &mut FieldTable, bytes_max: usize) -> Vec<Value> {
    let mut left_out = Vec::new();
    let mut bytes = encoded_bytes(&Value::Table(headers.clone()));
    while bytes > bytes_max
        && let Some((name, taken)) = take_largest(headers)
    {
        bytes = bytes.saturating_sub(taken);
        left_out.push(Value::LongStr(name));
    }
    left_out
}

/// Takes out the largest header of the message, or else the larger list of names; the name of what it was, and its bytes.
fn take_largest(headers: &mut FieldTable) -> Option<(Vec<u8>, usize)> {
    if let Some(Value::Table(mut properties)) = headers.remove("properties") {
        let mut largest = None;
        if let Some(Value::Table(mut of_message)) = properties.remove("headers") {
            let by_size = of_message.iter().map(|(name, value)| (encoded_bytes(value), name.clone()));
            largest = by_size.max_by_key(|(bytes, _)| *bytes);
            let is_other = |name: &ShortStr| largest.as_ref().is_none_or(|(_, taken)| taken != name);
            of_message = of_message
                .iter()
                .filter(|(name, _)| is_other(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            properties.insert("headers", Value::Table(of_message));
        }
        headers.insert("properties", Value::Table(properties));
        if let Some((bytes, name)) = largest {
            return Some((name.as_bytes().to_vec(), bytes));
        }
    }
    let lists = ["routing_keys", "routed_queues"].into_iter();
    let sized = lists.filter_map(|name| Some((encoded_bytes(headers.field(name)?), name)));
    let (bytes, name) = sized.max_by_key(|(bytes, _)| *bytes)?;
    headers.remove(name);
    Some((name.as_bytes().to_vec(), bytes))
}

fn encoded_bytes(value: &Value) -> usize {
    let mut encoded = Vec::new();
    FieldTable::from_iter([("", value.clone())]).encode(&mut encoded);
    encoded.len()
}

/// The prefix and the name, cut where a routing key ends: names are as long as routing keys may be.
fn routing_key(prefix: &str, name: &[u8]) -> Vec<u8> {
    let mut key = [prefix.as_bytes(), name].concat();
    if key.len() > KEY_BYTES_MAX {
        let is_within_character = |at: usize| key[at] & 0xc0 == 0x80;
        let end = (0..=KEY_BYTES_MAX).rev().find(|at| !is_within_character(*at));
        key.truncate(end.unwrap_or(KEY_BYTES_MAX));
    }
    key
}

/// The names of the queues that a message goes to. The default exchange takes every routing key for one, whether it is there or not.
fn routed_queues(message: &Message, route: &Route) -> Vec<Value> {
    if message.exchange().is_empty() {
        let mut keys = listed_keys(message);
        keys.sort();
        keys.dedup();
        return keys.into_iter().map(Value::LongStr).collect();
    }
    route.queues.iter().map(|queue| Value::from(&*queue.definition().name)).collect()
}

fn first_death_exchange(message: &Message) -> Option<Vec<u8>> {
    match message.headers()?.field("x-first-death-exchange")? {
        Value::LongStr(name) => Some(name.clone()),
        _ => None,
    }
}

/// A message's properties as a table, but for the header BCC, in the order in which RabbitMQ has them: the last one first.
fn properties_table(properties: &[u8]) -> FieldTable {
    let properties =
        Properties::decode(properties).expect("properties were scanned when the message was made");
    let text = |text: Option<ShortStr>| text.map(|text| Value::LongStr(text.as_bytes().to_vec()));
    let number = |number: u8| Value::I32(number.into());
    // RabbitMQ has all numbers as signed ones of four bytes, which time will outgrow.
    let timestamp =
        |seconds: u64| i32::try_from(seconds).map_or(Value::I64(seconds.cast_signed()), Value::I32);
    let headers = properties.headers.map(|mut headers| {
        headers.remove("BCC");
        Value::Table(headers)
    });
    let fields = [
        ("cluster_id", text(properties.cluster_id)),
        ("app_id", text(properties.app_id)),
        ("user_id", text(properties.user_id)),
        ("type", text(properties.kind)),
        ("timestamp", properties.timestamp.map(timestamp)),
        ("message_id", text(properties.message_id)),
        ("expiration", text(properties.expiration)),
        ("reply_to", text(properties.reply_to)),
        ("correlation_id", text(properties.correlation_id)),
        ("priority", properties.priority.map(number)),
        ("delivery_mode", properties.delivery_mode.map(number)),
        ("headers", headers),
        ("content_encoding", text(properties.content_encoding)),
        ("content_type", text(properties.content_type)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_where_a_short_string_does() {
        assert_eq!(routing_key("publish.", b"x"), b"publish.x");
        assert_eq!(routing_key("deliver.", &[b'q'; 255]).len(), 255);
        let cut = routing_key("publish.", "é".repeat(127).as_bytes());
        assert_eq!(String::from_utf8(cut), Ok(format!("publish.{}", "é".repeat(123))));
    }

    #[test]
    fn the_largest_headers_are_left_out_until_the_rest_fits() {
        let long = |bytes: usize| Value::LongStr(vec![b'x'; bytes]);
        let of_message = [("a", long(100)), ("b", long(5000)), ("c", long(3000)), ("d", Value::I32(1))];
        let of_message = Value::Table(of_message.into_iter().collect());
        let properties = [("headers", of_message), ("app_id", Value::from("app"))];
        let all: FieldTable = [
            ("properties", Value::Table(properties.into_iter().collect())),
            ("routing_keys", Value::Array(vec![long(2000)])),
            ("user", Value::from("u")),
        ]
        .into_iter()
        .collect();
        let names = |bytes_max| {
            let mut headers = all.clone();
            let left_out = fit(&mut headers, bytes_max);
            assert!(encoded_bytes(&Value::Table(headers)) <= bytes_max);
            left_out.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!([11_000, 6000, 2500, 200].map(names), ["", "b", "b c", "b c a d routing_keys"]);
    }

    #[test]
    fn properties_are_listed_with_the_last_one_first() {
        let headers = [("h", Value::I32(1)), ("BCC", Value::Array(Vec::new()))].into_iter().collect();
        let properties = Properties {
            content_type: Some("text/plain".into()),
            headers: Some(headers),
            delivery_mode: Some(2),
            timestamp: Some(1 << 31),
            kind: Some("t".into()),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let expected: FieldTable = [
            ("type", Value::from("t")),
            ("timestamp", Value::I64(1 << 31)),
            ("delivery_mode", Value::I32(2)),
            ("headers", Value::Table([("h", Value::I32(1))].into_iter().collect())),
            ("content_type", Value::from("text/plain")),
        ]
        .into_iter()
        .collect();
        assert_eq!(properties_table(&encoded), expected);
    }
}
