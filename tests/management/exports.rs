//! What RabbitMQ of all ages exports is imported: `exports/` has a file for each shape, and beside it what is said of its entries.
//! `WRITE_EXPECTED=1` writes the latter anew. `4.3.json` and `4.3-of-a-vhost.json` were exported by RabbitMQ 4.3.6 with everything in it that Leveret lacks.

use leveret::broker::access::users::User;
use leveret_test_support::api_client::{AS_GUEST, TestBroker, ask, in_memory};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/management/exports")
}

fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.json"))).unwrap()
}

/// Where a file is to go: the export of a vhost into one.
fn place(name: &str) -> &'static str {
    if name.ends_with("of-a-vhost") { "/api/definitions/shop" } else { "/api/definitions" }
}

fn broker() -> TestBroker {
    let broker = TestBroker::start();
    broker.broker.add_vhost("shop").unwrap();
    broker
}

fn post(broker: &TestBroker, path: &str, body: &[u8]) -> (u16, Value) {
    let answered = ask(broker.http, "POST", path, &[AS_GUEST], body);
    (answered.status, if answered.body.is_empty() { json!({ "notes": [] }) } else { answered.json() })
}

fn messages(answer: &Value) -> String {
    let notes = answer["notes"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    notes.map(|note| format!("{}\n", note["message"].as_str().unwrap())).collect()
}

#[test]
fn each_is_imported_and_what_is_not_there_is_named() {
    for name in names() {
        let broker = broker();
        let (status, answer) = post(&broker, place(&name), &bytes(&name));
        assert_eq!(status, 200, "{name}: {answer}");
        let expected = folder().join(format!("{name}.txt"));
        if std::env::var_os("WRITE_EXPECTED").is_some() {
            fs::write(&expected, messages(&answer)).unwrap();
        }
        assert_eq!(messages(&answer), fs::read_to_string(&expected).unwrap(), "{name}");

        // It is all there now, so nothing changes when it comes again, and what is exported lacks nothing.
        let exported = broker.get("/api/definitions");
        assert_eq!(post(&broker, place(&name), &bytes(&name)).0, 200, "{name}");
        assert_eq!(broker.get("/api/definitions"), exported, "{name}");
        let other = TestBroker::start();
        let (_, answer) = post(&other, "/api/definitions", exported.to_string().as_bytes());
        assert!(!messages(&answer).contains("left out"), "{name}: {answer}");
        let mut again = other.get("/api/definitions");
        // Who imports may use the vhosts that come with it.
        again["permissions"] = exported["permissions"].clone();
        assert_eq!(again, exported, "{name}");
    }
}

#[test]
fn each_is_refused_as_a_whole_where_nothing_may_be_lacking() {
    for name in names() {
        let broker = broker();
        let before = broker.get("/api/definitions");
        let (status, answer) = post(&broker, &format!("{}?strict=true", place(&name)), &bytes(&name));
        let expected = fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
        let reason = answer["reason"].as_str().unwrap_or_default();
        assert!(status == 400 && reason.starts_with(expected.lines().next().unwrap()), "{name}: {answer}");
        assert_eq!(broker.get("/api/definitions"), before, "{name}");
    }
}

#[test]
fn each_is_loaded_at_start() {
    for name in names().into_iter().filter(|name| !name.ends_with("of-a-vhost")) {
        let broker = broker();
        post(&broker, "/api/definitions", &bytes(&name));
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("all.json"), bytes(&name)).unwrap();
        let mut config = in_memory();
        config.load_definitions = Some(directory.path().to_owned());
        let loaded = TestBroker::with(config);
        // The built-in guest is not made where others are.
        let guest = User::with_password("guest", "guest", [1, 2, 3, 4], vec!["administrator".to_owned()]);
        loaded.broker.put_user(guest).unwrap();
        for section in ["queues", "exchanges", "bindings", "policies", "parameters"] {
            let of = |broker: &TestBroker| broker.get("/api/definitions")[section].clone();
            assert_eq!(of(&loaded), of(&broker), "{name}");
        }
    }
}

#[test]
fn hashes_of_before_3_6_log_in() {
    let broker = broker();
    post(&broker, "/api/definitions", &bytes("3.0"));
    assert!(broker.broker.users().authenticate("old", b"secret").is_ok());
    assert!(broker.broker.users().authenticate("old", b"other").is_err());
}

#[test]
fn what_stands_in_pairs_is_heeded() {
    let broker = broker();
    post(&broker, "/api/definitions", &bytes("3.8"));
    let limits = json!([{ "vhost": "shop", "value": { "max-connections": 100, "max-queues": 4 } }]);
    assert_eq!(broker.get("/api/vhost-limits"), limits);
    let policy = broker.get("/api/operator-policies/shop/bound");
    assert_eq!(policy["definition"], json!({ "max-length": 5000 }));
    let queue = broker.get("/api/queues/shop/work?columns=type,arguments");
    let arguments = json!({ "x-queue-type": "quorum", "x-delivery-limit": 5 });
    assert_eq!(queue, json!({ "type": "quorum", "arguments": arguments }));
}

/// Whatever is wrong, wherever it stands: nothing of the document is imported.
#[test]
fn what_is_refused_changes_nothing() {
    let broker = broker();
    let limits = json!([["max-queues", 2]]);
    let queue = |name: &str| json!({ "name": name, "vhost": "new", "durable": true });
    let good = json!({
        "users": [{ "name": "new", "password": "secret", "tags": "administrator" }],
        "vhosts": [{ "name": "new", "limits": limits }],
        "permissions": [{ "user": "new", "vhost": "new", "configure": "", "write": "", "read": "" }],
        "topic_permissions": [{ "user": "new", "vhost": "new", "exchange": "x", "write": "", "read": "" }],
        "global_parameters": [{ "name": "note", "value": 1 }],
        "policies": [{ "name": "p", "vhost": "new", "pattern": "", "definition": { "max-length": 1 } }],
        "parameters": [{ "component": "shovel", "name": "s", "vhost": "new", "value": {} }],
        "exchanges": [{ "name": "x", "vhost": "new", "type": "x-consistent-hash" }],
        "queues": [queue("a"), queue("b")],
        "bindings": [{ "source": "x", "vhost": "new", "destination": "a", "routing_key": "1" }],
    });
    let before = broker.get("/api/definitions");
    let wrong = [
        ("users", json!({ "name": "u", "tags": "", "password_hash": "!" })),
        ("vhosts", json!({ "name": "v", "tags": 1 })),
        ("permissions", json!({ "user": "new", "vhost": "new", "configure": "(", "write": "", "read": "" })),
        (
            "topic_permissions",
            json!({ "user": "none", "vhost": "new", "exchange": "", "write": "", "read": "" }),
        ),
        ("global_parameters", json!({ "name": "n" })),
        (
            "policies",
            json!({ "name": "p", "vhost": "new", "pattern": "", "definition": { "max-lenght": 1 } }),
        ),
        ("parameters", json!({ "component": "shovel", "name": "s", "vhost": "new", "value": 1 })),
        (
            "exchanges",
            json!({ "name": "y", "vhost": "new", "type": "x-consistent-hash", "arguments": { "hash-property": "none" } }),
        ),
        ("queues", queue("c")),
        ("queues", json!({ "name": "q", "vhost": "none" })),
        (
            "bindings",
            json!({ "source": "x", "vhost": "new", "destination": "a", "routing_key": "no weight" }),
        ),
        (
            "bindings",
            json!({ "source": "x", "vhost": "new", "destination": "", "destination_type": "exchange" }),
        ),
    ];
    for (section, item) in wrong {
        let mut document = good.clone();
        document[section].as_array_mut().unwrap().push(item);
        let (status, answer) = post(&broker, "/api/definitions", document.to_string().as_bytes());
        let named = format!("{section}[");
        assert_eq!((status, answer["error"].as_str()), (400, Some("bad_request")), "{section}: {answer}");
        assert!(answer["reason"].as_str().unwrap().starts_with(&named), "{section}: {answer}");
        assert_eq!(broker.get("/api/definitions"), before, "{section}");
    }
    assert_eq!(post(&broker, "/api/definitions", good.to_string().as_bytes()).0, 200);
    assert_eq!(broker.get("/api/queues/new?columns=name"), json!([{ "name": "a" }, { "name": "b" }]));
}

#[test]
fn who_imports_a_vhost_may_use_it_unless_the_document_says_less() {
    let broker = broker();
    let document = json!({
        "vhosts": [{ "name": "one" }, { "name": "two" }],
        "permissions": [{ "user": "guest", "vhost": "two", "configure": "", "write": "^a", "read": "" }],
    });
    assert_eq!(post(&broker, "/api/definitions", document.to_string().as_bytes()).0, 204);
    let write = |vhost: &str| broker.get(&format!("/api/vhosts/{vhost}/permissions"))[0]["write"].clone();
    assert_eq!((write("one"), write("two")), (json!(".*"), json!("^a")));
    assert_eq!(broker.ask("DELETE", "/api/permissions/one/guest", "").status, 204);
    assert_eq!(post(&broker, "/api/definitions", document.to_string().as_bytes()).0, 204);
    assert_eq!(broker.get("/api/vhosts/one/permissions"), json!([]), "it was there already");
}

#[test]
fn a_deleted_vhost_takes_its_parameters_along() {
    let broker = broker();
    let set = |vhost: &str| {
        let path = format!("/api/parameters/shovel/{vhost}/s");
        assert_eq!(broker.put(&path, r#"{"value":{}}"#).status, 201);
    };
    set("shop");
    set("%2F");
    assert_eq!(broker.ask("DELETE", "/api/vhosts/shop", "").status, 204);
    broker.broker.add_vhost("shop").unwrap();
    assert_eq!(broker.get("/api/parameters/shovel/shop"), json!([]));
    assert_eq!(broker.get("/api/parameters/shovel?columns=vhost"), json!([{ "vhost": "/" }]));
}

#[test]
fn line_breaks_go_from_names_over_http_too() {
    let broker = broker();
    assert_eq!(broker.put("/api/queues/%2F/a%0D%0Ab", r#"{"durable":true}"#).status, 201);
    assert_eq!(broker.put("/api/exchanges/%2F/x%0Ay", r#"{"type":"fanout"}"#).status, 201);
    assert_eq!(broker.ask("POST", "/api/bindings/%2F/e/x%0Ay/q/a%0Ab", "{}").status, 201);
    assert_eq!(broker.ask("POST", "/api/bindings/%2F/e/amq.fanout/e/x%0Ay", "{}").status, 201);
    assert_eq!(broker.get("/api/queues/%2F/ab/bindings").as_array().unwrap().len(), 2);
    assert_eq!(broker.get("/api/exchanges/%2F/xy/bindings/destination").as_array().unwrap().len(), 1);
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let broker = broker();
    let warned = |path: &str, body: &str| {
        let answered = broker.put(path, body);
        assert_eq!(answered.status, 201, "{path}");
        answered.header("warning").map(str::to_owned)
    };
    let policy = |definition: &str| format!(r#"{{"pattern":"","definition":{definition}}}"#);
    for (name, definition, warning) in [
        ("fine", r#"{"max-length":1,"queue-mode":"lazy"}"#, None),
        (
            "ha",
            r#"{"ha-mode":"all","ha-sync-mode":"manual"}"#,
            Some(r#"299 leveret "\"ha-mode\" has no effect: queues are not mirrored""#),
        ),
        (
            "upstream",
            r#"{"federation-upstream-set":"all"}"#,
            Some(r#"299 leveret "\"federation-upstream-set\" has no effect: there is no federation yet""#),
        ),
        (
            "retry",
            r#"{"delayed-retry-type":"all","delayed-retry-min":5}"#,
            Some(
                r#"299 leveret "\"delayed-retry-min\", \"delayed-retry-type\" have no effect: there are no delayed retries yet, so messages return at once""#,
            ),
        ),
    ] {
        let path = format!("/api/policies/%2F/{name}");
        assert_eq!(warned(&path, &policy(definition)).as_deref(), warning, "{name}");
    }
    assert_eq!(
        warned("/api/parameters/shovel/%2F/s", r#"{"value":{}}"#).as_deref(),
        Some(r#"299 leveret "the parameter is kept, and nothing acts on it: there are no shovels yet""#)
    );
    assert_eq!(warned("/api/global-parameters/own", r#"{"value":1}"#), None);
    assert!(warned("/api/global-parameters/mqtt_default_vhosts", r#"{"value":{}}"#).is_some());
}

/// A vhost without a name could not be deleted: its path would be that of all of them.
#[test]
fn a_vhost_without_a_name_is_left_out() {
    let broker = broker();
    let document = json!({
        "vhosts": [{ "name": "" }],
        "permissions": [{ "user": "guest", "vhost": "", "configure": "", "write": "", "read": "" }],
        "queues": [{ "name": "q", "vhost": "" }],
    });
    let (status, answer) = post(&broker, "/api/definitions", document.to_string().as_bytes());
    assert_eq!((status, answer["notes"].as_array().map(Vec::len)), (200, Some(3)), "{answer}");
    assert!(broker.broker.vhost("").is_none());
}
