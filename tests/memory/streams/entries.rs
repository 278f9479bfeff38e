//! What publishers of the stream protocol send, as consumers over AMQP 0-9-1 get it.

use super::{came, named, publish, start, with_stream};
use leveret::broker::Turn;
use leveret::clock::TestClock;
use leveret::message::Message;
use leveret::store::FaultyStore;
use leveret_conformance::Transport;
use leveret_test_support::amqp_client::{Client, string};
use leveret_test_support::in_memory::InMemory;
use leveret_test_support::streams::{consume, delivered, prefetch};
use std::time::Duration;

/// Publishes entries as a session of the stream protocol does, each with a filter value or none.
fn publish_entries(broker: &mut InMemory, entries: &[(Option<&str>, &[u8])]) {
    let vhost = broker.broker().vhost("/").unwrap();
    let exchange = vhost.exchange("").unwrap();
    let mut turn = Turn::at(1_700_000_000_000);
    for (filter, entry) in entries {
        let message = Message::of_amqp10("s", filter.map(str::as_bytes), entry);
        let route = vhost.route(&exchange, &message);
        vhost.publish(&route, &mut vec![message], &mut turn, &mut Vec::new());
    }
    broker.broker().end_turn(&mut turn);
    broker.broker().journal().commit().unwrap();
    broker.advance(Duration::from_millis(1));
}

/// The bodies that a consumer with these arguments gets from the first one on.
fn bodies(broker: &mut InMemory, filter: Option<&str>) -> Vec<(u64, Vec<u8>)> {
    let mut client = Client::connect(broker).unwrap();
    client.open_channel(broker, 1).unwrap();
    client.call(broker, 1, &prefetch(100)).unwrap();
    let mut arguments = vec![("x-stream-offset", string("first"))];
    arguments.extend(filter.map(|filter| ("x-stream-filter", string(filter))));
    client.send(broker, 1, &consume(&arguments));
    let all = client.take(broker).unwrap();
    client.hang_up(broker);
    all.iter().filter_map(|(_, _, content)| content.as_ref()).map(delivered).collect()
}

const HI: &[u8] = b"\0Su\xa0\x02hi";
const HO: &[u8] = b"\0Su\xa0\x02ho";

fn owned(expected: &[(u64, &[u8])]) -> Vec<(u64, Vec<u8>)> {
    expected.iter().map(|(offset, body)| (*offset, body.to_vec())).collect()
}

#[test]
fn entries_of_both_protocols_are_read_in_order_before_and_after_a_crash() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, mut client) = with_stream(&store, &clock, &[]);
    publish(&mut broker, &mut client, 1, b"plain");
    publish_entries(&mut broker, &[(None, HI), (Some("eu"), HO)]);
    publish(&mut broker, &mut client, 1, b"plain");
    let expected = owned(&[(0, b"plain"), (1, b"hi"), (2, b"ho"), (3, b"plain")]);
    assert_eq!(bodies(&mut broker, None), expected, "from memory");
    assert_eq!(bodies(&mut broker, Some("eu")), expected[2..3]);
    drop(client);
    // Out of the journal, then out of the log alone.
    for seconds in [0, 3] {
        broker.advance(Duration::from_secs(seconds));
        broker.broker().journal().commit().unwrap();
        drop(broker);
        store.crash(0);
        store.streams().crash(0);
        broker = start(&store, &clock);
        assert_eq!(bodies(&mut broker, None), expected, "after {seconds} seconds");
        assert_eq!(bodies(&mut broker, Some("eu")), expected[2..3]);
    }
}

#[test]
fn what_is_no_message_is_passed_over_and_counted() {
    let (store, clock) = (FaultyStore::default(), TestClock::at(1_700_000_000_000));
    let (mut broker, client) = with_stream(&store, &clock, &[]);
    publish_entries(&mut broker, &[(None, b"junk"), (None, HI), (None, b""), (None, HO)]);
    assert_eq!(bodies(&mut broker, None), owned(&[(1, b"hi"), (3, b"ho")]));
    let passed_over = |broker: &InMemory| {
        let queue = broker.broker().vhost("/").unwrap().queue("s").unwrap();
        queue.stream_state().unwrap().passed_over
    };
    assert_eq!(passed_over(&broker), 2);
    // One with a name and little credit gets what follows, and goes on behind it.
    let mut reader = named(&mut broker, "worker", 1, &[]);
    assert_eq!(came(&mut reader, &mut broker), [(1, 1, false)]);
    super::answer(&mut reader, &mut broker, "basic.ack", 1, &[]);
    assert_eq!(came(&mut reader, &mut broker), [(2, 3, false)]);
    assert_eq!(passed_over(&broker), 4);
    drop(client);
}
