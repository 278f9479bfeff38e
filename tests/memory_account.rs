//! What is kept in memory, on a broker in memory with a fake clock: what leaves it, and what still happens to that.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod amqp_client;
mod direct_socket;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod in_memory;

use amqp_client::{Client, method, table, text};
use in_memory::InMemory;
use leveret::broker::BrokerLimits;
use leveret::broker::memory::MemoryUse;
use leveret::broker::queue::QueueCounts;
use leveret::clock::TestClock;
use leveret::store::{FaultyStore, JournalOptions, Store};
use leveret_conformance::Transport;
use leveret_conformance::method::Wire;
use std::time::Duration;

/// A broker that lets go of all it can.
fn open(store: &FaultyStore, clock: &TestClock) -> InMemory {
    let limits = BrokerLimits { memory_budget_bytes: 1, page_bytes: 4 << 10, ..BrokerLimits::default() };
    let store: Box<dyn Store> = Box::new(store.clone());
    let (broker, losses) = InMemory::open(store, JournalOptions::default(), limits, clock.clone()).unwrap();
    assert_eq!(losses, []);
    broker
}

fn counts(broker: &InMemory, queue: &str) -> QueueCounts {
    broker.broker().vhost("/").unwrap().queue(queue).unwrap().lock().counts()
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
