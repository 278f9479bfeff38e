//! What a session does in one turn is bounded, whatever its client asks for: others of its event loop wait as long.

use amq_protocol::protocol::basic::{
    AMQPMethod as Basic, AMQPProperties, Cancel, Consume, Get, Nack, Publish,
};
use amq_protocol::protocol::queue::{AMQPMethod as Queue, Bind, Declare};
use amq_protocol::protocol::{AMQPClass, exchange};
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};
use leveret_conformance::{ConnectionId, Transport};
use leveret_test_support::frames::{channel_open, handshake, method, publish};
use leveret_test_support::in_memory::InMemory;
use std::time::Duration;

/// Steps of a turn, each of some ten nanoseconds: some milliseconds.
const TURN_MAX: u64 = 150_000;

/// A broker and a connection to it, with channel 1.
fn opened() -> (InMemory, ConnectionId) {
    let mut broker = InMemory::new();
    let connection = broker.open().unwrap();
    broker.send(connection, &handshake());
    broker.send(connection, &channel_open(1));
    broker.take_longest_turn();
    (broker, connection)
}

fn declare_queue(name: &str) -> Vec<u8> {
    let declare = Declare { queue: name.into(), nowait: true, ..Declare::default() };
    method(1, AMQPClass::Queue(Queue::Declare(declare)))
}

fn declare_exchange(name: &str, kind: &str) -> Vec<u8> {
    let declare = exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        nowait: true,
        ..exchange::Declare::default()
    };
    method(1, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)))
}

fn bind(queue: &str, exchange: &str, routing_key: &str) -> Vec<u8> {
    let bind = Bind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        nowait: true,
        ..Bind::default()
    };
    method(1, AMQPClass::Queue(Queue::Bind(bind)))
}

/// A message with these keys in its header CC.
fn with_copies(exchange: &str, routing_key: &str, keys: impl Iterator<Item = String>) -> Vec<u8> {
    let mut copies = FieldArray::default();
    keys.for_each(|key| copies.push(AMQPValue::LongString(key.into())));
    let mut headers = FieldTable::default();
    headers.insert("CC".into(), AMQPValue::FieldArray(copies));
    let to = Publish { exchange: exchange.into(), routing_key: routing_key.into(), ..Publish::default() };
    publish(1, to, AMQPProperties::default().with_headers(headers), b"")
}

/// Whether basic.get finds a message in a queue.
fn has_message(broker: &mut InMemory, connection: ConnectionId, queue: &str) -> bool {
    let mut answer = Vec::new();
    while let leveret_conformance::Arrived::Data = broker.receive(connection, Duration::ZERO, &mut answer) {}
    answer.clear();
    let get = Get { queue: queue.into(), no_ack: true };
    broker.send(connection, &method(1, AMQPClass::Basic(Basic::Get(get))));
    broker.receive(connection, Duration::ZERO, &mut answer);
    const GET_OK: [u8; 4] = [0, 60, 0, 71];
    answer.get(7..11) == Some(&GET_OK)
}

#[test]
fn thousands_of_keys_are_routed_in_several_turns() {
    let (mut broker, connection) = opened();
    let mut setup = [declare_queue("q"), declare_queue("last"), declare_exchange("t", "topic")].concat();
    // Each key of these words is at most of these patterns' nodes.
    for n in 0..1024u32 {
        let words: Vec<_> = (0..10).map(|bit| if n >> bit & 1 == 0 { "#.a" } else { "#.b" }).collect();
        setup.extend(bind("q", "t", &format!("{}.#", words.join("."))));
    }
    setup.extend(bind("last", "t", "the.last"));
    broker.send(connection, &setup);
    broker.take_longest_turn();

    let key = |n: usize| if n == 199 { "the.last".to_owned() } else { "a.b.".repeat(10) + &n.to_string() };
    let (_, all) = leveret::steps::of(|| {
        broker.send(connection, &with_copies("t", "none", (0..200).map(key)));
    });
    let longest = broker.take_longest_turn();
    assert!(all > 10 * TURN_MAX, "{all} steps are no load for this test");
    assert!(longest < TURN_MAX, "{longest} steps in one turn");
    for queue in ["q", "last"] {
        assert!(has_message(&mut broker, connection, queue), "{queue}");
        assert!(!has_message(&mut broker, connection, queue), "{queue} has got it twice");
    }
}

#[test]
fn keys_that_match_the_same_bindings_cost_little_each() {
    let (mut broker, connection) = opened();
    let mut setup =
        [declare_queue("q"), declare_exchange("t", "topic"), declare_exchange("h", "headers")].concat();
    for n in 0..2000 {
        setup.extend(bind("q", "t", &format!("{}x{n}.#", "#.*.".repeat(n % 20))));
        setup.extend(bind("q", "t", &format!("{}#", "#.".repeat(n % 20))));
        setup.extend(bind("q", "h", &n.to_string()));
    }
    broker.send(connection, &setup);
    for exchange in ["t", "h"] {
        let (_, steps) = leveret::steps::of(|| {
            broker.send(connection, &with_copies(exchange, "none", (0..8000).map(|n| n.to_string())));
        });
        assert!(steps < 8000 * 50, "{exchange}: {steps} steps");
        assert!(has_message(&mut broker, connection, "q"), "{exchange}");
    }
}

#[test]
fn what_is_given_back_one_by_one_in_any_order_costs_little_each() {
    const ALL: u64 = 12_000;
    let (mut broker, connection) = opened();
    let basic = |basic| method(1, AMQPClass::Basic(basic));
    let consume = Consume { queue: "q".into(), consumer_tag: "c".into(), nowait: true, ..Consume::default() };
    broker.send(connection, &[declare_queue("q"), basic(Basic::Consume(consume))].concat());
    let to = || Publish { routing_key: "q".into(), ..Publish::default() };
    let all: Vec<u8> = (0..ALL).flat_map(|_| publish(1, to(), AMQPProperties::default(), b"")).collect();
    broker.send(connection, &all);
    broker.send(connection, &basic(Basic::Cancel(Cancel { consumer_tag: "c".into(), nowait: true })));

    let nack = |n| Nack { delivery_tag: 1 + n * 7919 % ALL, requeue: true, multiple: false };
    let nacks: Vec<u8> = (0..ALL).flat_map(|n| basic(Basic::Nack(nack(n)))).collect();
    let (_, steps) = leveret::steps::of(|| broker.send(connection, &nacks));
    assert!(steps < 300 * ALL, "{steps} steps to give back {ALL}");
    assert!(has_message(&mut broker, connection, "q"));
}
