//! A database file or a write-ahead log with a damaged byte, or cut short: the store opens all the same, and what is gone is said.

use leveret::message::{Lsn, Position, QueueId, StoredShape};
use leveret::store::{
    Changes, DefinitionChanges, Durability, Journal, JournalOptions, Recovered, SledStore, WalOptions,
};
use std::path::{Path, PathBuf};

const RECORDS: u64 = 100;
const MESSAGES: u64 = 200;

/// Where most of the records are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Log,
    Database,
}

fn open(path: &Path, place: Place) -> (Journal, Recovered) {
    let options = match place {
        Place::Log => WalOptions { segment_bytes: 4 << 20, in_background: false, ..WalOptions::default() },
        Place::Database => {
            WalOptions { segment_bytes: 1 << 10, bytes_max: 0, in_background: false, ..WalOptions::default() }
        }
    };
    let store = SledStore::open_with(path, Durability::Write, options).unwrap();
    Journal::open(Box::new(store), JournalOptions::default(), |_| {}).unwrap()
}

/// Some records of 200 KB, over several of sled's segments, or of the log's.
fn fill(path: &Path, place: Place) {
    let (journal, _) = open(path, place);
    let mut definitions = DefinitionChanges::default();
    definitions.put(b"queue/gone", b"1");
    definitions.put(b"queue/kept", b"1");
    journal.define(definitions).unwrap();
    let mut removal = DefinitionChanges::default();
    removal.remove(b"queue/gone");
    journal.define(removal).unwrap();
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

/// The files of the log, oldest first.
fn segments(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.join("wal")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "wal"));
    paths.sort();
    paths
}

fn damage_file(path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    damage(&mut bytes);
    std::fs::write(path, &bytes).unwrap();
}

/// Damages a fresh directory, opens it, and returns how many messages are lost.
fn lost_by(place: Place, damage: impl FnOnce(&Path)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), place);
    damage(folder.path());

    let (journal, recovered) = open(folder.path(), place);
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

    // It goes on from there, and reports the damage once.
    let mut changes = Changes::default();
    changes.settle(QueueId(1), Position(1));
    assert!(journal.append(&mut changes, None) > Lsn(RECORDS));
    journal.commit().unwrap();
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(folder.path(), place).1.losses, []);
    lost
}

#[test]
fn a_damaged_byte_of_the_database_costs_little() {
    for eighth in 0..8 {
        let lost = lost_by(Place::Database, |path| {
            damage_file(&path.join("db-1/db"), |bytes| {
                let at = bytes.len() / 8 * eighth + 1000;
                bytes[at] ^= 0x55;
            });
        });
        assert!(lost <= RECORDS * MESSAGES / 5, "{lost} messages are lost by a byte in eighth {eighth}");
    }
}

#[test]
fn a_database_cut_short_costs_what_was_cut_off() {
    for eighths in [1, 4, 7] {
        let lost = lost_by(Place::Database, |path| {
            damage_file(&path.join("db-1/db"), |bytes| bytes.truncate(bytes.len() / 8 * eighths));
        });
        assert!(lost > 0 && lost < RECORDS * MESSAGES, "{lost} messages are lost of {eighths} eighths");
    }
}

#[test]
fn a_damaged_byte_of_the_log_costs_one_record() {
    for (segment, at) in [(0, 1000), (0, 3 << 20), (1, 10), (2, 1 << 20), (4, 300_000)] {
        let lost = lost_by(Place::Log, |path| {
            damage_file(&segments(path)[segment], |bytes| bytes[at] ^= 0x55);
        });
        let is_start_of_a_segment = at == 10;
        let expected = if is_start_of_a_segment { 0 } else { MESSAGES };
        assert_eq!(lost, expected, "byte {at} of segment {segment}");
    }
}

#[test]
fn a_log_cut_short_costs_what_was_cut_off() {
    let cut = |segment: usize| {
        lost_by(Place::Log, |path| {
            let segments = segments(path);
            damage_file(&segments[segment], |bytes| bytes.truncate(1_000_000));
        })
    };
    // A record has about 200 KB, so a segment has about 20.
    assert!((10..=20).contains(&(cut(1) / MESSAGES)));
    assert!(cut(4) > 0);
    let gone = lost_by(Place::Log, |path| std::fs::remove_file(&segments(path)[2]).unwrap());
    assert!((15..=25).contains(&(gone / MESSAGES)), "{gone}");
}

#[test]
fn files_that_are_gone_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), Place::Log);
    std::fs::remove_dir_all(folder.path().join("wal")).unwrap();
    let (_, recovered) = open(folder.path(), Place::Log);
    assert_eq!(recovered.messages, 0);
    assert!(recovered.losses[0].to_string().contains("was durable"), "{recovered:?}");
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), Place::Database);
    std::fs::remove_dir_all(folder.path().join("db-1")).unwrap();
    let (_, recovered) = open(folder.path(), Place::Database);
    assert!(!recovered.losses.is_empty());
}
