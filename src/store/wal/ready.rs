//! Files for the segments to come. When the log needs the next one, neither a descriptor nor room on the disk may be left; so one is
//! there ahead, open, with its blocks. A file that was used before is kept beside it and taken first: one whose blocks are on the
//! disk is synced faster.

use crate::files;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How many are kept: one made ahead, and one to be used again.
const KEPT: usize = 2;

/// Their names, before they are segments.
const NAMES: [&str; KEPT] = ["spare", "spare-2"];

/// The files that are ready; see the module.
#[derive(Debug)]
pub(super) struct Ready {
    folder: PathBuf,
    segment_bytes: u64,
    /// Whether their blocks have to be on the disk before anything is written to them.
    is_synced: bool,
    files: Vec<(&'static str, File)>,
}

impl Ready {
    /// None yet in `folder`; those that an earlier process left are removed.
    pub(super) fn new(folder: PathBuf, segment_bytes: u64, is_synced: bool) -> io::Result<Ready> {
        for name in NAMES {
            match fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(Ready { folder, segment_bytes, is_synced, files: Vec::new() })
    }

    /// Makes one if there is none.
    pub(super) fn make(&mut self) -> io::Result<()> {
        if !self.files.is_empty() {
            return Ok(());
        }
        let path = self.folder.join(NAMES[0]);
        let made = files::options().create(true).truncate(true).read(true).write(true).open(&path).and_then(
            |file| {
                allocate(&file, self.segment_bytes)?;
                if self.is_synced {
                    file.sync_all()?;
                }
                Ok(file)
            },
        );
        match made {
            Ok(file) => {
                self.files.push((NAMES[0], file));
                Ok(())
            }
            Err(error) => {
                // Half of one takes room that others need; there may be none.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Makes one the file at `path`; its entry in the folder is not synced.
    pub(super) fn take(&mut self, path: &Path) -> io::Result<File> {
        self.make()?;
        let Some((name, file)) = self.files.pop() else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = fs::rename(self.folder.join(name), path) {
            self.files.push((name, file));
            return Err(error);
        }
        Ok(file)
    }

    /// Keeps the file at `path` to be used again, unless there are enough of them, or it is of no use.
    pub(super) fn give(&mut self, path: &Path, file: Option<File>) -> io::Result<()> {
        let usual = self.segment_bytes..self.segment_bytes * 2;
        let file = file.filter(|file| file.metadata().is_ok_and(|metadata| usual.contains(&metadata.len())));
        let free = NAMES.into_iter().find(|name| self.files.iter().all(|(taken, _)| taken != name));
        match (file, free) {
            (Some(file), Some(name)) if fs::rename(path, self.folder.join(name)).is_ok() => {
                self.files.push((name, file));
                Ok(())
            }
            _ => fs::remove_file(path),
        }
    }
}

/// Has a file's blocks be there before they are written. Where a filesystem can't, they come with the writing.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => Ok(()),
        allocated => Ok(allocated?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn one_is_there_ahead_and_one_that_was_used_is_taken_first() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("spare-2"), "of another process").unwrap();
        let mut ready = Ready::new(folder.path().to_owned(), 1000, true).unwrap();
        assert_eq!(names(folder.path()), [""; 0]);
        ready.make().unwrap();
        ready.make().unwrap();
        assert_eq!(
            (names(folder.path()), fs::metadata(at("spare")).unwrap().len()),
            (vec!["spare".to_owned()], 1000)
        );
        let first = ready.take(&at("1.wal")).unwrap();
        ready.make().unwrap();
        ready.give(&at("1.wal"), Some(first)).unwrap();
        assert_eq!(names(folder.path()), ["spare", "spare-2"]);
        let again = ready.take(&at("2.wal")).unwrap();
        assert_eq!(names(folder.path()), ["2.wal", "spare"]);
        again.set_len(5000).unwrap();
        ready.give(&at("2.wal"), Some(again)).unwrap();
        assert_eq!(names(folder.path()), ["spare"], "one that has grown is of no use");
    }

    #[test]
    fn one_that_can_not_be_made_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut ready = Ready::new(folder.path().to_owned(), 1 << 62, true).unwrap();
        ready.take(&folder.path().join("1.wal")).unwrap_err();
        assert_eq!(names(folder.path()), [""; 0]);
    }
}
