//! Backups: a copy of a data directory that a broker could start on, and the way back.
//!
//! A backup is written by [`Journal::back_up`] into a new database, never by copying the files of one that is in use. Its file
//! `format` comes last, without which nothing takes it for a data directory, so half a backup is never mistaken for a whole.

use super::directory::{FORMAT_COPY, FORMAT_FILE, IN_USE, sync_folder};
use super::{
    BackupContents, Durability, Journal, JournalOptions, RecordLog, Recovered, SledStore, StoreError,
    StreamStore, stream,
};
use crate::files;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Why there is no backup, or none was restored. Its text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What is to be written goes into a directory of its own.
    #[error("{} is not empty; name a directory that is, or one that is not there yet", .0.display())]
    NotEmpty(PathBuf),
    /// What is to be restored is no backup.
    #[error("{} holds no finished backup: it has no file \"{FORMAT_FILE}\"", .0.display())]
    NoBackup(PathBuf),
    /// A broker runs on it.
    #[error("{} is in use by a running broker; stop that one first", .0.display())]
    InUse(PathBuf),
    /// The system refused something.
    #[error("{}: {error}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// One of the two stores failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The backup was cancelled.
    #[error("the backup was given up before it was complete, and what there was of it is removed")]
    GivenUp,
}

/// Where a backup is built before it is moved to where it belongs.
const PARTIAL: &str = "partial";

const LOCK_FILE: &str = "lock";

/// How much is copied at once.
const CHUNK_BYTES: usize = 4 << 20;

/// Writes a backup of everything into `directory`, which is empty or not there. `progress` as in [`Journal::back_up`].
///
/// # Errors
/// When there is none; nothing of it is left then.
pub fn back_up(
    journal: &Journal,
    directory: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<BackupContents, BackupError> {
    let is_new = !directory.exists();
    make_empty(directory)?;
    let partial = directory.join(PARTIAL);
    let result = build(journal, &partial, progress)
        .and_then(|contents| move_all(&partial, directory).map(|()| contents));
    if result.is_err() {
        // The error says what matters; this is only tidying up.
        let _ = if is_new { fs::remove_dir_all(directory) } else { fs::remove_dir_all(&partial) };
    }
    result
}

fn build(
    journal: &Journal,
    partial: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<BackupContents, BackupError> {
    // No part of it is waited for, so it is made durable once, at the end.
    let store = SledStore::open(partial, Durability::None)?;
    let mut contents = journal.back_up(&store, progress)?.ok_or(BackupError::GivenUp)?;
    // What the journal has forgotten of streams by now is in their files.
    let from = &**journal.stream_files();
    let copied = stream::copy_all(from, &*store.stream_files(), &mut || progress(0, 1));
    let copied = copied.map_err(|error| BackupError::File { path: partial.join("streams"), error })?;
    contents.stream_bytes = copied.ok_or(BackupError::GivenUp)?;
    drop(store);
    SledStore::open(partial, Durability::Fsync)?.sync()?;
    Ok(contents)
}

/// Moves a finished data directory to where it belongs, the file that makes it one last.
fn move_all(from: &Path, to: &Path) -> Result<(), BackupError> {
    let rename = |name: &std::ffi::OsStr| {
        let target = to.join(name);
        fs::rename(from.join(name), &target).map_err(|error| BackupError::File { path: target, error })
    };
    for name in names(from)? {
        if name != FORMAT_FILE && name != FORMAT_COPY && name != LOCK_FILE {
            rename(&name)?;
        }
    }
    sync(to)?;
    rename(FORMAT_FILE.as_ref())?;
    sync(to)?;
    fs::remove_dir_all(from).map_err(|error| BackupError::File { path: from.to_owned(), error })
}

/// Copies a backup into `data_dir`, which is empty or not there, and opens it once to see what is in it. `progress` is called with how
/// many bytes of how many are copied.
///
/// # Errors
/// When it can't be; nothing of it is left then.
pub fn restore(
    backup: &Path,
    data_dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recovered, BackupError> {
    if !backup.join(FORMAT_FILE).is_file() {
        return Err(BackupError::NoBackup(backup.to_owned()));
    }
    let _held = hold(backup)?;
    drop(hold(data_dir)?);
    let is_new = !data_dir.exists();
    make_empty(data_dir)?;
    let result = copy_all(backup, data_dir, progress).and_then(|()| {
        let store = SledStore::open(data_dir, Durability::Fsync)?;
        let (_, recovered) = Journal::open(Box::new(store), JournalOptions::default(), |_| ())?;
        Ok(recovered)
    });
    if result.is_err() {
        // As above.
        let _ = if is_new {
            fs::remove_dir_all(data_dir)
        } else {
            names(data_dir).unwrap_or_default().iter().try_for_each(|name| remove(&data_dir.join(name)))
        };
    }
    result
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Keeps brokers off a directory that is read. One that can't be written to needs no keeping off.
fn hold(directory: &Path) -> Result<Option<File>, BackupError> {
    let Ok(lock) = files::options().write(true).open(directory.join(LOCK_FILE)) else { return Ok(None) };
    match lock.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(BackupError::InUse(directory.to_owned())),
        _ => Ok(Some(lock)),
    }
}

fn copy_all(from: &Path, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), BackupError> {
    let mut files = Vec::new();
    list(from, Path::new(""), &mut files)?;
    // What makes half of it pass for a whole comes last.
    files.sort_by_key(|(path, _)| (path == Path::new(FORMAT_FILE), path == Path::new(IN_USE)));
    let total = files.iter().map(|(_, bytes)| bytes).sum();
    let mut done = 0;
    for (path, _) in &files {
        let target = to.join(path);
        let failed = |error| BackupError::File { path: target.clone(), error };
        let parent = target.parent().unwrap_or(to);
        files::make_folder(parent).map_err(failed)?;
        if path == Path::new(FORMAT_FILE) {
            sync(to)?;
        }
        copy(&from.join(path), &target, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
        sync(parent)?;
    }
    sync(to)
}

fn copy(from: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), BackupError> {
    let unread = |error| BackupError::File { path: from.to_owned(), error };
    let unwritten = |error| BackupError::File { path: to.to_owned(), error };
    let mut source = files::options().read(true).open(from).map_err(unread)?;
    let mut target = files::options().create_new(true).write(true).open(to).map_err(unwritten)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let bytes = source.read(&mut chunk).map_err(unread)?;
        if bytes == 0 {
            return target.sync_all().map_err(unwritten);
        }
        target.write_all(&chunk[..bytes]).map_err(unwritten)?;
        progress(bytes as u64);
    }
}

/// All files of a backup with their sizes, by their paths below it. The lock is not a part of it.
fn list(root: &Path, below: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<(), BackupError> {
    let folder = root.join(below);
    for name in names(&folder)? {
        let path = folder.join(&name);
        let metadata = path.metadata().map_err(|error| BackupError::File { path, error })?;
        let path = below.join(&name);
        if metadata.is_dir() {
            list(root, &path, files)?;
        } else if metadata.is_file() && ![LOCK_FILE, FORMAT_COPY].iter().any(|own| path == Path::new(own)) {
            files.push((path, metadata.len()));
        }
    }
    Ok(())
}

fn make_empty(directory: &Path) -> Result<(), BackupError> {
    let failed = |error| BackupError::File { path: directory.to_owned(), error };
    files::make_folder(directory).map_err(failed)?;
    if names(directory)?.is_empty() { Ok(()) } else { Err(BackupError::NotEmpty(directory.to_owned())) }
}

fn names(folder: &Path) -> Result<Vec<std::ffi::OsString>, BackupError> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(|error| BackupError::File { path: folder.to_owned(), error })
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    sync_folder(folder).map_err(|error| BackupError::File { path: folder.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Position, QueueId, StoredShape};
    use crate::store::{Changes, DefinitionChanges};

    fn publish(journal: &Journal, positions: std::ops::RangeInclusive<u64>) {
        let shape = StoredShape {
            format: 0,
            exchange_bytes: 0,
            routing_key_bytes: 1,
            properties_bytes: 2,
            dead_lettered: false,
        };
        for position in positions {
            let mut changes = Changes::default();
            changes.enqueue((b"q\0\0body", shape), 1, &[(QueueId(1), Position(position), 0)]);
            journal.append(&mut changes, None);
            journal.commit().unwrap();
        }
    }

    fn define(journal: &Journal, key: &[u8], value: &[u8]) {
        let mut changes = DefinitionChanges::default();
        changes.put(key, value);
        journal.define(changes).unwrap();
        journal.commit().unwrap();
    }

    fn settle(journal: &Journal, first: u64, last: u64) {
        let mut changes = Changes::default();
        changes.settle_range(QueueId(1), Position(first), Position(last));
        journal.append(&mut changes, None);
        journal.commit().unwrap();
    }

    fn journal(directory: &Path) -> (Journal, Recovered) {
        let store = SledStore::open(directory, Durability::None).unwrap();
        Journal::open(Box::new(store), JournalOptions::default(), |_| ()).unwrap()
    }

    #[test]
    fn a_backup_holds_one_moment_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (original, _) = journal(&at("data"));
        define(&original, b"a", b"queue");
        publish(&original, 1..=100);
        settle(&original, 1, 40);
        // What happens while it is copied is not in it, and discards nothing that is.
        let mut is_first = true;
        let contents = back_up(&original, &at("backup"), &mut |_, _| {
            if std::mem::take(&mut is_first) {
                define(&original, b"b", b"later");
                settle(&original, 41, 100);
                publish(&original, 101..=150);
            }
            true
        });
        let contents = contents.unwrap();
        assert_eq!((contents.definitions, contents.damaged), (1, 0));
        assert!(at("backup").join(FORMAT_FILE).is_file() && !at("backup").join(PARTIAL).exists());

        let restored = restore(&at("backup"), &at("new"), &mut |_, _| ()).unwrap();
        assert_eq!((restored.messages, &restored.losses[..]), (60, &[][..]));
        let (copy, recovered) = journal(&at("new"));
        assert_eq!(recovered, restored);
        assert_eq!(copy.definitions().definitions().unwrap().len(), 1);
        assert_eq!(copy.read(QueueId(1), 0, Position(1), 1).unwrap()[0].position, Position(41));
        publish(&copy, 101..=110);
        // The original goes on discarding.
        for _ in 0..200 {
            original.commit().unwrap();
        }
        assert!(original.usage().records < 100, "{:?}", original.usage());
    }

    #[test]
    fn nothing_is_left_of_a_backup_that_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (original, _) = journal(&folder.path().join("data"));
        publish(&original, 1..=3);
        let backup = folder.path().join("backup");
        let given_up = back_up(&original, &backup, &mut |done, _| done < 2);
        assert!(matches!(given_up, Err(BackupError::GivenUp)), "{given_up:?}");
        assert!(!backup.exists());
    }

    #[test]
    fn what_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (original, _) = journal(&at("data"));
        let nothing = &mut |_, _| true;
        assert!(matches!(back_up(&original, &at("data"), nothing), Err(BackupError::NotEmpty(_))));
        back_up(&original, &at("backup"), nothing).unwrap();
        let ignored = &mut |_, _| ();
        assert!(matches!(restore(&at("backup"), &at("data"), ignored), Err(BackupError::InUse(_))));
        assert!(matches!(restore(&at("data"), &at("new"), ignored), Err(BackupError::InUse(_))));
        drop(original);
        assert!(matches!(restore(&at("backup"), &at("data"), ignored), Err(BackupError::NotEmpty(_))));
        assert!(matches!(restore(folder.path(), &at("new"), ignored), Err(BackupError::NoBackup(_))));
    }
}
