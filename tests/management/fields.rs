//! The fields of every answer, and their types, against those that RabbitMQ 3.10.8 gave for the same topology: they are in
//! `fields/rabbitmq.txt`, which `record` writes, and `fields/differences.txt` says where Leveret differs and why.

use crate::asks::clear;
use crate::topology::Topology;
use leveret_test_support::api_client::{AS_GUEST, TestBroker, ask};
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is asked for. `{node}`, `{connection}` and `{channel}` stand for names that are not the same everywhere.
const PATHS: &[&str] = &[
    "/api/overview",
    "/api/overview?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5",
    "/api/whoami",
    "/api/cluster-name",
    "/api/extensions",
    "/api/nodes",
    "/api/nodes/{node}",
    "/api/nodes/{node}/memory",
    "/api/nodes/{node}/memory/relative",
    "/api/definitions",
    "/api/definitions/%2F",
    "/api/parameters",
    "/api/parameters/operator_policy",
    "/api/parameters/policy/%2F",
    "/api/global-parameters",
    "/api/global-parameters/fields",
    "/api/policies",
    "/api/policies/%2F",
    "/api/policies/%2F/fields",
    "/api/operator-policies",
    "/api/operator-policies/%2F",
    "/api/operator-policies/%2F/fields",
    "/api/vhost-limits",
    "/api/vhost-limits/%2F",
    "/api/user-limits",
    "/api/user-limits/fields",
    "/api/connections",
    "/api/connections?page=1",
    "/api/connections/{connection}",
    "/api/connections/{connection}/channels",
    "/api/connections/username/guest",
    "/api/vhosts/%2F/connections",
    "/api/channels",
    "/api/channels/{channel}",
    "/api/vhosts/%2F/channels",
    "/api/consumers",
    "/api/consumers/%2F",
    "/api/exchanges",
    "/api/exchanges/%2F",
    "/api/exchanges/%2F/fields",
    "/api/exchanges/%2F/fields/bindings/source",
    "/api/exchanges/%2F/fields/bindings/destination",
    "/api/queues",
    "/api/queues?page=1&page_size=50",
    "/api/queues?disable_stats=true&enable_queue_totals=true",
    "/api/queues/%2F",
    "/api/queues/%2F/fields",
    "/api/queues/%2F/fields?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5",
    "/api/queues/%2F/fields-unused",
    "/api/queues/%2F/fields-quorum",
    "/api/queues/%2F/fields/bindings",
    "/api/bindings",
    "/api/bindings/%2F",
    "/api/bindings/%2F/e/fields/q/fields",
    "/api/bindings/%2F/e/fields/q/fields/key",
    "/api/bindings/%2F/e/fields/e/fields-alternate",
    "/api/vhosts",
    "/api/vhosts/%2F",
    "/api/vhosts/%2F/permissions",
    "/api/vhosts/%2F/topic-permissions",
    "/api/users",
    "/api/users/fields",
    "/api/users/fields/permissions",
    "/api/users/fields/topic-permissions",
    "/api/users/without-permissions",
    "/api/permissions",
    "/api/permissions/%2F/fields",
    "/api/topic-permissions",
    "/api/topic-permissions/%2F/fields",
    "/api/topic-permissions/%2F/fields/amq.topic",
    "/api/feature-flags",
    "/api/health/checks/alarms",
    "/api/health/checks/local-alarms",
    "/api/health/checks/virtual-hosts",
    "/api/health/checks/certificate-expiration/1/weeks",
    "/api/health/checks/port-listener/1",
    "/api/health/checks/protocol-listener/amqp091",
    "/api/health/checks/protocol-listener/stomp",
    "/api/health/checks/node-is-mirror-sync-critical",
    "/api/health/checks/node-is-quorum-critical",
    "/api/aliveness-test/%2F",
    "/api/healthchecks/node",
];

/// Of one answer: each place in it with the types that are found there.
type Shape = BTreeMap<String, BTreeSet<&'static str>>;

/// By path: the status and the shape.
type Shapes = BTreeMap<String, (u16, BTreeMap<String, BTreeSet<String>>)>;

fn collect(value: &Value, at: &str, shape: &mut Shape) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    shape.entry(at.to_owned()).or_default().insert(kind);
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, &format!("{at}[]"), shape)),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect(value, &format!("{at}.{name}"), shape))
        }
        _ => {}
    }
}

/// Asks for all paths, and writes down what has come: a line for each path with its status, and below it the places.
fn ask_all(broker: SocketAddr) -> String {
    let get = |path: &str| ask(broker, "GET", path, &[AS_GUEST], b"");
    let name = |path: &str| in_path(get(path).json()[0]["name"].as_str().unwrap_or_default());
    let names = [
        ("{node}", name("/api/nodes")),
        ("{connection}", name("/api/connections")),
        ("{channel}", name("/api/channels?sort=number")),
    ];
    let node = get("/api/nodes").json()[0]["name"].as_str().unwrap_or_default().to_owned();
    let mut out = String::new();
    for path in PATHS {
        let asked = names.iter().fold((*path).to_owned(), |asked, (word, name)| asked.replace(word, name));
        let answered = get(&asked);
        out += &format!("GET {path} {}\n", answered.status);
        let mut shape = Shape::new();
        if !answered.body.is_empty() {
            collect(&answered.json(), "", &mut shape);
        }
        for (at, kinds) in shape.iter().filter(|(at, _)| !at.is_empty()) {
            let at = at.replace(&node, "{node}");
            out += &format!("  {at} {}\n", kinds.iter().copied().collect::<Vec<_>>().join("|"));
        }
    }
    out
}

fn in_path(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn parse(text: &str) -> Shapes {
    let mut shapes = Shapes::new();
    let mut path = String::new();
    for line in text.lines() {
        if let Some(place) = line.strip_prefix("  ") {
            let (at, kinds) = place.rsplit_once(' ').unwrap();
            let kinds = kinds.split('|').map(str::to_owned).collect();
            shapes.get_mut(&path).unwrap().1.insert(at.to_owned(), kinds);
        } else {
            let mut words = line.split(' ').skip(1);
            path = words.next().unwrap().to_owned();
            let status = words.next().unwrap().parse().unwrap();
            shapes.insert(path.clone(), (status, BTreeMap::new()));
        }
    }
    shapes
}

/// What differs, a line for each place. Where RabbitMQ has several types, one of them will do.
fn compare(rabbitmq: &Shapes, leveret: &Shapes) -> Vec<String> {
    let mut found = Vec::new();
    for (path, (status, expected)) in rabbitmq {
        let (got_status, got) = &leveret[path];
        if status != got_status {
            found.push(format!("{path} status {status} {got_status}"));
            continue;
        }
        for (at, kinds) in expected {
            match got.get(at) {
                // What is below it is missing too.
                None if got.contains_key(parent(at)) || parent(at).is_empty() => {
                    found.push(format!("{path} {at} missing"));
                }
                Some(got_kinds) if !got_kinds.is_subset(kinds) => {
                    let list = |kinds: &BTreeSet<String>| kinds.iter().cloned().collect::<Vec<_>>().join("|");
                    found.push(format!("{path} {at} type {} {}", list(kinds), list(got_kinds)));
                }
                _ => {}
            }
        }
        for at in got.keys() {
            if !expected.contains_key(at) && (expected.contains_key(parent(at)) || parent(at).is_empty()) {
                found.push(format!("{path} {at} added"));
            }
        }
    }
    found
}

fn parent(at: &str) -> &str {
    match at.strip_suffix("[]") {
        Some(parent) => parent,
        None => at.rsplit_once('.').map_or("", |(parent, _)| parent),
    }
}

/// A reason, and the differences that it explains: each a pattern for `compare`'s lines, where `*` stands for anything.
struct Declared {
    because: String,
    patterns: Vec<Regex>,
}

fn declared(text: &str) -> Vec<Declared> {
    let mut all: Vec<Declared> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(pattern) => all.last_mut().unwrap().patterns.push(wildcards(pattern)),
            None => all.push(Declared { because: line.to_owned(), patterns: Vec::new() }),
        }
    }
    all
}

fn wildcards(pattern: &str) -> Regex {
    let pattern = regex::escape(pattern).replace("\\*", ".*");
    Regex::new(&format!("^{pattern}$")).unwrap()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/management/fields")
}

#[test]
fn fields_are_those_of_rabbitmq() {
    let file = folder().join("rabbitmq.txt");
    if let (Ok(http), Ok(amqp)) = (std::env::var("RABBITMQ_HTTP"), std::env::var("RABBITMQ_AMQP")) {
        let http = http.parse().unwrap();
        clear(http);
        let topology = Topology::build(http, amqp.parse().unwrap());
        // It gathers its statistics every five seconds, and needs several for a rate.
        std::thread::sleep(Duration::from_secs(25));
        fs::write(file, ask_all(http)).unwrap();
        topology.end(http);
        return;
    }
    let broker = TestBroker::start();
    let topology = Topology::build(broker.http, broker.amqp);
    let leveret = parse(&ask_all(broker.http));
    topology.end(broker.http);
    let rabbitmq = parse(&fs::read_to_string(file).unwrap());
    let declared = declared(&fs::read_to_string(folder().join("differences.txt")).unwrap());
    let differences = compare(&rabbitmq, &leveret);
    let explained =
        |line: &str| declared.iter().flat_map(|some| &some.patterns).any(|pattern| pattern.is_match(line));
    let new: Vec<&String> = differences.iter().filter(|line| !explained(line)).collect();
    assert!(new.is_empty(), "not declared in fields/differences.txt:\n{new:#?}");
    for Declared { because, patterns } in &declared {
        for pattern in patterns {
            assert!(
                differences.iter().any(|line| pattern.is_match(line)),
                "nothing differs any more by `{pattern}` ({because})"
            );
        }
    }
}
