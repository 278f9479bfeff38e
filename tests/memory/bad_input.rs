//! What clients must not get away with: input that would panic the broker, let it grow without limit, or harm others.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::basic::{self, AMQPMethod as Basic, AMQPProperties, Publish};
use amq_protocol::protocol::exchange::{self, AMQPMethod as Exchange};
use amq_protocol::protocol::queue::{self, AMQPMethod as Queue};
use amq_protocol::protocol::tx::{self, AMQPMethod as Tx};
use amq_protocol::protocol::{AMQPClass, channel, connection};
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use leveret::amqp::AmqpSettings;
use leveret_test_support::frames::{channel_close, channel_open, method, publish, publish_to};
use leveret_test_support::lines::{InMemory, LineId};
use std::time::{Duration, Instant};

fn table(fields: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn declare(queue: &str, arguments: FieldTable) -> queue::Declare {
    queue::Declare { queue: queue.into(), arguments, ..queue::Declare::default() }
}

fn queue_declare(declare: queue::Declare) -> Vec<u8> {
    method(1, AMQPClass::Queue(Queue::Declare(declare)))
}

fn exchange_declare(name: &str, kind: &str, auto_delete: bool) -> Vec<u8> {
    let declare = exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        auto_delete,
        nowait: true,
        ..exchange::Declare::default()
    };
    method(1, AMQPClass::Exchange(Exchange::Declare(declare)))
}

fn queue_bind(queue: &str, exchange: &str) -> Vec<u8> {
    let bind = queue::Bind {
        queue: queue.into(),
        exchange: exchange.into(),
        nowait: true,
        ..queue::Bind::default()
    };
    method(1, AMQPClass::Queue(Queue::Bind(bind)))
}

fn get(queue: &str, no_ack: bool) -> Vec<u8> {
    method(1, AMQPClass::Basic(Basic::Get(basic::Get { queue: queue.into(), no_ack })))
}

fn consume(channel: u16, queue: &str, no_ack: bool) -> Vec<u8> {
    let consume = basic::Consume { queue: queue.into(), no_ack, nowait: true, ..basic::Consume::default() };
    method(channel, AMQPClass::Basic(Basic::Consume(consume)))
}

/// basic.publish with a routing key of any bytes, an empty header and no body.
fn publish_raw_key(key: &[u8], exchange: &str, mandatory: bool) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 40, 0, 0, exchange.len() as u8];
    payload.extend_from_slice(exchange.as_bytes());
    payload.push(key.len() as u8);
    payload.extend_from_slice(key);
    payload.push(u8::from(mandatory));
    let mut bytes = vec![1, 0, 1];
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&payload);
    bytes.push(0xCE);
    bytes.extend_from_slice(&[2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xCE]);
    bytes
}

fn ready(broker: &InMemory, queue: &str) -> Option<usize> {
    let queue = broker.amqp.broker.vhost("/").unwrap().queue(queue)?;
    Some(queue.counts().ready)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The close of a channel or connection among frames, as code and text.
fn closes(frames: &[AMQPFrame]) -> Vec<(u16, String)> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            AMQPFrame::Method(_, AMQPClass::Channel(channel::AMQPMethod::Close(close))) => {
                Some((close.reply_code, close.reply_text.to_string()))
            }
            AMQPFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Close(close))) => {
                Some((close.reply_code, close.reply_text.to_string()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn an_exclusive_queue_that_is_gone_takes_no_namesake_along() {
    let mut broker = InMemory::new();
    let (first, second) = (broker.connect(1), broker.connect(1));
    let exclusive =
        queue::Declare { exclusive: true, auto_delete: true, ..declare("q", FieldTable::default()) };
    broker.send(first, &queue_declare(exclusive));
    broker.send(first, &consume(1, "q", true));
    broker.send(first, &channel_close(1));
    assert_eq!(ready(&broker, "q"), None, "the queue went with its consumer");
    broker.send(second, &queue_declare(declare("q", FieldTable::default())));
    broker.send(second, &publish_to(1, "q", b"kept"));
    broker.drop_line(first);
    assert_eq!(ready(&broker, "q"), Some(1));
}

#[test]
fn names_for_dead_letters_that_are_no_names_are_refused() {
    let long = "x".repeat(300);
    for arguments in [
        table(&[("x-dead-letter-exchange", text(&long))]),
        table(&[("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(&long))]),
    ] {
        let mut broker = InMemory::new();
        let line = broker.connect(1);
        let mut arguments = arguments;
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(0));
        broker.send(line, &queue_declare(declare("q", arguments)));
        broker.send(line, &publish_to(1, "q", b"dies at once"));
        let closes = closes(&broker.frames(line));
        assert_eq!(closes.len(), 1, "{closes:?}");
        assert!(closes[0].0 == 406 && closes[0].1.contains("x-dead-letter"), "{closes:?}");
    }
}

#[test]
fn a_routing_key_that_is_no_text_comes_back_as_it_was() {
    let key = [0xff; 255];
    let mut broker = InMemory::new();
    let line = broker.connect(1);
    let mut bytes = queue_declare(declare("q", FieldTable::default()));
    bytes.extend(queue_bind("q", "amq.fanout"));
    bytes.extend(publish_raw_key(&key, "amq.fanout", false));
    bytes.extend(publish_raw_key(&key, "amq.direct", true));
    bytes.extend(get("q", false));
    broker.send(line, &bytes);
    let received = broker.bytes(line);
    // With the byte that says how long it is.
    assert_eq!(received.windows(256).filter(|window| **window == [0xff; 256]).count(), 2);
    assert!(contains(&received, b"NO_ROUTE"));
    assert!(!broker.is_closed(line));
}

#[test]
fn a_long_chain_of_auto_delete_exchanges_goes_at_once() {
    const LENGTH: usize = 20_000;
    let mut broker = InMemory::new();
    let line = broker.connect(1);
    let mut bytes = exchange_declare("x0", "fanout", true);
    for n in 1..LENGTH {
        bytes.extend(exchange_declare(&format!("x{n}"), "fanout", true));
        let bind = exchange::Bind {
            source: format!("x{n}").into(),
            destination: format!("x{}", n - 1).into(),
            nowait: true,
            ..exchange::Bind::default()
        };
        bytes.extend(method(1, AMQPClass::Exchange(Exchange::Bind(bind))));
    }
    let delete = exchange::Delete { exchange: "x0".into(), ..exchange::Delete::default() };
    bytes.extend(method(1, AMQPClass::Exchange(Exchange::Delete(delete))));
    broker.send(line, &bytes);
    assert_eq!(closes(&broker.frames(line)), []);
    assert_eq!(broker.amqp.broker.vhost("/").unwrap().exchanges().len(), 7);
}

fn reply_consumer(broker: &mut InMemory) -> (LineId, ShortString) {
    let requester = broker.connect(1);
    broker.send(requester, &consume(1, "amq.rabbitmq.reply-to", true));
    broker.send(requester, &queue_declare(declare("requests", FieldTable::default())));
    let properties = AMQPProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    let to = Publish { routing_key: "requests".into(), ..Publish::default() };
    broker.send(requester, &publish(1, to, properties, b"?"));
    let server = broker.connect(1);
    broker.send(server, &get("requests", true));
    let address = broker.frames(server).into_iter().find_map(|frame| match frame {
        AMQPFrame::Header(_, header) => header.properties.reply_to().clone(),
        _ => None,
    });
    broker.drop_line(server);
    broker.frames(requester);
    (requester, address.unwrap())
}

#[test]
fn direct_replies_that_were_read_make_room_for_more() {
    let mut broker = InMemory::new();
    let (requester, address) = reply_consumer(&mut broker);
    let server = broker.connect(1);
    let mut received = 0;
    for _ in 0..40 {
        broker.send(server, &publish_to(1, address.as_str(), &vec![0; 1 << 20]));
        received += broker.bytes(requester).len();
    }
    assert!(received >= 40 << 20, "{received}");
}

#[test]
fn direct_replies_to_a_peer_that_does_not_read_are_dropped_some_day() {
    for (size, header_bytes) in [(0, 0), (0, 100_000), (10_000, 0)] {
        let mut broker = InMemory::new();
        let (requester, address) = reply_consumer(&mut broker);
        broker.set_reading(requester, false);
        let server = broker.connect(1);
        let headers = table(&[("h", text(&"x".repeat(header_bytes)))]);
        let properties = AMQPProperties::default().with_headers(headers);
        let to = Publish { routing_key: address.clone(), ..Publish::default() };
        let one = publish(1, to, properties, &vec![0; size]);
        let count = (64 << 20) / one.len();
        for _ in 0..count / 100 {
            broker.send(server, &one.repeat(100));
        }
        assert!(broker.unread_bytes(requester) < 1 << 20);
        broker.set_reading(requester, true);
        let received = broker.bytes(requester).len();
        assert!(received < 40 << 20, "{received} bytes of replies were kept for a peer that does not read");
    }
}

#[test]
fn headers_count_in_what_waits_for_a_peer_that_does_not_read() {
    let mut broker = InMemory::new();
    let (publisher, consumer) = (broker.connect(1), broker.connect(1));
    broker.send(publisher, &queue_declare(declare("q", FieldTable::default())));
    broker.set_reading(consumer, false);
    broker.send(consumer, &consume(1, "q", true));
    let headers = table(&[("h", text(&"x".repeat(100_000)))]);
    let to = Publish { routing_key: "q".into(), ..Publish::default() };
    let one = publish(1, to, AMQPProperties::default().with_headers(headers), b"");
    broker.send(publisher, &one.repeat(500));
    let unread = broker.unread_bytes(consumer);
    assert!(unread < 4 << 20, "{unread} bytes were encoded for a peer that does not read");
}

#[test]
fn a_peer_that_asks_and_does_not_read_gets_no_answers_made() {
    let mut broker = InMemory::new();
    let line = broker.connect(1);
    broker.send(line, &queue_declare(declare("q", FieldTable::default())));
    for _ in 0..40 {
        broker.send(line, &publish_to(1, "q", &vec![7; 15_000]).repeat(100));
    }
    broker.frames(line);
    broker.set_reading(line, false);
    broker.send(line, &get("q", true).repeat(4000));
    let unread = broker.unread_bytes(line);
    assert!(unread < 2 << 20, "{unread} bytes were encoded for a peer that does not read");
    broker.set_reading(line, true);
    let answers = broker.frames(line).iter().filter(|frame| frame.is_header()).count();
    assert_eq!(answers, 4000, "all are answered in the end");
}

#[test]
fn acks_of_nothing_do_not_add_up_in_a_transaction() {
    let mut broker = InMemory::new();
    let line = broker.connect(1);
    broker.send(line, &method(1, AMQPClass::Tx(Tx::Select(tx::Select {}))));
    let ack = basic::Ack { delivery_tag: 0, multiple: true };
    let acks = method(1, AMQPClass::Basic(Basic::Ack(ack))).repeat(100_000);
    broker.send(line, &acks);
    broker.send(line, &method(1, AMQPClass::Tx(Tx::Commit(tx::Commit {}))));
    assert_eq!(closes(&broker.frames(line)), []);
}

#[test]
fn headers_count_in_the_bytes_of_a_transaction() {
    let settings = AmqpSettings { tx_bytes_max: 1 << 20, ..AmqpSettings::default() };
    let mut broker = InMemory::with(settings);
    let line = broker.connect(1);
    broker.send(line, &queue_declare(declare("q", FieldTable::default())));
    broker.send(line, &method(1, AMQPClass::Tx(Tx::Select(tx::Select {}))));
    let headers = table(&[("h", text(&"x".repeat(100_000)))]);
    let to = Publish { routing_key: "q".into(), ..Publish::default() };
    broker.send(line, &publish(1, to, AMQPProperties::default().with_headers(headers), b"").repeat(20));
    let closes = closes(&broker.frames(line));
    assert!(closes.len() == 1 && closes[0].0 == 506, "{closes:?}");
}

#[test]
fn many_copies_through_many_bindings_take_neither_time_nor_memory() {
    let mut broker = InMemory::new();
    let line = broker.connect(1);
    let mut bytes = Vec::new();
    for n in 0..500 {
        bytes.extend(queue_declare(queue::Declare {
            nowait: true,
            ..declare(&format!("q{n}"), FieldTable::default())
        }));
        bytes.extend(queue_bind(&format!("q{n}"), "amq.fanout"));
    }
    broker.send(line, &bytes);
    let copies: Vec<AMQPValue> = (0..10_000).map(|n| text(&format!("k{n}"))).collect();
    let headers = table(&[("CC", AMQPValue::FieldArray(FieldArray::from(copies)))]);
    let to = Publish { exchange: "amq.fanout".into(), ..Publish::default() };
    let start = Instant::now();
    broker.send(line, &publish(1, to, AMQPProperties::default().with_headers(headers), b""));
    let taken = start.elapsed();
    assert_eq!(ready(&broker, "q499"), Some(1));
    assert!(taken < Duration::from_secs(3), "{taken:?}");
}

#[test]
fn a_reply_for_a_channel_that_is_gone_reaches_no_later_one() {
    let mut broker = InMemory::new();
    let (requester, address) = reply_consumer(&mut broker);
    let server = broker.connect(1);
    broker.send(server, &method(1, AMQPClass::Tx(Tx::Select(tx::Select {}))));
    broker.send(server, &publish_to(1, address.as_str(), b"late"));
    broker.send(requester, &channel_close(1));
    broker.send(requester, &channel_open(1));
    broker.send(requester, &consume(1, "amq.rabbitmq.reply-to", true));
    broker.frames(requester);
    broker.send(server, &method(1, AMQPClass::Tx(Tx::Commit(tx::Commit {}))));
    assert_eq!(broker.frames(requester), []);
}

#[test]
fn what_one_channel_gives_back_is_not_lost_in_another_of_the_same_connection() {
    let mut broker = InMemory::new();
    let (line, other) = (broker.connect(2), broker.connect(1));
    broker.send(line, &queue_declare(declare("q", FieldTable::default())));
    broker.send(line, &publish_to(1, "q", b"1"));
    broker.send(line, &get("q", false));
    broker.send(line, &consume(2, "q", true));
    assert_eq!(ready(&broker, "q"), Some(0));
    broker.drop_line(line);
    assert_eq!(ready(&broker, "q"), Some(1));
    broker.send(other, &get("q", true));
    assert!(contains(&broker.bytes(other), b"1"));
}
