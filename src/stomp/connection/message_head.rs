//! The head of MESSAGE. What is the same for all deliveries of a subscription is written once, and so is the destination of messages
//! that were published to the same one as the last.

use super::Version;
use super::acks::SEPARATOR;
use super::subscribe::AckMode;
use crate::broker::delivery::Entry;
use crate::message::Message;
use crate::stomp::convert;
use crate::stomp::destination::Destination;
use crate::stomp::frame::{HeadWriter, put_escaped, put_number};

/// A destination made of names that are longer together, in bytes, is written anew for each message.
const NAMES_KEPT_MAX: usize = 256;

/// What the heads of a subscription's MESSAGE frames have in common.
#[derive(Debug)]
pub(super) struct MessageHead {
    /// The frame up to the destination.
    start: Vec<u8>,
    /// The message's id up to the number of the delivery.
    id: Vec<u8>,
    /// Whether the header `ack` repeats the id, as STOMP 1.2 has it.
    has_ack: bool,
    last: LastDestination,
}

/// The header `destination` of the last message.
#[derive(Debug, Default)]
struct LastDestination {
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    /// The whole line; empty before the first message.
    line: Vec<u8>,
}

impl MessageHead {
    /// For the subscription whose consumer has that tag, and whose header `id` that was.
    pub(super) fn new(
        tag: &str,
        id: Option<&[u8]>,
        session: &str,
        version: Version,
        mode: AckMode,
    ) -> MessageHead {
        let mut start = Vec::new();
        let mut head = HeadWriter::new("MESSAGE", &mut start);
        if let Some(id) = id {
            head.value("subscription", id);
        }
        let mut escaped = Vec::new();
        put_escaped(format!("{tag}{SEPARATOR}{session}{SEPARATOR}").as_bytes(), &mut escaped);
        let has_ack = version == Version::V1_2 && mode != AckMode::Auto;
        MessageHead { start, id: escaped, has_ack, last: LastDestination::default() }
    }

    /// Appends the head of a delivery of that number. `properties` are the message's as they are delivered.
    pub(super) fn write(&mut self, entry: &Entry, tag: u64, properties: &[u8], out: &mut Vec<u8>) {
        let message = &entry.message;
        out.extend_from_slice(&self.start);
        self.last.write(message, out);
        out.extend_from_slice(b"message-id:");
        let id_start = out.len();
        out.extend_from_slice(&self.id);
        put_number(tag, out);
        let id = id_start..out.len();
        out.extend_from_slice(if entry.redelivered {
            b"\nredelivered:true\n"
        } else {
            b"\nredelivered:false\n"
        });
        if self.has_ack {
            out.extend_from_slice(b"ack:");
            out.extend_from_within(id);
            out.push(b'\n');
        }
        let mut head = HeadWriter::going_on(out);
        convert::write_properties(properties, &mut head);
        if message.body_bytes() > 0 {
            head.number("content-length", message.body_bytes() as u64);
        }
        head.end();
    }
}

impl LastDestination {
    fn write(&mut self, message: &Message, out: &mut Vec<u8>) {
        let (exchange, routing_key) = (message.exchange(), message.routing_key());
        let is_same = !self.line.is_empty() && self.exchange == exchange && self.routing_key == routing_key;
        if is_same {
            return out.extend_from_slice(&self.line);
        }
        if exchange.len() + routing_key.len() > NAMES_KEPT_MAX {
            return write_destination(exchange, routing_key, out);
        }
        for (kept, name) in [(&mut self.exchange, exchange), (&mut self.routing_key, routing_key)] {
            kept.clear();
            kept.extend_from_slice(name);
        }
        self.line.clear();
        write_destination(exchange, routing_key, &mut self.line);
        out.extend_from_slice(&self.line);
    }
}

fn write_destination(exchange: &[u8], routing_key: &[u8], out: &mut Vec<u8>) {
    let mut destination = Vec::with_capacity(64);
    Destination::write(exchange, routing_key, &mut destination);
    HeadWriter::going_on(out).value("destination", &destination);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(exchange: &str, routing_key: &[u8], last: &mut LastDestination) -> String {
        let mut out = Vec::new();
        last.write(&Message::new(exchange, routing_key, &[0, 0], b"").unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_message_has_its_own_destination_whatever_the_last_had() {
        let mut last = LastDestination::default();
        let long = "k".repeat(NAMES_KEPT_MAX + 1);
        let rows = [
            ("", "a", "destination:/queue/a\n".to_owned()),
            ("", "a", "destination:/queue/a\n".to_owned()),
            ("x", "a", "destination:/exchange/x/a\n".to_owned()),
            // The same bytes one behind the other.
            ("xa", "", "destination:/exchange/xa\n".to_owned()),
            ("", &long, format!("destination:/queue/{long}\n")),
            ("", &long, format!("destination:/queue/{long}\n")),
            ("xa", "", "destination:/exchange/xa\n".to_owned()),
            ("", "", "destination:/queue/\n".to_owned()),
        ];
        for (exchange, routing_key, line) in rows {
            assert_eq!(written(exchange, routing_key.as_bytes(), &mut last), line);
        }
    }
}
