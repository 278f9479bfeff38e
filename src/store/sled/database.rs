//! The sled database behind the log: sled 0.34, and nothing sled-shaped outside this file.
//!
//! **Layout.** Two trees. `definitions` is what it says, with a marker of our own. `records` maps `lsn (8) ‖ part (4)` to a
//! piece of a record. Every value is framed, see [`crate::store::salvage`]. Pieces are [`PART_BYTES`] long because of how sled keeps a
//! leaf: up to 16 values, written again as one item whenever ten changes have gathered, held in memory in 256 cache shards of at
//! least one leaf each, and put in a file of its own, which sled never syncs, once it is larger than a quarter of a segment. Small
//! pieces keep all three in bounds and cost no more processor time.
//!
//! **Durable** is sled's flush, which hands everything to the file, followed by a real fsync through a descriptor of our own:
//! sled's flush alone does not survive a loss of power. Between two such points sled uses the space of what it has moved again, so
//! its file is written through.
//!
//! **Damage.** sled may refuse a file for one byte, or open what was cut short as if it were empty. Both are noticed at open, and
//! what the bare file still holds is moved to a new database.
//!
//! **Space.** sled uses freed segments again but gives few back after a peak. When little is left alive in a large database,
//! it is copied into a new one.

use super::fault::{Fault, is_of_system};
use super::guard::{guarded, unpanicked, wait_until_released};
use super::kept::Kept;
use super::room::Room;
use crate::files;
use crate::message::Lsn;
use crate::store::directory::{self, Directory};
use crate::store::exhausted::lasting;
use crate::store::salvage::{Frame, Magic, Salvage};
use crate::store::stamp::Stamp;
use crate::store::{Durability, Scanned, StoreError};
use ::sled::{Batch, Db, IVec, Tree};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const SEGMENT_BYTES: usize = 4 << 20;

/// Bytes of a record in one sled value: 16 of them, and what a merge of leaves adds, stay far below a quarter of a segment.
pub(super) const PART_BYTES: usize = 8 << 10;

const CACHE_BYTES: u64 = 8 << 20;

/// How many values are removed in one batch. It goes through its keys in no order: a large one loads the same leaves again and
/// again.
pub(super) const REMOVED_AT_ONCE: usize = 32;

/// How many bytes are handed to sled before it has to have written them, which are several times as many for it. Its threads are seven:
/// were all of them to wait for the lock that a new segment is taken under, and that segment for the one of them that cuts the
/// file, none would ever go on.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// A key among the definitions that is none: its absence shows that sled lost everything. Its value counts changes (8), and says
/// behind that what the definitions come to.
const MARKER: &[u8] = b"\0leveret";

/// An open sled database; see the module.
pub(super) struct Database {
    db: Db,
    pub(super) records: Tree,
    pub(super) definitions: Tree,
    kept: Kept,
    file: File,
    pub(super) path: PathBuf,
    /// Bytes handed to sled since it was last flushed.
    unwritten: AtomicUsize,
    room: Room,
}

impl Database {
    fn open(path: &Path) -> Result<Database, Fault> {
        let config = ::sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let open = || -> Result<(Db, [Tree; 3]), ::sled::Error> {
            let db = config.open()?;
            let trees = [db.open_tree("records")?, db.open_tree("definitions")?, db.open_tree("kept")?];
            Ok((db, trees))
        };
        let file = path.join("db");
        let of_system = |error: std::io::Error| Fault::System(format!("{}: {error}", file.display()));
        files::make_folder(path).map_err(of_system)?;
        wait_until_released(&file).map_err(of_system)?;
        let (db, [records, definitions, kept]) = match unpanicked(open) {
            Ok(Ok(opened)) => opened,
            Ok(Err(::sled::Error::Io(error))) if is_of_system(&error) => {
                return Err(of_system(error));
            }
            Ok(Err(error)) => return Err(Fault::Damage(format!("sled says: {error}"))),
            Err(panicked) => return Err(Fault::Damage(panicked)),
        };
        let file = files::options().read(true).write(true).open(&file).map_err(of_system)?;
        let (path, unwritten, room) = (path.to_owned(), AtomicUsize::new(0), Room::new());
        let sequence = sequence_in(&definitions).map_err(Fault::Damage)?;
        let is_empty = sequence.is_none() && guarded(|| records.first()).is_ok_and(|first| first.is_none());
        let kept = Kept::new(kept, sequence, is_empty);
        Ok(Database { db, records, definitions, kept, file, path, unwritten, room })
    }

    /// Which records there are; see [`super::kept`].
    pub(super) fn kept_tree(&self) -> &Kept {
        &self.kept
    }

    /// A new database, with the entries of its folders on the disk.
    pub(super) fn create(
        directory: &Directory,
        path: &Path,
        durability: Durability,
    ) -> Result<Database, String> {
        if path.exists() {
            std::fs::remove_dir_all(path).map_err(|error| error.to_string())?;
        }
        let database = Database::open(path).map_err(Fault::text)?;
        database.settle_in(directory, durability)?;
        Ok(database)
    }

    fn settle_in(&self, directory: &Directory, durability: Durability) -> Result<(), String> {
        let folders = [self.path.join("blobs"), self.path.clone()];
        directory.sync_entries(&folders).map_err(|error| error.to_string())?;
        self.flush()?;
        self.fsync().map_err(|error| error.to_string())?;
        directory::write_through(&self.file, &self.path, durability == Durability::Fsync);
        Ok(())
    }

    /// Opens the current database; when sled can't, or has lost what was there, a new one with what its file still holds. And what
    /// definitions it has.
    pub(super) fn open_or_salvage(
        directory: &Directory,
        durability: Durability,
    ) -> Result<(Database, BTreeMap<Bytes, Bytes>), StoreError> {
        let path = directory.database();
        let file = path.join("db");
        let is_new = !file.exists();
        let noted = directory.noted();
        // sled writes over what it can't make sense of, and a file cut short makes none.
        let is_cut = !is_new && file.metadata().map_or(0, |metadata| metadata.len()) < noted.file_bytes;
        let copy = match is_cut {
            true => Some(
                directory.copy_file().map_err(|error| directory.failed("a copy can't be made", &error))?,
            ),
            false => None,
        };
        let (reason, opened) = match Database::open(&path) {
            Err(Fault::System(reason)) => return Err(directory.refused(reason)),
            Err(Fault::Damage(reason)) if is_new => return Err(directory.unusable(reason)),
            Err(Fault::Damage(reason)) => (reason, None),
            Ok(database) => {
                match database.what_is_lost(noted.sequence).and_then(|()| database.definitions()) {
                    Ok(definitions) => {
                        copy.map(std::fs::remove_file);
                        let settled = database.settle_in(directory, durability);
                        settled.map_err(|reason| directory.unusable(reason))?;
                        return Ok((database, definitions));
                    }
                    Err(reason) => (reason, Some(database)),
                }
            }
        };
        drop(opened);
        tracing::error!("{}: {reason}. Looking for what the bare file holds", path.display());
        let salvaged = Database::salvage(directory, durability, &copy.unwrap_or(file))
            .and_then(|database| database.definitions().map(|definitions| (database, definitions)));
        salvaged.map_err(|error| directory.unusable(format!("{reason}; and salvaging failed: {error}")))
    }

    /// Whether sled has what must be there; if not, what shows that.
    fn what_is_lost(&self, noted: u64) -> Result<(), String> {
        let sequence = match self.sequence()? {
            // No checkpoint was ever made.
            None if noted == 0 => return self.mark(0, None),
            None => return Err("sled finds nothing in it".into()),
            Some(sequence) => sequence,
        };
        if sequence < noted {
            return Err(format!("sled finds {sequence} changes, and {noted} were durable"));
        }
        Ok(())
    }

    /// Makes the next database of what a file of the current one holds.
    fn salvage(directory: &Directory, durability: Durability, from: &Path) -> Result<Database, String> {
        let text = |error: std::io::Error| error.to_string();
        let magic = directory.magic();
        let salvage = Salvage::of(from, magic).map_err(text)?;
        let file = File::open(from).map_err(text)?;
        let next = directory.next_database();
        let database = Database::create(directory, &next, durability)?;
        database.kept.is_not_whole();
        for (lsn, places) in &salvage.records {
            let mut batch = Batch::default();
            let mut bytes = 0;
            for (part, place) in (0..).zip(places) {
                let piece = Salvage::read(&file, *place).map_err(text)?;
                bytes += piece.len();
                batch.insert(&part_key(*lsn, part), piece);
            }
            database.apply(batch, bytes)?;
        }
        let sequence = directory.noted().sequence.max(salvage.definitions.len() as u64);
        for (key, value) in &salvage.definitions {
            database.define(magic, sequence, key, Some(value))?;
        }
        database.mark(sequence, None)?;
        database.flush()?;
        database.fsync().map_err(text)?;
        let aside = directory.advance_past_damage().map_err(|error| error.to_string())?;
        if from.exists() {
            std::fs::rename(from, aside.join("db")).map_err(text)?;
        }
        tracing::error!(
            "salvaged {} records and {} definitions, {} records were there in part only; the damaged database is kept \
             as {}, to be removed by hand",
            salvage.records.len(),
            salvage.definitions.len(),
            salvage.incomplete,
            aside.display()
        );
        Ok(database)
    }

    /// Adds a record; `oldest` is the oldest one that is needed.
    pub(super) fn insert(&self, magic: Magic, lsn: Lsn, oldest: Lsn, record: &[u8]) -> Result<(), String> {
        let parts = part_count(record.len());
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for part in 0..parts {
            let from = part as usize * PART_BYTES;
            let data = &record[from..record.len().min(from + PART_BYTES)];
            let frame = Frame::Part { lsn, oldest, part, parts, data };
            batch.insert(&part_key(lsn, part), frame.encode(magic, b""));
            bytes += data.len();
            if bytes >= UNWRITTEN_BYTES_MAX {
                self.apply(std::mem::take(&mut batch), std::mem::take(&mut bytes))?;
            }
        }
        self.apply(batch, bytes)?;
        self.kept.insert(lsn, record.len())
    }

    fn apply(&self, batch: Batch, bytes: usize) -> Result<(), String> {
        guarded(|| self.records.apply_batch(batch))?;
        self.has_been_given(bytes)
    }

    /// Has sled write what it was given when that is much.
    pub(super) fn has_been_given(&self, bytes: usize) -> Result<(), String> {
        if self.unwritten.fetch_add(bytes, Ordering::Relaxed) + bytes < UNWRITTEN_BYTES_MAX {
            return Ok(());
        }
        self.flush()
    }

    /// Removes records; one that is not there is fine.
    pub(super) fn remove(&self, lsns: &[Lsn]) -> Result<(), String> {
        self.kept.remove(lsns)?;
        let mut batch = Batch::default();
        let mut keys = 0;
        for lsn in lsns {
            // What can't be read is left: the next start says that it is damaged.
            for key in self.records.scan_prefix(lsn.0.to_be_bytes()).keys().map_while(Result::ok) {
                batch.remove(key);
                keys += 1;
                if keys >= REMOVED_AT_ONCE {
                    self.apply(std::mem::take(&mut batch), UNWRITTEN_BYTES_MAX)?;
                    keys = 0;
                }
            }
        }
        self.apply(batch, UNWRITTEN_BYTES_MAX)
    }

    /// Sets or removes a definition. A removal is written before it is done, so that salvaging knows of it.
    pub(super) fn define(
        &self,
        magic: Magic,
        sequence: u64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), String> {
        let frame = Frame::Definition { sequence, key, value }.encode(magic, b"");
        guarded(|| self.definitions.insert(key, frame))?;
        if value.is_none() {
            guarded(|| self.definitions.remove(key))?;
        }
        Ok(())
    }

    /// Notes how many changes there were, and what the definitions come to, if that is known.
    pub(super) fn mark(&self, sequence: u64, stamp: Option<&Stamp>) -> Result<(), String> {
        let mut marker = sequence.to_be_bytes().to_vec();
        if let Some(stamp) = stamp {
            stamp.encode(&mut marker);
        }
        guarded(|| self.definitions.insert(MARKER, marker))?;
        self.kept.mark(sequence)
    }

    /// All definitions.
    pub(super) fn definitions(&self) -> Result<BTreeMap<Bytes, Bytes>, String> {
        let mut definitions = BTreeMap::new();
        let mut entries = self.definitions.iter();
        let unreadable = |error: String| format!("the definitions can't be read: {error}");
        while let Some((key, frame)) = guarded(|| entries.next().transpose()).map_err(unreadable)? {
            if let Some(Frame::Definition { value: Some(value), .. }) = Frame::decode(&frame) {
                definitions.insert(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(value));
            }
        }
        Ok(definitions)
    }

    pub(super) fn flush(&self) -> Result<(), String> {
        self.unwritten.store(0, Ordering::Relaxed);
        guarded(|| self.db.flush()).map(|_| ())
    }

    /// Makes what was flushed survive a loss of power. A leaf in a file of its own is not expected, see the module; should
    /// sled make one all the same, it is synced as well.
    pub(super) fn fsync(&self) -> std::io::Result<()> {
        let folder = self.path.join("blobs");
        let mut any = false;
        for entry in std::fs::read_dir(&folder)? {
            match File::open(entry?.path()) {
                Ok(blob) => blob.sync_all().map_err(lasting)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            any = true;
        }
        if any {
            File::open(&folder)?.sync_all().map_err(lasting)?;
        }
        self.file.sync_all().map_err(lasting)
    }

    /// Reserves room for what sled will write for that many bytes.
    pub(super) fn make_room(&self, bytes: usize) -> std::io::Result<()> {
        self.room.make(&self.file, bytes)
    }

    /// Bytes of its file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Bytes that its volume has left.
    pub(super) fn volume_free_bytes(&self) -> u64 {
        let volume = rustix::fs::statvfs(&self.path);
        volume.map_or(u64::MAX, |volume| volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    /// One record; `None` when it is not there. What sled panics on is an error.
    pub(super) fn read(&self, lsn: Lsn) -> Result<Option<Bytes>, String> {
        let mut record = BytesMut::new();
        let is_there = self.visit_pieces(lsn, |_, _, data, left| {
            record.extend_from_slice(data);
            record.reserve(PART_BYTES * left.min(1024) as usize);
            Ok(())
        })?;
        Ok(is_there.then(|| record.freeze()))
    }

    /// Visits a record's pieces in order: the key, the frame, the data in it, and how many pieces follow. False when the record
    /// is not there.
    pub(super) fn visit_pieces(
        &self,
        lsn: Lsn,
        mut visit: impl FnMut([u8; 12], &IVec, &[u8], u32) -> Result<(), String>,
    ) -> Result<bool, String> {
        let mut next = 0;
        loop {
            let key = part_key(lsn, next);
            let Some(frame) = guarded(|| self.records.get(key))? else {
                return if next == 0 { Ok(false) } else { Err(format!("piece {next} is missing")) };
            };
            let left = match Frame::decode(&frame) {
                Some(Frame::Part { lsn: of, part, parts, data, .. }) if of == lsn && part == next => {
                    let left = parts.saturating_sub(next + 1);
                    visit(key, &frame, data, left)?;
                    left
                }
                _ => return Err(format!("piece {next} is not one")),
            };
            if left == 0 {
                return Ok(true);
            }
            next += 1;
        }
    }

    /// Loses the first piece of a record, as damage to a page does.
    #[cfg(test)]
    pub(super) fn damage(&self, lsn: Lsn) {
        self.records.remove(part_key(lsn, 0)).expect("sled removes what is there");
    }

    /// The number of the last record.
    pub(super) fn last(&self) -> Result<Lsn, String> {
        let last = guarded(|| self.records.last())?;
        Ok(last.and_then(|(key, _)| lsn_of(&key)).unwrap_or_default())
    }

    /// How many changes there were; `None` when the marker is not there.
    pub(super) fn sequence(&self) -> Result<Option<u64>, String> {
        sequence_in(&self.definitions)
    }

    /// What the definitions came to when it was marked; `None` when the version that did it did not say.
    pub(super) fn stamp(&self) -> Result<Option<Stamp>, String> {
        let marker = guarded(|| self.definitions.get(MARKER))?;
        Ok(marker.and_then(|marker| Some(Stamp::decode(marker.get(8..)?)?.0)))
    }

    /// Walks the numbers rather than sled's iterator, which stays on a page that it can't read.
    pub(super) fn scan(&self, mut from: Lsn, last: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)) {
        while from <= last {
            let next = || self.records.range(part_key(from, 0)..).keys().next();
            let lsn = match unpanicked(next) {
                Ok(None) => break,
                Ok(Some(Ok(key))) => lsn_of(&key).unwrap_or(from),
                Ok(Some(Err(_))) | Err(_) => from,
            };
            match self.read(lsn) {
                Ok(Some(record)) => visit(lsn, Scanned::Record(record)),
                Ok(None) => visit(lsn, Scanned::Damaged("its first piece is missing".into())),
                Err(reason) => visit(lsn, Scanned::Damaged(reason)),
            }
            from = Lsn(lsn.0 + 1);
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::error!("the last flush of {} failed: {error}", self.path.display());
        }
        // sled syncs its file when the last handle goes, and panics when it can't. Then one handle stays.
        if self.file.sync_all().is_err() {
            std::mem::forget(self.db.clone());
        }
    }
}

fn sequence_in(definitions: &Tree) -> Result<Option<u64>, String> {
    let marker = guarded(|| definitions.get(MARKER))?;
    Ok(marker.and_then(|marker| Some(u64::from_be_bytes(*marker.first_chunk()?))))
}

fn part_key(lsn: Lsn, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&lsn.0.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

fn lsn_of(key: &[u8]) -> Option<Lsn> {
    Some(Lsn(u64::from_be_bytes(*key.first_chunk()?)))
}

fn part_count(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PART_BYTES).max(1)).expect("a record is smaller than 32 TiB")
}
