//! A database file with a damaged byte, or cut short: the store opens all the same, and what is gone is said.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]

use leveret::message::{Lsn, Position, QueueId, StoredShape};
use leveret::store::{Changes, Durability, Journal, JournalOptions, Recovered, SledStore};
use std::path::Path;

const RECORDS: u64 = 100;
const MESSAGES: u64 = 200;

fn open(path: &Path) -> (Journal, Recovered) {
    let store = SledStore::open(path, Durability::Write).unwrap();
    Journal::open(Box::new(store), JournalOptions::default(), |_| {}).unwrap()
}

/// Some records of 200 KB, over several of sled's segments.
fn fill(path: &Path) {
    let (journal, _) = open(path);
    journal.definitions().put_definition(b"queue/gone", b"1").unwrap();
    journal.definitions().put_definition(b"queue/kept", b"1").unwrap();
    journal.definitions().remove_definition(b"queue/gone").unwrap();
    let shape =
        StoredShape { exchange_bytes: 0, routing_key_bytes: 0, properties_bytes: 2, dead_lettered: false };
    let mut changes = Changes::default();
    for record in 0..RECORDS {
        for message in 0..MESSAGES {
            let content: Vec<u8> = (0..1000).map(|at| (at * (record + 3) + message) as u8).collect();
            let position = Position(1 + record * MESSAGES + message);
            changes.enqueue((&content, shape), 1, &[(QueueId(1), position, 0)]);
        }
        journal.append(&mut changes, None);
        journal.commit().unwrap();
    }
}

/// Damages a fresh directory, opens it, and returns how many messages are lost.
fn lost_by(damage: impl FnOnce(&mut Vec<u8>)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let file = folder.path().join("db-1/db");
    let mut bytes = std::fs::read(&file).unwrap();
    damage(&mut bytes);
    std::fs::write(&file, &bytes).unwrap();

    let (journal, recovered) = open(folder.path());
    let lost = RECORDS * MESSAGES - recovered.messages;
    assert_eq!(lost > 0, !recovered.losses.is_empty(), "{lost} messages: {:?}", recovered.losses);
    let mut from = Position(0);
    let mut read = 0;
    loop {
        let page = journal.read(QueueId(1), 0, from, 1 << 20).unwrap();
        let Some(last) = page.last() else { break };
        from = Position(last.position.0 + 1);
        read += page.len() as u64;
    }
    assert_eq!(read, recovered.messages);
    let definitions = journal.definitions().definitions().unwrap();
    assert!(definitions.iter().all(|(key, _)| key == "queue/kept"), "{definitions:?}");

    // It goes on from there, and tells of the damage once.
    let mut changes = Changes::default();
    changes.settle(QueueId(1), Position(1));
    assert!(journal.append(&mut changes, None) > Lsn(RECORDS));
    journal.commit().unwrap();
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(folder.path()).1.losses, []);
    lost
}

#[test]
fn a_damaged_byte_costs_little() {
    for eighth in 0..8 {
        let lost = lost_by(|bytes| {
            let at = bytes.len() / 8 * eighth + 1000;
            bytes[at] ^= 0x55;
        });
        assert!(lost <= RECORDS * MESSAGES / 5, "{lost} messages are lost by a byte in eighth {eighth}");
    }
}

#[test]
fn a_file_cut_short_costs_what_was_cut_off() {
    for eighths in [1, 4, 7] {
        let lost = lost_by(|bytes| bytes.truncate(bytes.len() / 8 * eighths));
        assert!(lost > 0 && lost < RECORDS * MESSAGES, "{lost} messages are lost of {eighths} eighths");
    }
}

#[test]
fn a_file_that_is_gone_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    std::fs::remove_dir_all(folder.path().join("db-1")).unwrap();
    let (_, recovered) = open(folder.path());
    assert_eq!(recovered.messages, 0);
    assert!(recovered.losses[0].to_string().contains("was durable"), "{recovered:?}");
}
