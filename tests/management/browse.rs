//! Looking at messages without touching them, and moving them.

use futures_lite::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use leveret::config::Config;
use leveret_test_support::api_client::{TestBroker, in_memory};
use serde_json::{Value, json};
use std::path::Path;

fn publish(broker: &TestBroker, queue: &str, payload: &str, headers: &Value) {
    let body = json!({
        "routing_key": queue,
        "properties": { "delivery_mode": 2, "headers": headers },
        "payload": payload,
        "payload_encoding": "string",
    });
    let answered = broker.ask("POST", "/api/exchanges/%2F/amq.default/publish", &body.to_string());
    assert_eq!(answered.json(), json!({ "routed": true }), "{queue}");
}

fn fill(broker: &TestBroker, queue: &str, count: usize) {
    (0..count).for_each(|number| publish(broker, queue, &number.to_string(), &json!({ "odd": number % 2 })));
}

fn payloads(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|item| item["payload"].as_str().unwrap()).collect()
}

/// Fetches all ready messages for good.
fn drain(broker: &TestBroker, queue: &str) -> Vec<Value> {
    let body = r#"{"count":10000,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    let answered = broker.ask("POST", &format!("/api/queues/%2F/{queue}/get"), body);
    answered.json().as_array().unwrap().clone()
}

fn drained(broker: &TestBroker, queue: &str) -> Vec<String> {
    let messages = drain(broker, queue);
    messages.iter().map(|message| message["payload"].as_str().unwrap().to_owned()).collect()
}

fn declare(broker: &TestBroker, queue: &str, arguments: &Value) {
    let body = json!({ "durable": true, "arguments": arguments });
    assert_eq!(broker.put(&format!("/api/queues/%2F/{queue}"), &body.to_string()).status, 201);
}

fn redrive(broker: &TestBroker, queue: &str, body: &Value) -> Value {
    let answered = broker.ask("POST", &format!("/api/queues/%2F/{queue}/redrive"), &body.to_string());
    assert_eq!(answered.status, 200, "{answered:?}");
    answered.json()
}

/// Whose messages soon leave memory.
fn short_of_memory() -> TestBroker {
    let mut config = in_memory();
    config.store.memory_budget_bytes = 1;
    TestBroker::with(config)
}

#[test]
fn a_history_that_a_client_made_up_does_no_harm() {
    let broker = TestBroker::start();
    declare(&broker, "dead", &json!({}));
    declare(&broker, "work", &json!({}));
    let long = "x".repeat(300);
    for (exchange, key) in [(long.as_str(), "k"), ("e", long.as_str()), ("e", "k")] {
        let death = json!([{ "exchange": exchange, "routing-keys": [key] }]);
        publish(&broker, "dead", "x", &json!({ "x-first-death-queue": "work", "x-death": death }));
    }
    publish(
        &broker,
        "dead",
        "x",
        &json!({ "x-first-death-queue": "work", "x-death": [{ "routing-keys": [5] }] }),
    );
    publish(&broker, "dead", "x", &json!({ "x-first-death-queue": 5, "x-death": "none" }));
    let report = redrive(&broker, "dead", &json!({}));
    assert_eq!((&report["moved"], &report["skipped"]), (&json!(4), &json!({ "not_dead_lettered": 1 })));
    let keys: Vec<Value> =
        drain(&broker, "work").into_iter().map(|message| message["routing_key"].clone()).collect();
    assert_eq!(keys, [json!("dead"), json!("dead"), json!("k"), json!("")]);
}

#[test]
fn a_page_ends_when_its_bodies_are_large() {
    let broker = TestBroker::start();
    declare(&broker, "q", &json!({}));
    (0..3).for_each(|_| publish(&broker, "q", &"x".repeat(9 << 20), &json!({})));
    let first = broker.get("/api/queues/%2F/q/browse?body_limit=100000000");
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let rest = format!("/api/queues/%2F/q/browse?after={}", first["next"].as_str().unwrap());
    assert_eq!(broker.get(&rest)["items"].as_array().unwrap().len(), 1);
    assert_eq!(broker.get("/api/queues/%2F/q/browse?body_limit=10")["items"].as_array().unwrap().len(), 3);
}

#[test]
fn a_queue_is_paged_through_and_nothing_is_touched() {
    let broker = TestBroker::start();
    declare(&broker, "q", &json!({}));
    fill(&broker, "q", 7);
    let browse = |query: &str| broker.get(&format!("/api/queues/%2F/q/browse?{query}"));
    let first = browse("count=3");
    assert_eq!(payloads(&first["items"]), ["0", "1", "2"]);
    let item = &first["items"][0];
    assert_eq!((&item["routing_key"], &item["redelivered"]), (&json!("q"), &json!(false)));
    assert_eq!((&item["state"], &item["properties"]["headers"]), (&json!("ready"), &json!({ "odd": 0 })));
    let second = browse(&format!("count=3&after={}", first["next"].as_str().unwrap()));
    assert_eq!(payloads(&second["items"]), ["3", "4", "5"]);
    let third = browse(&format!("count=3&after={}", second["next"].as_str().unwrap()));
    assert_eq!((payloads(&third["items"]), &third["next"]), (vec!["6"], &Value::Null));
    assert_eq!(payloads(&browse("header=odd=1")["items"]), ["1", "3", "5"]);
    assert_eq!(payloads(&browse("header=odd&count=2")["items"]), ["0", "1"]);
    assert_eq!(payloads(&browse("header=none")["items"]), [] as [&str; 0]);
    assert_eq!(payloads(&browse("body_limit=0&count=1")["items"]), [""]);
    assert_eq!(payloads(&browse("encoding=base64&count=1")["items"]), ["MA=="]);
    let fetched = drain(&broker, "q");
    assert!(fetched.iter().all(|message| message["redelivered"] == json!(false)));
    assert_eq!(payloads(&browse("")["items"]), [] as [&str; 0]);
    for (query, status) in [("count=x", 400), ("after=1", 400), ("state=lost", 400), ("encoding=none", 400)] {
        assert_eq!(broker.ask("GET", &format!("/api/queues/%2F/q/browse?{query}"), "").status, status);
    }
    assert_eq!(broker.ask("GET", "/api/queues/%2F/none/browse", "").status, 404);
}

#[test]
fn what_consumers_hold_is_shown_too() {
    let broker = TestBroker::start();
    declare(&broker, "q", &json!({}));
    fill(&broker, "q", 5);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", broker.amqp);
    let connection = runtime.block_on(async {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
        let options = BasicConsumeOptions::default();
        let mut consumer =
            channel.basic_consume("q".into(), "tag".into(), options, FieldTable::default()).await.unwrap();
        consumer.next().await.unwrap().unwrap().acker.ack(BasicAckOptions::default()).await.unwrap();
        consumer.next().await.unwrap().unwrap();
        consumer.next().await.unwrap().unwrap();
        std::mem::forget(consumer);
        connection
    });
    let browse = |query: &str| broker.get(&format!("/api/queues/%2F/q/browse?{query}"));
    let unacked = browse("state=unacked");
    assert_eq!(payloads(&unacked["items"]), ["1", "2"]);
    assert_eq!(unacked["items"][0]["consumer_tag"], "tag");
    assert_eq!(unacked["silent_connections"], 0);
    let name = broker.get("/api/connections")[0]["name"].clone();
    assert_eq!(unacked["items"][1]["connection_name"], name);
    let first = browse("state=unacked&count=1");
    let next = first["next"].as_str().unwrap();
    assert_eq!(payloads(&browse(&format!("state=unacked&after={next}"))["items"]), ["2"]);
    assert_eq!(payloads(&browse("state=unacked&header=odd=0")["items"]), ["2"]);
    assert_eq!(payloads(&browse("")["items"]), ["3", "4"]);
    runtime.block_on(connection.close(200, "done".into())).unwrap();
}

#[test]
fn dead_letters_go_back_to_where_they_died_first() {
    let broker = TestBroker::start();
    declare(&broker, "dead", &json!({}));
    for queue in ["work", "other"] {
        let to = json!({ "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead" });
        declare(&broker, queue, &to);
        fill(&broker, queue, 3);
        let body = r#"{"count":10,"ackmode":"reject_requeue_false","encoding":"auto"}"#;
        broker.ask("POST", &format!("/api/queues/%2F/{queue}/get"), body);
    }
    publish(&broker, "dead", "never died", &json!({}));
    let mut trial = redrive(&broker, "dead", &json!({ "dry_run": true }));
    assert!(trial.as_object_mut().unwrap().remove("next").is_some_and(|next| next.is_string()));
    let expected = json!({ "scanned": 7, "moved": 6, "targets": { "other": 3, "work": 3 }, "skipped": { "not_dead_lettered": 1 }, "dry_run": true });
    assert_eq!(trial, expected);
    let some = redrive(
        &broker,
        "dead",
        &json!({ "headers": { "odd": 1, "x-first-death-queue": null }, "limit": 1 }),
    );
    assert_eq!((&some["moved"], &some["targets"]), (&json!(1), &json!({ "work": 1 })));
    let rest = redrive(&broker, "dead", &json!({ "rate": 1000 }));
    assert_eq!(rest["moved"], 5);
    let mut back = drain(&broker, "work");
    back.sort_by_key(|message| message["payload"].to_string());
    assert_eq!(payloads(&Value::Array(back.clone())), ["0", "1", "2"]);
    assert_eq!((&back[0]["routing_key"], &back[0]["exchange"]), (&json!("work"), &json!("")));
    assert_eq!(back[0]["properties"]["headers"]["x-first-death-queue"], "work");
    assert_eq!(drained(&broker, "other").len(), 3);
    assert_eq!(drained(&broker, "dead"), ["never died"]);
}

#[test]
fn messages_move_even_when_they_are_not_in_memory() {
    let broker = short_of_memory();
    declare(&broker, "from", &json!({}));
    declare(&broker, "to", &json!({}));
    let padding = " ".repeat(64 << 10);
    for number in 0..60 {
        publish(&broker, "from", &format!("{number}{padding}"), &json!({ "odd": number % 2 }));
    }
    assert!(broker.get("/api/queues/%2F/from")["messages_paged_out"].as_u64().unwrap() > 30);
    let seen = broker.get("/api/queues/%2F/from/browse?after=0.30&body_limit=2");
    assert_eq!((seen["items"].as_array().unwrap().len(), &seen["next"]), (30, &Value::Null));
    let moved = broker.ask("POST", "/api/queues/%2F/from/move", r#"{"target":"to","headers":{"odd":1}}"#);
    assert_eq!((&moved.json()["scanned"], &moved.json()["moved"]), (&json!(60), &json!(30)));
    let numbers = |queue| -> Vec<u32> {
        drained(&broker, queue).iter().map(|payload| payload.trim().parse().unwrap()).collect()
    };
    assert_eq!(numbers("from"), (0..60).step_by(2).collect::<Vec<_>>());
    assert_eq!(numbers("to"), (1..60).step_by(2).collect::<Vec<_>>());
}

#[test]
fn what_has_no_way_to_go_stays() {
    let broker = TestBroker::start();
    declare(&broker, "from", &json!({}));
    declare(&broker, "full", &json!({ "x-max-length": 1, "x-overflow": "reject-publish" }));
    fill(&broker, "from", 3);
    let moved = redrive(&broker, "from", &json!({ "target": "full" }));
    assert_eq!((&moved["moved"], &moved["skipped"]), (&json!(1), &json!({ "target_full": 2 })));
    assert_eq!(drained(&broker, "from"), ["1", "2"]);
    for (body, status) in [
        (r#"{"target":"none"}"#, 404),
        (r#"{"target":"from"}"#, 400),
        (r#"{"limit":0}"#, 400),
        (r#"{"rate":-1}"#, 400),
        (r#"{"dry_run":"maybe"}"#, 400),
    ] {
        assert_eq!(broker.ask("POST", "/api/queues/%2F/from/redrive", body).status, status, "{body}");
    }
    assert_eq!(broker.ask("POST", "/api/queues/%2F/from/move", "{}").status, 400);
}

#[test]
fn what_was_moved_is_there_once_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = |path: &Path| TestBroker::with(Config { data_dir: path.to_owned(), ..Config::default() });
    let broker = start(directory.path());
    declare(&broker, "from", &json!({}));
    declare(&broker, "to", &json!({}));
    fill(&broker, "from", 20);
    assert_eq!(redrive(&broker, "from", &json!({ "target": "to", "limit": 12 }))["moved"], 12);
    drop(broker);
    let broker = start(directory.path());
    let numbers = |range: std::ops::Range<u32>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(drained(&broker, "to"), numbers(0..12));
    assert_eq!(drained(&broker, "from"), numbers(12..20));
}
