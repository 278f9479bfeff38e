//! Seeds of what is asked of the management API.

use super::{Seed, long, short};
use leveret::management::definitions::parse;
use leveret_test_support::fuzz_bodies::bytes_of;
use leveret_test_support::in_memory::InMemory;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Has something for each request that has a body.
fn body() -> Value {
    json!({
        "password": "p", "tags": "administrator", "type": "topic", "durable": true, "auto_delete": false,
        "arguments": { "x-max-length": 5, "x-dead-letter-exchange": "x" }, "pattern": "^q",
        "definition": { "max-length": 1, "message-ttl": 5 }, "apply-to": "queues", "priority": 1, "configure": "", "write": ".*",
        "read": "a", "exchange": "amq.topic", "value": 5, "routing_key": "q", "properties": { "headers": { "a": 1 } },
        "payload": "x", "payload_encoding": "string", "count": 5, "ackmode": "ack_requeue_true", "encoding": "auto",
        "name": "n", "component": "c", "vhost": "/", "users": ["u"],
    })
}

/// What stands for a parameter of a path.
fn named(template: &str) -> String {
    let words = template.split('/').map(|word| match word {
        "{vhost}" => "%2F",
        "{user}" => "guest",
        "{name}" if template.contains("exchanges") => "amq.topic",
        _ if word.starts_with('{') => "q",
        other => other,
    });
    words.collect::<Vec<_>>().join("/")
}

const GET: u8 = 0;
const PUT: u8 = 1;
const POST: u8 = 2;
const DELETE: u8 = 3;
const BUILT: u8 = 0x80;

fn request(method: u8, path: &str, body: &[u8]) -> Vec<u8> {
    [&[method][..], &short(path.as_bytes()), &long(body)].concat()
}

/// For each path: a queue with a message, then what the path can be asked.
pub(super) fn management() -> Vec<Seed> {
    let (status, document) = InMemory::new().call("GET", "/api/openapi.json", "");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&document).unwrap();
    let body = body().to_string();
    let before = [
        request(PUT, "/api/queues/%2F/q", b"{\"durable\":true}"),
        request(POST, "/api/exchanges/%2F/amq.default/publish", body.as_bytes()),
    ]
    .concat();
    let seed = |(template, operations): (&String, &Value)| {
        let path = named(template);
        let mut seed = before.clone();
        for (method, name) in [(PUT, "put"), (POST, "post"), (GET, "get"), (DELETE, "delete")] {
            if operations.get(name).is_some() {
                seed.extend(request(method, &path, if method == GET { b"" } else { body.as_bytes() }));
            }
        }
        ("management", template.replace('/', "-"), seed)
    };
    let mut seeds: Vec<Seed> = document["paths"].as_object().unwrap().iter().map(seed).collect();
    let built = [&[PUT | BUILT][..], &short(b"/api/policies/%2F/q"), &bytes_of(&self::body())].concat();
    seeds.push(("management", "built".to_owned(), built));
    let query = "/api/queues/%2F?page=1&page_size=2&sort=name&sort_reverse=true&columns=name,messages&name=q&use_regex=true";
    seeds.push(("management", "query".to_owned(), [before, request(GET, query, b"")].concat()));
    seeds
}

/// One entry of each kind, and exports of RabbitMQ's as they are and as built.
pub(super) fn definitions() -> Vec<Seed> {
    let small = json!({
        "users": [{ "name": "u", "password_hash": "", "tags": ["administrator"], "limits": {} }],
        "vhosts": [{ "name": "/" }, { "name": "v", "default_queue_type": "quorum" }],
        "permissions": [{ "user": "u", "vhost": "/", "configure": "", "write": ".*", "read": "^q" }],
        "topic_permissions": [{ "user": "u", "vhost": "/", "exchange": "amq.topic", "write": ".*", "read": "" }],
        "global_parameters": [{ "name": "n", "value": { "a": [1, 2.5, null] } }],
        "policies": [
            { "name": "p", "vhost": "/", "pattern": "^q", "definition": { "max-length": 5 }, "apply-to": "queues", "priority": 1 },
        ],
        "parameters": [{ "component": "vhost-limits", "vhost": "/", "name": "limits", "value": [["max-queues", 5]] }],
        "exchanges": [{ "name": "x", "vhost": "/", "type": "topic", "arguments": { "alternate-exchange": "y" } }],
        "queues": [{ "name": "q", "vhost": "/", "arguments": { "x-max-length": 5, "x-queue-type": "classic" } }],
        "bindings": [
            { "source": "x", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "a.#", "arguments": {} },
        ],
    });
    let mut seeds = vec![
        ("definitions", "small".to_owned(), [&[0][..], small.to_string().as_bytes()].concat()),
        ("definitions", "small-built".to_owned(), [&[1][..], &bytes_of(&small)].concat()),
        (
            "definitions",
            "no-object".to_owned(),
            b"\0{\"queues\":[1,[],\"a\",{}],\"users\":{},\"vhosts\":5}".to_vec(),
        ),
    ];
    let exports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/management/exports");
    for entry in fs::read_dir(exports).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let document = parse(&fs::read(&path).unwrap()).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            seeds.push(("definitions", name, [&[1][..], &bytes_of(&document)].concat()));
        }
    }
    seeds
}
