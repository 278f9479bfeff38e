//! The file `losses` of a data directory: what was found to be lost when it was opened, until an operator has acknowledged it.
//! ```text
//! milliseconds since the epoch, what, how much of it is lost, of how much ("-" where nobody knows): a line each
//! ```

use crate::files;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const LOSSES_FILE: &str = "losses";

/// Lines that are kept; the oldest go.
const LINES_MAX: usize = 100;

/// Something that was lost, as it was found at one start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossNote {
    /// When it was found, in milliseconds since the epoch.
    pub at: u64,
    /// What it is, in a word: `users`, `queues` and so on, `records` of messages, or `definitions` where nothing says of what kind.
    pub what: String,
    /// How many; 0 where as many are there as there were, and some are as they were before their last change.
    pub lost: u64,
    /// Of how many, if that is known.
    pub of: Option<u64>,
}

/// What is kept in a data directory; nothing where there is no file. A line that is not legible is passed over.
///
/// # Errors
/// When the system refuses.
pub fn read_losses(data_dir: &Path) -> io::Result<Vec<LossNote>> {
    match fs::read(data_dir.join(LOSSES_FILE)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Keeps these, durably, in place of what was kept before.
///
/// # Errors
/// When the system refuses; what was kept before is still there then.
pub fn keep_losses(data_dir: &Path, notes: &[LossNote]) -> io::Result<()> {
    let (path, new) = (data_dir.join(LOSSES_FILE), data_dir.join("losses.new"));
    if notes.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(data_dir)?.sync_all(),
        };
    }
    let mut file = files::options().create(true).truncate(true).write(true).open(&new)?;
    for LossNote { at, what, lost, of } in &notes[notes.len().saturating_sub(LINES_MAX)..] {
        let of = of.map_or("-".to_owned(), |of| of.to_string());
        writeln!(file, "{at} {what} {lost} {of}")?;
    }
    file.sync_all()?;
    fs::rename(new, path)?;
    File::open(data_dir)?.sync_all()
}

fn parse(line: &str) -> Option<LossNote> {
    let mut words = line.split(' ');
    let (at, what, lost, of) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(LossNote {
        at: at.parse().ok()?,
        what: what.to_owned(),
        lost: lost.parse().ok()?,
        of: if of == "-" { None } else { Some(of.parse().ok()?) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(at: u64, what: &str, lost: u64, of: Option<u64>) -> LossNote {
        LossNote { at, what: what.to_owned(), lost, of }
    }

    #[test]
    fn what_is_kept_comes_back_until_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_losses(folder.path()).unwrap(), []);
        let notes = vec![note(1, "users", 2, Some(7)), note(2, "records", 1, None)];
        keep_losses(folder.path(), &notes).unwrap();
        assert_eq!(read_losses(folder.path()).unwrap(), notes);
        fs::write(folder.path().join(LOSSES_FILE), b"1 users 2 7\n\xff\nx y\n\n").unwrap();
        assert_eq!(read_losses(folder.path()).unwrap(), notes[..1]);
        let many: Vec<LossNote> = (0..150).map(|at| note(at, "users", 1, None)).collect();
        keep_losses(folder.path(), &many).unwrap();
        assert_eq!(read_losses(folder.path()).unwrap(), many[50..]);
        for _ in 0..2 {
            keep_losses(folder.path(), &[]).unwrap();
            assert_eq!(read_losses(folder.path()).unwrap(), []);
        }
    }
}
