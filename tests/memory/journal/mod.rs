//! The journal above engines that fail: simulated crashes, damage, group commit, space.

mod checkpoint;
mod faults;
mod model;
mod simulation;

use leveret::message::{Position, QueueId, StoredShape};
use leveret::store::{Changes, Durability, FaultyStore, Journal, JournalOptions, SledStore, WalOptions};
use simulation::{LateMachine, Simulation, SledMachine};

/// `LEVERET_SIMULATIONS` asks for more runs than the usual ones.
fn simulations(usual: u64) -> u64 {
    std::env::var("LEVERET_SIMULATIONS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(usual)
}

#[test]
fn what_survives_a_crash_is_what_was_durable() {
    let mut spared = 0;
    for seed in 0..simulations(1000) {
        let store = FaultyStore::default();
        let mut simulation = Simulation::new(seed, store.clone());
        simulation.run(600);
        spared += simulation.spared;
        simulation.drain();
        let (records, bytes) = (store.lsns().len(), store.bytes());
        assert!(records < 80, "seed {seed}: {records} records of {bytes} bytes are left");
    }
    assert!(spared > 1000, "{spared} records were not read since a checkpoint had them");
}

#[test]
fn what_survives_a_crash_of_a_log_that_is_durable_later_is_what_was_durable() {
    for seed in 0..simulations(500) {
        let store = FaultyStore::late();
        let mut simulation = Simulation::new(seed, LateMachine(store.clone()));
        simulation.run(600);
        simulation.drain();
        store.make_durable(usize::MAX);
        let (records, bytes) = (store.lsns().len(), store.bytes());
        assert!(records < 80, "seed {seed}: {records} records of {bytes} bytes are left");
    }
}

#[test]
fn what_survives_a_crash_on_sled_is_what_was_durable() {
    let mut spared = 0;
    for seed in 0..simulations(16).min(200) {
        let mut simulation = Simulation::new(seed, SledMachine::default());
        simulation.run(600);
        spared += simulation.spared;
    }
    assert!(spared > 0, "no record was not read since a checkpoint had it");
}

/// One message stays in its queue while a thousand pass through another.
#[test]
fn what_stays_does_not_keep_the_log_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let wal = WalOptions { segment_bytes: 64 << 10, in_background: false, ..WalOptions::default() };
    let options =
        JournalOptions { copy_age_records: 16, copy_anything_bytes: 64 << 10, ..JournalOptions::default() };
    let open = || {
        let store = SledStore::open_with(folder.path(), Durability::Write, wal).unwrap();
        Journal::open(Box::new(store), options, |_| {}).unwrap()
    };
    let (journal, _) = open();
    let shape = StoredShape {
        format: 0,
        exchange_bytes: 0,
        routing_key_bytes: 0,
        properties_bytes: 2,
        dead_lettered: false,
    };
    let mut changes = Changes::default();
    changes.enqueue((b"\0\0stays", shape), 1, &[(QueueId(1), Position(1), 0)]);
    let mut segments_max = 0;
    for position in (1..=1000).map(Position) {
        changes.enqueue((&[0; 8 << 10], shape), 1, &[(QueueId(2), position, 0)]);
        changes.settle(QueueId(2), position);
        journal.append(&mut changes, None);
        journal.commit().unwrap();
        let files = std::fs::read_dir(folder.path().join("wal")).unwrap();
        segments_max = segments_max.max(files.count());
    }
    assert!(segments_max < 10, "the log took {segments_max} segments of 64 KiB for one message that stays");
    drop(journal);
    let (journal, _) = open();
    assert_eq!(journal.usage().messages, 1);
}
