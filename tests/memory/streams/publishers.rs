//! Publishers with names: what they send again is there once, also after a loss of power, and earlier epochs are refused.

use super::{commit, offsets, prefetch, start, with_stream};
use leveret::broker::Turn;
use leveret::broker::sequencing::StreamPublished;
use leveret::clock::TestClock;
use leveret::message::{Message, Properties, Value};
use leveret::store::FaultyStore;
use leveret_conformance::Transport;
use leveret_conformance::field::Field;
use leveret_conformance::method::Wire;
use leveret_test_support::amqp_client::{Client, Gone, integer, method, string, table, text};
use leveret_test_support::durability::Random;
use leveret_test_support::in_memory::InMemory;
use std::collections::BTreeSet;
use std::time::Duration;

fn store_and_clock() -> (FaultyStore, TestClock) {
    (FaultyStore::default(), TestClock::at(1_700_000_000_000))
}

fn headers(name: &str, id: i128, epoch: Option<i128>) -> Vec<(&'static str, Wire)> {
    let mut headers =
        vec![("x-stream-publisher-name", string(name)), ("x-stream-publishing-id", integer(id))];
    headers.extend(epoch.map(|epoch| ("x-stream-publisher-epoch", integer(epoch))));
    vec![("headers", table(&headers)), ("delivery_mode", Wire::Int(2))]
}

/// Publishes ids under a name, all in one turn, to the exchange and key.
fn send(
    broker: &mut InMemory,
    client: &mut Client,
    to: (&str, &str),
    name: &str,
    ids: &[i128],
    epoch: Option<i128>,
) {
    let mut bytes = Vec::new();
    for id in ids {
        client.put_publish(&mut bytes, 1, to, &headers(name, *id, epoch), format!("{id}").as_bytes());
    }
    client.send_bytes(broker, &bytes);
}

/// How many publishes were confirmed, by the highest tag, and which were refused.
fn answers(broker: &mut InMemory, client: &mut Client) -> (u64, Vec<u64>) {
    let (mut acked, mut nacked) = (0, Vec::new());
    for (_, method, _) in client.take(broker).unwrap() {
        let tag = || leveret_test_support::amqp_client::number(&method, "delivery_tag");
        match method.spec.name {
            "basic.ack" => acked = tag().max(acked),
            "basic.nack" => nacked.push(tag()),
            other => panic!("{other}"),
        }
    }
    (acked, nacked)
}

fn confirming(broker: &mut InMemory) -> Client {
    let mut client = Client::connect(broker).unwrap();
    client.open_channel(broker, 1).unwrap();
    client.call(broker, 1, &method("confirm.select", &[])).unwrap();
    client
}

fn declare_queue(broker: &mut InMemory, client: &mut Client, name: &str, arguments: &[(&str, Field)]) {
    let queue = [("queue", text(name)), ("durable", Wire::Bit(true)), ("arguments", table(arguments))];
    client.call(broker, 1, &method("queue.declare", &queue)).unwrap();
    let bind = [("queue", text(name)), ("exchange", text("amq.fanout"))];
    client.call(broker, 1, &method("queue.bind", &bind)).unwrap();
}

#[test]
fn what_is_sent_again_is_confirmed_and_there_once() {
    let (store, clock) = store_and_clock();
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    send(&mut broker, &mut client, ("", "s"), "p", &[1, 2, 2, 5], None);
    commit(&mut broker);
    assert_eq!(answers(&mut broker, &mut client), (4, vec![]));
    send(&mut broker, &mut client, ("", "s"), "p", &[4, 5, 6], None);
    send(&mut broker, &mut client, ("", "s"), "other", &[4], None);
    commit(&mut broker);
    assert_eq!(answers(&mut broker, &mut client), (8, vec![]));
    assert_eq!(offsets(&mut broker), [0, 1, 2, 3, 4]);
    let queue = broker.broker().vhost("/").unwrap().queue("s").unwrap();
    assert_eq!((queue.publisher_sequence("p"), queue.publisher_sequence("nobody")), (Some(6), None));
    let state = queue.stream_state().unwrap();
    assert_eq!((state.duplicates, state.refused), (3, 0));
}

#[test]
fn each_stream_of_a_route_decides_and_other_queues_get_everything() {
    let (store, clock) = store_and_clock();
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    for name in ["s", "s2"] {
        declare_queue(&mut broker, &mut client, name, &[("x-queue-type", string("stream"))]);
    }
    declare_queue(&mut broker, &mut client, "classic", &[]);
    send(&mut broker, &mut client, ("", "s"), "p", &[3], None);
    send(&mut broker, &mut client, ("amq.fanout", ""), "p", &[1, 2, 3, 4], None);
    commit(&mut broker);
    assert_eq!(answers(&mut broker, &mut client), (5, vec![]));
    let vhost = broker.broker().vhost("/").unwrap();
    let ready = |name: &str| vhost.queue(name).unwrap().counts().ready;
    assert_eq!((ready("s"), ready("s2"), ready("classic")), (2, 4, 4));
    drop((vhost, client));
    drop(broker);
    store.crash(0);
    store.streams().crash(0);
    let broker = start(&store, &clock);
    let vhost = broker.broker().vhost("/").unwrap();
    let ready = |name: &str| vhost.queue(name).unwrap().counts().ready;
    assert_eq!((ready("s"), ready("s2"), ready("classic")), (2, 4, 4), "after a crash");
}

#[test]
fn earlier_epochs_are_refused_also_behind_a_crash() {
    let (store, clock) = store_and_clock();
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    send(&mut broker, &mut client, ("", "s"), "p", &[1], Some(7));
    send(&mut broker, &mut client, ("", "s"), "p", &[2], Some(6));
    send(&mut broker, &mut client, ("", "s"), "p", &[2], Some(7));
    commit(&mut broker);
    assert_eq!(answers(&mut broker, &mut client), (3, vec![2]));
    // Known behind a crash, whether it was moved out of the journal or not.
    for seconds in [0, 3] {
        broker.advance(Duration::from_secs(seconds));
        commit(&mut broker);
        drop(broker);
        store.crash(0);
        store.streams().crash(0);
        broker = start(&store, &clock);
        client = confirming(&mut broker);
        send(&mut broker, &mut client, ("", "s"), "p", &[9], Some(6));
        send(&mut broker, &mut client, ("", "s"), "p", &[2], Some(7));
        commit(&mut broker);
        assert_eq!(answers(&mut broker, &mut client), (2, vec![1]), "after {seconds} seconds");
        assert_eq!(offsets(&mut broker).len(), 2);
    }
}

/// What the channel of a client is closed with.
fn refusal(broker: &mut InMemory, client: &mut Client) -> String {
    let take = std::panic::AssertUnwindSafe(|| client.take(broker));
    *std::panic::catch_unwind(take).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn a_transaction_is_decided_on_when_it_commits() {
    let (store, clock) = store_and_clock();
    let (mut broker, _client) = with_stream(&store, &clock, &[]);
    let transacting = |broker: &mut InMemory| {
        let mut client = Client::connect(broker).unwrap();
        client.open_channel(broker, 1).unwrap();
        client.call(broker, 1, &method("tx.select", &[])).unwrap();
        client
    };
    let (mut first, mut second) = (transacting(&mut broker), transacting(&mut broker));
    send(&mut broker, &mut first, ("", "s"), "p", &[1, 2], Some(1));
    send(&mut broker, &mut second, ("", "s"), "p", &[2, 3], Some(2));
    second.send(&mut broker, 1, &method("tx.commit", &[]));
    commit(&mut broker);
    second.answer(&mut broker, 1, "tx.commit-ok").unwrap();
    first.send(&mut broker, 1, &method("tx.commit", &[]));
    let close = refusal(&mut broker, &mut first);
    assert!(
        close.contains("publisher 'p' of queue 's' in vhost '/' has been taken over in epoch 2"),
        "{close}"
    );
    // Many at once are committed a part at a time.
    let ids: Vec<i128> = (1..3000).collect();
    for _ in 0..2 {
        send(&mut broker, &mut second, ("", "s"), "p", &ids, Some(2));
        second.send(&mut broker, 1, &method("tx.commit", &[]));
        broker.settle();
        commit(&mut broker);
        second.answer(&mut broker, 1, "tx.commit-ok").unwrap();
    }
    let queue = broker.broker().vhost("/").unwrap().queue("s").unwrap();
    assert_eq!((queue.counts().ready, queue.publisher_sequence("p")), (2 + 2996, Some(2999)));
}

#[test]
fn a_turn_that_has_not_been_handed_over_keeps_the_name_for_itself() {
    let (store, clock) = store_and_clock();
    let (broker, _client) = with_stream(&store, &clock, &[]);
    let vhost = broker.broker().vhost("/").unwrap();
    let queue = vhost.queue("s").unwrap();
    let exchange = vhost.exchange("").unwrap();
    let headers = [("x-stream-publisher-name", Value::from("p")), ("x-stream-publishing-id", Value::I64(5))];
    let properties = Properties { headers: Some(headers.into_iter().collect()), ..Properties::default() };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let message = Message::new("", b"s", &encoded, b"5").unwrap();
    let (mut first, mut second) = (Turn::at(1), Turn::at(1));
    let route = vhost.route(&exchange, &message);
    let staged = vhost.stage_published(&route, vec![message.clone()], &mut first);
    let mut refused = Vec::new();
    vhost.publish(&route, &mut vec![message.clone()], &mut second, &mut refused);
    assert_eq!(refused, [0], "whether the first one survives is not known yet");
    vhost.append(&mut first);
    vhost.deliver(&route, staged, &mut first, &mut Vec::new());
    refused.clear();
    assert!(vhost.publish(&route, &mut vec![message], &mut second, &mut refused).is_some());
    assert_eq!((refused, queue.counts().ready), (vec![], 1));
}

#[test]
fn sub_batches_are_taken_or_dropped_whole() {
    let (store, clock) = store_and_clock();
    let (mut broker, _client) = with_stream(&store, &clock, &[]);
    let vhost = broker.broker().vhost("/").unwrap();
    let queue = vhost.queue("s").unwrap();
    let mut turn = Turn::at(1_700_000_000_000);
    let mut publish = |name: Option<&str>, ids: &[u64]| {
        let messages = ids.iter().map(|id| (*id, Message::new("", b"s", &[0, 0], b"x").unwrap()));
        vhost.publish_to_stream(&queue, name, messages.collect(), &mut turn)
    };
    let first = publish(Some("p"), &[1, 2, 2, 2, 4]);
    assert_eq!((first.dropped, first.refused.len()), (0, 0));
    let second = publish(Some("p"), &[2, 2, 2, 3, 4, 4, 5, 5]);
    assert_eq!(second.dropped, 6);
    assert!(second.record >= first.record && first.record.is_some());
    let again = publish(Some("p"), &[5, 5]);
    assert!(again.dropped == 2 && again.record >= second.record);
    assert_eq!(publish(None, &[5, 5]).dropped, 0);
    assert_eq!(publish(None, &[]), StreamPublished::default());
    broker.broker().end_turn(&mut turn);
    commit(&mut broker);
    assert_eq!((queue.counts().ready, queue.publisher_sequence("p")), (9, Some(5)));
}

#[test]
fn names_that_are_not_used_are_forgotten() {
    let (store, clock) = store_and_clock();
    let expires = [("x-stream-publisher-expires", string("10s")), ("x-stream-offset-expires", string("20s"))];
    let (mut broker, mut client) = with_stream(&store, &clock, &expires);
    send(&mut broker, &mut client, ("", "s"), "p", &[1], None);
    send(&mut broker, &mut client, ("", "s"), "q", &[1], None);
    commit(&mut broker);
    let queue = broker.broker().vhost("/").unwrap().queue("s").unwrap();
    let mut turn = Turn::at(1_700_000_000_000);
    for name in ["reader", "gone"] {
        queue.reset_stream_group(name, leveret::broker::queue::StreamOffset::Offset(1), &mut turn).unwrap();
    }
    broker.broker().end_turn(&mut turn);
    let reader = super::named(&mut broker, "reader", 10, &[]);
    broker.advance(Duration::from_secs(9));
    send(&mut broker, &mut client, ("", "s"), "q", &[2], None);
    commit(&mut broker);
    broker.advance(Duration::from_secs(3));
    assert_eq!((queue.publisher_sequence("p"), queue.publisher_sequence("q")), (None, Some(2)));
    let names = || queue.stream_groups().into_iter().filter_map(|group| Some((group.name, group.committed?)));
    assert_eq!(names().count(), 2);
    broker.advance(Duration::from_secs(20));
    assert_eq!(names().collect::<Vec<_>>(), [("reader".to_owned(), 0)], "a name in use stays");
    assert_eq!(queue.publisher_sequence("q"), None);
    let (_, tracking) = broker.call("GET", "/api/stream/%2F/s/tracking", "");
    assert!(tracking.contains(r#""writers":{}"#), "{tracking}");
    send(&mut broker, &mut client, ("", "s"), "q", &[7], Some(3));
    commit(&mut broker);
    let (_, tracking) = broker.call("GET", "/api/stream/%2F/s/tracking", "");
    assert!(tracking.contains(r#""writers":{"q":7}"#) && tracking.contains(r#""epoch":3"#), "{tracking}");
    drop(reader);
}

/// A publisher that sends again whatever was not confirmed, over losses of power, to a stream and a classic queue.
fn live(
    random: &mut Random,
    store: &FaultyStore,
    clock: &TestClock,
    (sent, confirmed): (&mut u64, &mut u64),
) {
    let mut broker = start(store, clock);
    let mut client = confirming(&mut broker);
    // It goes on behind what was confirmed, so that some come again that are there.
    let mut next = *confirmed + 1;
    let mut tags = Vec::new();
    for _ in 0..random.below(40) {
        match random.below(4) {
            0 => drop(broker.broker().journal().commit().unwrap()),
            1 => broker.advance(Duration::from_millis(random.below(700))),
            _ => {
                let ids: Vec<i128> = (next..=next + random.below(4)).map(i128::from).collect();
                send(&mut broker, &mut client, ("", "s"), "p", &ids, None);
                next += ids.len() as u64;
                *sent = next.saturating_sub(1).max(*sent);
                tags.extend(ids);
            }
        }
        broker.settle();
        let (acked, refused) = answers(&mut broker, &mut client);
        assert_eq!(refused, [0; 0]);
        if acked > 0 {
            *confirmed = u64::try_from(tags[acked as usize - 1]).unwrap();
        }
    }
    drop(broker);
    let unsynced = store.unsynced() as u64;
    store.crash(random.below(unsynced + 1) as usize);
    store.streams().crash(random.below(8000) as usize);
}

#[test]
fn a_publisher_that_sends_again_after_losses_of_power_is_there_exactly_once() {
    for seed in super::simulations() {
        let mut random = Random::new(seed);
        let (store, clock) = store_and_clock();
        drop(with_stream(&store, &clock, &[("x-stream-max-segment-size-bytes", integer(1000))]));
        let (mut sent, mut confirmed) = (0, 0);
        for _ in 0..super::CRASHES {
            live(&mut random, &store, &clock, (&mut sent, &mut confirmed));
        }
        let mut broker = start(&store, &clock);
        let bodies = bodies(&mut broker).unwrap();
        let once: BTreeSet<u64> = bodies.iter().copied().collect();
        assert!(bodies.is_sorted() && once.len() == bodies.len(), "LEVERET_SEED={seed}: {bodies:?}");
        assert!((1..=confirmed).all(|id| once.contains(&id)), "LEVERET_SEED={seed}: {confirmed} {bodies:?}");
        assert!(bodies.len() as u64 <= sent);
        let queue = broker.broker().vhost("/").unwrap().queue("s").unwrap();
        assert_eq!(queue.publisher_sequence("p"), bodies.last().copied(), "LEVERET_SEED={seed}");
    }
}

fn bodies(broker: &mut InMemory) -> Result<Vec<u64>, Gone> {
    let mut client = Client::connect(broker)?;
    client.open_channel(broker, 1)?;
    client.call(broker, 1, &prefetch(10_000))?;
    client.send(broker, 1, &super::consume(&[("x-stream-offset", string("first"))]));
    let all = client.take(broker)?;
    client.hang_up(broker);
    let contents = all.iter().filter_map(|(_, _, content)| content.as_ref());
    Ok(contents.map(|content| std::str::from_utf8(&content.body).unwrap().parse().unwrap()).collect())
}
