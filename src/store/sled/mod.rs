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
mod copying;
mod database;
mod definitions;
mod engine;
mod fault;
mod guard;
mod index_file;
mod kept;
mod opening;
mod room;
mod second_copy;

use super::definitions_file::DefinitionsFile;
use super::directory::{Directory, Note};
use super::stamp::Tally;
use super::wal::{Place, Wal, WalOptions};
use super::{Durability, Loss, StoreError};
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

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}
