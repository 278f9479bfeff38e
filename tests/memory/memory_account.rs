//! What is kept in memory, on a broker in memory with a fake clock: what leaves it, and what still happens to that.

use leveret::broker::BrokerLimits;
use leveret::broker::memory::MemoryUse;
use leveret::broker::queue::QueueCounts;
use leveret::clock::TestClock;
use leveret::store::{FaultyStore, JournalOptions, Store};
use leveret_conformance::Transport;
use leveret_conformance::method::Wire;
use leveret_test_support::amqp_client::{Client, bit, integer, method, number, string, table, text};
use leveret_test_support::in_memory::InMemory;
use std::time::Duration;

/// A broker that pages out all it can.
fn open(store: &FaultyStore, clock: &TestClock) -> InMemory {
    let limits = BrokerLimits { memory_budget_bytes: 1, page_bytes: 4 << 10, ..BrokerLimits::default() };
    let store: Box<dyn Store> = Box::new(store.clone());
    let (broker, losses) = InMemory::open(store, JournalOptions::default(), limits, clock.clone()).unwrap();
    assert_eq!(losses, []);
    broker
}

fn counts(broker: &InMemory, queue: &str) -> QueueCounts {
    broker.broker().vhost("/").unwrap().queue(queue).unwrap().counts()
}

fn declare(client: &mut Client, broker: &mut InMemory, queue: &str, arguments: Wire) {
    let declare = method(
        "queue.declare",
        &[("queue", text(queue)), ("durable", Wire::Bit(true)), ("arguments", arguments)],
    );
    client.call(broker, 1, &declare).unwrap();
}

fn connect(broker: &mut InMemory) -> Client {
    let mut client = Client::connect(broker).unwrap();
    client.open_channel(broker, 1).unwrap();
    client
}

#[test]
fn what_carries_an_expiration_and_has_left_memory_dies_in_time() {
    const MESSAGES: usize = 5000;
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    for restarts in [false, true] {
        let mut broker = open(&store, &clock);
        let mut client = connect(&mut broker);
        declare(&mut client, &mut broker, "q", table(&[]));
        let properties = [("delivery_mode", Wire::Int(2)), ("expiration", text("1000"))];
        let mut bytes = Vec::new();
        (0..MESSAGES).for_each(|_| client.put_publish(&mut bytes, 1, ("", "q"), &properties, b"short-lived"));
        client.send_bytes(&mut broker, &bytes);
        broker.broker().journal().commit().unwrap();
        assert_eq!(counts(&broker, "q").ready, MESSAGES);
        if restarts {
            drop(broker);
            broker = open(&store, &clock);
            assert_eq!(counts(&broker, "q").ready, MESSAGES);
        }
        let resident = broker.broker().memory().used_bytes(MemoryUse::Ready);
        assert!(resident < 1500 * 250, "{resident} bytes are in memory");
        broker.advance(Duration::from_millis(999));
        assert_eq!(counts(&broker, "q").ready, MESSAGES);
        broker.advance(Duration::from_millis(1));
        assert_eq!(counts(&broker, "q").ready, 0, "after a restart: {restarts}");
    }
}

/// Puts messages into a queue, persistent ones and others in turn if `mixed`.
fn publish(client: &mut Client, broker: &mut InMemory, numbers: std::ops::Range<usize>, mixed: bool) {
    let mut bytes = Vec::new();
    for number in numbers {
        let mode = if mixed && number % 3 == 0 { 1 } else { 2 };
        let properties = [("delivery_mode", Wire::Int(mode))];
        client.put_publish(&mut bytes, 1, ("", "q"), &properties, &body(number));
    }
    client.send_bytes(broker, &bytes);
    broker.broker().journal().commit().unwrap();
}

const BODY_BYTES: usize = 1000;

fn body(number: usize) -> Vec<u8> {
    format!("{number:0BODY_BYTES$}").into_bytes()
}

/// What was delivered: the tag, the number in the body, and whether it was redelivered. The journal is written meanwhile.
fn delivered(client: &mut Client, broker: &mut InMemory) -> Vec<(u64, usize, bool)> {
    let mut came = Vec::new();
    loop {
        let more = client.take(broker).unwrap();
        if more.is_empty() {
            break;
        }
        came.extend(more);
        broker.broker().journal().commit().unwrap();
        broker.advance(Duration::from_millis(1));
    }
    let deliveries = came.into_iter().filter(|(_, method, _)| method.spec.name == "basic.deliver");
    let shown = |(_, method, content): (_, _, Option<leveret_conformance::frame::Content>)| {
        let body = String::from_utf8(content.unwrap().body).unwrap();
        (number(&method, "delivery_tag"), body.parse().unwrap(), bit(&method, "redelivered"))
    };
    deliveries.map(shown).collect()
}

fn consume(client: &mut Client, broker: &mut InMemory, queue: &str) {
    client.call(broker, 1, &method("basic.consume", &[("queue", text(queue))])).unwrap();
}

fn nack(client: &mut Client, broker: &mut InMemory, tag: u64, multiple: bool, requeue: bool) {
    let arguments = [
        ("delivery_tag", Wire::Int(tag)),
        ("multiple", Wire::Bit(multiple)),
        ("requeue", Wire::Bit(requeue)),
    ];
    client.send(broker, 1, &method("basic.nack", &arguments));
}

fn ack(client: &mut Client, broker: &mut InMemory, tag: u64, multiple: bool) {
    let arguments = [("delivery_tag", Wire::Int(tag)), ("multiple", Wire::Bit(multiple))];
    client.send(broker, 1, &method("basic.ack", &arguments));
}

fn persistent(broker: &InMemory) -> u64 {
    let vhost = broker.broker().vhost("/").unwrap();
    vhost.queue("q").unwrap().state().persistent.messages
}

fn unacked_bytes(broker: &InMemory) -> u64 {
    broker.broker().memory().used_bytes(MemoryUse::Unacked)
}

#[test]
fn what_a_consumer_does_not_acknowledge_leaves_memory_and_comes_back_in_order() {
    const MESSAGES: usize = 3000;
    for mixed in [false, true] {
        let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
        let mut broker = open(&store, &clock);
        let mut client = connect(&mut broker);
        declare(&mut client, &mut broker, "q", table(&[]));
        publish(&mut client, &mut broker, 0..MESSAGES, mixed);
        let mut greedy = connect(&mut broker);
        consume(&mut greedy, &mut broker, "q");
        let got = delivered(&mut greedy, &mut broker);
        assert!(got.iter().copied().eq((0..MESSAGES).map(|n| (n as u64 + 1, n, false))));
        assert_eq!((counts(&broker, "q").unacked, unacked_bytes(&broker)), (MESSAGES, 0));
        assert_eq!(persistent(&broker), (MESSAGES - if mixed { MESSAGES / 3 } else { 0 }) as u64);
        // Some are acknowledged: one, some in the middle, and all up to one.
        ack(&mut greedy, &mut broker, 2000, false);
        (1500..1600).for_each(|tag| ack(&mut greedy, &mut broker, tag, false));
        ack(&mut greedy, &mut broker, 10, true);
        assert_eq!(counts(&broker, "q").unacked, MESSAGES - 111);
        // One goes back by itself, the others when the connection ends.
        nack(&mut greedy, &mut broker, 1200, false, true);
        let again = delivered(&mut greedy, &mut broker);
        assert_eq!(again, [(MESSAGES as u64 + 1, 1199, true)]);
        greedy.hang_up(&mut broker);
        assert_eq!((counts(&broker, "q").ready, counts(&broker, "q").unacked), (MESSAGES - 111, 0));
        let mut other = connect(&mut broker);
        consume(&mut other, &mut broker, "q");
        let left = (10..MESSAGES).filter(|n| *n != 1999 && !(1499..1599).contains(n));
        let got = delivered(&mut other, &mut broker);
        assert!(got.iter().map(|(_, n, redelivered)| (*n, *redelivered)).eq(left.clone().map(|n| (n, true))));
        ack(&mut other, &mut broker, 0, true);
        assert_eq!((counts(&broker, "q").unacked, broker.broker().memory().total_bytes()), (0, 0));
        assert_eq!(persistent(&broker), 0);
    }
}

#[test]
fn what_is_refused_for_good_and_has_left_memory_is_dead_lettered_in_order() {
    const MESSAGES: usize = 1000;
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let mut broker = open(&store, &clock);
    let mut client = connect(&mut broker);
    declare(&mut client, &mut broker, "dead", table(&[]));
    let letters = [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string("dead"))];
    declare(&mut client, &mut broker, "q", table(&letters));
    publish(&mut client, &mut broker, 0..MESSAGES, true);
    consume(&mut client, &mut broker, "q");
    assert_eq!(delivered(&mut client, &mut broker).len(), MESSAGES);
    // In a transaction all at once.
    client.call(&mut broker, 1, &method("tx.select", &[])).unwrap();
    (1..=100).for_each(|tag| nack(&mut client, &mut broker, tag, false, false));
    assert_eq!(counts(&broker, "dead").ready, 0);
    client.send(&mut broker, 1, &method("tx.commit", &[]));
    assert_eq!((counts(&broker, "dead").ready, counts(&broker, "q").unacked), (100, MESSAGES - 100));
    broker.broker().journal().commit().unwrap();
    // Without one a page at a time.
    client.open_channel(&mut broker, 2).unwrap();
    client.call(&mut broker, 1, &method("channel.close", &[])).unwrap();
    client.open_channel(&mut broker, 1).unwrap();
    consume(&mut client, &mut broker, "q");
    assert_eq!(delivered(&mut client, &mut broker).len(), MESSAGES - 100);
    nack(&mut client, &mut broker, 0, true, false);
    let at_once = counts(&broker, "dead").ready;
    assert!((101..300).contains(&at_once), "{at_once} went at once");
    broker.advance(Duration::from_secs(1));
    assert_eq!((counts(&broker, "dead").ready, counts(&broker, "q").unacked), (MESSAGES, 0));
    let mut reader = connect(&mut broker);
    consume(&mut reader, &mut broker, "dead");
    let got: Vec<usize> = delivered(&mut reader, &mut broker).iter().map(|(_, number, _)| *number).collect();
    assert_eq!(got, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(unacked_bytes(&broker), 0);
}

#[test]
fn everything_that_is_kept_is_counted_and_given_back() {
    let mut broker = InMemory::new();
    let mut client = connect(&mut broker);
    let used = |broker: &InMemory, kind: MemoryUse| broker.broker().memory().used_bytes(kind);
    let idle = used(&broker, MemoryUse::Arguments);
    let long = "v".repeat(1000);
    let arguments = table(&[("a", string(&long))]);
    declare(&mut client, &mut broker, "q", arguments.clone());
    let bind = [("queue", text("q")), ("exchange", text("amq.headers")), ("arguments", arguments.clone())];
    client.call(&mut broker, 1, &method("queue.bind", &bind)).unwrap();
    let consume = [("queue", text("q")), ("consumer_tag", text("c")), ("arguments", arguments)];
    client.call(&mut broker, 1, &method("basic.consume", &consume)).unwrap();
    let counted = used(&broker, MemoryUse::Arguments) - idle;
    assert!((3000..3100).contains(&counted), "{counted} bytes of arguments");
    client.call(&mut broker, 1, &method("basic.cancel", &[("consumer_tag", text("c"))])).unwrap();
    client.call(&mut broker, 1, &method("queue.delete", &[("queue", text("q"))])).unwrap();
    assert_eq!(used(&broker, MemoryUse::Arguments), idle);

    declare(&mut client, &mut broker, "q", table(&[]));
    client.call(&mut broker, 1, &method("tx.select", &[])).unwrap();
    let mut bytes = Vec::new();
    client.put_publish(&mut bytes, 1, ("", "q"), &[], &[b'b'; 5000]);
    client.send_bytes(&mut broker, &bytes);
    assert!((5000..5100).contains(&used(&broker, MemoryUse::Transactions)));
    client.call(&mut broker, 1, &method("tx.commit", &[])).unwrap();
    assert_eq!(used(&broker, MemoryUse::Transactions), 0);
    assert!((5000..5500).contains(&used(&broker, MemoryUse::Ready)));
    client.call(&mut broker, 1, &method("basic.get", &[("queue", text("q"))])).ok();
    assert!((5000..5500).contains(&used(&broker, MemoryUse::Unacked)));
    client.hang_up(&mut broker);
    assert_eq!(used(&broker, MemoryUse::Unacked), 0);
}

#[test]
fn a_table_that_is_too_large_is_refused_with_what_allows_more() {
    let mut broker = InMemory::new();
    let fields: Vec<(String, _)> = (0..1025).map(|n| (format!("f{n}"), integer(n))).collect();
    let fields: Vec<_> = fields.iter().map(|(name, field)| (name.as_str(), field.clone())).collect();
    let (many, long) = (table(&fields), table(&[("f", string(&"v".repeat(65_536)))]));
    let few = "have 1025 fields, where limits.field_table_fields_max allows 1024";
    let short = "have 65543 bytes, where limits.field_table_bytes_max allows 65536";
    let mut client = connect(&mut broker);
    declare(&mut client, &mut broker, "q", table(&fields[1..]));
    for (name, given, refusal) in [
        ("queue.declare", vec![("queue", text("r")), ("arguments", many.clone())], few),
        ("queue.declare", vec![("queue", text("r")), ("arguments", long.clone())], short),
        (
            "exchange.declare",
            vec![("exchange", text("x")), ("type", text("direct")), ("arguments", many.clone())],
            few,
        ),
        (
            "queue.bind",
            vec![("queue", text("q")), ("exchange", text("amq.direct")), ("arguments", many.clone())],
            few,
        ),
        ("basic.consume", vec![("queue", text("q")), ("arguments", many)], few),
    ] {
        let mut client = connect(&mut broker);
        // The client panics with what closes its channel.
        let call = std::panic::AssertUnwindSafe(|| client.call(&mut broker, 1, &method(name, &given)));
        let refused = std::panic::catch_unwind(call).unwrap_err();
        let text = refused.downcast_ref::<String>().unwrap();
        assert!(text.contains("406 PRECONDITION_FAILED") && text.contains(refusal), "{name}: {text}");
    }
}

#[test]
fn what_has_come_of_a_message_counts_until_it_is_whole_or_its_connection_ends() {
    let mut broker = open(&FaultyStore::default(), &TestClock::at(1_700_000_000_000));
    let arriving = |broker: &InMemory| broker.broker().memory().used_bytes(MemoryUse::Arriving);
    for ends_whole in [true, false] {
        let mut client = connect(&mut broker);
        declare(&mut client, &mut broker, "q", table(&[]));
        let mut bytes = Vec::new();
        client.put_publish(&mut bytes, 1, ("", "q"), &[], &[b'x'; 300_000]);
        for (piece, about) in
            [(&bytes[..1000], 0), (&bytes[1000..50_000], 49_000), (&bytes[50_000..200_000], 199_000)]
        {
            client.send_bytes(&mut broker, piece);
            let counted = arriving(&broker);
            assert!(counted.abs_diff(about) < 2000, "{counted} bytes where about {about} have come");
        }
        if ends_whole {
            client.send_bytes(&mut broker, &bytes[200_000..]);
            assert_eq!(counts(&broker, "q").ready, 1);
        } else {
            client.hang_up(&mut broker);
        }
        assert_eq!(arriving(&broker), 0, "whole: {ends_whole}");
    }
    assert_eq!(broker.broker().memory().used_bytes(MemoryUse::TransmitBuffers), 0);
}
