//! The engine of a broker that keeps what it is given: a write-ahead log in front of a sled database.
//!
//! **Writing.** Everything goes to the end of the log ([`super::wal`]), which one write and one fdatasync make durable. sled's own
//! commit takes several times as long, so it gets what is left of many commits at once: a *checkpoint* moves the records of the log's
//! oldest segment that are still needed into the database, with the definitions that were set and the removals. Most messages are
//! acknowledged before that, and never get there. Checkpoints are made by a thread of the store's own, see [`checkpoint`].
//!
//! **Opening** replays the log on top of the database. A checkpoint that was cut short does no harm: its segment is still there,
//! and to do it again comes to the same.
//!
//! **Definitions** are in the database and the log as all else, and once more in a file of their own, see [`definitions`].
//!
//! Locks, in the order of taking: `moving`, `writing`, `known`. Reading takes `known` for a moment.

mod checkpoint;
mod database;
mod definitions;
mod fault;
mod guard;
mod opening;
mod room;
mod second_copy;

use super::definitions_file::DefinitionsFile;
use super::directory::{Directory, Note};
use super::stamp::Tally;
use super::wal::{Entry, Place, Wal, WalOptions};
use super::{DefinitionChanges, Durability, Loss, Scanned, Store, StoreError};
use crate::message::Lsn;
use bytes::Bytes;
use checkpoint::{Alarm, Moving, Purpose};
use database::Database;
pub use guard::takes_panics;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Keeps definitions and records in a data directory that it holds.
pub struct SledStore {
    shared: Arc<Shared>,
    mover: Option<JoinHandle<()>>,
}

/// What the store's users and its own thread share.
struct Shared {
    directory: Directory,
    durability: Durability,
    moving: Mutex<Moving>,
    writing: Mutex<Writing>,
    known: Mutex<Known>,
    current: RwLock<Arc<Database>>,
    alarm: Alarm,
    syncs: AtomicU64,
    /// Why the last checkpoint has to be made again.
    held_up: Mutex<Option<StoreError>>,
    /// Definitions that were not there when it was opened.
    lost: Vec<Loss>,
}

/// What only one writer at a time may touch.
struct Writing {
    wal: Wal,
    /// The number of the last record.
    last: Lsn,
    /// What the directory knows.
    noted: Note,
    /// What all definitions come to.
    tally: Tally,
    /// Up to which change of them the directory knows that.
    noted_version: u64,
    file: DefinitionsFile,
    /// Why nothing more may be written.
    failed: Option<StoreError>,
}

/// Which records are in the log, and which in the database.
#[derive(Default)]
struct Known {
    /// Records in the log.
    in_wal: BTreeMap<Lsn, Place>,
    /// Records of the log that can't be read any more.
    damaged: BTreeSet<Lsn>,
    /// Records of the log up to this one may be in the database as well: a checkpoint was cut short.
    overlap: Lsn,
    /// Records in the database, with their bytes. Known once the records were scanned.
    in_database: Option<BTreeMap<Lsn, u32>>,
    database_bytes: u64,
    /// Records that the database still has and that were discarded.
    removed: BTreeSet<Lsn>,
    /// Definitions that were set or removed since the last checkpoint.
    definitions: BTreeMap<Bytes, Change>,
    changes: u64,
}

/// What became of a definition.
#[derive(Clone)]
struct Change {
    /// Tells it from others of the same definition.
    number: u64,
    value: Option<Bytes>,
}

impl SledStore {
    /// Opens the data directory, makes it when it is not there.
    ///
    /// # Errors
    /// When another process holds it, a newer version wrote it, or what is in it can't be read.
    pub fn open(path: &Path, durability: Durability) -> Result<SledStore, StoreError> {
        SledStore::open_with(path, durability, WalOptions::default())
    }

    /// As [`SledStore::open`]; `options` say how large the log may get where the volume has the room.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn open_with(
        path: &Path,
        durability: Durability,
        options: WalOptions,
    ) -> Result<SledStore, StoreError> {
        opening::open(path, durability, options)
    }

    /// How often files were synced.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// Bytes of the database file and of the log.
    pub fn file_bytes(&self) -> u64 {
        self.shared.current().file_bytes() + self.shared.writing.lock().wal.bytes()
    }

    /// Moves all that is needed into the database, as a checkpoint does when the log is large.
    ///
    /// # Errors
    /// When the engine failed.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.shared.writing.lock().wal.end_segment();
        while self.shared.checkpoint(Purpose::Everything)? {}
        Ok(())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.shared.alarm.stop();
        if self.mover.take().is_some_and(|mover| mover.join().is_err()) {
            tracing::error!("the thread that makes checkpoints failed, please report this");
        }
        let mut writing = self.shared.writing.lock();
        if let Err(error) = writing.wal.close() {
            tracing::error!("the last sync of the write-ahead log failed: {error}");
        }
        if let Err(error) = writing.file.sync() {
            tracing::warn!("the last sync of the file of definitions failed: {error}");
        }
    }
}

impl Shared {
    fn current(&self) -> Arc<Database> {
        self.current.read().clone()
    }

    /// The writer's part, unless the store has failed.
    fn writing(&self) -> Result<parking_lot::MutexGuard<'_, Writing>, StoreError> {
        let writing = self.writing.lock();
        match &writing.failed {
            Some(error) => Err(error.clone()),
            None => Ok(writing),
        }
    }

    /// Nothing more may be written after this, unless it was for want of something that may come: then nothing was.
    fn fail(&self, writing: &mut Writing, what: &str, error: &io::Error) -> StoreError {
        let error = self.directory.failed_or_exhausted(what, error);
        if !error.may_pass() {
            writing.failed = Some(error.clone());
        }
        error
    }

    fn sync(&self, writing: &mut Writing) -> Result<(), StoreError> {
        if !writing.wal.is_synced() {
            writing.wal.sync().map_err(|error| self.fail(writing, "an fsync failed", &error))?;
            if self.durability == Durability::Fsync {
                self.syncs.fetch_add(1, Ordering::Release);
            }
        }
        // What was noted before the records were scanned stays: that tells which of them are missing.
        self.note(writing, Note { last: writing.last.max(writing.noted.last), ..writing.noted })?;
        self.note_definitions(writing)
    }

    fn note(&self, writing: &mut Writing, note: Note) -> Result<(), StoreError> {
        if self.durability != Durability::None && writing.noted != note {
            self.directory.note(note)?;
            writing.noted = note;
        }
        Ok(())
    }
}

impl Known {
    fn define(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.changes += 1;
        let change = Change { number: self.changes, value: value.map(Bytes::copy_from_slice) };
        self.definitions.insert(Bytes::copy_from_slice(key), change);
    }

    fn discard(&mut self, lsn: Lsn) {
        self.damaged.remove(&lsn);
        match self.in_wal.remove(&lsn) {
            Some(place) => {
                place.release();
                if lsn <= self.overlap {
                    self.removed.insert(lsn);
                }
            }
            None => self.discard_from_database(lsn),
        }
    }

    fn discard_from_database(&mut self, lsn: Lsn) {
        match &mut self.in_database {
            None => {
                self.removed.insert(lsn);
            }
            Some(records) => {
                if let Some(bytes) = records.remove(&lsn) {
                    self.database_bytes -= u64::from(bytes);
                    self.removed.insert(lsn);
                }
            }
        }
    }

    /// Whether the database has a record that was not discarded.
    fn may_be_in_database(&self, lsn: Lsn) -> bool {
        match &self.in_database {
            None => !self.removed.contains(&lsn),
            Some(records) => records.contains_key(&lsn),
        }
    }
}

impl Store for SledStore {
    fn define(&self, changes: &DefinitionChanges) -> Result<(), StoreError> {
        let shared = &self.shared;
        let mut writing = shared.writing()?;
        shared.append_definitions(&mut writing, changes)?;
        let mut known = shared.known.lock();
        changes.iter().for_each(|(key, value)| known.define(key, value));
        Ok(())
    }

    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        // No checkpoint may come in between.
        let _moving = self.shared.moving.lock();
        let read = self.shared.current().definitions();
        let mut definitions = read.map_err(|reason| {
            let what = self.shared.directory.database();
            self.shared.directory.failed(&what.display().to_string(), &reason)
        })?;
        for (key, change) in &self.shared.known.lock().definitions {
            match &change.value {
                Some(value) => definitions.insert(key.clone(), value.clone()),
                None => definitions.remove(key),
            };
        }
        Ok(definitions.into_iter().collect())
    }

    fn append(&self, head: &[u8], body: &[u8]) -> Result<Lsn, StoreError> {
        let shared = &self.shared;
        let mut writing = shared.writing()?;
        let last = writing.last;
        let lsn = Lsn(last.0 + 1);
        let appended = writing.wal.append(Entry::Record(lsn, head, body), last);
        let place =
            appended.map_err(|error| shared.fail(&mut writing, "a record can't be written", &error))?;
        writing.last = lsn;
        shared.known.lock().in_wal.extend(place.map(|place| (lsn, place)));
        shared.alarm.ring_if(writing.wal.is_checkpoint_due());
        Ok(lsn)
    }

    fn sync(&self) -> Result<Lsn, StoreError> {
        let mut writing = self.shared.writing()?;
        self.shared.sync(&mut writing)?;
        let (last, is_too_large) = (writing.last, writing.wal.is_too_large());
        drop(writing);
        if self.mover.is_none() {
            self.shared.make_checkpoints(true)?;
        } else if is_too_large {
            match self.shared.checkpoint(Purpose::Room) {
                // What was synced is durable. Further writes wait until the shortage is over.
                Err(StoreError::Exhausted(_)) => {}
                made => drop(made?),
            }
        }
        Ok(last)
    }

    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError> {
        let (reader, may_be_in_database) = {
            let known = self.shared.known.lock();
            (known.in_wal.get(&lsn).map(Place::reader), known.may_be_in_database(lsn))
        };
        let unreadable =
            |reason: String| self.shared.directory.failed(&format!("record {lsn} can't be read"), &reason);
        match reader {
            Some(reader) => {
                let record = reader.read(self.shared.directory.wal_magic(), lsn);
                record.map(Some).map_err(|error| unreadable(error.to_string()))
            }
            None if !may_be_in_database => Ok(None),
            None => self.shared.current().read(lsn).map_err(unreadable),
        }
    }

    fn scan(&self, visit: &mut dyn FnMut(Lsn, Scanned)) -> Result<(), StoreError> {
        let shared = &self.shared;
        let moving = shared.moving.lock();
        let (last, noted) = {
            let writing = shared.writing.lock();
            (writing.last, writing.noted.last)
        };
        let (in_wal, removed) = {
            let known = shared.known.lock();
            let damaged = known.damaged.iter().map(|lsn| (*lsn, None));
            let readable = known.in_wal.iter().map(|(lsn, place)| (*lsn, Some(place.reader())));
            (damaged.chain(readable).collect::<BTreeMap<_, _>>(), known.removed.clone())
        };
        let magic = shared.directory.wal_magic();
        let (mut in_database, mut damaged) = (BTreeMap::new(), Vec::new());
        let mut from_wal = in_wal.iter().peekable();
        let mut scan_wal = |below: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)| {
            while let Some((lsn, reader)) = from_wal.next_if(|(lsn, _)| **lsn < below) {
                let damaged = || Err(io::Error::other("it is damaged in the write-ahead log"));
                let record = reader.as_ref().map_or_else(damaged, |reader| reader.read(magic, *lsn));
                visit(*lsn, record.map_or_else(|error| Scanned::Damaged(error.to_string()), Scanned::Record));
            }
        };
        shared.current().scan(last, &mut |lsn, scanned| {
            if in_wal.contains_key(&lsn) || removed.contains(&lsn) {
                return;
            }
            match &scanned {
                Scanned::Record(record) => {
                    in_database.insert(lsn, u32::try_from(record.len()).unwrap_or(u32::MAX));
                }
                Scanned::Damaged(_) => damaged.push(lsn),
            }
            scan_wal(lsn, visit);
            visit(lsn, scanned);
        });
        scan_wal(Lsn(u64::MAX), visit);
        let highest = [in_wal.keys().next_back(), in_database.keys().next_back(), damaged.last()];
        let highest = highest.into_iter().flatten().max().copied().unwrap_or_default();
        if !damaged.is_empty() {
            let readable: Vec<Lsn> = in_database.keys().copied().collect();
            if !shared.leave_damaged_database(&readable, &moving)? {
                // What there is of them goes when they are discarded.
                in_database.extend(damaged.into_iter().map(|lsn| (lsn, 0)));
            }
        }
        {
            let mut known = shared.known.lock();
            known.database_bytes = in_database.values().map(|bytes| u64::from(*bytes)).sum();
            known.in_database = Some(in_database);
        }
        if noted > last {
            visit(noted, Scanned::Damaged(format!("it was durable, and the log ends at record {last}")));
            shared.writing.lock().last = noted;
        } else if highest < last {
            // The last one is never discarded, since numbers are counted on from it.
            visit(last, Scanned::Damaged("it was the last one, and neither log nor database has it".into()));
        }
        Ok(())
    }

    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError> {
        let mut writing = self.shared.writing()?;
        let last = writing.last;
        let appended = writing.wal.append(Entry::Discard(lsns), last);
        appended.map_err(|error| self.shared.fail(&mut writing, "records can't be removed", &error))?;
        let mut known = self.shared.known.lock();
        lsns.iter().for_each(|lsn| known.discard(*lsn));
        self.shared.alarm.ring_if(writing.wal.is_checkpoint_due() || !known.removed.is_empty());
        Ok(())
    }

    fn lost_definitions(&self) -> Vec<Loss> {
        self.shared.lost.clone()
    }

    fn shortage(&self) -> Option<StoreError> {
        let mut writing = self.shared.writing.lock();
        let made = writing.wal.make_ready();
        drop(writing);
        let what = "the next file of the write-ahead log can't be made";
        let of_log = made.err().map(|error| self.shared.directory.failed_or_exhausted(what, &error));
        of_log.or_else(|| self.shared.held_up.lock().clone())
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}
