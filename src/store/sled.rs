//! The engine of a broker that keeps what it is given: sled 0.34, and nothing sled-shaped outside this file.
//!
//! **Layout.** Two trees. `definitions` is what it says, with a marker of our own. `records` maps `lsn (8) ‖ part (4)` to a
//! piece of a record. Every value is framed, see [`super::salvage`]. Pieces are [`PART_BYTES`] long because of how sled keeps a leaf: up to 16 values, written
//! again as one item whenever ten changes have gathered, held in memory in 256 cache shards of at least one leaf each, and put
//! in a file of its own, which sled never syncs, once it is larger than a quarter of a segment. Small pieces keep all
//! three in bounds and cost no more processor time.
//!
//! **Durable** is sled's flush, which hands everything to the file, followed by a real fsync through a descriptor of our own:
//! sled's flush alone does not survive a loss of power. The entries of the folders are synced once, at creation.
//!
//! **Damage.** sled may refuse a file for one byte, or open what was cut short as if it were empty. Both are noticed at open, and
//! what the bare file still holds is moved to a new database.
//!
//! **Space.** sled uses freed segments again but gives few back after a peak. When little is left alive in a large database,
//! it is copied into a new one, see [`SledStore::shrink`].

use super::directory::{self, Directory, Note};
use super::salvage::{Frame, Salvage};
use super::{Durability, Scanned, Store, StoreError};
use crate::message::Lsn;
use ::sled::{Batch, Db, Tree};
use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SEGMENT_BYTES: usize = 4 << 20;

/// Bytes of a record in one sled value: 16 of them, and what a merge of leaves adds, stay far below a quarter of a segment.
const PART_BYTES: usize = 8 << 10;

const CACHE_BYTES: u64 = 8 << 20;

/// A database file smaller than this is left as it is.
const SHRINK_FILE_BYTES_MIN: u64 = 256 << 20;

/// More than this is not copied while publishers wait.
const SHRINK_LIVE_BYTES_MAX: u64 = 32 << 20;

/// The same where the volume has little room left. To copy so much takes seconds.
const SHRINK_TIGHT_FILE_BYTES_MIN: u64 = 16 << 20;
const SHRINK_TIGHT_LIVE_BYTES_MAX: u64 = 512 << 20;

/// How many values are removed in one batch.
const REMOVED_AT_ONCE: u32 = 32;

/// A key among the definitions that is none: its absence shows that sled lost everything. Its value counts changes.
const MARKER: &[u8] = b"\0leveret";

/// Keeps definitions and records in a sled database in a data directory that it holds.
pub struct SledStore {
    writing: Mutex<Writing>,
    current: RwLock<Arc<Database>>,
    durability: Durability,
    syncs: AtomicU64,
}

/// What only one writer at a time may touch.
struct Writing {
    directory: Directory,
    /// The last record noted in the directory as durable.
    noted: Lsn,
    /// Counts changes of definitions.
    sequence: u64,
    /// Bytes of every whole record kept, from which follows how many pieces it has. Known once the records were scanned.
    sizes: Option<BTreeMap<Lsn, u32>>,
    live_bytes: u64,
    last: Lsn,
    shrink_at_bytes: u64,
}

struct Database {
    db: Db,
    records: Tree,
    definitions: Tree,
    file: File,
    path: PathBuf,
}

impl SledStore {
    /// Opens the data directory, makes it when it is not there.
    ///
    /// # Errors
    /// When another process holds it, a newer version wrote it, or what is in it can't be read.
    pub fn open(path: &Path, durability: Durability) -> Result<SledStore, StoreError> {
        let mut directory = Directory::open(path)?;
        let database = Database::open_or_salvage(&mut directory)?;
        directory.sync_entries(&database.path)?;
        directory::write_through(&database.file, &database.path, durability == Durability::Fsync);
        let last = database.last().map_err(|reason| directory.unusable(reason))?;
        let sequence = database.sequence().map_err(|reason| directory.unusable(reason))?.unwrap_or(0);
        let writing = Writing {
            noted: directory.noted().last,
            directory,
            sequence,
            sizes: None,
            live_bytes: 0,
            last,
            shrink_at_bytes: SHRINK_FILE_BYTES_MIN / 4,
        };
        Ok(SledStore {
            writing: Mutex::new(writing),
            current: RwLock::new(Arc::new(database)),
            durability,
            syncs: AtomicU64::new(0),
        })
    }

    /// How often the disk was told to keep what it was given.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Bytes of the database file.
    pub fn file_bytes(&self) -> u64 {
        self.current().file_bytes()
    }

    fn current(&self) -> Arc<Database> {
        self.current.read().clone()
    }

    fn persist(&self, writing: &mut Writing, database: &Database) -> Result<(), StoreError> {
        if self.durability == Durability::None {
            return Ok(());
        }
        database.flush().map_err(|error| writing.directory.failed("a flush failed", &error))?;
        if self.durability == Durability::Fsync {
            database.fsync().map_err(|error| writing.directory.failed("an fsync failed", &error))?;
            self.syncs.fetch_add(1, Ordering::Release);
        }
        if writing.noted != writing.last {
            writing.directory.note(Note { last: writing.last, file_bytes: database.file_bytes() })?;
            writing.noted = writing.last;
        }
        Ok(())
    }

    /// Sets or removes a definition, and counts that. A removal is written before it is done, so that salvaging knows of it.
    fn change_definition(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let mut writing = self.writing.lock();
        let database = self.current();
        writing.sequence += 1;
        let sequence = writing.sequence;
        let change = || -> Result<(), ::sled::Error> {
            let frame = Frame::Definition { sequence, key, value }.encode(writing.directory.magic(), b"");
            let mut batch = Batch::default();
            batch.insert(MARKER, &sequence.to_be_bytes());
            batch.insert(key, frame);
            database.definitions.apply_batch(batch)?;
            if value.is_none() {
                database.definitions.remove(key)?;
            }
            Ok(())
        };
        change().map_err(|error| writing.directory.failed("a definition can't be written", &error))?;
        self.persist(&mut writing, &database)
    }

    /// Copies what lives into a new database when it is little and the file is large; the switch is one durable step.
    fn shrink(&self, writing: &mut Writing) -> Result<(), StoreError> {
        let old = self.current();
        let live = writing.live_bytes;
        let file_bytes = old.file_bytes();
        if writing.sizes.is_none() || !is_shrinking_due(writing, &old) {
            return Ok(());
        }
        writing.shrink_at_bytes = SHRINK_FILE_BYTES_MIN;
        let path = writing.directory.next_database();
        if path.exists() {
            std::fs::remove_dir_all(&path)
                .map_err(|error| writing.directory.failed("an old database can't be removed", &error))?;
        }
        let new = Database::open(&writing.directory, &path)?;
        let copy = || -> Result<(), ::sled::Error> {
            for (from, to) in [(&old.definitions, &new.definitions), (&old.records, &new.records)] {
                for entry in from.iter() {
                    let (key, value) = entry?;
                    to.insert(key, value)?;
                }
            }
            new.flush()?;
            new.fsync().map_err(::sled::Error::Io)
        };
        copy().map_err(|error| writing.directory.failed("the database can't be rewritten", &error))?;
        writing.directory.sync_entries(&new.path)?;
        directory::write_through(&new.file, &new.path, self.durability == Durability::Fsync);
        writing.directory.advance()?;
        tracing::info!(
            "rewrote the database: {} MiB on disk held {} MiB that was needed",
            file_bytes >> 20,
            live >> 20
        );
        *self.current.write() = Arc::new(new);
        let old_path = old.path.clone();
        drop(old);
        if let Err(error) = std::fs::remove_dir_all(&old_path) {
            tracing::warn!("{} is not needed any more but can't be removed: {error}", old_path.display());
        }
        Ok(())
    }
}

impl Store for SledStore {
    fn put_definition(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.change_definition(key, Some(value))
    }

    fn remove_definition(&self, key: &[u8]) -> Result<(), StoreError> {
        self.change_definition(key, None)
    }

    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        // As they are at one moment.
        let _writing = self.writing.lock();
        let database = self.current();
        let mut definitions = Vec::new();
        for entry in database.definitions.iter() {
            let (key, frame) =
                entry.map_err(|error| database.failed("the definitions can't be read", &error))?;
            if let Some(Frame::Definition { value: Some(value), .. }) = Frame::decode(&frame) {
                definitions.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(value)));
            }
        }
        Ok(definitions)
    }

    fn append(&self, head: &[u8], body: &[u8]) -> Result<Lsn, StoreError> {
        let bytes = head.len() + body.len();
        let mut writing = self.writing.lock();
        let magic = writing.directory.magic();
        let (lsn, oldest, parts) = (Lsn(writing.last.0 + 1), writing.oldest(), part_count(bytes));
        let mut batch = Batch::default();
        let (first, rest) = body.split_at(PART_BYTES.saturating_sub(head.len()).min(body.len()));
        let frame = Frame::Part { lsn, oldest, part: 0, parts, data: head };
        batch.insert(&part_key(lsn, 0), frame.encode(magic, first));
        for (part, data) in (1..).zip(rest.chunks(PART_BYTES)) {
            let frame = Frame::Part { lsn, oldest, part, parts, data };
            batch.insert(&part_key(lsn, part), frame.encode(magic, b""));
        }
        let applied = self.current().records.apply_batch(batch);
        applied.map_err(|error| writing.directory.failed("a record can't be written", &error))?;
        writing.note(lsn, bytes);
        Ok(lsn)
    }

    fn sync(&self) -> Result<Lsn, StoreError> {
        let mut writing = self.writing.lock();
        self.persist(&mut writing, &self.current())?;
        self.shrink(&mut writing)?;
        Ok(writing.last)
    }

    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError> {
        let database = self.current();
        let found = catch_unwind(AssertUnwindSafe(|| database.read(lsn)))
            .unwrap_or_else(|_| Err("sled stopped on what it read".into()));
        found.map_err(|error| database.failed(&format!("record {lsn} can't be read"), &error))
    }

    fn scan(&self, visit: &mut dyn FnMut(Lsn, Scanned)) -> Result<(), StoreError> {
        let mut writing = self.writing.lock();
        let mut sizes = BTreeMap::new();
        let mut live_bytes = 0;
        self.current().scan(writing.last, &mut |lsn, scanned| {
            if let Scanned::Record(record) = &scanned {
                sizes.insert(lsn, saturating_u32(record.len()));
                live_bytes += record.len() as u64;
            }
            visit(lsn, scanned);
        });
        writing.sizes = Some(sizes);
        writing.live_bytes = live_bytes;
        if writing.noted > writing.last {
            let reason = format!("it was durable, and the database ends at record {}", writing.last);
            visit(writing.noted, Scanned::Damaged(reason));
            writing.last = writing.noted;
        }
        Ok(())
    }

    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError> {
        let mut writing = self.writing.lock();
        let database = self.current();
        let remove = |batch: &mut Batch| database.records.apply_batch(std::mem::take(batch));
        let failed = |writing: &Writing, error| writing.directory.failed("records can't be removed", &error);
        let (mut batch, mut keys) = (Batch::default(), 0);
        for &lsn in lsns {
            if let Some(bytes) = writing.sizes.as_mut().and_then(|sizes| sizes.remove(&lsn)) {
                writing.live_bytes -= u64::from(bytes);
                let parts = part_count(bytes as usize);
                (0..parts).for_each(|part| batch.remove(&part_key(lsn, part)));
                keys += parts;
            } else {
                let found = database.records.scan_prefix(lsn.0.to_be_bytes()).keys();
                found.map_while(Result::ok).for_each(|key| batch.remove(key));
            }
            // A batch goes through its keys in no order: a large one loads the same leaves again and again.
            if keys >= REMOVED_AT_ONCE {
                remove(&mut batch).map_err(|error| failed(&writing, error))?;
                keys = 0;
            }
        }
        remove(&mut batch).map_err(|error| failed(&writing, error))
    }
}

/// Whether little is left alive in a large database, or the volume has less room left than a smaller one would give back: then
/// publishers wait for room or soon will, and more is copied.
fn is_shrinking_due(writing: &Writing, database: &Database) -> bool {
    let live = writing.live_bytes;
    let file_bytes = database.file_bytes();
    if file_bytes >= writing.shrink_at_bytes && live <= SHRINK_LIVE_BYTES_MAX && live <= file_bytes / 8 {
        return true;
    }
    if file_bytes < SHRINK_TIGHT_FILE_BYTES_MIN || live > SHRINK_TIGHT_LIVE_BYTES_MAX || live > file_bytes / 4
    {
        return false;
    }
    let volume = rustix::fs::statvfs(&database.path);
    let free_bytes = volume.map_or(u64::MAX, |volume| volume.f_bavail.saturating_mul(volume.f_frsize));
    free_bytes < file_bytes - live && live <= free_bytes / 4
}

impl Writing {
    /// The oldest record kept, as far as known.
    fn oldest(&self) -> Lsn {
        let oldest = self.sizes.as_ref().and_then(|sizes| sizes.keys().next().copied());
        oldest.unwrap_or_default()
    }

    fn note(&mut self, lsn: Lsn, bytes: usize) {
        if let Some(sizes) = &mut self.sizes {
            let bytes = saturating_u32(bytes);
            sizes.insert(lsn, bytes);
            self.live_bytes += u64::from(bytes);
        }
        self.last = lsn;
    }
}

impl Database {
    fn open(directory: &Directory, path: &Path) -> Result<Database, StoreError> {
        let open = || -> Result<Database, ::sled::Error> {
            let config = ::sled::Config::new()
                .path(path)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None);
            let db = config.open()?;
            let records = db.open_tree("records")?;
            let definitions = db.open_tree("definitions")?;
            let file = File::open(path.join("db"))?;
            Ok(Database { db, records, definitions, file, path: path.to_owned() })
        };
        guarded(open).map_err(|reason| directory.unusable(reason))
    }

    /// Opens the current database; when sled can't, or has lost what was there, a new one with what its file still holds.
    fn open_or_salvage(directory: &mut Directory) -> Result<Database, StoreError> {
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
        let opened = Database::open(directory, &path);
        let reason = match &opened {
            Err(error) if is_new => return Err(error.clone()),
            Err(error) => error.to_string(),
            Ok(database) => match database.what_is_lost(noted.last, is_new) {
                Ok(()) => {
                    copy.map(std::fs::remove_file);
                    return opened;
                }
                Err(reason) => reason,
            },
        };
        drop(opened);
        tracing::error!("{}: {reason}. Looking for what the bare file holds", path.display());
        Database::salvage(directory, &copy.unwrap_or(file))
            .map_err(|error| directory.unusable(format!("{reason}; and salvaging failed: {error}")))
    }

    /// Whether sled has what must be there; if not, what shows that.
    fn what_is_lost(&self, noted: Lsn, is_new: bool) -> Result<(), String> {
        if self.sequence()?.is_none() {
            if !is_new {
                return Err("sled finds nothing in it".into());
            }
            guarded(|| self.definitions.insert(MARKER, &0_u64.to_be_bytes()))?;
        }
        let last = self.last()?;
        if last < noted {
            return Err(format!("sled finds records up to {last}, and {noted} was durable"));
        }
        Ok(())
    }

    /// Makes the next database of what a file of the current one holds.
    fn salvage(directory: &mut Directory, from: &Path) -> Result<Database, String> {
        let text = |error: std::io::Error| error.to_string();
        let magic = directory.magic();
        let salvage = Salvage::of(from, magic).map_err(text)?;
        let file = File::open(from).map_err(text)?;
        let next = directory.next_database();
        if next.exists() {
            std::fs::remove_dir_all(&next).map_err(text)?;
        }
        let database = Database::open(directory, &next).map_err(|error| error.to_string())?;
        for (lsn, places) in &salvage.records {
            let mut batch = Batch::default();
            for (part, place) in (0..).zip(places) {
                batch.insert(&part_key(*lsn, part), Salvage::read(&file, *place).map_err(text)?);
            }
            guarded(|| database.records.apply_batch(batch))?;
        }
        for (sequence, (key, value)) in (1..).zip(&salvage.definitions) {
            let frame = Frame::Definition { sequence, key, value: Some(value) }.encode(magic, b"");
            guarded(|| database.definitions.insert(key, frame))?;
        }
        let sequence = salvage.definitions.len() as u64;
        guarded(|| database.definitions.insert(MARKER, &sequence.to_be_bytes()))?;
        guarded(|| database.flush())?;
        database.fsync().map_err(text)?;
        directory.sync_entries(&next).map_err(|error| error.to_string())?;
        let aside = directory.advance_past_damage().map_err(|error| error.to_string())?;
        if from.exists() {
            std::fs::rename(from, aside.join("db")).map_err(text)?;
        }
        tracing::error!(
            "salvaged {} records and {} definitions, {} records were there in part only; the damaged database is kept \
             as {}, to be removed by hand",
            salvage.records.len(),
            sequence,
            salvage.incomplete,
            aside.display()
        );
        Ok(database)
    }

    fn flush(&self) -> Result<(), ::sled::Error> {
        self.db.flush().map(|_| ())
    }

    /// Makes what was flushed survive a loss of power. A leaf in a file of its own is not expected, see the module; should
    /// sled make one all the same, it is synced as well.
    fn fsync(&self) -> std::io::Result<()> {
        let folder = self.path.join("blobs");
        let mut any = false;
        for entry in std::fs::read_dir(&folder)? {
            match File::open(entry?.path()) {
                Ok(blob) => blob.sync_all()?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            any = true;
        }
        if any {
            File::open(&folder)?.sync_all()?;
        }
        self.file.sync_all()
    }

    fn file_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Failed(format!("in {}: {what}: {error}", self.path.display()))
    }

    fn read(&self, lsn: Lsn) -> Result<Option<Bytes>, String> {
        let mut record = BytesMut::new();
        let mut next = 0;
        loop {
            let frame = self.records.get(part_key(lsn, next)).map_err(|error| error.to_string())?;
            let parts = match frame.as_deref().map(Frame::decode) {
                None if next == 0 => return Ok(None),
                None => return Err(format!("piece {next} is missing")),
                Some(Some(Frame::Part { lsn: of, part, parts, data, .. })) if of == lsn && part == next => {
                    record.extend_from_slice(data);
                    parts
                }
                Some(_) => return Err(format!("piece {next} is not one")),
            };
            next += 1;
            if next >= parts {
                return Ok(Some(record.freeze()));
            }
            record.reserve(PART_BYTES * (parts - next).min(1024) as usize);
        }
    }

    /// The number of the last record.
    fn last(&self) -> Result<Lsn, String> {
        let last = guarded(|| self.records.last())?;
        Ok(last.and_then(|(key, _)| lsn_of(&key)).unwrap_or_default())
    }

    /// How many changes of definitions there were; `None` when the marker is not there.
    fn sequence(&self) -> Result<Option<u64>, String> {
        let marker = guarded(|| self.definitions.get(MARKER))?;
        Ok(marker.and_then(|marker| Some(u64::from_be_bytes(*marker.first_chunk()?))))
    }

    /// Walks the numbers rather than sled's iterator, which stays on a page that it can't read.
    fn scan(&self, last: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)) {
        let mut from = Lsn(1);
        while from <= last {
            let next = || self.records.range(part_key(from, 0)..).keys().next();
            let lsn = match catch_unwind(AssertUnwindSafe(next)) {
                Ok(None) => break,
                Ok(Some(Ok(key))) => lsn_of(&key).unwrap_or(from),
                Ok(Some(Err(_))) | Err(_) => from,
            };
            match catch_unwind(AssertUnwindSafe(|| self.read(lsn))) {
                Ok(Ok(Some(record))) => visit(lsn, Scanned::Record(record)),
                Ok(Ok(None)) => visit(lsn, Scanned::Damaged("its first piece is missing".into())),
                Ok(Err(reason)) => visit(lsn, Scanned::Damaged(reason)),
                Err(_) => visit(lsn, Scanned::Damaged("sled stopped on what it read".into())),
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
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("path", &self.current().path).finish_non_exhaustive()
    }
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

/// Calls sled, whose panics become errors like any other.
fn guarded<T>(call: impl FnOnce() -> Result<T, ::sled::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| format!("sled says: {error}")),
        Err(panic) => Err(format!("sled stopped on it: {}", panic_text(&*panic))),
    }
}

fn saturating_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}
