//! What is lost of a data directory is told over HTTP until it is acknowledged, and the broker serves what is left.

use leveret::config::Config;
use leveret_test_support::api_client::TestBroker;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const LOST: &[u8] = b"lost-queue";

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

/// Damages each entry that speaks of the queue, wherever it is kept.
fn damage(data: &Path) {
    for path in files(data).into_iter().chain(files(&data.join("wal"))).chain(files(&data.join("db-1"))) {
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(LOST)).collect();
        places.iter().for_each(|at| bytes[*at] ^= 1);
        if !places.is_empty() {
            fs::write(&path, bytes).unwrap();
        }
    }
}

fn told(broker: &TestBroker) -> (Value, Value, u16) {
    let losses: Vec<Value> =
        broker.get("/api/losses").as_array().unwrap().iter().map(|loss| loss["text"].clone()).collect();
    let counts = json!([broker.get("/api/overview")["losses"], broker.get("/api/nodes")[0]["losses"]]);
    (losses.into(), counts, broker.ask("GET", "/api/health/checks/losses", "").status)
}

#[test]
fn losses_are_told_over_restarts_until_they_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    config.limits.disk_free_bytes = Some(1_000_000);
    let broker = TestBroker::with(config.clone());
    for path in ["/api/queues/%2F/lost-queue", "/api/queues/%2F/kept"] {
        assert_eq!(broker.ask("PUT", path, r#"{"durable":true}"#).status, 201);
    }
    assert_eq!(told(&broker), (json!([]), json!([0, 0]), 200));
    drop(broker);
    damage(&config.data_dir);
    for _ in 0..2 {
        let broker = TestBroker::with(config.clone());
        assert_eq!(told(&broker), (json!(["1 of 2 queues are lost"]), json!([1, 1]), 503));
        assert_eq!(broker.ask_with("GET", "/health/ready", &[], "").status, 200);
        assert_eq!(broker.get("/api/queues?columns=name"), json!([{ "name": "kept" }]));
        let reason = json!({ "status": "failed", "reason": "1 of 2 queues are lost" });
        assert_eq!(broker.ask("GET", "/api/health/checks/losses", "").json(), reason);
    }
    let broker = TestBroker::with(config.clone());
    assert_eq!(broker.ask("DELETE", "/api/losses", "").status, 204);
    assert_eq!(told(&broker), (json!([]), json!([0, 0]), 200));
    drop(broker);
    assert_eq!(told(&TestBroker::with(config)), (json!([]), json!([0, 0]), 200));
}
