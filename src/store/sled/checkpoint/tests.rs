//! Checkpoints that are made, that can not be, and that are made again.

use super::SHRINK_PAUSE_CHECKPOINTS;
use crate::message::Lsn;
use crate::store::sled::SledStore;
use crate::store::sled::database::PART_BYTES;
use crate::store::{Durability, RecordLog, Scanned, WalOptions};
use bytes::Bytes;
use std::path::Path;

fn append(store: &SledStore, body: &[u8]) -> Result<Lsn, crate::store::StoreError> {
    store.append(b"head", &Bytes::copy_from_slice(body))
}

fn scanned(store: &SledStore) -> Vec<(Lsn, Scanned)> {
    let mut all = Vec::new();
    store.scan(Lsn(1), &mut |lsn, scanned| all.push((lsn, scanned))).unwrap();
    all
}

/// A store whose first record of two lacks a piece.
fn open_damaged(folder: &Path) -> SledStore {
    let store = open(folder);
    assert_eq!(append(&store, &[7; 3 * PART_BYTES]).unwrap(), Lsn(1));
    assert_eq!(append(&store, b"whole").unwrap(), Lsn(2));
    store.checkpoint().unwrap();
    store.shared.current().damage(Lsn(1));
    drop(store);
    open(folder)
}

fn open(folder: &Path) -> SledStore {
    let options =
        WalOptions { segment_bytes: 1 << 10, bytes_max: 0, in_background: false, ..WalOptions::default() };
    SledStore::open_with(folder, Durability::Write, options).unwrap()
}

#[test]
fn a_damaged_database_is_left_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_damaged(folder.path());
    assert!(matches!(scanned(&store)[..], [(Lsn(1), Scanned::Damaged(_)), (Lsn(2), Scanned::Record(_))]));
    assert!(folder.path().join("damaged-db-1/db").exists());
    assert_eq!(append(&store, b"more").unwrap(), Lsn(3));
    store.checkpoint().unwrap();
    drop(store);
    assert!(matches!(
        scanned(&open(folder.path()))[..],
        [(Lsn(2), Scanned::Record(_)), (Lsn(3), Scanned::Record(_))]
    ));
}

/// Rewrites the database if it can; returns how many checkpoints pass before it is rewritten again.
fn rewrite(store: &SledStore) -> u32 {
    let mut moving = store.shared.moving.lock();
    store.shared.rewrite(&store.shared.current(), 100, &mut moving).unwrap();
    moving.pause
}

#[test]
fn a_database_that_can_not_be_rewritten_stays_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(append(&store, &[7; 3 * PART_BYTES]).unwrap(), Lsn(1));
    assert_eq!(append(&store, b"whole").unwrap(), Lsn(2));
    store.checkpoint().unwrap();
    assert_eq!(scanned(&store).len(), 2);
    store.shared.current().damage(Lsn(1));
    assert_eq!(rewrite(&store), SHRINK_PAUSE_CHECKPOINTS);
    assert_eq!(append(&store, b"more").unwrap(), Lsn(3));
    store.checkpoint().unwrap();
    assert!(folder.path().join("db-1").exists() && !folder.path().join("db-2").exists());
    store.discard(&[Lsn(1)]).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(rewrite(&store), SHRINK_PAUSE_CHECKPOINTS - 2, "the missing piece is not needed any more");
    assert!(folder.path().join("db-2").exists() && !folder.path().join("db-1").exists());
    drop(store);
    assert!(matches!(
        scanned(&open(folder.path()))[..],
        [(Lsn(2), Scanned::Record(_)), (Lsn(3), Scanned::Record(_))]
    ));
}

#[test]
fn what_is_left_of_a_damaged_record_goes_when_it_is_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_damaged(folder.path());
    let in_the_way = folder.path().join("db-2");
    std::fs::write(&in_the_way, b"").unwrap();
    assert!(matches!(scanned(&store)[..], [(Lsn(1), Scanned::Damaged(_)), (Lsn(2), Scanned::Record(_))]));
    assert!(folder.path().join("db-1/db").exists());
    store.discard(&[Lsn(1)]).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    assert!(matches!(scanned(&open(folder.path()))[..], [(Lsn(2), Scanned::Record(_))]));
}
