//! Definitions: `definitions.json` was exported by RabbitMQ 3.10.8, which `record` does anew. It is imported, and exported again.

use leveret_test_support::api_client::{AS_GUEST, TestBroker, ask, in_memory};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/management/definitions.json")
}

fn recorded() -> Value {
    serde_json::from_str(&fs::read_to_string(file()).unwrap()).unwrap()
}

fn password(user: usize) -> String {
    format!("the password of user {user}")
}

/// What RabbitMQ is given to export: something of everything, and a hundred queues.
fn given() -> Value {
    let vhosts = ["/", "shop", "a/b c"];
    let vhost = |number: usize| vhosts[number % vhosts.len()];
    let tags = ["administrator", "management,policymaker", "monitoring", ""];
    let users = (0..12).map(|user| {
        let limits =
            if user % 3 == 0 { json!({ "max-connections": 100, "max-channels": 50 }) } else { json!({}) };
        let tags = tags[user % 4];
        json!({ "name": format!("user {user}"), "password": password(user), "tags": tags, "limits": limits })
    });
    let permissions = (0..12).map(|user| {
        let pattern = format!("^(user{user}|amq\\.).*");
        let (name, vhost) = (format!("user {user}"), vhost(user));
        json!({ "user": name, "vhost": vhost, "configure": pattern, "write": ".*", "read": "" })
    });
    let topics = (0..4).map(|user| {
        let user = format!("user {user}");
        json!({ "user": user, "vhost": "shop", "exchange": "amq.topic", "write": "^{username}", "read": ".*" })
    });
    let policies = (0..10).map(|policy| {
        let definition = match policy % 4 {
            0 => json!({ "max-length": 1000 + policy, "overflow": "reject-publish" }),
            1 => json!({ "message-ttl": 60_000, "dead-letter-exchange": "x-1" }),
            2 => json!({ "expires": 3_600_000 }),
            _ => json!({ "alternate-exchange": "x-0" }),
        };
        json!({
            "vhost": vhost(policy),
            "name": format!("policy {policy}"),
            "pattern": format!("^policed-{policy}\\."),
            "apply-to": if policy % 4 == 3 { "exchanges" } else { "queues" },
            "definition": definition,
            "priority": policy,
        })
    });
    let kinds = ["direct", "fanout", "topic", "headers", "x-consistent-hash"];
    let exchanges = (0..15).map(|exchange| {
        let arguments = if exchange >= 12 { json!({ "alternate-exchange": "x-0" }) } else { json!({}) };
        json!({
            "name": format!("x-{exchange}"),
            "vhost": vhost(exchange),
            "type": kinds[exchange % kinds.len()],
            "durable": exchange % 2 == 0,
            "auto_delete": exchange % 5 == 1,
            "internal": false,
            "arguments": arguments,
        })
    });
    let queues = (0..100).map(|queue| {
        let arguments = match queue % 7 {
            0 => json!({ "x-queue-type": "quorum", "x-delivery-limit": 5 }),
            1 => json!({ "x-max-priority": 10 }),
            2 => json!({ "x-dead-letter-exchange": "", "x-dead-letter-routing-key": format!("q-{queue}") }),
            3 => json!({ "x-max-length": 5, "x-overflow": "reject-publish", "x-message-ttl": 1000 }),
            4 => json!({ "x-single-active-consumer": true, "note": "of ours", "list": [1, "2", { "three": 3.5 }] }),
            5 => json!({ "x-queue-type": "classic", "x-expires": 86_400_000 }),
            _ => json!({}),
        };
        json!({
            "name": format!("q-{queue}"),
            "vhost": vhost(queue),
            "durable": queue % 7 == 0 || queue % 3 != 1,
            "auto_delete": queue % 7 != 0 && queue % 11 == 3,
            "arguments": arguments,
        })
    });
    let bindings = (0..100).map(|queue| {
        let exchange = queue % 15 / 3 * 3 + queue % 3;
        let is_hash = kinds[exchange % kinds.len()] == "x-consistent-hash";
        json!({
            "source": if queue % 4 == 0 { "amq.topic".to_owned() } else { format!("x-{exchange}") },
            "vhost": vhost(queue),
            "destination": format!("q-{queue}"),
            "destination_type": "queue",
            "routing_key": if is_hash { "1".to_owned() } else { format!("key.{queue}.#") },
            "arguments": if queue % 10 == 2 { json!({ "x-match": "any", "n": queue }) } else { json!({}) },
        })
    });
    let between = json!({
        "source": "x-0",
        "vhost": "/",
        "destination": "x-3",
        "destination_type": "exchange",
        "routing_key": "",
        "arguments": {},
    });
    let operator_policy = json!({ "pattern": ".*", "definition": { "max-length": 100_000 }, "priority": 0, "apply-to": "queues" });
    json!({
        "users": users.collect::<Vec<_>>(),
        "vhosts": vhosts.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "permissions": permissions.collect::<Vec<_>>(),
        "topic_permissions": topics.collect::<Vec<_>>(),
        "parameters": [
            { "component": "vhost-limits", "vhost": "shop", "name": "limits", "value": { "max-connections": 500, "max-queues": 1000 } },
            { "component": "operator_policy", "vhost": "shop", "name": "bound", "value": operator_policy },
        ],
        "global_parameters": [{ "name": "note", "value": { "of": ["ours"] } }, { "name": "cluster_name", "value": "rabbits" }],
        "policies": policies.collect::<Vec<_>>(),
        "exchanges": exchanges.collect::<Vec<_>>(),
        "queues": queues.collect::<Vec<_>>(),
        "bindings": bindings.chain([between]).collect::<Vec<_>>(),
    })
}

/// Without the versions, and each section in an order that depends on its items alone.
fn in_order(mut definitions: Value) -> Value {
    let sections = definitions.as_object_mut().unwrap();
    sections.retain(|name, _| !name.contains("version") && name != "product_name");
    for section in sections.values_mut() {
        let items = section.as_array_mut().unwrap();
        items.iter_mut().for_each(Value::sort_all_objects);
        items.sort_by_cached_key(Value::to_string);
    }
    definitions.sort_all_objects();
    definitions
}

/// Checks that both have the same, and tells what only one of them has.
fn assert_same(got: Value, expected: Value) {
    let (got, expected) = (in_order(got), in_order(expected));
    let lines = |definitions: &Value| -> BTreeSet<String> {
        let sections = definitions.as_object().unwrap().iter();
        let items = sections.flat_map(|(name, items)| {
            items.as_array().unwrap().iter().map(move |item| format!("{name} {item}"))
        });
        items.collect()
    };
    let (left, right) = (lines(&got), lines(&expected));
    assert_eq!(left.difference(&right).collect::<Vec<_>>(), right.difference(&left).collect::<Vec<_>>());
    assert_eq!(got, expected);
}

fn import(broker: SocketAddr, path: &str, definitions: &Value) -> u16 {
    ask(broker, "POST", path, &[AS_GUEST], definitions.to_string().as_bytes()).status
}

/// A broker that has nothing but what it imports at start.
fn loaded(definitions: &Value) -> (TestBroker, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.json"), definitions.to_string()).unwrap();
    let mut config = in_memory();
    config.load_definitions = Some(directory.path().to_owned());
    (TestBroker::with(config), directory)
}

#[test]
fn what_was_exported_imports_and_exports_the_same_as_of_rabbitmq() {
    if let Ok(oracle) = std::env::var("RABBITMQ_HTTP") {
        return record(oracle.parse().unwrap());
    }
    let recorded = recorded();
    assert_eq!(recorded["queues"].as_array().unwrap().len(), 100);
    let (broker, _directory) = loaded(&recorded);
    let exported = broker.get("/api/definitions");
    assert_same(exported.clone(), recorded);
    assert_eq!(import(broker.http, "/api/definitions", &exported), 204);
    assert_same(broker.get("/api/definitions"), exported);
    for user in 0..12 {
        let logged_in =
            broker.broker.users().authenticate(&format!("user {user}"), password(user).as_bytes());
        assert!(logged_in.is_ok(), "user {user}");
    }
}

fn record(oracle: SocketAddr) {
    assert_eq!(import(oracle, "/api/definitions", &given()), 204);
    let exported = ask(oracle, "GET", "/api/definitions", &[AS_GUEST], b"").json();
    fs::write(file(), serde_json::to_string_pretty(&exported).unwrap() + "\n").unwrap();
    for vhost in ["shop", "a%2Fb%20c"] {
        ask(oracle, "DELETE", &format!("/api/vhosts/{vhost}"), &[AS_GUEST], b"");
    }
    for user in 0..12 {
        ask(oracle, "DELETE", &format!("/api/users/user%20{user}"), &[AS_GUEST], b"");
    }
    for policy in (0..10).filter(|policy| policy % 3 == 0) {
        ask(oracle, "DELETE", &format!("/api/policies/%2F/policy%20{policy}"), &[AS_GUEST], b"");
    }
    for parameter in ["note", "cluster_name"] {
        ask(oracle, "DELETE", &format!("/api/global-parameters/{parameter}"), &[AS_GUEST], b"");
    }
    crate::asks::clear(oracle);
}

#[test]
fn importing_adds_to_what_is_there() {
    let broker = TestBroker::start();
    assert_eq!(broker.put("/api/queues/%2F/kept", r#"{"durable":true}"#).status, 201);
    let definitions = json!({
        "unknown": [1],
        "queues": [
            { "name": "kept", "vhost": "/", "durable": false, "auto_delete": true, "arguments": { "x-max-length": 1 } },
            { "name": "new", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}, "type": "quorum" },
        ],
        "bindings": [{ "source": "gone", "vhost": "/", "destination": "new", "destination_type": "queue" }],
    });
    let answered = broker.ask("POST", "/api/definitions", &definitions.to_string());
    assert_eq!(
        (answered.status, answered.json()),
        (
            200,
            json!({ "notes": [{
                "section": "bindings",
                "index": 0,
                "name": "gone",
                "vhost": "/",
                "outcome": "left_out",
                "reason": "there is no exchange 'gone' in vhost '/'",
                "message": "bindings[0], binding 'gone' to 'new' in vhost '/' is left out: there is no exchange 'gone' in vhost '/'",
            }] })
        )
    );
    assert_eq!(
        broker.get("/api/queues/%2F/kept?columns=durable,arguments"),
        json!({ "durable": true, "arguments": {} })
    );
    assert_eq!(broker.get("/api/queues/%2F/new?columns=type"), json!({ "type": "quorum" }));
    assert_eq!(import(broker.http, "/api/definitions", &json!({})), 204);
    assert_eq!(broker.ask("POST", "/api/definitions", "").status, 204);
}

#[test]
fn the_definitions_of_a_vhost_go_into_another() {
    let broker = TestBroker::start();
    broker.broker.add_vhost("other").unwrap();
    assert_eq!(broker.put("/api/queues/%2F/q", r#"{"durable":true}"#).status, 201);
    assert_eq!(broker.put("/api/exchanges/%2F/x", r#"{"type":"topic"}"#).status, 201);
    assert_eq!(broker.ask("POST", "/api/bindings/%2F/e/x/q/q", r#"{"routing_key":"k"}"#).status, 201);
    let exported = broker.get("/api/definitions/%2F");
    let queue = json!([{ "name": "q", "durable": true, "auto_delete": false, "arguments": {} }]);
    assert_eq!(exported["queues"], queue);
    assert_eq!(import(broker.http, "/api/definitions/other", &exported), 204);
    assert_same(broker.get("/api/definitions/other"), exported);
    let nowhere = broker.ask("GET", "/api/definitions/nowhere", "");
    assert_eq!((nowhere.status, nowhere.json()["reason"].as_str()), (400, Some("vhost_not_found")));
    let nowhere = broker.ask("POST", "/api/definitions/nowhere", "{}");
    assert_eq!((nowhere.status, nowhere.json()["reason"].as_str()), (404, Some("vhost_not_found")));
}

#[test]
fn a_file_in_a_form_is_imported_too() {
    let broker = TestBroker::start();
    let form = |part: &str, content: &str| {
        let disposition = format!("Content-Disposition: form-data; name=\"{part}\"; filename=\"all.json\"");
        let redirect = "Content-Disposition: form-data; name=\"redirect\"\r\n\r\n../#/done";
        format!(
            "--limit\r\n{disposition}\r\nContent-Type: application/json\r\n\r\n{content}\r\n--limit\r\n{redirect}\r\n--limit--\r\n"
        )
    };
    let post = |body: &str| {
        let headers = [AS_GUEST, "Content-Type: multipart/form-data; boundary=limit"];
        broker.ask_with("POST", "/api/definitions", &headers, body)
    };
    let answered = post(&form("file", r#"{"queues":[{"name":"q","vhost":"/","durable":true}]}"#));
    assert_eq!((answered.status, answered.header("location")), (303, Some("../#/done")));
    assert_eq!(broker.get("/api/queues?columns=name"), json!([{ "name": "q" }]));
    let answered = post(&form("other", "{}"));
    assert_eq!(answered.json(), json!({ "error": "bad_request", "reason": "failed_to_parse_json" }));
    assert_eq!(post("--limit\r\n").status, 400);
}

#[test]
fn what_can_not_be_imported_is_named() {
    let broker = TestBroker::start();
    for (definitions, reason) in [
        ("x", "failed_to_parse_json"),
        ("[]", "failed_to_parse_json"),
        (r#"{"queues":"x"}"#, "queues is no list"),
        (r#"{"queues":["x"]}"#, "queues[0]: it is no object: \"x\""),
        (
            r#"{"queues":[{"name":"q"},{"name":"r"}]}"#,
            "queues[0], queue 'q': it says no vhost; an export of a single one is imported into one, with --vhost NAME or at /api/definitions/NAME (and 1 more like it)",
        ),
        (r#"{"users":[{"name":"u"}]}"#, "users[0], user 'u': tags_not_present"),
        (r#"{"users":[{"name":"u","tags":[],"password_hash":"!!"}]}"#, "users[0], user 'u': not base64: !!"),
        (
            r#"{"queues":[{"name":"q","vhost":"none"}]}"#,
            "queues[0], queue 'q' in vhost 'none': vhost 'none' does not exist",
        ),
        (
            r#"{"permissions":[{"user":"u","vhost":"/","configure":"","write":"","read":""}]}"#,
            "permissions[0], permissions of user 'u' in vhost '/': there is no user 'u', neither here nor in the document",
        ),
        (
            r#"{"queues":[{"name":"q","vhost":"/","arguments":{"x-max-length":"many"}}]}"#,
            "queues[0], queue 'q' in vhost '/': invalid arg 'x-max-length' for queue 'q' in vhost '/': \"expected integer, got longstr\"",
        ),
        (
            r#"{"exchanges":[{"name":"x","vhost":"/","type":"none"}]}"#,
            "exchanges[0], exchange 'x' in vhost '/': invalid exchange type 'none'",
        ),
        (
            r#"{"policies":[{"name":"p","vhost":"/","pattern":"","definition":{"none":1}}]}"#,
            "policies[0], policy 'p' in vhost '/': [{<<\"none\">>,1}] are not recognised policy settings",
        ),
    ] {
        let answered = broker.ask("POST", "/api/definitions", definitions);
        assert_eq!(
            (answered.status, answered.json()["reason"].as_str()),
            (400, Some(reason)),
            "{definitions}"
        );
    }
}
