//! Streams on a broker in memory that loses power: what was confirmed is there at its offset, and what a consumer has seen stays what
//! it was. `LEVERET_SIMULATIONS` asks for more runs than the usual ones, `LEVERET_SEED` for one alone.

mod entries;
mod log;
mod publishers;
mod super_streams;

use leveret::broker::queue::StreamOffset;
use leveret::broker::{BrokerLimits, Turn};
use leveret::clock::TestClock;
use leveret::store::{Faults, FaultyStore, JournalOptions};
use leveret_conformance::Transport;
use leveret_conformance::field::{Field, Value};
use leveret_conformance::method::Wire;
use leveret_test_support::amqp_client::{Client, bit, integer, method, number, string, text};
use leveret_test_support::durability::Random;
use leveret_test_support::in_memory::InMemory;
use leveret_test_support::streams::{
    Known, Life, consume, declare, delivered, prefetch, publish_last, read_up_to,
};
use std::time::Duration;

const CRASHES: u64 = 6;

fn simulations() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("LEVERET_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("LEVERET_SIMULATIONS").unwrap_or(60)).collect(),
    }
}

fn start(store: &FaultyStore, clock: &TestClock) -> InMemory {
    let limits = BrokerLimits::default();
    let options = JournalOptions { record_bytes: 2048, linger: Duration::ZERO, ..JournalOptions::default() };
    let (broker, losses) = InMemory::open(Box::new(store.clone()), options, limits, clock.clone()).unwrap();
    assert_eq!(losses, []);
    broker
}

fn commit(broker: &mut InMemory) {
    broker.broker().journal().commit().unwrap();
    broker.settle();
}

fn check(broker: &mut InMemory, known: &mut Known) {
    let last = publish_last(broker, known).unwrap();
    commit(broker);
    known.check(&read_up_to(broker, &last).unwrap());
}

fn live(random: &mut Random, store: &FaultyStore, clock: &TestClock, known: &mut Known) {
    let mut broker = start(store, clock);
    // Small ones, so that there are several.
    let segments = [("x-stream-max-segment-size-bytes", integer(3000))];
    let mut life = Life::begin(&mut broker, known, &segments, random).unwrap();
    for _ in 0..random.below(60) {
        match random.below(6) {
            0 | 1 => life.publish(&mut broker, random),
            2 | 3 => drop(broker.broker().journal().commit().unwrap()),
            4 => broker.advance(Duration::from_millis(random.below(700))),
            _ => life.take(&mut broker).unwrap(),
        }
    }
    life.take(&mut broker).unwrap();
    drop(broker);
    let unsynced = store.unsynced() as u64;
    store.crash(random.below(unsynced + 1) as usize);
    store.streams().crash(random.below(8000) as usize);
}

#[test]
fn what_was_confirmed_or_seen_survives_a_loss_of_power() {
    for seed in simulations() {
        let mut random = Random::new(seed);
        let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
        let mut known = Known::default();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..CRASHES {
                live(&mut random, &store, &clock, &mut known);
                check(&mut start(&store, &clock), &mut known);
            }
        }));
        assert!(outcome.is_ok(), "LEVERET_SEED={seed}");
    }
}

/// A broker with a stream that keeps as these arguments say, and a client with confirms.
fn with_stream(store: &FaultyStore, clock: &TestClock, arguments: &[(&str, Field)]) -> (InMemory, Client) {
    let mut broker = start(store, clock);
    let mut client = Client::connect(&mut broker).unwrap();
    client.open_channel(&mut broker, 1).unwrap();
    client.call(&mut broker, 1, &declare(arguments)).unwrap();
    client.call(&mut broker, 1, &method("confirm.select", &[])).unwrap();
    (broker, client)
}

fn publish(broker: &mut InMemory, client: &mut Client, count: usize, body: &[u8]) {
    for _ in 0..count {
        let mut bytes = Vec::new();
        client.put_publish(&mut bytes, 1, ("", "s"), &[], body);
        client.send_bytes(broker, &bytes);
        broker.broker().journal().commit().unwrap();
        broker.advance(Duration::from_millis(1));
    }
}

/// What a consumer gets that begins with the first.
fn offsets(broker: &mut InMemory) -> Vec<u64> {
    let mut client = Client::connect(broker).unwrap();
    client.open_channel(broker, 1).unwrap();
    client.call(broker, 1, &prefetch(1000)).unwrap();
    client.send(broker, 1, &consume(&[("x-stream-offset", string("first"))]));
    let all = client.take(broker).unwrap();
    client.hang_up(broker);
    all.iter().filter_map(|(_, _, content)| content.as_ref()).map(|content| delivered(content).0).collect()
}

#[test]
fn what_is_too_old_goes_without_anything_being_published() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[("x-max-age", string("5s"))]);
    publish(&mut broker, &mut client, 3, b"old");
    broker.advance(Duration::from_secs(2));
    publish(&mut broker, &mut client, 2, b"young");
    broker.advance(Duration::from_millis(2500));
    assert_eq!(offsets(&mut broker), [0, 1, 2, 3, 4]);
    broker.advance(Duration::from_millis(1500));
    assert_eq!(offsets(&mut broker), [3, 4], "what is older than five seconds is gone within two more");
    drop(client);
    drop(broker);
    // Times are known after a restart.
    let mut broker = start(&store, &clock);
    assert_eq!(offsets(&mut broker), [3, 4]);
    broker.advance(Duration::from_secs(3));
    assert_eq!(offsets(&mut broker), [0; 0]);
    let mut client = Client::connect(&mut broker).unwrap();
    client.open_channel(&mut broker, 1).unwrap();
    client.call(&mut broker, 1, &method("confirm.select", &[])).unwrap();
    publish(&mut broker, &mut client, 1, b"next");
    assert_eq!(offsets(&mut broker), [5], "offsets go on where they were");
}

#[test]
fn what_is_too_much_goes_with_its_segment() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let sizes = [("x-max-length-bytes", integer(4000)), ("x-stream-max-segment-size-bytes", integer(1000))];
    let (mut broker, mut client) = with_stream(&store, &clock, &sizes);
    publish(&mut broker, &mut client, 60, &[b'x'; 100]);
    let kept = offsets(&mut broker);
    assert_eq!(kept.last(), Some(&59));
    assert!((20..40).contains(&kept.len()), "{kept:?}");
}

#[test]
fn a_deleted_stream_leaves_no_files() {
    use leveret::store::stream::StreamFiles;
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    publish(&mut broker, &mut client, 3, b"body");
    broker.advance(Duration::from_secs(2));
    assert_eq!(store.streams().streams().unwrap().len(), 1);
    client.send(&mut broker, 1, &method("queue.delete", &[("queue", text("s"))]));
    broker.advance(Duration::from_secs(3));
    broker.broker().journal().commit().unwrap();
    broker.advance(Duration::from_secs(3));
    assert_eq!(store.streams().streams().unwrap(), []);
}

/// A channel with a consumer of that name, and of these arguments besides.
fn named(broker: &mut InMemory, name: &str, count: u64, arguments: &[(&str, Field)]) -> Client {
    let mut client = Client::connect(broker).unwrap();
    client.open_channel(broker, 1).unwrap();
    client.call(broker, 1, &prefetch(count)).unwrap();
    let all = [("x-stream-consumer-name", string(name)), ("x-stream-offset", string("first"))];
    let all: Vec<_> = all.into_iter().chain(arguments.iter().cloned()).collect();
    client.send(broker, 1, &consume(&all));
    client.answer(broker, 1, "basic.consume-ok").unwrap();
    client
}

/// What has come to a consumer: delivery tag, offset, and whether it was delivered before.
fn came(client: &mut Client, broker: &mut InMemory) -> Vec<(u64, u64, bool)> {
    let all = client.take(broker).unwrap().into_iter();
    all.filter_map(|(_, deliver, content)| {
        let offset = delivered(&content?).0;
        Some((number(&deliver, "delivery_tag"), offset, bit(&deliver, "redelivered")))
    })
    .collect()
}

fn answer(client: &mut Client, broker: &mut InMemory, name: &str, tag: u64, bits: &[&'static str]) {
    let bits = bits.iter().map(|bit| (*bit, Wire::Bit(true)));
    let arguments: Vec<_> = [("delivery_tag", Wire::Int(tag))].into_iter().chain(bits).collect();
    client.send(broker, 1, &method(name, &arguments));
}

#[test]
fn a_named_consumer_goes_on_behind_what_it_has_acknowledged_without_a_gap() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    publish(&mut broker, &mut client, 10, b"body");
    let mut reader = named(&mut broker, "worker", 5, &[]);
    assert_eq!(came(&mut reader, &mut broker).len(), 5);
    // 0, 1 and 3: what is behind the gap counts when the gap is closed.
    for tag in [1, 2, 4] {
        answer(&mut reader, &mut broker, "basic.ack", tag, &[]);
    }
    commit(&mut broker);
    drop((client, reader));
    // Whether the change was moved out of the journal or not.
    for seconds in [0, 3] {
        broker.advance(Duration::from_secs(seconds));
        commit(&mut broker);
        drop(broker);
        store.crash(0);
        store.streams().crash(0);
        broker = start(&store, &clock);
        let mut reader = named(&mut broker, "worker", 20, &[]);
        let offsets: Vec<u64> = came(&mut reader, &mut broker).iter().map(|(_, offset, _)| *offset).collect();
        assert_eq!(offsets, (2..10).collect::<Vec<_>>(), "after {seconds} seconds");
        let mut other = named(&mut broker, "another", 20, &[]);
        assert_eq!(came(&mut other, &mut broker).len(), 10);
    }
}

#[test]
fn what_a_named_consumer_gives_back_comes_again_before_newer_ones() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    publish(&mut broker, &mut client, 6, b"body");
    let mut reader = named(&mut broker, "worker", 2, &[]);
    assert_eq!(came(&mut reader, &mut broker), [(1, 0, false), (2, 1, false)]);
    answer(&mut reader, &mut broker, "basic.nack", 1, &["requeue"]);
    assert_eq!(came(&mut reader, &mut broker), [(3, 0, true)]);
    // Refused for good: it goes on.
    answer(&mut reader, &mut broker, "basic.reject", 3, &[]);
    assert_eq!(came(&mut reader, &mut broker), [(4, 2, false)]);
    answer(&mut reader, &mut broker, "basic.ack", 2, &[]);
    commit(&mut broker);
    let queue = broker.broker().vhost("/").unwrap().queue("s").unwrap();
    let groups = queue.stream_groups();
    assert_eq!((groups.len(), groups[0].committed, groups[0].lag, groups[0].members), (1, Some(1), 4, 1));
}

#[test]
fn one_of_a_name_is_active_and_another_takes_over_where_it_was() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    publish(&mut broker, &mut client, 6, b"body");
    let single = Field { tag: b't', value: Value::Bool(true) };
    let arguments = [("x-single-active-consumer", single)];
    let mut first = named(&mut broker, "worker", 3, &arguments);
    let mut second = named(&mut broker, "worker", 3, &arguments);
    assert_eq!(came(&mut first, &mut broker).len(), 3);
    assert_eq!(came(&mut second, &mut broker), []);
    answer(&mut first, &mut broker, "basic.ack", 2, &["multiple"]);
    first.hang_up(&mut broker);
    broker.settle();
    let offsets: Vec<u64> = came(&mut second, &mut broker).iter().map(|(_, offset, _)| *offset).collect();
    assert_eq!(offsets, [2, 3, 4], "what the first one had not acknowledged comes again");
}

#[test]
fn a_transaction_commits_offsets_and_publishes_together() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    for is_committed in [false, true] {
        let (mut broker, mut client) = with_stream(&store, &clock, &[]);
        let queue = [("queue", text("out")), ("durable", Wire::Bit(true))];
        client.call(&mut broker, 1, &method("queue.declare", &queue)).unwrap();
        publish(&mut broker, &mut client, 1, b"in");
        let mut worker = named(&mut broker, "worker", 1, &[]);
        worker.call(&mut broker, 1, &method("tx.select", &[])).unwrap();
        let (tag, ..) = came(&mut worker, &mut broker)[0];
        let mut bytes = Vec::new();
        worker.put_publish(&mut bytes, 1, ("", "out"), &[("delivery_mode", Wire::Int(2))], b"out");
        worker.send_bytes(&mut broker, &bytes);
        answer(&mut worker, &mut broker, "basic.ack", tag, &[]);
        worker.send(&mut broker, 1, &method("tx.commit", &[]));
        if is_committed {
            commit(&mut broker);
        }
        drop((broker, worker, client));
        store.crash(0);
        store.streams().crash(0);
        let broker = start(&store, &clock);
        let vhost = broker.broker().vhost("/").unwrap();
        let committed = vhost.queue("s").unwrap().stream_groups().first().and_then(|group| group.committed);
        let there = vhost.queue("out").unwrap().counts().ready;
        // The second time round the first message is the worker's again.
        assert_eq!((committed, there), if is_committed { (Some(0), 1) } else { (None, 0) });
    }
}

#[test]
fn a_transactions_offsets_are_in_the_record_of_its_publishes() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    let queue = [("queue", text("out")), ("durable", Wire::Bit(true))];
    client.call(&mut broker, 1, &method("queue.declare", &queue)).unwrap();
    publish(&mut broker, &mut client, 1, b"in");
    let mut worker = named(&mut broker, "worker", 1, &[]);
    worker.call(&mut broker, 1, &method("tx.select", &[])).unwrap();
    let (tag, ..) = came(&mut worker, &mut broker)[0];
    let mut bytes = Vec::new();
    // So large that nothing else comes into its record, and a second one can't be written.
    worker.put_publish(&mut bytes, 1, ("", "out"), &[("delivery_mode", Wire::Int(2))], &[b'x'; 5000]);
    worker.send_bytes(&mut broker, &bytes);
    answer(&mut worker, &mut broker, "basic.ack", tag, &[]);
    worker.send(&mut broker, 1, &method("tx.commit", &[]));
    store.set_faults(Faults { appends_left: Some(1), ..Faults::default() });
    drop(broker.broker().journal().commit());
    drop((broker, worker, client));
    store.crash(store.unsynced());
    store.streams().crash(0);
    let broker = start(&store, &clock);
    let vhost = broker.broker().vhost("/").unwrap();
    let committed = vhost.queue("s").unwrap().stream_groups().first().and_then(|group| group.committed);
    assert_eq!((committed, vhost.queue("out").unwrap().counts().ready), (Some(0), 1));
}

#[test]
fn how_far_behind_a_name_is_is_known_in_messages_and_in_time() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    publish(&mut broker, &mut client, 1, b"first");
    broker.advance(Duration::from_secs(10));
    publish(&mut broker, &mut client, 3, b"later");
    let mut reader = named(&mut broker, "worker", 5, &[]);
    assert_eq!(came(&mut reader, &mut broker).len(), 4);
    // What is not in memory is read when it has been asked for.
    let group = |broker: &mut InMemory| {
        let stream = broker.broker().vhost("/").unwrap().queue("s").unwrap();
        stream.stream_groups();
        broker.settle();
        stream.stream_groups().remove(0)
    };
    assert_eq!((group(&mut broker).lag, group(&mut broker).unread_at), (4, Some(1_700_000_000_000)));
    answer(&mut reader, &mut broker, "basic.ack", 1, &[]);
    commit(&mut broker);
    let later = Some(1_700_000_010_001);
    assert_eq!((group(&mut broker).lag, group(&mut broker).unread_at), (3, later));
    broker.advance(Duration::from_secs(3));
    drop((broker, client, reader));
    let mut broker = start(&store, &clock);
    broker.settle();
    assert_eq!((group(&mut broker).unread_at, group(&mut broker).lag), (later, 3));
    broker.advance(Duration::from_secs(2));
    let (_, tracking) = broker.call("GET", "/api/stream/%2F/s/tracking", "");
    assert!(tracking.contains(r#""lag_seconds":5"#), "{tracking}");
}

#[test]
fn names_that_a_stream_remembers_have_a_limit() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (broker, _client) = with_stream(&store, &clock, &[]);
    let queue = broker.broker().vhost("/").unwrap().queue("s").unwrap();
    let mut turn = Turn::at(1_700_000_000_000);
    let mut reset =
        |name: u32| queue.reset_stream_group(&name.to_string(), StreamOffset::Offset(1), &mut turn);
    (0..10_000).for_each(|name| reset(name).unwrap());
    let refused = reset(10_000).unwrap_err().to_string();
    assert!(refused.contains("consumer '10000' of queue 's' in vhost '/'"), "{refused}");
    reset(7).unwrap();
    broker.broker().end_turn(&mut turn);
}
