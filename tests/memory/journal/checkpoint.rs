//! Checkpoints of the index: a restart with one finds what one without it does, and reads little. Whatever is wrong with it costs time alone.

use super::model::SHAPE;
use leveret::message::{Lsn, Position, QueueId};
use leveret::store::{
    Changes, Durability, FaultyStore, Journal, JournalOptions, Loss, Recovered, SledStore, WalOptions,
};
use std::path::Path;

const QUEUE: QueueId = QueueId(1);

fn open(store: &FaultyStore) -> (Journal, Recovered) {
    Journal::open(Box::new(store.clone()), JournalOptions::default(), |_| {}).unwrap()
}

/// What there is without a checkpoint.
fn expected(store: &FaultyStore) -> Recovered {
    let copy = store.copied();
    copy.keep_checkpoint(None);
    open(&copy).1
}

/// That what is recovered is the same, and how many records were read for it.
fn read_for(store: &FaultyStore) -> u64 {
    let recovered = open(&store.copied()).1;
    let expected = expected(store);
    assert_eq!(recovered, Recovered { scanned: recovered.scanned, ..expected });
    recovered.scanned
}

fn record(journal: &Journal, positions: std::ops::Range<u64>) {
    let mut changes = Changes::default();
    for position in positions {
        changes.enqueue((b"ek--body", SHAPE), 1, &[(QUEUE, Position(position), (position % 3) as u8)]);
    }
    journal.append(&mut changes, None);
    journal.commit().unwrap();
}

/// Twenty records of ten messages, of which some are settled or came back.
fn fill(journal: &Journal) {
    for number in 0..20 {
        record(journal, number * 10..number * 10 + 10);
    }
    let mut changes = Changes::default();
    changes.settle_range(QUEUE, Position(3), Position(34));
    changes.requeue(QUEUE, Position(41), 2);
    changes.delivered(QUEUE, 1, Position(55));
    journal.append(&mut changes, None);
    settle_down(journal);
}

/// Discards what is to be, and syncs all.
fn settle_down(journal: &Journal) {
    for _ in 0..8 {
        journal.commit().unwrap();
    }
}

#[test]
fn only_what_came_after_it_is_read() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    fill(&journal);
    assert!(read_for(&store) >= 17);
    journal.checkpoint().unwrap();
    assert_eq!(read_for(&store), 0);
    for number in 20..23 {
        record(&journal, number * 10..number * 10 + 10);
    }
    assert_eq!(read_for(&store), 3);
    // Made again, it takes what the last one had.
    drop(journal);
    let (journal, recovered) = open(&store);
    assert_eq!((recovered.scanned, recovered.messages), (3, 230 - 32));
    journal.checkpoint().unwrap();
    assert_eq!(read_for(&store), 0);
}

#[test]
fn one_is_due_after_so_much_and_not_before() {
    let store = FaultyStore::default();
    let options = JournalOptions { checkpoint_every_bytes: 1000, ..JournalOptions::default() };
    let (journal, _) = Journal::open(Box::new(store.clone()), options, |_| {}).unwrap();
    assert!(!journal.is_checkpoint_due());
    fill(&journal);
    assert!(journal.is_checkpoint_due());
    journal.checkpoint().unwrap();
    assert!(!journal.is_checkpoint_due());
    let off = JournalOptions { checkpoint_every_bytes: 0, ..options };
    let (journal, _) = Journal::open(Box::new(FaultyStore::default()), off, |_| {}).unwrap();
    fill(&journal);
    assert!(!journal.is_checkpoint_due() && !journal.is_checkpoint_due_after(0));
}

#[test]
fn a_damaged_one_is_not_believed() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    fill(&journal);
    journal.checkpoint().unwrap();
    let all = expected(&store).records;
    let (at, whole) = store.kept_checkpoint().unwrap();
    let keep = |state: Vec<u8>| store.keep_checkpoint(Some((at, state.into())));
    for end in 0..whole.len() {
        keep(whole[..end].to_vec());
        assert_eq!(read_for(&store), all, "cut at {end}");
    }
    for byte in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[byte] ^= 0x10;
        keep(damaged);
        assert_eq!(read_for(&store), all, "byte {byte}");
    }
    store.keep_checkpoint(Some((Lsn(at.0 + 1), whole.clone())));
    assert_eq!(read_for(&store), all);
    store.keep_checkpoint(Some((at, whole)));
    assert_eq!(read_for(&store), 0);
}

#[test]
fn an_old_one_is_as_good_as_it_is_long() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    fill(&journal);
    journal.checkpoint().unwrap();
    let (old, spared) = (store.kept_checkpoint(), store.lsns().len());
    for number in 20..2000 {
        record(&journal, number * 10..number * 10 + 10);
        let mut changes = Changes::default();
        changes.settle_range(QUEUE, Position(number * 10 - 150), Position(number * 10 - 141));
        journal.append(&mut changes, None);
        journal.commit().unwrap();
        if number == 25 {
            let lsns = store.lsns().len() as u64;
            assert!(read_for(&store) < lsns && spared > 0);
        }
    }
    settle_down(&journal);
    journal.checkpoint().unwrap();
    assert_eq!(read_for(&store), 0);
    store.keep_checkpoint(old);
    read_for(&store);
}

#[test]
fn one_of_a_log_whose_end_is_lost_is_found_out() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    for number in 0..20 {
        record(&journal, number * 10..number * 10 + 10);
    }
    journal.checkpoint().unwrap();
    drop(journal);
    let lsns = store.lsns();
    lsns[lsns.len() - 6..].iter().for_each(|lsn| store.lose(*lsn));
    store.crash(usize::MAX);
    // What is left is as it was.
    assert_eq!(read_for(&store), 0);
    let (journal, _) = open(&store);
    for number in 0..6 {
        record(&journal, 1000 + number * 5..1005 + number * 5);
    }
    // Its numbers are those of other records now.
    let all = store.lsns().len() as u64;
    assert_eq!(read_for(&store), all);
    journal.checkpoint().unwrap();
    assert_eq!(read_for(&store), 0);
}

#[test]
fn a_record_that_is_missing_is_reported_all_the_same() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    fill(&journal);
    journal.checkpoint().unwrap();
    drop(journal);
    store.lose(store.lsns()[8]);
    let recovered = open(&store.copied()).1;
    assert!(matches!(recovered.losses[..], [Loss::Missing { count: 1, .. }]), "{:?}", recovered.losses);
    assert_eq!(recovered, expected(&store));
}

#[test]
fn records_that_it_has_no_room_for_are_read() {
    let store = FaultyStore::default();
    let options = JournalOptions { checkpoint_bytes_max: 300, ..JournalOptions::default() };
    let (journal, _) = Journal::open(Box::new(store.clone()), options, |_| {}).unwrap();
    fill(&journal);
    journal.checkpoint().unwrap();
    assert!(store.kept_checkpoint().is_some_and(|(_, state)| state.len() <= 300));
    let (all, read) = (store.lsns().len() as u64, read_for(&store));
    assert!(read > 0 && read < all, "{read} of {all} records are read");
}

fn open_on(path: &Path) -> (Journal, Recovered) {
    let options = WalOptions {
        segment_bytes: 2 << 10,
        bytes_max: 8 << 10,
        in_background: false,
        ..WalOptions::default()
    };
    let store = SledStore::open_with(path, Durability::Write, options).unwrap();
    Journal::open(Box::new(store), JournalOptions::default(), |_| {}).unwrap()
}

/// With records in the log and in the database.
#[test]
fn sled_need_not_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open_on(folder.path());
    for number in 0..100 {
        record(&journal, number * 10..number * 10 + 10);
    }
    journal.checkpoint().unwrap();
    record(&journal, 1000..1010);
    drop(journal);
    let (journal, with_it) = open_on(folder.path());
    assert_eq!((with_it.records, with_it.scanned, with_it.messages), (101, 1, 1010));
    let index = folder.path().join("index");
    for wrong in [&b""[..], b"short", &[7; 100]] {
        std::fs::write(&index, wrong).unwrap();
        drop(open_on(folder.path().join("other").as_path()));
        assert!(index.exists());
    }
    drop(journal);
    let (journal, without) = open_on(folder.path());
    assert_eq!(without, Recovered { scanned: 101, ..with_it });
    // It is made anew, and the end of what is read is where it ends.
    journal.checkpoint().unwrap();
    let mut changes = Changes::default();
    changes.settle_range(QUEUE, Position(0), Position(899));
    journal.append(&mut changes, None);
    for number in 0..40 {
        record(&journal, 2000 + number * 10..2010 + number * 10);
    }
    drop(journal);
    let (_, recovered) = open_on(folder.path());
    assert_eq!((recovered.messages, &recovered.losses[..]), (510, &[][..]));
    assert!(recovered.scanned < recovered.records, "{recovered:?}");
}

/// A start with a checkpoint does not read what is damaged. Once that was found the next start reads all, and reports it.
#[test]
fn damage_that_a_start_did_not_see_is_reported_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let options = WalOptions { in_background: false, ..WalOptions::default() };
        let store = SledStore::open_with(folder.path(), Durability::Write, options).unwrap();
        Journal::open(Box::new(store), JournalOptions::default(), |_| {}).unwrap()
    };
    let (journal, _) = open();
    fill(&journal);
    journal.checkpoint().unwrap();
    assert!(!journal.is_checkpoint_due());
    let mut segments =
        std::fs::read_dir(folder.path().join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.find(|path| path.extension().is_some_and(|ending| ending == "wal")).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let places: Vec<usize> =
        bytes.windows(8).enumerate().filter(|(_, window)| window == b"ek--body").map(|(at, _)| at).collect();
    bytes[places[152]] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    journal.read(QUEUE, 0, Position(100), usize::MAX).unwrap_err();
    assert!(journal.is_checkpoint_due());
    journal.checkpoint().unwrap();
    drop(journal);
    let (_, recovered) = open();
    assert!(!recovered.losses.is_empty());
    assert_eq!(recovered.messages, 200 - 32 - 10);
}
