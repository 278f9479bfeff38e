//! What a session does in one turn is bounded, whatever its client asks for: others of its event loop wait as long.

use amq_protocol::protocol::basic::{
    AMQPMethod as Basic, AMQPProperties, Ack, Cancel, Consume, Get, Nack, Publish, Recover,
};
use amq_protocol::protocol::queue::{AMQPMethod as Queue, Bind, Declare, Purge};
use amq_protocol::protocol::tx::AMQPMethod::{Commit, Rollback, Select};
use amq_protocol::protocol::{AMQPClass, channel, confirm, exchange, tx};
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};
use leveret::broker::memory::MemoryUse;
use leveret_conformance::{ConnectionId, Transport};
use leveret_test_support::frames::{channel_open, handshake, method, publish};
use leveret_test_support::in_memory::InMemory;
use std::time::Duration;

mod commits_and_ends;

/// Steps of a turn, each of some ten nanoseconds: some milliseconds.
const TURN_MAX: u64 = 150_000;

/// A broker and a connection to it, with channel 1.
fn opened() -> (InMemory, ConnectionId) {
    let mut broker = InMemory::new();
    let connection = broker.open().unwrap();
    broker.send(connection, &handshake());
    broker.send(connection, &channel_open(1));
    broker.take_longest_turn();
    broker.take_received(connection, &mut Vec::new());
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

/// How many messages wait in a queue for a consumer, and for an acknowledgement.
fn counts(broker: &InMemory, queue: &str) -> (usize, usize) {
    let queue = broker.broker().vhost("/").unwrap().queue(queue).unwrap();
    let counts = queue.counts();
    (counts.ready, counts.unacked)
}

/// Checks that a queue has so many messages, in the order in which they came.
fn check_order(broker: &InMemory, queue: &str, count: usize) {
    let vhost = broker.broker().vhost("/").unwrap();
    let seen = vhost.browse(&vhost.queue(queue).unwrap(), None, usize::MAX, usize::MAX).unwrap();
    assert_eq!(seen.len(), count);
    assert!(seen.is_sorted_by_key(|seen| seen.position));
}

fn fill(broker: &mut InMemory, connection: ConnectionId, exchange: &str, key: &str, count: usize) {
    let to = || Publish { exchange: exchange.into(), routing_key: key.into(), ..Publish::default() };
    let all: Vec<u8> =
        (0..count).flat_map(|_| publish(1, to(), AMQPProperties::default(), b"body")).collect();
    broker.send(connection, &all);
}

fn declare_with(name: &str, arguments: &[(&str, AMQPValue)]) -> Vec<u8> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let declare = Declare { queue: name.into(), nowait: true, arguments: table, ..Declare::default() };
    method(1, AMQPClass::Queue(Queue::Declare(declare)))
}

/// Does something, and checks that no turn of a session or of the timer took long for it, and all of them together did.
fn in_several_turns<T>(broker: &mut InMemory, act: impl FnOnce(&mut InMemory) -> T) -> T {
    broker.take_longest_turn();
    let (result, all) = leveret::steps::of(|| act(broker));
    let longest = broker.take_longest_turn();
    assert!(all > 2 * TURN_MAX, "{all} steps are no load for this test");
    assert!(longest < TURN_MAX, "{longest} steps in one turn");
    result
}

#[test]
fn a_purge_of_very_many_counts_them_and_lets_them_go_in_several_turns() {
    let (mut broker, connection) = opened();
    broker.send(connection, &declare_queue("q"));
    fill(&mut broker, connection, "", "q", 40_000);
    let mut answer = Vec::new();
    in_several_turns(&mut broker, |broker| {
        let purge = Purge { queue: "q".into(), nowait: false };
        broker.send(connection, &method(1, AMQPClass::Queue(Queue::Purge(purge))));
        broker.receive(connection, Duration::ZERO, &mut answer);
    });
    const PURGE_OK: [u8; 4] = [0, 50, 0, 31];
    assert_eq!(answer.get(7..11), Some(&PURGE_OK[..]));
    assert_eq!(answer.get(11..15), Some(&40_000u32.to_be_bytes()[..]));
    assert_eq!(counts(&broker, "q"), (0, 0));
    assert_eq!(broker.broker().memory().used_bytes(MemoryUse::Ready), 0);
}

#[test]
fn what_expires_at_once_dies_in_several_turns_and_in_order() {
    let (mut broker, connection) = opened();
    let arguments = [
        ("x-message-ttl", AMQPValue::LongInt(1000)),
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
    ];
    broker.send(connection, &[declare_with("q", &arguments), declare_queue("dead")].concat());
    fill(&mut broker, connection, "", "q", 4000);
    in_several_turns(&mut broker, |broker| broker.advance(Duration::from_millis(1000)));
    assert_eq!(counts(&broker, "q"), (0, 0));
    check_order(&broker, "dead", 4000);
}

#[test]
fn whoever_gets_a_message_waits_for_those_that_have_died_before_it() {
    let (mut broker, connection) = opened();
    let arguments = [("x-dead-letter-exchange", AMQPValue::LongString("nowhere".into()))];
    broker.send(connection, &declare_with("q", &arguments));
    let to = || Publish { routing_key: "q".into(), ..Publish::default() };
    let short = || AMQPProperties::default().with_expiration("0".into());
    // All that is said at once happens at the same instant, before the timer looks at the queue.
    let mut all: Vec<u8> = (0..4000).flat_map(|_| publish(1, to(), short(), b"dead")).collect();
    all.extend(publish(1, to(), AMQPProperties::default(), b"alive"));
    let get = || method(1, AMQPClass::Basic(Basic::Get(Get { queue: "q".into(), no_ack: true })));
    all.extend(get());
    let mut answer = Vec::new();
    in_several_turns(&mut broker, |broker| {
        broker.send(connection, &all);
        broker.receive(connection, Duration::ZERO, &mut answer);
    });
    assert!(answer.windows(5).any(|window| window == b"alive"), "{answer:?}");
    assert_eq!(counts(&broker, "q"), (0, 0));
}

#[test]
fn a_policy_that_makes_a_queue_much_shorter_drops_the_oldest_in_several_turns() {
    let (mut broker, connection) = opened();
    broker.send(connection, &declare_queue("q"));
    fill(&mut broker, connection, "", "q", 40_000);
    in_several_turns(&mut broker, |broker| {
        let policy = r#"{"pattern": "^q$", "definition": {"max-length": 10}}"#;
        broker.manage("PUT", "/api/policies/%2F/short", policy).unwrap();
    });
    let vhost = broker.broker().vhost("/").unwrap();
    let left = vhost.browse(&vhost.queue("q").unwrap(), None, 100, usize::MAX).unwrap();
    let positions: Vec<u64> = left.iter().map(|seen| seen.position.0).collect();
    assert_eq!(positions, (39_991..=40_000).collect::<Vec<_>>());
}

/// Has channel 1 hold so many deliveries of a queue, which gives it no more.
fn hold_unacked(broker: &mut InMemory, connection: ConnectionId, count: usize) {
    broker.send(connection, &declare_queue("q"));
    let consume = Consume { queue: "q".into(), consumer_tag: "c".into(), nowait: true, ..Consume::default() };
    broker.send(connection, &method(1, AMQPClass::Basic(Basic::Consume(consume))));
    fill(broker, connection, "", "q", count);
    // Publishers that are too fast are held back for moments.
    broker.advance(Duration::from_millis(200));
    let cancel = Cancel { consumer_tag: "c".into(), nowait: true };
    broker.send(connection, &method(1, AMQPClass::Basic(Basic::Cancel(cancel))));
    assert_eq!(counts(broker, "q"), (0, count));
}

#[test]
fn very_many_deliveries_are_judged_at_once_in_several_turns() {
    const ALL: usize = 20_000;
    let recover = Basic::Recover(Recover { requeue: true });
    let nack = Basic::Nack(Nack { delivery_tag: 0, multiple: true, requeue: true });
    let most = Basic::Nack(Nack { delivery_tag: 15_000, multiple: true, requeue: true });
    let ack = Basic::Ack(Ack { delivery_tag: 15_000, multiple: true });
    for (said, back, left) in [(recover, ALL, 0), (nack, ALL, 0), (most, 15_000, 5000), (ack, 0, 5000)] {
        let (mut broker, connection) = opened();
        hold_unacked(&mut broker, connection, ALL);
        in_several_turns(&mut broker, |broker| {
            broker.send(connection, &method(1, AMQPClass::Basic(said)));
        });
        assert_eq!(counts(&broker, "q"), (back, left));
        check_order(&broker, "q", back);
    }
}

#[test]
fn a_channel_or_connection_that_ends_gives_very_many_back_in_several_turns() {
    const ALL: usize = 20_000;
    let close = channel::Close { reply_code: 200, ..channel::Close::default() };
    let close = method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
    // An unknown delivery tag ends the channel too.
    let ack = Basic::Ack(Ack { delivery_tag: 99_999, multiple: false });
    for said in [Some(close), Some(method(1, AMQPClass::Basic(ack))), None] {
        let (mut broker, connection) = opened();
        hold_unacked(&mut broker, connection, ALL);
        in_several_turns(&mut broker, |broker| match &said {
            Some(said) => broker.send(connection, said),
            None => broker.close(connection),
        });
        assert_eq!(counts(&broker, "q"), (ALL, 0));
        check_order(&broker, "q", ALL);
    }
}

#[test]
fn what_was_acknowledged_before_the_end_does_not_come_back() {
    const ALL: usize = 20_000;
    let (mut broker, connection) = opened();
    hold_unacked(&mut broker, connection, ALL);
    let ack = Basic::Ack(Ack { delivery_tag: 15_000, multiple: true });
    broker.put(connection, &method(1, AMQPClass::Basic(ack)));
    broker.step(connection);
    broker.close(connection);
    assert_eq!(counts(&broker, "q"), (5000, 0));
    check_order(&broker, "q", 5000);
}

#[test]
fn a_message_for_thousands_of_queues_is_in_all_of_them_before_its_confirm() {
    const QUEUES: usize = 12_000;
    let (mut broker, connection) = opened();
    let mut setup = declare_exchange("f", "fanout");
    for n in 0..QUEUES {
        setup.extend(declare_queue(&format!("q{n}")));
        setup.extend(bind(&format!("q{n}"), "f", ""));
    }
    setup
        .extend(method(1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: true }))));
    broker.send(connection, &setup);
    for round in 1..=2 {
        let to = Publish { exchange: "f".into(), ..Publish::default() };
        let message = publish(1, to, AMQPProperties::default(), b"");
        broker.put(connection, &message);
        broker.put(connection, &message);
        let mut turns = 0;
        let mut answer = Vec::new();
        while answer.is_empty() {
            let (_, steps) = leveret::steps::of(|| broker.step(connection));
            assert!(steps < TURN_MAX, "{steps} steps in one turn");
            broker.take_received(connection, &mut answer);
            turns += 1;
        }
        assert!(turns > 4, "{turns} turns are no load for this test");
        broker.receive(connection, Duration::ZERO, &mut answer);
        let in_all = |broker: &InMemory| (0..QUEUES).all(|n| counts(broker, &format!("q{n}")).0 == 2 * round);
        assert!(in_all(&broker), "a queue lacks a message that is confirmed");
    }
}

#[test]
fn exclusive_queues_go_with_their_connection_in_several_turns() {
    let (mut broker, connection) = opened();
    let declare = |n: u32| {
        let queue = format!("q{n}").as_str().into();
        let declare = Declare { queue, exclusive: true, nowait: true, ..Declare::default() };
        method(1, AMQPClass::Queue(Queue::Declare(declare)))
    };
    broker.send(connection, &(0..1000).flat_map(declare).collect::<Vec<u8>>());
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 1000);
    in_several_turns(&mut broker, |broker| broker.close(connection));
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 0);
}

#[test]
fn auto_delete_queues_go_with_their_consumers_in_several_turns() {
    let (mut broker, connection) = opened();
    let declare = |n: u32| {
        let queue: String = format!("q{n}");
        let (queue, auto_delete) = (queue.as_str().into(), true);
        let declare = Declare { queue, auto_delete, nowait: true, ..Declare::default() };
        let consume = Consume { queue: declare.queue.clone(), nowait: true, ..Consume::default() };
        let consume = method(1, AMQPClass::Basic(Basic::Consume(consume)));
        [method(1, AMQPClass::Queue(Queue::Declare(declare))), consume].concat()
    };
    broker.send(connection, &(0..1000).flat_map(declare).collect::<Vec<u8>>());
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 1000);
    in_several_turns(&mut broker, |broker| broker.close(connection));
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 0);
}

#[test]
fn subscriptions_over_stomp_end_with_their_connection_in_several_turns() {
    let mut broker = InMemory::new();
    broker.speak_stomp(leveret::stomp::StompSettings::default());
    let connection = broker.open().unwrap();
    broker.send(connection, b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0");
    let subscribe =
        |n: u32| format!("SUBSCRIBE\nid:{n}\nack:client\ndestination:/queue/q{n}\nauto-delete:true\n\n\0");
    broker.send(connection, (0..1000).map(subscribe).collect::<String>().as_bytes());
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 1000);
    in_several_turns(&mut broker, |broker| broker.close(connection));
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 0);
}

#[test]
fn glob_patterns_are_compiled_in_several_turns() {
    let (mut broker, connection) = opened();
    let mut setup = [declare_queue("q"), declare_queue("last"), declare_exchange("g", "x-glob")].concat();
    for n in 0..300 {
        setup.extend(bind("q", "g", &format!("a{n}.*")));
    }
    setup.extend(bind("last", "g", "the.l*"));
    broker.send(connection, &setup);
    in_several_turns(&mut broker, |broker| fill(broker, connection, "g", "the.last", 2));
    assert_eq!((counts(&broker, "q"), counts(&broker, "last")), ((0, 0), (2, 0)));
}

#[test]
fn replies_keep_their_order_behind_a_commit() {
    let (mut broker, connection) = opened();
    let tx = |tx| method(1, AMQPClass::Tx(tx));
    broker.send(connection, &[declare_durable("q"), tx(Select(tx::Select {}))].concat());
    let mut answer = Vec::new();
    while let leveret_conformance::Arrived::Data = broker.receive(connection, Duration::ZERO, &mut answer) {}
    answer.clear();
    let to = Publish { routing_key: "q".into(), ..Publish::default() };
    let persistent = AMQPProperties::default().with_delivery_mode(2);
    let declare = |name: &str, durable| {
        let declare = Declare { queue: name.into(), durable, ..Declare::default() };
        method(1, AMQPClass::Queue(Queue::Declare(declare)))
    };
    let get = Basic::Get(Get { queue: "q".into(), no_ack: true });
    let said = [
        publish(1, to, persistent, b"committed"),
        tx(Commit(tx::Commit {})),
        method(1, AMQPClass::Basic(get)),
        declare("q", true),
        declare("new", true),
        tx(Rollback(tx::Rollback {})),
    ];
    broker.send(connection, &said.concat());
    broker.receive(connection, Duration::ZERO, &mut answer);
    let methods: Vec<[u8; 4]> = cut(&answer).filter(|(kind, _)| *kind == 1).map(|(_, ids)| ids).collect();
    const COMMIT_OK: [u8; 4] = [0, 90, 0, 21];
    const GET_OK: [u8; 4] = [0, 60, 0, 71];
    const DECLARE_OK: [u8; 4] = [0, 50, 0, 11];
    const ROLLBACK_OK: [u8; 4] = [0, 90, 0, 31];
    assert_eq!(methods, [COMMIT_OK, GET_OK, DECLARE_OK, DECLARE_OK, ROLLBACK_OK]);
}

fn declare_durable(name: &str) -> Vec<u8> {
    let declare = Declare { queue: name.into(), durable: true, nowait: true, ..Declare::default() };
    method(1, AMQPClass::Queue(Queue::Declare(declare)))
}

/// The frames in some bytes: the kind of each, and the first four bytes of what it holds.
fn cut(mut bytes: &[u8]) -> impl Iterator<Item = (u8, [u8; 4])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(7)?;
        let length = u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
        let mut first = [0; 4];
        first[..length.min(4)].copy_from_slice(&rest[..length.min(4)]);
        bytes = &rest[length + 1..];
        Some((head[0], first))
    })
}
