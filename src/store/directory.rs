//! The data directory: held by one process at a time, marked with the format it is written in, and saying which of its
//! databases is the current one. [`super::SledStore`] lives in it.
//!
//! ```text
//! lock      held while a broker runs
//! format    "leveret store 4", the name of the current database, and what its frames start with; format.copy says it too
//! in-use    is there once a broker has served
//! last      the last record that was durable, and what the database was then: neither may know less; what the definitions came to
//! wal/      the write-ahead log
//! db-1/     the database; a rewritten one is db-2, and so on
//! definitions  what is defined, once more
//! streams/  the logs of streams
//! index     what spares a start reading the records, see the journal's checkpoints
//! ```

use super::StoreError;
use super::definitions_file::{DEFINITIONS_FILE, entry_magic};
use super::exhausted::{is_exhaustion, lasting};
use super::magic;
use super::salvage::Magic;
use super::wal::EntryMagic;
use crate::files;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

mod notes;

pub(super) use notes::Note;

/// The newest format this version reads, and the one it writes.
const FORMAT: u32 = 4;

/// From this one on something in the directory says what all definitions come to.
const STAMPED_FORMAT: u32 = 3;

/// What a directory is in whose format is lost: one that claims the least.
const GUESSED_FORMAT: u32 = 2;

pub(super) const FORMAT_FILE: &str = "format";

/// What the format file says once more, for when that is lost.
pub(super) const FORMAT_COPY: &str = "format.copy";

/// Is there once a broker has declared its configuration: from then on no default user is made.
pub(super) const IN_USE: &str = "in-use";

/// Whether a broker has served from a data directory before.
pub fn was_in_use(data_dir: &Path) -> bool {
    data_dir.join(IN_USE).exists()
}

/// Notes, durably, that a broker serves from a data directory.
///
/// # Errors
/// When the system refuses.
pub fn note_in_use(data_dir: &Path) -> std::io::Result<()> {
    if was_in_use(data_dir) {
        return Ok(());
    }
    files::options().create(true).truncate(false).write(true).open(data_dir.join(IN_USE))?.sync_all()?;
    sync_folder(data_dir)
}

/// A data directory that this process holds.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Held for as long as it is open.
    _lock: File,
    /// The number of the current database.
    generation: AtomicU64,
    magic: Magic,
    last: File,
    /// Whether it was there, in a format that says what all definitions come to.
    is_stamped: bool,
}

impl Directory {
    /// Makes the directory if it is not there, locks it, and reads its format.
    pub(super) fn open(path: &Path) -> Result<Directory, StoreError> {
        let unusable = |what: &str, error: &std::io::Error| StoreError::Unusable {
            directory: path.display().to_string(),
            reason: format!("{what}: {error}"),
        };
        files::make_folder(path).map_err(|error| StoreError::Uncreatable {
            directory: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let lock = files::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(|error| unusable("its lock file can't be opened", &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { directory: path.display().to_string() });
            }
            Err(TryLockError::Error(error)) => return Err(unusable("it can't be locked", &error)),
        }
        let last =
            files::options().create(true).truncate(false).read(true).write(true).open(path.join("last"));
        let last = last.map_err(|error| unusable("its file \"last\" can't be opened", &error))?;
        let magic = std::hash::RandomState::new().build_hasher().finish().to_le_bytes();
        let generation = AtomicU64::new(1);
        let mut directory =
            Directory { path: path.to_owned(), _lock: lock, generation, magic, last, is_stamped: false };
        match fs::read(path.join(FORMAT_FILE)) {
            Ok(text) => {
                let known = match directory.parse_format(&String::from_utf8_lossy(&text)) {
                    Err(StoreError::Unusable { reason, .. }) => directory.rebuild_format(&reason)?,
                    known => known?,
                };
                let format = directory.take_format(known);
                directory.is_stamped = format >= STAMPED_FORMAT;
                if format < FORMAT || text != directory.format_text().as_bytes() {
                    // An older version would take for damage what this one writes.
                    directory.write_format()?;
                }
                directory.copy_format()?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if path.join(FORMAT_COPY).exists() || directory.holds_something()? {
                    let known = directory.rebuild_format("its format file is missing")?;
                    directory.is_stamped = directory.take_format(known) >= STAMPED_FORMAT;
                }
                directory.write_format()?;
            }
            Err(error) => return Err(unusable("its format file can't be read", &error)),
        }
        directory.remove_leftovers();
        directory.warn_of_readers();
        Ok(directory)
    }

    /// Where the current database lies.
    pub(super) fn database(&self) -> PathBuf {
        self.database_at(self.generation())
    }

    /// Where the next database may be built.
    pub(super) fn next_database(&self) -> PathBuf {
        self.database_at(self.generation() + 1)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Where the write-ahead log lies.
    pub(super) fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Where the logs of streams lie.
    pub(super) fn streams(&self) -> PathBuf {
        self.path.join("streams")
    }

    /// What the frames in its databases start with.
    pub(super) fn magic(&self) -> Magic {
        self.magic
    }

    /// What the entries of its write-ahead log start with.
    pub(super) fn wal_magic(&self) -> EntryMagic {
        entry_magic(self.magic)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something in it says what all definitions come to, unless that is lost.
    pub(super) fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    /// Keeps a copy of the database file, for when opening the database destroys what is in it.
    pub(super) fn copy_file(&self) -> std::io::Result<PathBuf> {
        let copy = self.path.join("db-copy");
        let mut from = files::options().read(true).open(self.database().join("db"))?;
        let mut to = files::options().create(true).truncate(true).write(true).open(&copy)?;
        std::io::copy(&mut from, &mut to)?;
        Ok(copy)
    }

    /// Puts the current database aside, for later inspection, and makes the next one the current one.
    pub(super) fn advance_past_damage(&self) -> Result<PathBuf, StoreError> {
        let old = self.database();
        self.advance()?;
        let aside = self.path.join(format!("damaged-db-{}", self.generation() - 1));
        fs::rename(&old, &aside)
            .map_err(|error| self.failed("a damaged database can't be put aside", &error))?;
        Ok(aside)
    }

    /// Makes the next database the current one, in one durable step. The old one may be removed then.
    pub(super) fn advance(&self) -> Result<(), StoreError> {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.write_format().inspect_err(|_| {
            self.generation.fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// Makes the directory's entries durable, and those of some folders in it.
    pub(super) fn sync_entries(&self, inner: &[PathBuf]) -> Result<(), StoreError> {
        let mut folders = inner.to_vec();
        folders.push(self.path.clone());
        folders.extend(self.path.parent().filter(|parent| parent.is_dir()).map(Path::to_owned));
        for folder in folders {
            sync_folder(&folder).map_err(|error| self.failed("a folder can't be synced", &error))?;
        }
        Ok(())
    }

    /// An I/O error here, with the directory's name.
    pub(super) fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Failed(format!("in the data directory {}: {what}: {error}", self.path.display()))
    }

    /// An I/O error here that may pass, or one that does not.
    pub(super) fn failed_or_exhausted(&self, what: &str, error: &std::io::Error) -> StoreError {
        if is_exhaustion(error) {
            return StoreError::Exhausted(format!(
                "in the data directory {}: {what}: {error}",
                self.path.display()
            ));
        }
        self.failed(what, error)
    }

    /// A directory that the system does not let us open.
    pub(super) fn refused(&self, reason: String) -> StoreError {
        StoreError::System { directory: self.path.display().to_string(), reason }
    }

    /// A directory that can't be opened.
    pub(super) fn unusable(&self, reason: String) -> StoreError {
        StoreError::Unusable { directory: self.path.display().to_string(), reason }
    }

    fn database_at(&self, generation: u64) -> PathBuf {
        self.path.join(format!("db-{generation}"))
    }

    fn parse_format(&self, text: &str) -> Result<(u32, u64, Magic), StoreError> {
        let mut lines = text.lines();
        let format = lines.next().and_then(|line| line.strip_prefix("leveret store ")?.parse::<u32>().ok());
        let format = match format {
            Some(known @ 1..=FORMAT) => known,
            Some(found) if found > FORMAT => {
                let directory = self.path.display().to_string();
                return Err(StoreError::NewerFormat { directory, found, known: FORMAT });
            }
            _ => return Err(self.unusable("its format file is not one of Leveret's".into())),
        };
        let generation = lines.next().and_then(|line| line.strip_prefix("db-")?.parse().ok());
        let generation =
            generation.ok_or_else(|| self.unusable("its format file names no database".into()))?;
        let magic = lines.next().and_then(|line| u64::from_str_radix(line, 16).ok());
        let magic = magic.ok_or_else(|| self.unusable("its format file is cut short".into()))?;
        Ok((format, generation, magic.to_be_bytes()))
    }

    /// Takes what the format file says, and returns the format.
    fn take_format(&mut self, (format, generation, magic): (u32, u64, Magic)) -> u32 {
        (self.generation, self.magic) = (AtomicU64::new(generation), magic);
        format
    }

    /// What the lost format file said, out of its copy, or out of what it is about; `why` it is lost is logged.
    fn rebuild_format(&self, why: &str) -> Result<(u32, u64, Magic), StoreError> {
        let copy = fs::read(self.path.join(FORMAT_COPY)).unwrap_or_default();
        let (from, (format, generation, magic)) = match self.parse_format(&String::from_utf8_lossy(&copy)) {
            Ok(known) => ("its copy", known),
            Err(newer @ StoreError::NewerFormat { .. }) => return Err(newer),
            Err(_) => ("what else is there", self.guess_format(why)?),
        };
        // The copy is written behind the file itself, and may name a database that has been left since.
        let is_there = |generation: &u64| self.database_at(*generation).is_dir();
        let generation = match is_there(&generation) {
            true => generation,
            false => self.generations().into_iter().max().unwrap_or(generation),
        };
        tracing::error!(
            "in the data directory {}: {why}. It is made anew from {from}, with the database db-{generation}",
            self.path.display()
        );
        Ok((format, generation, magic))
    }

    /// What both the format file and its copy said, out of the files that a broker has served from. Without that mark it may be
    /// half of a restored backup, of which nobody may think that it is all.
    fn guess_format(&self, why: &str) -> Result<(u32, u64, Magic), StoreError> {
        if !was_in_use(&self.path) {
            return Err(self.unusable(why.to_owned()));
        }
        let generations = self.generations();
        let databases: Vec<PathBuf> =
            generations.iter().map(|generation| self.database_at(*generation)).collect();
        let found = magic::find(&self.path, &databases).map_err(|error| self.refused(error.to_string()))?;
        let magic =
            found.ok_or_else(|| self.unusable(format!("{why}, and nothing else in it is legible")))?;
        Ok((GUESSED_FORMAT, generations.into_iter().max().unwrap_or(1), magic))
    }

    /// The numbers of the databases that are there.
    fn generations(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("db-")?.parse().ok()).collect()
    }

    /// Has the copy say what the format file says.
    fn copy_format(&self) -> Result<(), StoreError> {
        let text = self.format_text();
        let copy = self.path.join(FORMAT_COPY);
        if fs::read(&copy).is_ok_and(|copied| copied == text.as_bytes()) {
            return Ok(());
        }
        let write = || -> std::io::Result<()> {
            let mut file = files::options().create(true).truncate(true).write(true).open(&copy)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write()
            .map_err(|error| self.failed_or_exhausted("the copy of its format file can't be written", &error))
    }

    fn format_text(&self) -> String {
        let magic = u64::from_be_bytes(self.magic);
        format!("leveret store {FORMAT}\ndb-{}\n{magic:016x}\n", self.generation())
    }

    /// Whether it holds more than a first start that was cut short leaves behind.
    fn holds_something(&self) -> Result<bool, StoreError> {
        let entries = fs::read_dir(&self.path).map_err(|error| self.failed("it can't be listed", &error))?;
        let mut names = entries.flatten().map(|entry| entry.file_name());
        let is_content = |name: &std::ffi::OsStr| {
            name == "wal" || name == DEFINITIONS_FILE || name.to_string_lossy().starts_with("db-")
        };
        Ok(names.any(|name| is_content(&name)))
    }

    fn write_format(&self) -> Result<(), StoreError> {
        let write = || -> std::io::Result<()> {
            let next = self.path.join("format.new");
            let mut file = files::options().create(true).truncate(true).write(true).open(&next)?;
            file.write_all(self.format_text().as_bytes())?;
            file.sync_all()?;
            let folder = File::open(&self.path)?;
            fs::rename(&next, self.path.join(FORMAT_FILE))?;
            folder.sync_all().map_err(lasting)
        };
        write().map_err(|error| self.failed_or_exhausted("its format file can't be written", &error))?;
        self.copy_format()
    }

    /// Says so when what is kept can be read by every user of the machine, as what earlier versions made could.
    fn warn_of_readers(&self) {
        if let Some(found) = files::readable_by_others(&self.path) {
            tracing::warn!(
                "{} can be read by every user of this machine, and so can messages and what is kept of passwords; \
                 `chmod -R go= {}` keeps them out",
                found.display(),
                self.path.display()
            );
        }
    }

    /// Databases other than the current one are what an interrupted rewrite left.
    fn remove_leftovers(&self) {
        let current = self.database();
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_database = entry.file_name().to_string_lossy().starts_with("db-");
            let remove = if path.is_dir() { fs::remove_dir_all } else { fs::remove_file };
            if is_database
                && path != current
                && let Err(error) = remove(path.as_path())
            {
                tracing::warn!("{} is not needed any more but can't be removed: {error}", path.display());
            }
        }
    }
}

pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Has every write to a database's file reach the disk before it returns, or not. sled uses the space of what it has moved
/// again before our next sync; without this a loss of power in between takes both copies.
pub(super) fn write_through(file: &File, path: &Path, on: bool) {
    let set = || -> rustix::io::Result<()> {
        let mut flags = ioctl_getflags(file)?;
        flags.set(IFlags::SYNC, on);
        ioctl_setflags(file, flags)
    };
    if let Err(error) = set()
        && on
    {
        tracing::warn!(
            "{}: this filesystem can't write through ({error}); what is confirmed survives the end of the process, and a loss \
             of power most likely",
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_format_file_is_made_anew_from_its_copy() {
        let folder = tempfile::tempdir().unwrap();
        let format = folder.path().join(FORMAT_FILE);
        let directory = Directory::open(folder.path()).unwrap();
        fs::create_dir(directory.database()).unwrap();
        let magic = directory.magic();
        drop(directory);
        let kept = fs::read(&format).unwrap();
        for damage in [None, Some(&b""[..]), Some(b"\xff\xfegarbage"), Some(b"leveret store 2\ndb-1\n")] {
            match damage {
                None => fs::remove_file(&format).unwrap(),
                Some(bytes) => fs::write(&format, bytes).unwrap(),
            }
            let directory = Directory::open(folder.path()).unwrap();
            assert_eq!((directory.magic(), directory.generation()), (magic, 1), "{damage:?}");
            // A copy that was not written in time names a database that is left.
            fs::rename(directory.database(), folder.path().join("db-2")).unwrap();
            drop(directory);
            fs::remove_file(&format).unwrap();
            assert_eq!(Directory::open(folder.path()).unwrap().generation(), 2);
            fs::rename(folder.path().join("db-2"), folder.path().join("db-1")).unwrap();
            fs::write(&format, &kept).unwrap();
            drop(Directory::open(folder.path()).unwrap());
        }
        // Without a copy it is unknown.
        fs::remove_file(folder.path().join(FORMAT_COPY)).unwrap();
        fs::write(&format, "garbage").unwrap();
        assert!(matches!(Directory::open(folder.path()), Err(StoreError::Unusable { .. })));
    }

    #[test]
    fn a_directory_is_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let held = Directory::open(folder.path()).unwrap();
        let refused = Directory::open(folder.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        drop(held);
        Directory::open(folder.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FORMAT_FILE), "leveret store 7\ndb-1\n0011223344556677\n").unwrap();
        let refused = Directory::open(folder.path()).unwrap_err();
        assert!(matches!(refused, StoreError::NewerFormat { found: 7, known: FORMAT, .. }), "{refused}");
    }

    #[test]
    fn a_database_without_its_format_is_not_taken_for_an_empty_directory() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("db-1")).unwrap();
        assert!(matches!(Directory::open(folder.path()), Err(StoreError::Unusable { .. })));
    }

    #[test]
    fn advancing_survives_and_removes_what_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        fs::create_dir(directory.database()).unwrap();
        fs::create_dir(directory.next_database()).unwrap();
        directory.advance().unwrap();
        drop(directory);
        let directory = Directory::open(folder.path()).unwrap();
        assert!(directory.database().ends_with("db-2") && directory.database().exists());
        assert!(!folder.path().join("db-1").exists());
    }
}
