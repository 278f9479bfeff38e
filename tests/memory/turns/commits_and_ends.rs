//! Commits of very much, dead letters for very many queues, times to live that change for very many messages, and channels with very
//! many consumers.

use super::*;

fn tx(tx: tx::AMQPMethod) -> Vec<u8> {
    method(1, AMQPClass::Tx(tx))
}

fn close_channel() -> Vec<u8> {
    let close = channel::Close { reply_code: 200, ..channel::Close::default() };
    method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close)))
}

fn methods(answer: &[u8]) -> Vec<[u8; 4]> {
    cut(answer).filter(|(kind, _)| *kind == 1).map(|(_, ids)| ids).collect()
}

const COMMIT: tx::AMQPMethod = Commit(tx::Commit {});
const COMMIT_OK: [u8; 4] = [0, 90, 0, 21];
const CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

#[test]
fn a_commit_of_very_much_happens_in_several_turns_and_is_answered_after_the_last() {
    const ALL: usize = 20_000;
    let (mut broker, connection) = opened();
    broker.send(connection, &[declare_durable("kept"), declare_queue("other")].concat());
    hold_unacked(&mut broker, connection, ALL);
    broker.send(connection, &tx(Select(tx::Select {})));
    fill(&mut broker, connection, "", "kept", ALL);
    fill(&mut broker, connection, "", "other", ALL);
    let ack = Basic::Ack(Ack { delivery_tag: 0, multiple: true });
    broker.send(connection, &method(1, AMQPClass::Basic(ack)));
    assert_eq!((counts(&broker, "kept"), counts(&broker, "q")), ((0, 0), (0, ALL)));
    broker.take_received(connection, &mut Vec::new());
    let mut answer = Vec::new();
    in_several_turns(&mut broker, |broker| {
        // What comes behind a commit comes after it, whatever it is.
        broker.send(connection, &[tx(COMMIT), close_channel()].concat());
        broker.receive(connection, Duration::ZERO, &mut answer);
    });
    assert_eq!(methods(&answer), [COMMIT_OK, CLOSE_OK]);
    assert_eq!((counts(&broker, "kept"), counts(&broker, "other")), ((ALL, 0), (ALL, 0)));
    assert_eq!(counts(&broker, "q"), (0, 0));
    check_order(&broker, "kept", ALL);
    assert_eq!(broker.broker().memory().used_bytes(MemoryUse::Transactions), 0);
}

#[test]
fn a_commit_goes_on_when_its_connection_ends_in_the_middle_of_it() {
    const ALL: usize = 20_000;
    let (mut broker, connection) = opened();
    broker.send(connection, &[declare_durable("kept"), tx(Select(tx::Select {}))].concat());
    fill(&mut broker, connection, "", "kept", ALL);
    broker.put(connection, &tx(COMMIT));
    broker.step(connection);
    assert!(counts(&broker, "kept").0 < ALL, "one turn is no load for this test");
    in_several_turns(&mut broker, |broker| broker.close(connection));
    assert_eq!(counts(&broker, "kept"), (ALL, 0));
}

#[test]
fn a_commit_that_rejects_very_many_dead_letters_them_in_several_turns() {
    const ALL: usize = 4000;
    let (mut broker, connection) = opened();
    let arguments = [
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
    ];
    broker.send(connection, &[declare_with("q", &arguments), declare_queue("dead")].concat());
    let consume = Consume { queue: "q".into(), nowait: true, ..Consume::default() };
    broker.send(connection, &method(1, AMQPClass::Basic(Basic::Consume(consume))));
    fill(&mut broker, connection, "", "q", ALL);
    broker.advance(Duration::from_millis(200));
    broker.send(connection, &tx(Select(tx::Select {})));
    let nack = Basic::Nack(Nack { delivery_tag: 0, multiple: true, requeue: false });
    broker.send(connection, &method(1, AMQPClass::Basic(nack)));
    in_several_turns(&mut broker, |broker| broker.send(connection, &tx(COMMIT)));
    assert_eq!(counts(&broker, "q"), (0, 0));
    check_order(&broker, "dead", ALL);
}

#[test]
fn very_many_that_are_rejected_at_once_are_dead_lettered_in_several_turns() {
    const ALL: usize = 4000;
    let (mut broker, connection) = opened();
    let arguments = [
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
    ];
    broker.send(connection, &[declare_with("q", &arguments), declare_queue("dead")].concat());
    let consume = Consume { queue: "q".into(), nowait: true, ..Consume::default() };
    broker.send(connection, &method(1, AMQPClass::Basic(Basic::Consume(consume))));
    fill(&mut broker, connection, "", "q", ALL);
    broker.advance(Duration::from_millis(200));
    let nack = Basic::Nack(Nack { delivery_tag: 0, multiple: true, requeue: false });
    in_several_turns(&mut broker, |broker| {
        broker.send(connection, &method(1, AMQPClass::Basic(nack)));
    });
    check_order(&broker, "dead", ALL);
}

#[test]
fn a_dead_letter_for_thousands_of_queues_comes_to_all_of_them_in_several_turns() {
    const QUEUES: usize = 12_000;
    let (mut broker, connection) = opened();
    let arguments = [
        ("x-message-ttl", AMQPValue::LongInt(1000)),
        ("x-dead-letter-exchange", AMQPValue::LongString("f".into())),
    ];
    let mut setup = [declare_exchange("f", "fanout"), declare_with("dying", &arguments)].concat();
    for n in 0..QUEUES {
        setup.extend(declare_queue(&format!("q{n}")));
        setup.extend(bind(&format!("q{n}"), "f", ""));
    }
    broker.send(connection, &setup);
    fill(&mut broker, connection, "", "dying", 3);
    in_several_turns(&mut broker, |broker| broker.advance(Duration::from_millis(1000)));
    assert_eq!(counts(&broker, "dying"), (0, 0));
    let in_all = |broker: &InMemory| (0..QUEUES).all(|n| counts(broker, &format!("q{n}")).0 == 3);
    assert!(in_all(&broker), "a queue lacks a dead letter");
}

#[test]
fn very_many_messages_are_given_another_time_to_live_in_several_turns() {
    const ALL: usize = 100_000;
    let (mut broker, connection) = opened();
    broker.send(connection, &declare_queue("q"));
    fill(&mut broker, connection, "", "q", ALL);
    broker.advance(Duration::from_millis(200));
    for (ttl_ms, policy) in [(500_000, "long"), (100_000, "short")] {
        in_several_turns(&mut broker, |broker| {
            let priority = if policy == "short" { 1 } else { 0 };
            let body = format!(
                r#"{{"pattern": "^q$", "priority": {priority}, "definition": {{"message-ttl": {ttl_ms}}}}}"#
            );
            broker.manage("PUT", &format!("/api/policies/%2F/{policy}"), &body).unwrap();
        });
        assert_eq!(counts(&broker, "q"), (ALL, 0));
    }
    in_several_turns(&mut broker, |broker| broker.advance(Duration::from_secs(101)));
    assert_eq!(counts(&broker, "q"), (0, 0));
}

#[test]
fn a_channel_or_connection_with_very_many_consumers_ends_in_several_turns() {
    const CONSUMERS: usize = 5000;
    let ack = Basic::Ack(Ack { delivery_tag: 99_999, multiple: false });
    for said in [Some(close_channel()), Some(method(1, AMQPClass::Basic(ack))), None] {
        let (mut broker, connection) = opened();
        broker.send(connection, &declare_queue("q"));
        let consume = Consume { queue: "q".into(), nowait: true, ..Consume::default() };
        let consume = method(1, AMQPClass::Basic(Basic::Consume(consume)));
        broker.send(connection, &consume.repeat(CONSUMERS));
        fill(&mut broker, connection, "", "q", 2 * CONSUMERS);
        assert_eq!(counts(&broker, "q"), (0, 2 * CONSUMERS));
        in_several_turns(&mut broker, |broker| match &said {
            Some(said) => broker.send(connection, said),
            None => broker.close(connection),
        });
        assert_eq!(counts(&broker, "q"), (2 * CONSUMERS, 0));
        let queue = broker.broker().vhost("/").unwrap().queue("q").unwrap();
        assert_eq!(queue.counts().consumers, 0);
        check_order(&broker, "q", 2 * CONSUMERS);
    }
}

#[test]
fn dead_letters_keep_their_order_where_the_timer_brings_some_of_them() {
    const QUEUES: usize = 20;
    const LETTERS: usize = 2000;
    let (mut broker, connection) = opened();
    let arguments = [
        ("x-message-ttl", AMQPValue::LongInt(1000)),
        ("x-dead-letter-exchange", AMQPValue::LongString("f".into())),
    ];
    let mut setup = [declare_exchange("f", "fanout"), declare_with("dying", &arguments)].concat();
    for n in 0..QUEUES {
        setup.extend(declare_queue(&format!("q{n}")));
        setup.extend(bind(&format!("q{n}"), "f", ""));
    }
    broker.send(connection, &setup);
    let bodies = |count: usize| -> Vec<u8> {
        let to = || Publish { routing_key: "dying".into(), ..Publish::default() };
        (0..count).flat_map(|n| publish(1, to(), AMQPProperties::default(), &n.to_be_bytes())).collect()
    };
    broker.send(connection, &bodies(LETTERS));
    in_several_turns(&mut broker, |broker| broker.advance(Duration::from_millis(1000)));
    // While very many wait the queue pauses for moments.
    broker.advance(Duration::from_millis(1000));
    assert_eq!(counts(&broker, "dying"), (0, 0));
    let vhost = broker.broker().vhost("/").unwrap();
    for n in 0..QUEUES {
        let queue = vhost.queue(&format!("q{n}")).unwrap();
        let seen = vhost.browse(&queue, None, usize::MAX, usize::MAX).unwrap();
        let numbers = seen.iter().map(|seen| seen.message.body().to_vec());
        assert!(numbers.eq((0..LETTERS).map(|n| n.to_be_bytes().to_vec())), "q{n} has them in another order");
    }
}
