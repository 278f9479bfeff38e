//! `leveret definitions` and `leveret apply`, as processes, against a broker in memory.

use leveret_test_support::api_client::TestBroker;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

/// Exported from RabbitMQ 3.10.8.
const EXPORTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/management/definitions.json");

fn leveret(broker: &TestBroker, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(arguments)
        .env("LEVERET_URL", format!("http://{}", broker.http))
        .env_remove("LEVERET_USER")
        .env_remove("LEVERET_PASSWORD")
        .output()
        .unwrap()
}

/// What a command prints that ends well.
fn out(broker: &TestBroker, arguments: &[&str]) -> String {
    let output = leveret(broker, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command prints, and what it complains of, if it ends with 1.
fn refused(broker: &TestBroker, arguments: &[&str]) -> (String, String) {
    let output = leveret(broker, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn definitions_go_from_one_broker_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.json"), folder.path().join("second.json"));
    let broker = TestBroker::start();
    let imported = out(&broker, &["definitions", "import", EXPORTED]);
    assert!(
        imported.starts_with("imported ") && imported.ends_with(&format!(" from {EXPORTED}\n")),
        "{imported}"
    );
    out(&broker, &["definitions", "export", text(&first)]);
    let other = TestBroker::start();
    out(&other, &["definitions", "import", text(&first)]);
    out(&other, &["definitions", "export", text(&second)]);
    assert_eq!(std::fs::read_to_string(&first).unwrap(), std::fs::read_to_string(&second).unwrap());
    let (_, why) = refused(&broker, &["definitions", "import", "/nonexistent.json"]);
    assert!(why.starts_with("leveret: /nonexistent.json can't be read: "), "{why}");
    std::fs::write(&first, r#"{"queues":[{"name":"q","vhost":"none","arguments":{}}]}"#).unwrap();
    let (_, why) = refused(&broker, &["definitions", "import", text(&first)]);
    assert!(why.contains("queue 'q' in vhost 'none'"), "{why}");
}

#[test]
fn a_converted_file_is_what_the_definitions_were() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leveret.toml");
    let broker = TestBroker::start();
    out(&broker, &["definitions", "import", EXPORTED]);
    let converted = leveret(&broker, &["definitions", "convert", EXPORTED]);
    assert!(converted.status.success());
    std::fs::write(&file, converted.stdout).unwrap();
    assert!(out(&broker, &["check", text(&file)]).contains(" is fine: "));
    let expected = format!("the broker matches {}, there is nothing to do\n", text(&file));
    assert_eq!(out(&broker, &["apply", text(&file), "--dry-run"]), expected);
}

/// Exports of RabbitMQ of all ages, with what Leveret lacks.
const EXPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/management/exports");

/// Whatever is in a document, what is made of it is taken, and has the rest as comments.
#[test]
fn whatever_is_converted_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start();
    let harmless = std::fs::read_to_string(EXPORTED).unwrap();
    let worse = [
        // Names and values that the file can't have, one entry twice, others that lead nowhere, and what is plainly wrong.
        r#"{"rabbit_version":"3.8.9","queues":[{"name":"amq.gen-A","vhost":"/"}]}"#,
        r#"{"users":[{"name":"app","password_hash":"AQID","tags":["",""]}],"permissions":[{"user":"app","vhost":"/","configure":"","write":"","read":""}]}"#,
        r#"{"users":[{"name":"app","password_hash":"","tags":""}],"permissions":[{"user":"guest","vhost":"/","configure":"","write":"","read":""}]}"#,
        r#"{"topic_permissions":[{"user":"guest","vhost":"/","exchange":"","write":"","read":""}]}"#,
        r#"{"vhosts":[{"name":"a\nb","limits":{"max-queues":-5}}],"queues":[{"name":"q","vhost":"a\nb"},{"name":"r","vhost":"/"}]}"#,
        r#"{"queues":[{"name":"q","arguments":{"a":null,"b":18446744073709551615,"c":[{"d":null}]}},{"name":"q"},{"name":1}]}"#,
        r#"{"queues":[{"name":"q","arguments":{"x-max-length":"many"}}],"bindings":[{"source":"amq.topic","destination":"q"},{"source":"amq.topic","destination":"q"}]}"#,
        r#"{"policies":[{"name":"p","vhost":"/","pattern":"(","definition":{"max-length":1}},{"name":"p","vhost":"/","pattern":"","definition":{"max-length":1},"priority":1.5}]}"#,
        r#"{"exchanges":[{"name":"x","type":"none"},{"name":"y","type":"x-consistent-hash","arguments":{"hash-header":1}}],"bindings":[{"source":"y","destination":"y","destination_type":"exchange","routing_key":"no weight"}]}"#,
    ];
    let documents = std::fs::read_dir(EXPORTS).unwrap().map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let documents = documents.map(|path| std::fs::read(path).unwrap());
    for document in documents.chain([harmless.into_bytes()]).chain(worse.map(|text| text.as_bytes().to_vec()))
    {
        let (json, toml) = (folder.path().join("definitions.json"), folder.path().join("leveret.toml"));
        std::fs::write(&json, &document).unwrap();
        let shown = String::from_utf8_lossy(&document).into_owned();
        let converted = leveret(&broker, &["definitions", "convert", text(&json)]);
        let notes = String::from_utf8(converted.stderr).unwrap();
        assert!(converted.status.success(), "{notes}: {shown}");
        std::fs::write(&toml, &converted.stdout).unwrap();
        let checked = leveret(&broker, &["check", text(&toml)]);
        assert!(checked.status.success(), "{}: {shown}", String::from_utf8_lossy(&checked.stderr));
        let comments = String::from_utf8(converted.stdout).unwrap();
        for note in notes.lines() {
            let note = note.strip_prefix("leveret: ").unwrap_or(note);
            assert!(comments.contains(&format!("# - {note}\n")), "{note}: {comments}");
        }
    }
}

#[test]
fn what_a_file_has_without_effect_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leveret.toml");
    let content = "\
[[policies]]
name = \"ha\"
pattern = \"\"
definition = { ha-mode = \"all\", max-length = 5 }
[[operator_policies]]
name = \"o\"
pattern = \"\"
apply_to = \"streams\"
definition = { max-length-bytes = 5 }
[[queues]]
name = \"q\"
arguments = { x-delayed-retry-type = \"all\", x-max-length = 5 }
[[exchanges]]
name = \"x\"
type = \"topic\"
arguments = { x-message-deduplication = true }
";
    std::fs::write(&file, content).unwrap();
    let checked = leveret(&TestBroker::start(), &["check", text(&file)]);
    assert!(checked.status.success(), "{checked:?}");
    let said = String::from_utf8(checked.stderr).unwrap();
    let expected = [
        (1, "policies[0]", "\"ha-mode\" has no effect: queues are not mirrored"),
        (13, "exchanges[0]", "\"x-message-deduplication\" has no effect: duplicates are not looked for"),
        (
            10,
            "queues[0]",
            "\"x-delayed-retry-type\" has no effect: there are no delayed retries yet, so messages return at once",
        ),
    ];
    let lines =
        expected.map(|(line, key, message)| format!("warning: {}:{line}: {key}: {message}\n", text(&file)));
    assert_eq!(said, lines.concat());
}

#[test]
fn what_is_left_out_is_told_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("definitions.json");
    std::fs::write(
        &file,
        r#"{"queues":[{"name":"s","vhost":"/","arguments":{"x-queue-type":"jms"}},{"name":"q","vhost":"/"}]}"#,
    )
    .unwrap();
    let broker = TestBroker::start();
    let why = "queues[0], queue 's' in vhost '/' is left out: there are no queues of type \"jms\"";
    let (_, refusal) = refused(&broker, &["definitions", "import", "--strict", text(&file)]);
    assert_eq!(refusal, format!("leveret: nothing of {} was imported: {why}\n", text(&file)));
    assert_eq!(broker.get("/api/queues"), json!([]));
    let imported = leveret(&broker, &["definitions", "import", text(&file)]);
    assert_eq!(String::from_utf8(imported.stderr).unwrap(), format!("leveret: {why}\n"));
    let said = String::from_utf8(imported.stdout).unwrap();
    assert_eq!(said, format!("imported 1 queue from {}, left out 1 queue\n", text(&file)));
    assert_eq!(broker.get("/api/queues?columns=name"), json!([{ "name": "q" }]));
}

const FILE: &str = r#"
[[vhosts]]
name = "/"
[[vhosts]]
name = "shop"
description = "what is sold"
max_queues = 10
[[users]]
name = "app"
password = "secret"
tags = ["monitoring"]
[[permissions]]
user = "app"
vhost = "shop"
configure = ""
write = ".*"
read = ".*"
[[policies]]
vhost = "shop"
name = "short"
pattern = "^tmp"
definition = { max-length = 10 }
[[exchanges]]
vhost = "shop"
name = "events"
type = "topic"
[[queues]]
vhost = "shop"
name = "orders"
arguments = { x-max-length = 100 }
[[bindings]]
vhost = "shop"
source = "events"
destination = "orders"
routing_key = "order.#"
"#;

#[test]
fn a_broker_is_made_to_match_and_messages_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leveret.toml");
    let file = text(&path);
    let broker = TestBroker::start();
    std::fs::write(&path, FILE).unwrap();
    let plan = "\
+ vhost 'shop'
+ user 'app'
+ permissions of user 'app' in vhost 'shop'
+ policy 'short' in vhost 'shop'
+ exchange 'events' in vhost 'shop'
+ queue 'orders' in vhost 'shop'
+ binding of queue 'orders' to exchange 'events' in vhost 'shop' with key 'order.#'
";
    let dry = out(&broker, &["apply", file, "--dry-run"]);
    assert_eq!(dry, format!("{plan}7 would be added, 0 would be changed, 0 would be deleted\n"));
    assert_eq!(broker.get("/api/vhosts?columns=name"), json!([{ "name": "/" }]));
    let done = out(&broker, &["apply", file]);
    assert_eq!(done, format!("{plan}7 added, 0 changed, 0 deleted\ndone\n"));
    let same = format!("the broker matches {file}, there is nothing to do\n");
    assert_eq!(out(&broker, &["apply", file]), same);

    // What differs is changed; a queue that has to be declared anew keeps its messages.
    broker.ask("PUT", "/api/queues/shop/more", "{}");
    broker.ask("POST", "/api/bindings/shop/e/events/q/more", r#"{"routing_key":"more"}"#);
    let message = r#"{"properties":{},"routing_key":"order.1","payload":"x","payload_encoding":"string"}"#;
    assert_eq!(broker.ask("POST", "/api/exchanges/shop/events/publish", message).status, 200);
    let other = FILE
        .replace("x-max-length = 100", "x-max-length = 200")
        .replace("\"topic\"", "\"fanout\"")
        .replace("\"secret\"", "\"other\"")
        .replace("[\"monitoring\"]", "[]")
        .replace("max_queues = 10", "max_queues = 20")
        .replace("max-length = 10 }", "max-length = 20 }");
    std::fs::write(&path, &other).unwrap();
    assert_eq!(
        out(&broker, &["apply", file]),
        "\
~ vhost 'shop': max-queues 10 -> 20
~ user 'app': tags [\"monitoring\"] -> [], another password
~ policy 'short' in vhost 'shop': definition {\"max-length\":10} -> {\"max-length\":20}
~ exchange 'events' in vhost 'shop': type \"topic\" -> \"fanout\"; it is deleted and declared anew, with its bindings
~ queue 'orders' in vhost 'shop': arguments {\"x-max-length\":100,\"x-queue-type\":\"classic\"} -> \
{\"x-max-length\":200,\"x-queue-type\":\"classic\"}; it is deleted and declared anew, with its bindings and its message
0 added, 5 changed, 0 deleted
done
"
    );
    assert_eq!(arguments(&broker, "orders"), json!({ "x-max-length": 200 }));
    assert_eq!(broker.get("/api/queues/shop/orders?columns=messages"), json!({ "messages": 1 }));
    let bindings =
        broker.get("/api/exchanges/shop/events/bindings/source?columns=destination&sort=destination");
    assert_eq!(bindings, json!([{ "destination": "more" }, { "destination": "orders" }]));
    let login = ["ctl", "--user", "app", "--password", "other", "ping"];
    assert_eq!(leveret(&broker, &login).status.code(), Some(4), "its tag is gone");
    assert_eq!(out(&broker, &["apply", file]), same);
    broker.ask("DELETE", "/api/queues/shop/orders/contents", "");

    // What the file does not have goes where that is asked for, but for messages and for the user who asks.
    broker.ask("POST", "/api/exchanges/shop/events/publish", message);
    broker.ask("PUT", "/api/vhosts/old", "");
    broker.ask("PUT", "/api/users/old", r#"{"password":"p","tags":""}"#);
    let (done, _) = refused(&broker, &["apply", file, "--prune"]);
    assert_eq!(
        done,
        "\
- binding of queue 'more' to exchange 'events' in vhost 'shop' with key 'more'
! queue 'more' in vhost 'shop' can't be deleted, it holds 1 message: consume or purge first
- user 'old'
- vhost 'old'
0 added, 0 changed, 3 deleted
done
"
    );
    assert_eq!(broker.get("/api/users?columns=name"), json!([{ "name": "app" }, { "name": "guest" }]));
    broker.ask("DELETE", "/api/queues/shop/more/contents", "");
    out(&broker, &["apply", file, "--prune"]);
    assert_eq!(broker.get("/api/queues?columns=name"), json!([{ "name": "orders" }]));
    assert_eq!(broker.get("/api/queues/shop/orders?columns=messages"), json!({ "messages": 1 }));
}

fn arguments(broker: &TestBroker, queue: &str) -> Value {
    broker.get(&format!("/api/queues/shop/{queue}"))["arguments"].clone()
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leveret.toml");
    let broker = TestBroker::start();
    std::fs::write(&path, FILE.replace("x-max-length = 100", "x-max-length = -1")).unwrap();
    let (done, why) = refused(&broker, &["apply", text(&path)]);
    assert_eq!(done, "");
    assert!(why.contains("queues[0]: invalid arg 'x-max-length'"), "{why}");
    assert_eq!(broker.get("/api/vhosts?columns=name"), json!([{ "name": "/" }]));
}

const QUEUE: &str = r#"
[[queues]]
name = "work"
arguments = { x-queue-type = "quorum", x-max-length = 1000 }
"#;

/// A broker with a durable queue of 25 messages that is bound in two ways, and a file that wants it otherwise.
fn with_messages(path: &Path) -> TestBroker {
    let broker = TestBroker::start();
    assert_eq!(
        broker.put("/api/queues/%2F/work", r#"{"durable":true,"arguments":{"x-max-length":50}}"#).status,
        201
    );
    for key in ["a", "b"] {
        let body = json!({ "routing_key": key, "arguments": { "x": 1 } }).to_string();
        assert_eq!(broker.ask("POST", "/api/bindings/%2F/e/amq.topic/q/work", &body).status, 201);
    }
    (0..25).for_each(|number| publish(&broker, number));
    std::fs::write(path, QUEUE).unwrap();
    broker
}

fn publish(broker: &TestBroker, number: u64) {
    let message = json!({
        "properties": { "delivery_mode": 2 }, "routing_key": "a", "payload": number.to_string(), "payload_encoding": "string",
    });
    let answered = broker.ask("POST", "/api/exchanges/%2F/amq.topic/publish", &message.to_string());
    assert_eq!(answered.json(), json!({ "routed": true }));
}

/// The messages in their order.
fn held(broker: &TestBroker) -> Vec<u64> {
    let items = broker.get("/api/queues/%2F/work/browse?count=100")["items"].clone();
    let payload = |item: &Value| item["payload"].as_str().unwrap().parse().unwrap();
    items.as_array().unwrap().iter().map(payload).collect()
}

/// The queue is as the file has it, with all bindings, and nothing is left of how it became so.
fn is_whole(broker: &TestBroker, file: &str) {
    assert_eq!(broker.get("/api/queues?columns=name,type"), json!([{ "name": "work", "type": "quorum" }]));
    let bindings =
        broker.get("/api/bindings/%2F/e/amq.topic/q/work?sort=routing_key&columns=routing_key,arguments");
    assert_eq!(
        bindings,
        json!([{ "routing_key": "a", "arguments": { "x": 1 } }, { "routing_key": "b", "arguments": { "x": 1 } }])
    );
    assert_eq!(out(broker, &["apply", file]), format!("the broker matches {file}, there is nothing to do\n"));
    let parameters = broker.get("/api/global-parameters").to_string();
    assert!(!parameters.contains("leveret-apply"), "{parameters}");
}

#[test]
fn a_queue_that_is_declared_anew_keeps_messages_and_bindings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leveret.toml");
    let broker = with_messages(&path);
    let done = out(&broker, &["apply", text(&path), "--prune"]);
    assert!(done.contains("declared anew, with its bindings and its 25 messages\n"), "{done}");
    // The file has no bindings, and --prune was asked for.
    assert_eq!(broker.get("/api/bindings/%2F/e/amq.topic/q/work"), json!([]));

    let broker = with_messages(&path);
    out(&broker, &["apply", text(&path)]);
    is_whole(&broker, text(&path));
    assert_eq!(held(&broker), (0..25).collect::<Vec<_>>());
}

#[test]
fn what_was_interrupted_is_finished_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leveret.toml");
    let file = text(&path);
    let ask = |broker: &TestBroker, method: &str, path: &str, body: &str| {
        let answered = broker.ask(method, path, body);
        assert!(answered.status < 300, "{method} {path}: {answered:?}");
    };
    let beside = "/api/queues/%2F/work.leveret-apply";
    let bindings = ["a", "b"].map(|key| {
        json!({
            "path": "/api/bindings/%2F/e/amq.topic/q/work",
            "body": { "routing_key": key, "arguments": { "x": 1 } },
        })
    });
    let noted = json!({ "value": bindings });
    let note = |broker: &TestBroker| {
        ask(broker, "PUT", "/api/global-parameters/leveret-apply%20%2F%20work", &noted.to_string());
    };
    let move_to_beside = |broker: &TestBroker, limit: u64| {
        ask(broker, "PUT", beside, r#"{"durable":true}"#);
        let body = json!({ "target": "work.leveret-apply", "limit": limit }).to_string();
        ask(broker, "POST", "/api/queues/%2F/work/move", &body);
    };

    // While messages were on their way.
    let broker = with_messages(&path);
    move_to_beside(&broker, 10);
    let done = out(&broker, &["apply", file]);
    assert!(done.contains("with its bindings and its 25 messages\n"), "{done}");
    is_whole(&broker, file);
    assert_eq!(held(&broker), (0..25).collect::<Vec<_>>());

    // When the queue was gone; pruning does not take what waits.
    let broker = with_messages(&path);
    move_to_beside(&broker, 100);
    note(&broker);
    ask(&broker, "DELETE", "/api/queues/%2F/work", "");
    let plan = "~ queue 'work' in vhost '/': it is declared with its bindings, and gets the 25 messages back that wait in \
                queue 'work.leveret-apply' in vhost '/'\n";
    assert!(out(&broker, &["apply", file, "--prune", "--dry-run"]).starts_with(plan));
    assert_eq!(out(&broker, &["apply", file]), format!("{plan}0 added, 1 changed, 0 deleted\ndone\n"));
    is_whole(&broker, file);
    assert_eq!(held(&broker), (0..25).collect::<Vec<_>>());

    // When it was there again, and some messages too.
    let broker = with_messages(&path);
    move_to_beside(&broker, 100);
    note(&broker);
    ask(&broker, "DELETE", "/api/queues/%2F/work", "");
    ask(
        &broker,
        "PUT",
        "/api/queues/%2F/work",
        r#"{"durable":true,"arguments":{"x-queue-type":"quorum","x-max-length":1000}}"#,
    );
    ask(&broker, "POST", &format!("{beside}/move"), r#"{"target":"work","limit":5}"#);
    out(&broker, &["apply", file]);
    is_whole(&broker, file);
    assert_eq!(held(&broker), (0..25).collect::<Vec<_>>());
}

#[test]
fn a_queue_that_is_full_or_in_use_is_not_declared_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leveret.toml");
    let broker = with_messages(&path);
    let small = QUEUE.replace("1000", "5, x-overflow = \"reject-publish\"");
    std::fs::write(&path, small).unwrap();
    let (_, why) = refused(&broker, &["apply", text(&path)]);
    assert!(why.contains("queue 'work' in vhost '/' is full and does not take"), "{why}");
    assert!(why.contains("what it held is in queue 'work.leveret-apply' in vhost '/'"), "{why}");
    std::fs::write(&path, QUEUE).unwrap();
    out(&broker, &["apply", text(&path)]);
    is_whole(&broker, text(&path));
    // Those that were there already are moved out of the way again, and stand behind the others.
    assert_eq!(held(&broker), (5..25).chain(0..5).collect::<Vec<_>>());

    std::fs::write(&path, QUEUE.replace("1000", "2000")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _consumer = runtime.block_on(async {
        let url = format!("amqp://guest:guest@{}/%2f", broker.amqp);
        let connection =
            lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = lapin::options::BasicConsumeOptions::default();
        let table = lapin::types::FieldTable::default();
        let consumer = channel.basic_consume("work".into(), "c".into(), options, table).await.unwrap();
        (connection, consumer)
    });
    let (plan, _) = refused(&broker, &["apply", text(&path)]);
    assert!(plan.contains("! queue 'work'") && plan.contains("it has 1 consumer: stop it first"), "{plan}");
}
