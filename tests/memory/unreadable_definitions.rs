//! A definition that can't be read, or not be restored, costs itself: the broker opens without it, reports it, and keeps what may belong
//! to it.

use leveret::broker::BrokerLimits;
use leveret::broker::exchange::{Binding, Destination, ExchangeDefinition};
use leveret::broker::observe::losses::Losses;
use leveret::broker::queue::QueueDeclaration;
use leveret::broker::topology::definitions::Definition;
use leveret::clock::TestClock;
use leveret::message::{FieldTable, Position, QueueId, ShortStr, StoredShape};
use leveret::store::{Changes, DefinitionChanges, Definitions, FaultyStore, Journal, JournalOptions};
use leveret_test_support::in_memory::InMemory;

fn queue(name: &str, id: u64) -> Definition {
    let declaration = QueueDeclaration {
        name: name.into(),
        durable: true,
        auto_delete: false,
        exclusive_owner: None,
        arguments: FieldTable::default(),
    };
    Definition::Queue("/".into(), QueueId(id), declaration)
}

fn exchange(name: &str, kind: &str) -> Definition {
    Definition::Exchange(ExchangeDefinition {
        vhost: "/".into(),
        name: name.into(),
        kind: kind.into(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default().into(),
    })
}

fn binding(source: &str, queue: &str) -> Definition {
    let binding = Binding {
        source: source.into(),
        destination: Destination::Queue(queue.into()),
        routing_key: ShortStr::from(b"key".as_slice()),
        arguments: FieldTable::default().into(),
    };
    Definition::Binding("/".into(), binding)
}

fn open(store: &FaultyStore) -> InMemory {
    let clock = TestClock::at(1_700_000_000_000);
    let (options, limits) = (JournalOptions::default(), BrokerLimits::default());
    let (broker, _) = InMemory::open(Box::new(store.clone()), options, limits, clock).unwrap();
    broker.broker().journal().commit().unwrap();
    broker
}

/// What is reported: of what, how many, of how many.
fn reported(losses: &Losses) -> Vec<(String, u64, Option<u64>)> {
    losses.list().into_iter().map(|note| (note.what, note.lost, note.of)).collect()
}

#[test]
fn one_unreadable_definition_costs_itself_and_comes_back_when_it_can_be_read() {
    let store = FaultyStore::default();
    drop(open(&store));
    {
        let (journal, _) = Journal::open(Box::new(store.clone()), JournalOptions::default(), |_| {}).unwrap();
        let mut changes = Changes::default();
        let shape = StoredShape {
            format: 0,
            exchange_bytes: 0,
            routing_key_bytes: 0,
            properties_bytes: 2,
            dead_lettered: false,
        };
        for id in [7, 8] {
            changes.enqueue((b"\0\0body", shape), 1, &[(QueueId(id), Position(1), 0)]);
        }
        journal.append(&mut changes, None);
        journal.commit().unwrap();
    }
    let (broken, unknown) = (queue("broken", 8), exchange("unknown", "x-of-another-program"));
    let mut changes = DefinitionChanges::default();
    for definition in [
        &queue("kept", 7),
        &exchange("known", "direct"),
        &binding("known", "kept"),
        &binding("unknown", "kept"),
        &unknown,
    ] {
        definition.put(&mut changes);
    }
    changes.put(&broken.key(), b"\0\0\0\x09 no table");
    store.define(&changes).unwrap();
    let stored = store.definitions().unwrap().len();
    for _ in 0..2 {
        let broker = open(&store);
        let found = reported(broker.broker().losses());
        let expected = [
            ("exchanges".to_owned(), 1, Some(2)),
            ("queues".to_owned(), 1, Some(2)),
            ("bindings".to_owned(), 1, Some(2)),
        ];
        assert!(expected.iter().all(|loss| found.contains(loss)), "{found:?}");
        let vhost = broker.broker().vhost("/").unwrap();
        assert!(vhost.queue("kept").is_some() && vhost.exchange("known").is_some());
        assert!(vhost.queue("broken").is_none() && vhost.exchange("unknown").is_none());
        assert_eq!(vhost.bindings().iter().filter(|binding| &*binding.source == "known").count(), 1);
        assert_eq!(broker.broker().journal().usage().messages, 2, "the message may be a queue's");
    }
    assert_eq!(store.definitions().unwrap().len(), stored, "nothing is removed");
    // A version that can read it has all of it.
    let mut mended = DefinitionChanges::default();
    broken.put(&mut mended);
    unknown.remove(&mut mended);
    store.define(&mended).unwrap();
    let broker = open(&store);
    assert_eq!(reported(broker.broker().losses()), []);
    assert!(broker.broker().vhost("/").unwrap().queue("broken").is_some());
    assert_eq!(broker.broker().journal().usage().messages, 2);
    assert_eq!(store.definitions().unwrap().len(), stored - 2, "the exchange and its binding are gone");
}

#[test]
fn what_is_in_a_vhost_that_can_not_be_read_is_kept() {
    let store = FaultyStore::default();
    drop(open(&store));
    let mut changes = DefinitionChanges::default();
    queue("kept", 7).put(&mut changes);
    let all = store.definitions().unwrap();
    let vhost = all.iter().find(|(key, _)| key.first() == Some(&b'1')).unwrap();
    changes.put(&vhost.0, b"");
    store.define(&changes).unwrap();
    let broker = open(&store);
    assert_eq!(reported(broker.broker().losses()), [("vhosts".to_owned(), 1, Some(1))]);
    assert!(broker.broker().vhost("/").unwrap().queue("kept").is_some());
}
