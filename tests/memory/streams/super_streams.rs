//! Super streams: made and deleted whole, also over a loss of power, their partitions in order, and keys that find theirs.

use super::{commit, start};
use leveret::broker::Actor;
use leveret::broker::Turn;
use leveret::broker::error::BrokerError;
use leveret::broker::topology::super_streams::SuperStreamDeclaration;
use leveret::clock::TestClock;
use leveret::message::{FieldTable, Value};
use leveret::store::FaultyStore;
use leveret_test_support::amqp_client::{Client, integer, method, table, text};
use leveret_test_support::in_memory::InMemory;

fn store_and_clock() -> (FaultyStore, TestClock) {
    (FaultyStore::default(), TestClock::at(1_700_000_000_000))
}

fn create(broker: &InMemory, declaration: &SuperStreamDeclaration) -> Result<(), BrokerError> {
    let vhost = broker.broker().vhost("/").unwrap();
    let mut turn = Turn::at(1_700_000_000_000);
    let created = vhost.create_super_stream(declaration, Actor::Broker, &mut turn);
    broker.broker().end_turn(&mut turn);
    created.map(|done| done.into_value())
}

fn partitions(broker: &InMemory, name: &str) -> Vec<String> {
    let vhost = broker.broker().vhost("/").unwrap();
    let exchange = vhost.super_stream(name).unwrap();
    vhost.partitions(&exchange).iter().map(ToString::to_string).collect()
}

#[test]
fn a_super_stream_is_there_whole_or_not_at_all() {
    let (store, clock) = store_and_clock();
    let three = SuperStreamDeclaration::numbered("inv", 3, FieldTable::default());
    let mut broker = start(&store, &clock);
    create(&broker, &three).unwrap();
    drop(broker);
    store.crash(0);
    broker = start(&store, &clock);
    let vhost = broker.broker().vhost("/").unwrap();
    assert!(vhost.super_stream("inv").is_err() && vhost.queue("inv-0").is_none());
    create(&broker, &three).unwrap();
    commit(&mut broker);
    drop((broker, vhost));
    store.crash(0);
    broker = start(&store, &clock);
    assert_eq!(partitions(&broker, "inv"), ["inv-0", "inv-1", "inv-2"]);
    let vhost = broker.broker().vhost("/").unwrap();
    let mut turn = Turn::at(1_700_000_000_000);
    vhost.delete_super_stream("inv", Actor::Broker, &mut turn).unwrap().into_value();
    assert_eq!((vhost.queue_count(), vhost.exchange("inv").is_some()), (0, false));
    let gone = vhost.delete_super_stream("inv", Actor::Broker, &mut turn);
    assert!(matches!(gone, Err(BrokerError::NotFound(_))));
    broker.broker().end_turn(&mut turn);
    commit(&mut broker);
    drop((broker, vhost));
    store.crash(0);
    let broker = start(&store, &clock);
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 0);
}

#[test]
fn what_can_t_be_made_whole_leaves_nothing() {
    let (store, clock) = store_and_clock();
    let broker = start(&store, &clock);
    let vhost = broker.broker().vhost("/").unwrap();
    let refused =
        |declaration: &SuperStreamDeclaration| create(&broker, declaration).unwrap_err().to_string();
    let of = |partitions: &[&str], keys: &[&str]| SuperStreamDeclaration {
        name: "s".to_owned(),
        partitions: partitions.iter().map(ToString::to_string).collect(),
        binding_keys: keys.iter().map(ToString::to_string).collect(),
        ..SuperStreamDeclaration::default()
    };
    let numbered = |count| SuperStreamDeclaration::numbered("s", count, FieldTable::default());
    assert!(refused(&numbered(0)).contains("1 to 1000"));
    assert!(refused(&numbered(usize::MAX)).contains("1 to 1000"));
    assert!(refused(&of(&["a", "b"], &["1"])).contains("2 partitions and 1 binding keys"));
    assert!(refused(&of(&["a", "a"], &["1", "2"])).contains("the partition 'a' twice"));
    assert!(refused(&of(&["a", "b"], &["1", "1"])).contains("the binding key '1' twice"));
    assert!(refused(&SuperStreamDeclaration::numbered("amq.s", 1, FieldTable::default())).contains("amq."));
    let wrong: FieldTable = [("x-max-age", Value::from("soon"))].into_iter().collect();
    refused(&SuperStreamDeclaration::numbered("s", 2, wrong));
    // The second partition can't be had, since its name is too long.
    let long = "x".repeat(300);
    refused(&of(&["a", &long], &["1", "2"]));
    assert_eq!((vhost.queue_count(), vhost.super_streams().len()), (0, 0));
    create(&broker, &numbered(2)).unwrap();
    assert!(matches!(create(&broker, &numbered(3)), Err(BrokerError::AlreadyThere(_))));
    let taken = SuperStreamDeclaration { name: "t".to_owned(), ..of(&["t-0", "s-1"], &["0", "1"]) };
    assert_eq!(refused(&taken), "queue 's-1' in vhost '/' already exists");
    assert_eq!((vhost.queue_count(), vhost.super_streams().len()), (2, 1));
}

#[test]
fn one_that_was_built_by_hand_is_read_by_what_its_bindings_say() {
    let (store, clock) = store_and_clock();
    let mut broker = start(&store, &clock);
    let yes =
        leveret_conformance::field::Field { tag: b't', value: leveret_conformance::field::Value::Bool(true) };
    let mut client = Client::connect(&mut broker).unwrap();
    client.open_channel(&mut broker, 1).unwrap();
    let durable = ("durable", leveret_conformance::method::Wire::Bit(true));
    let exchange = [
        ("exchange", text("hand")),
        ("type", text("direct")),
        durable.clone(),
        ("arguments", table(&[("x-super-stream", yes)])),
    ];
    client.call(&mut broker, 1, &method("exchange.declare", &exchange)).unwrap();
    let queues = [
        ("b", "stream", Some(0)),
        ("a", "stream", Some(1)),
        ("z", "stream", None),
        ("c", "classic", Some(2)),
    ];
    for (name, kind, order) in queues {
        let kind = table(&[("x-queue-type", leveret_test_support::amqp_client::string(kind))]);
        let queue = [("queue", text(name)), durable.clone(), ("arguments", kind)];
        client.call(&mut broker, 1, &method("queue.declare", &queue)).unwrap();
        let order: Vec<_> =
            order.map(|order| ("x-stream-partition-order", integer(order))).into_iter().collect();
        let bind = [
            ("queue", text(name)),
            ("exchange", text("hand")),
            ("routing_key", text("k")),
            ("arguments", table(&order)),
        ];
        client.call(&mut broker, 1, &method("queue.bind", &bind)).unwrap();
    }
    assert_eq!(partitions(&broker, "hand"), ["b", "a", "z"]);
    let vhost = broker.broker().vhost("/").unwrap();
    let exchange = vhost.super_stream("hand").unwrap();
    let mut routed: Vec<String> =
        vhost.route_super_stream(&exchange, "k").iter().map(ToString::to_string).collect();
    routed.sort();
    assert_eq!(routed, ["a", "b", "z"], "queues of other types are left out");
    assert!(vhost.route_super_stream(&exchange, "other").is_empty());
}

#[test]
fn operators_create_list_and_delete_them() {
    let (store, clock) = store_and_clock();
    let broker = start(&store, &clock);
    let path = "/api/stream/super-streams/%2F";
    let of_one = |name: &str| format!("{path}/{name}");
    let put = r#"{"partitions": 2, "arguments": {"max-age": "1D"}, "exchange-arguments": {"x-algorithm": "murmur3"}}"#;
    assert_eq!(broker.call("PUT", &of_one("inv"), put).0, 204);
    assert_eq!(broker.call("PUT", &of_one("geo"), r#"{"binding-keys": ["eu", "us"]}"#).0, 204);
    let (status, refused) = broker.call("PUT", &of_one("inv"), put);
    assert!(status == 400 && refused.contains("exchange 'inv' in vhost '/' already exists"), "{refused}");
    assert_eq!(broker.call("PUT", &of_one("no"), "{}").0, 400);
    let (_, list) = broker.call("GET", path, "");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&list).unwrap(),
        serde_json::json!([
            {"name": "geo", "vhost": "/", "partitions": ["geo-eu", "geo-us"]},
            {"name": "inv", "vhost": "/", "partitions": ["inv-0", "inv-1"]},
        ])
    );
    let vhost = broker.broker().vhost("/").unwrap();
    let queue = vhost.queue("inv-0").unwrap();
    assert_eq!(queue.definition().arguments.field("x-max-age"), Some(Value::from("1D")));
    // hello0 has an odd hash, k0 has too.
    let exchange = vhost.super_stream("inv").unwrap();
    assert_eq!(vhost.route_super_stream(&exchange, "hello0"), ["inv-1".into()]);
    assert_eq!(vhost.route_super_stream(&exchange, "hello1"), ["inv-0".into()]);
    assert_eq!(broker.call("DELETE", &of_one("geo"), "").0, 204);
    assert_eq!(broker.call("DELETE", &of_one("geo"), "").0, 404);
    assert_eq!(vhost.queue_count(), 2);
}
