//! The management API, asked anything.

use super::input::Input;
use super::json;
use crate::in_memory::InMemory;
use axum::http::Uri;
use serde_json::Value;

const METHODS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "GET", "PUT", "OPTIONS", "PATCH"];

/// Requests of one input.
const REQUESTS_MAX: usize = 8;

/// Requests to a broker in memory, one after the other: a byte for the method, whose highest bit says that the body is JSON which
/// the bytes build, a path and a body. No fault is ours, and what is answered as JSON can be read.
pub(super) fn management(data: &[u8]) {
    let mut input = Input(data);
    let broker = InMemory::new();
    for _ in 0..REQUESTS_MAX {
        let Some(first) = input.byte() else { break };
        let path = String::from_utf8_lossy(input.short()).into_owned();
        let body = if first & 0x80 == 0 {
            input.long().to_vec()
        } else {
            json::built(&mut input).to_string().into()
        };
        if path.starts_with('/') && path.parse::<Uri>().is_ok() {
            ask(&broker, METHODS[usize::from(first & 7)], &path, &body);
        }
    }
}

fn ask(broker: &InMemory, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let (status, answer) = broker.call(method, path, body);
    assert!(status < 500 || status == 503, "{method} {path}: {status}, {answer}");
    if answer.starts_with('{') {
        let parsed = serde_json::from_str::<Value>(&answer);
        assert!(parsed.is_ok(), "{method} {path}: {answer}");
    }
    (status, answer)
}

const DEFINITIONS: &str = "/api/definitions";

/// A document of definitions: as it is, or, when the first byte is odd, built by the others. When it is imported, what is exported
/// then can be imported elsewhere, and comes to the same.
pub(super) fn definitions(data: &[u8]) {
    let mut input = Input(data);
    let Some(first) = input.byte() else { return };
    let document = if first & 1 == 0 { input.0.to_vec() } else { json::built(&mut input).to_string().into() };
    let broker = InMemory::new();
    let (status, _) = ask(&broker, "POST", DEFINITIONS, &document);
    if status >= 300 {
        return;
    }
    // It may have made the user another one.
    let Some(exported) = export(&broker) else { return };
    let other = InMemory::new();
    let (status, answer) = ask(&other, "POST", DEFINITIONS, exported.to_string().as_bytes());
    assert!(status < 300, "{status}: {answer}, of {exported}");
    if let Some(again) = export(&other) {
        assert_eq!(again, exported);
    }
}

/// All definitions, with the entries of each list in order.
fn export(broker: &InMemory) -> Option<Value> {
    let (status, answer) = ask(broker, "GET", DEFINITIONS, b"");
    let mut exported: Value = (status == 200).then(|| serde_json::from_str(&answer).unwrap())?;
    for section in exported.as_object_mut().unwrap().values_mut() {
        if let Value::Array(entries) = section {
            entries.sort_by_key(Value::to_string);
        }
    }
    Some(exported)
}
