//! Data directories that earlier versions wrote are opened, and have what was in them. `format_2/` was made by the version before
//! definitions were kept twice, `format_3/` by the one before checkpoints of the index: some of what is in them is in the database,
//! some in the log alone, and the broker was killed. Each file is packed with gzip.

use flate2::read::GzDecoder;
use leveret::config::Config;
use leveret_test_support::api_client::TestBroker;
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

fn packed(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/management/format_{format}"))
}

fn unpack(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            unpack(&path, &to.join(path.file_name().unwrap()));
        } else if path.extension().is_some_and(|ending| ending == "gz") {
            let mut file = File::create(to.join(path.file_stem().unwrap())).unwrap();
            io::copy(&mut GzDecoder::new(File::open(&path).unwrap()), &mut file).unwrap();
        }
    }
}

/// What is defined, without the versions of who exported it.
fn without_versions(mut exported: Value) -> Value {
    exported.as_object_mut().unwrap().retain(|name, _| !name.contains("version"));
    exported
}

fn body(number: usize) -> String {
    let body = format!("plain {number} ").repeat(1 + number * 7 % 60);
    if number == 40 { body + &"L".repeat(30_000) } else { body }
}

#[test]
fn a_data_directory_of_format_2_is_opened_as_it_was_left() {
    opens_as_it_was_left(2);
}

#[test]
fn a_data_directory_of_format_3_is_opened_as_it_was_left() {
    opens_as_it_was_left(3);
}

fn opens_as_it_was_left(format: u32) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    unpack(&packed(format), &data);
    let expected =
        serde_json::from_slice(&fs::read(packed(format).join("definitions.json")).unwrap()).unwrap();
    let expected = without_versions(expected);
    let mut config = Config { data_dir: data.clone(), ..Config::default() };
    config.limits.disk_free_bytes = Some(1_000_000);
    // The second time it is a directory of this version's.
    for round in 0..2 {
        let broker = TestBroker::with(config.clone());
        assert_eq!(without_versions(broker.get("/api/definitions")), expected, "round {round}");
        let ask = r#"{"count":100,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
        let got = broker.ask("POST", "/api/queues/%2F/plain/get", ask).json();
        let bodies: Vec<&str> =
            got.as_array().unwrap().iter().map(|message| message["payload"].as_str().unwrap()).collect();
        assert_eq!(bodies, (10..50).map(body).collect::<Vec<_>>(), "round {round}");
        drop(broker);
        let format = fs::read_to_string(data.join("format")).unwrap();
        assert!(format.starts_with("leveret store 4\n") && data.join("definitions").exists(), "{format}");
    }
}
