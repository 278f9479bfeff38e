//! Clients of one stream that know what they were promised: what was confirmed is there, once and in order, and what was seen at an
//! offset stays there, whatever happens to the broker.

use crate::amqp_client::{Client, Gone, bit, field, method, number, string, table, text};
use crate::durability::Random;
use leveret_conformance::Transport;
use leveret_conformance::field::{Field, Value};
use leveret_conformance::frame::Content;
use leveret_conformance::method::{Method, Wire};
use std::collections::{BTreeMap, BTreeSet};

/// The name of the stream.
pub const STREAM: &str = "s";

/// Declares it with these arguments besides its type.
pub fn declare(arguments: &[(&str, Field)]) -> Method {
    let all: Vec<_> =
        [("x-queue-type", string("stream"))].into_iter().chain(arguments.iter().cloned()).collect();
    let declare = [("queue", text(STREAM)), ("durable", Wire::Bit(true)), ("arguments", table(&all))];
    method("queue.declare", &declare)
}

/// Consumes it with these arguments.
pub fn consume(arguments: &[(&str, Field)]) -> Method {
    method("basic.consume", &[("queue", text(STREAM)), ("arguments", table(arguments))])
}

/// Lets a channel's consumers have that many deliveries unacknowledged.
pub fn prefetch(count: u64) -> Method {
    method("basic.qos", &[("prefetch_count", Wire::Int(count))])
}

/// The offset of a delivery, and its body.
pub fn delivered(content: &Content) -> (u64, Vec<u8>) {
    let headers = content.properties.iter().find_map(|(name, value)| match value {
        Wire::Table(headers) if *name == "headers" => Some(headers),
        _ => None,
    });
    match headers.and_then(|headers| field(headers, "x-stream-offset")) {
        Some(Value::Int(offset)) => (u64::try_from(*offset).unwrap(), content.body.clone()),
        other => panic!("no offset: {other:?}"),
    }
}

/// What clients know of the stream, over all lives of the broker.
#[derive(Debug, Default)]
pub struct Known {
    sent: u64,
    confirmed: BTreeSet<u64>,
    seen: BTreeMap<u64, Vec<u8>>,
}

impl Known {
    /// How many messages were seen.
    pub fn seen(&self) -> u64 {
        self.seen.len() as u64
    }

    /// How many messages were confirmed.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.len() as u64
    }

    /// Checks all that is in the stream.
    pub fn check(&self, all: &[(u64, Vec<u8>)]) {
        assert!(all.is_sorted_by(|(a, _), (b, _)| a < b), "offsets are in order");
        let by_offset: BTreeMap<u64, &Vec<u8>> = all.iter().map(|(offset, body)| (*offset, body)).collect();
        for (offset, body) in &self.seen {
            assert_eq!(by_offset.get(offset), Some(&body), "offset {offset} was seen");
        }
        let numbers: Vec<u64> = all.iter().map(|(_, body)| number_of(body)).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "each is there once, in order: {numbers:?}");
        let there: BTreeSet<u64> = numbers.into_iter().collect();
        let missing: Vec<&u64> = self.confirmed.difference(&there).collect();
        assert!(missing.is_empty(), "confirmed and gone: {missing:?}");
    }
}

fn number_of(body: &[u8]) -> u64 {
    std::str::from_utf8(body).unwrap().trim().parse().unwrap()
}

/// A publisher with confirms and a reader, for as long as the broker lives.
pub struct Life<'a> {
    publisher: Client,
    reader: Client,
    known: &'a mut Known,
    /// By delivery tag what waits for its confirm.
    unconfirmed: BTreeMap<u64, u64>,
    published: u64,
}

impl<'a> Life<'a> {
    /// Logs both in, declares the stream, and lets the reader begin somewhere in what was seen.
    pub fn begin(
        transport: &mut dyn Transport,
        known: &'a mut Known,
        arguments: &[(&str, Field)],
        random: &mut Random,
    ) -> Result<Life<'a>, Gone> {
        let mut publisher = Client::connect(transport)?;
        publisher.open_channel(transport, 1)?;
        publisher.call(transport, 1, &declare(arguments))?;
        publisher.call(transport, 1, &method("confirm.select", &[]))?;
        let mut reader = Client::connect(transport)?;
        reader.open_channel(transport, 1)?;
        reader.call(transport, 1, &prefetch(1 + random.below(50)))?;
        let from = random.below(known.seen() + 1);
        let from = Field { tag: b'l', value: Value::Int(from.into()) };
        reader.send(transport, 1, &consume(&[("x-stream-offset", from)]));
        reader.answer(transport, 1, "basic.consume-ok")?;
        Ok(Life { publisher, reader, known, unconfirmed: BTreeMap::new(), published: 0 })
    }

    /// How many publishes wait for their confirms.
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Publishes some messages.
    pub fn publish(&mut self, transport: &mut dyn Transport, random: &mut Random) {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(20) {
            self.published += 1;
            self.unconfirmed.insert(self.published, self.known.sent);
            let mut body = self.known.sent.to_string().into_bytes();
            body.resize(body.len() + random.below(300) as usize, b' ');
            self.publisher.put_publish(&mut bytes, 1, ("", STREAM), &[], &body);
            self.known.sent += 1;
        }
        self.publisher.send_bytes(transport, &bytes);
    }

    /// Takes what has come: confirms, and deliveries, which are acknowledged.
    pub fn take(&mut self, transport: &mut dyn Transport) -> Result<(), Gone> {
        for (_, came, _) in self.publisher.take(transport)? {
            assert_eq!(came.spec.name, "basic.ack");
            let tag = number(&came, "delivery_tag");
            let first = if bit(&came, "multiple") { 0 } else { tag };
            let confirmed: Vec<u64> = self.unconfirmed.range(first..=tag).map(|(tag, _)| *tag).collect();
            for tag in confirmed {
                self.known.confirmed.extend(self.unconfirmed.remove(&tag));
            }
        }
        let mut last = None;
        for (_, came, content) in self.reader.take(transport)? {
            last = Some(came.arg("delivery_tag").cloned().unwrap());
            let (offset, body) = delivered(&content.unwrap());
            let before = self.known.seen.insert(offset, body.clone());
            assert!(before.is_none_or(|before| before == body), "offset {offset} is another message now");
        }
        if let Some(tag) = last {
            let ack = method("basic.ack", &[("delivery_tag", tag), ("multiple", Wire::Bit(true))]);
            self.reader.send(transport, 1, &ack);
        }
        Ok(())
    }
}

/// Messages that are read before they are acknowledged.
const READ_AHEAD: u64 = 500;

/// Publishes a message behind all others, for [`read_up_to`].
pub fn publish_last(transport: &mut dyn Transport, known: &mut Known) -> Result<Vec<u8>, Gone> {
    let mut client = Client::connect(transport)?;
    client.open_channel(transport, 1)?;
    let last = known.sent.to_string().into_bytes();
    known.sent += 1;
    let mut bytes = Vec::new();
    client.put_publish(&mut bytes, 1, ("", STREAM), &[], &last);
    client.send_bytes(transport, &bytes);
    client.call(transport, 1, &prefetch(1))?;
    client.hang_up(transport);
    Ok(last)
}

/// All that is in the stream, in order, up to that message.
pub fn read_up_to(transport: &mut dyn Transport, last: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, Gone> {
    let mut client = Client::connect(transport)?;
    client.open_channel(transport, 1)?;
    client.call(transport, 1, &prefetch(READ_AHEAD))?;
    client.call(transport, 1, &consume(&[("x-stream-offset", string("first"))]))?;
    let mut all: Vec<(u64, Vec<u8>)> = Vec::new();
    while all.last().is_none_or(|(_, body)| body != last) {
        let mut tag = None;
        for (_, came, content) in client.wait(transport)? {
            tag = came.arg("delivery_tag").cloned();
            all.push(delivered(&content.unwrap()));
        }
        if let Some(tag) = tag {
            let ack = method("basic.ack", &[("delivery_tag", tag), ("multiple", Wire::Bit(true))]);
            client.send(transport, 1, &ack);
        }
    }
    client.hang_up(transport);
    Ok(all)
}
