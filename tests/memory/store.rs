//! The contract of [`Store`], held by every engine.

use bytes::Bytes;
use leveret::message::Lsn;
use leveret::store::{
    DefinitionChanges, Definitions, Durability, Faults, FaultyStore, MemoryStore, RecordLog, Scanned,
    SledStore, Store, StoreError, WalOptions,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Opens an engine again after what it kept was closed.
type Reopen<'a> = &'a dyn Fn(Box<dyn Store>) -> Box<dyn Store>;

fn append(store: &dyn Store, record: &[u8]) -> Lsn {
    let (head, body) = record.split_at(record.len().min(3));
    store.append(head, &Bytes::copy_from_slice(body)).unwrap()
}

fn scan(store: &dyn Store) -> Vec<(u64, Bytes)> {
    let mut records = Vec::new();
    store
        .scan(Lsn(1), &mut |lsn, scanned| match scanned {
            Scanned::Record(record) => records.push((lsn.0, record)),
            Scanned::Damaged(reason) => panic!("record {lsn}: {reason}"),
        })
        .unwrap();
    records
}

fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(seed | 1) >> 3) as u8).collect()
}

fn put(store: &dyn Store, key: &[u8], value: &[u8]) {
    let mut changes = DefinitionChanges::default();
    changes.put(key, value);
    store.define(&changes).unwrap();
}

fn remove(store: &dyn Store, key: &[u8]) {
    let mut changes = DefinitionChanges::default();
    changes.remove(key);
    store.define(&changes).unwrap();
}

/// What every engine does. `reopen` is `None` for one that keeps nothing.
fn contract(store: Box<dyn Store>, reopen: Option<Reopen<'_>>) {
    contract_with(store, &|store| store.sync().unwrap(), reopen);
}

/// The same, where `sync` has the engine make everything durable.
fn contract_with(store: Box<dyn Store>, sync: &dyn Fn(&dyn Store) -> Lsn, reopen: Option<Reopen<'_>>) {
    assert!(scan(&*store).is_empty());
    assert_eq!(sync(&*store), Lsn(0));
    let lengths = [0, 1, 2, 100, 8_191, 8_192, 8_193, 16_384, 300_000, 2_500_000];
    for (number, length) in (1..).zip(lengths) {
        assert_eq!(append(&*store, &bytes_of(number, length)), Lsn(number));
    }
    assert_eq!(sync(&*store), Lsn(10));
    for (number, length) in (1..).zip(lengths) {
        assert_eq!(store.get(Lsn(number)).unwrap().unwrap(), bytes_of(number, length));
    }
    assert_eq!(store.get(Lsn(0)).unwrap(), None);
    assert_eq!(store.get(Lsn(11)).unwrap(), None);

    store.discard(&[Lsn(2), Lsn(9), Lsn(99)]).unwrap();
    assert_eq!(store.get(Lsn(9)).unwrap(), None);
    let kept: Vec<u64> = scan(&*store).iter().map(|(lsn, _)| *lsn).collect();
    assert_eq!(kept, [1, 3, 4, 5, 6, 7, 8, 10]);
    let mut later = Vec::new();
    store.scan(Lsn(6), &mut |lsn, _| later.push(lsn.0)).unwrap();
    assert_eq!(later, [6, 7, 8, 10]);

    put(&*store, b"queue/b", b"2");
    put(&*store, b"queue/a", b"1");
    put(&*store, b"queue/b", b"3");
    put(&*store, b"queue/c", &bytes_of(7, 20_000));
    remove(&*store, b"queue/c");
    remove(&*store, b"queue/never");
    let mut changes = DefinitionChanges::default();
    changes.put(b"queue/d", b"4");
    changes.put(b"queue/d", b"5");
    changes.remove(b"queue/never");
    changes.remove(b"queue/d");
    store.define(&changes).unwrap();
    let definitions = |store: &dyn Store| -> Vec<(Vec<u8>, Vec<u8>)> {
        let definitions = store.definitions().unwrap();
        definitions.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    };
    let expected = [(b"queue/a".to_vec(), b"1".to_vec()), (b"queue/b".to_vec(), b"3".to_vec())];
    assert_eq!(definitions(&*store), expected);

    let Some(reopen) = reopen else { return };
    sync(&*store);
    let before = scan(&*store);
    let store = reopen(store);
    assert_eq!(scan(&*store), before);
    assert_eq!(definitions(&*store), expected);
    assert_eq!(append(&*store, b"after"), Lsn(11));
    assert_eq!(store.get(Lsn(8)).unwrap().unwrap(), bytes_of(8, 16_384));
}

fn sled(path: &Path) -> Box<dyn Store> {
    Box::new(SledStore::open(path, Durability::Fsync).unwrap())
}

#[test]
fn memory_holds_the_contract() {
    contract(Box::new(MemoryStore::default()), None);
}

#[test]
fn sled_holds_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract(
        sled(folder.path()),
        Some(&|store| {
            drop(store);
            sled(folder.path())
        }),
    );
}

/// One that moves everything into the database as soon as it can.
fn checkpointing(path: &Path) -> Box<dyn Store> {
    let options =
        WalOptions { segment_bytes: 4096, bytes_max: 8192, in_background: false, ..WalOptions::default() };
    Box::new(SledStore::open_with(path, Durability::Write, options).unwrap())
}

#[test]
fn sled_holds_the_contract_through_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    contract(
        checkpointing(folder.path()),
        Some(&|store| {
            drop(store);
            checkpointing(folder.path())
        }),
    );
}

#[test]
fn what_is_in_the_log_and_what_is_in_the_database_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), Durability::Write).unwrap();
    let check = |store: &SledStore, expected: &[u64]| {
        let found: Vec<u64> = scan(store).iter().map(|(lsn, _)| *lsn).collect();
        assert_eq!(found, expected);
        assert!((1..10).all(|lsn| store.get(Lsn(lsn)).unwrap().is_some() == expected.contains(&lsn)));
    };
    for number in 1..=5 {
        append(&store, &bytes_of(number, 20_000));
    }
    put(&store, b"both", b"1");
    put(&store, b"old", b"1");
    store.checkpoint().unwrap();
    check(&store, &[1, 2, 3, 4, 5]);
    store.discard(&[Lsn(2)]).unwrap();
    check(&store, &[1, 3, 4, 5]);
    append(&store, b"six");
    append(&store, b"seven");
    store.discard(&[Lsn(4), Lsn(6)]).unwrap();
    put(&store, b"both", b"2");
    remove(&store, b"old");
    check(&store, &[1, 3, 5, 7]);
    drop(store);
    let store = SledStore::open(folder.path(), Durability::Write).unwrap();
    let both = [(Bytes::from_static(b"both"), Bytes::from_static(b"2"))];
    assert_eq!(store.definitions().unwrap(), both);
    // Before the scan as well.
    assert_eq!((store.get(Lsn(4)).unwrap(), store.get(Lsn(6)).unwrap()), (None, None));
    check(&store, &[1, 3, 5, 7]);
    store.checkpoint().unwrap();
    check(&store, &[1, 3, 5, 7]);
    assert_eq!(store.definitions().unwrap(), both);
    drop(store);
    let store = SledStore::open(folder.path(), Durability::Write).unwrap();
    check(&store, &[1, 3, 5, 7]);
    assert_eq!(append(&store, b"eight"), Lsn(8));
}

/// sled's own threads may still hold its file for a moment after it was closed.
#[test]
fn a_database_that_is_still_held_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = sled(folder.path());
    append(&*store, b"one");
    drop(store);
    let path = folder.path().join("db-1/db");
    let holder = std::fs::File::open(&path).unwrap();
    holder.lock().unwrap();
    let handles = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|entry| std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to == path))
            .count()
    };
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| scan(&*sled(folder.path())));
        while handles() < 2 && !opening.is_finished() {
            std::thread::yield_now();
        }
        holder.unlock().unwrap();
        assert_eq!(opening.join().unwrap(), [(1, Bytes::from_static(b"one"))]);
    });
    assert!(!folder.path().join("db-2").exists(), "it was taken for damaged");
}

#[test]
fn what_a_checkpoint_that_was_cut_short_left_twice_is_discarded_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (wal, before) = (folder.path().join("wal"), folder.path().join("before"));
    let store = sled(folder.path());
    for number in 1..=5 {
        append(&*store, &bytes_of(number, 20_000));
    }
    store.sync().unwrap();
    std::fs::create_dir(&before).unwrap();
    for entry in std::fs::read_dir(&wal).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), before.join(entry.file_name())).unwrap();
    }
    drop(store);
    let store = SledStore::open(folder.path(), Durability::Fsync).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    std::fs::remove_dir_all(&wal).unwrap();
    std::fs::rename(&before, &wal).unwrap();
    for round in 0..2 {
        let store = SledStore::open(folder.path(), Durability::Fsync).unwrap();
        if round == 0 {
            assert_eq!(scan(&store).len(), 5);
            store.discard(&[Lsn(1), Lsn(2), Lsn(3), Lsn(4)]).unwrap();
            append(&store, b"six");
        }
        let found: Vec<u64> = scan(&store).iter().map(|(lsn, _)| *lsn).collect();
        assert_eq!(found, [5, 6], "round {round}");
        store.checkpoint().unwrap();
    }
}

#[test]
fn the_faulty_one_holds_the_contract_until_it_is_told_otherwise() {
    let store = FaultyStore::default();
    contract(
        Box::new(store.clone()),
        Some(&|_| {
            store.crash(0);
            Box::new(store.clone())
        }),
    );
}

#[test]
fn one_that_is_durable_later_holds_the_contract() {
    let store = FaultyStore::late();
    contract_with(
        Box::new(store.clone()),
        &|_| {
            store.make_durable(usize::MAX);
            store.sync().unwrap()
        },
        Some(&|_| {
            store.crash(0);
            Box::new(store.clone())
        }),
    );
}

#[test]
fn a_late_engine_says_how_far_it_is_and_rings() {
    let store = FaultyStore::late();
    let rung = Arc::new(AtomicU32::new(0));
    let bell = rung.clone();
    store.on_durable(Box::new(move || bell.store(bell.load(Ordering::Relaxed) + 1, Ordering::Relaxed)));
    append(&store, b"one");
    append(&store, b"two");
    assert_eq!((store.sync().unwrap(), rung.load(Ordering::Relaxed)), (Lsn(0), 0));
    assert_eq!(store.get(Lsn(1)).unwrap(), None);
    store.make_durable(1);
    assert_eq!((store.sync().unwrap(), rung.load(Ordering::Relaxed)), (Lsn(1), 1));
    assert_eq!(store.get(Lsn(1)).unwrap().unwrap(), "one");
    store.crash(0);
    assert_eq!(scan(&store), [(1, Bytes::from_static(b"one"))]);
}

#[test]
fn a_crash_keeps_what_was_synced_and_a_beginning_of_the_rest() {
    let store = FaultyStore::default();
    append(&store, b"one");
    store.sync().unwrap();
    append(&store, b"two");
    store.discard(&[Lsn(1)]).unwrap();
    append(&store, b"three");
    store.crash(2);
    assert_eq!(scan(&store), [(2, Bytes::from_static(b"two"))]);
    assert_eq!(append(&store, b"again three"), Lsn(3));
}

#[test]
fn what_was_told_to_fail_fails_then() {
    let store = FaultyStore::default();
    store.set_faults(Faults { appends_left: Some(1), syncs_left: Some(1), ..Faults::default() });
    append(&store, b"one");
    assert!(matches!(store.append(b"", &Bytes::from_static(b"two")), Err(StoreError::Failed(_))));
    store.sync().unwrap();
    assert!(store.sync().is_err());
}

#[test]
fn sled_makes_no_files_that_it_would_not_sync() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), Durability::Fsync).unwrap();
    for number in 0..200 {
        append(&store, &bytes_of(number, 262_144));
        if number % 3 == 0 {
            store.discard(&[Lsn(number / 2)]).unwrap();
        }
    }
    append(&store, &bytes_of(3, 20_000_000));
    store.sync().unwrap();
    store.checkpoint().unwrap();
    let blobs = std::fs::read_dir(folder.path().join("db-1/blobs")).unwrap().count();
    assert_eq!(blobs, 0);
}

#[test]
fn changes_of_definitions_are_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), Durability::Write).unwrap();
    put(&store, b"a", b"1");
    store.sync().unwrap();
    let mut changes = DefinitionChanges::default();
    changes.remove(b"a");
    (0..100).for_each(|number| changes.put(format!("key/{number}").as_bytes(), b"value"));
    store.define(&changes).unwrap();
    drop(store);
    let mut segments = std::fs::read_dir(folder.path().join("wal")).unwrap();
    let segment = segments
        .find_map(|entry| Some(entry.unwrap().path()).filter(|path| path.extension().is_some()))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"key/57").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let left = sled(folder.path()).definitions().unwrap();
    assert_eq!(left, [(Bytes::from_static(b"a"), Bytes::from_static(b"1"))]);
}

#[test]
fn sled_syncs_as_often_as_it_is_asked_and_only_if_it_is_to() {
    for (durability, syncs) in [(Durability::Fsync, 2), (Durability::Write, 0), (Durability::None, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(folder.path(), durability).unwrap();
        append(&store, b"one");
        store.sync().unwrap();
        put(&store, b"key", b"value");
        put(&store, b"other", b"value");
        store.sync().unwrap();
        assert_eq!(store.syncs(), syncs, "{durability:?}");
        drop(store);
        assert_eq!(scan(&*sled(folder.path())).len(), 1, "{durability:?}");
    }
}

#[test]
fn a_drained_database_gives_its_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), Durability::Write).unwrap();
    scan(&store);
    put(&store, b"key", b"value");
    let record = bytes_of(5, 4_000_000);
    while store.file_bytes() < 280 << 20 {
        append(&store, &record);
    }
    let last = store.sync().unwrap();
    let lsns: Vec<Lsn> = (1..last.0).map(Lsn).collect();
    store.checkpoint().unwrap();
    store.discard(&lsns).unwrap();
    assert_eq!(store.sync().unwrap(), last);
    store.checkpoint().unwrap();
    assert!(store.file_bytes() < 64 << 20, "{} bytes are left", store.file_bytes());
    assert_eq!(scan(&store), [(last.0, Bytes::from(record))]);
    assert_eq!(append(&store, b"next"), Lsn(last.0 + 1));
    drop(store);
    let store = sled(folder.path());
    assert_eq!(scan(&*store).len(), 2);
    assert_eq!(store.definitions().unwrap().len(), 1);
}

#[test]
fn a_second_broker_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _store = sled(folder.path());
    let refused = SledStore::open(folder.path(), Durability::Fsync).unwrap_err();
    assert!(refused.to_string().contains("in use by another broker"), "{refused}");
}
