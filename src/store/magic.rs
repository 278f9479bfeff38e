//! What the frames and entries of a data directory start with, found again from what is in it: for when both files that say it are
//! lost. It was chosen at random, and without it nothing can be read.

use super::definitions_file::{DEFINITIONS_FILE, entry_magic, magic_in};
use super::salvage::{Frame, Magic};
use super::wal::{ALIGNMENT, EntryMagic, Found};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How much of a file is looked at, at once and in all.
const LOOKED_AT_BYTES: u64 = 64 << 20;

/// Larger frames are not looked for: none is, but for definitions with large arguments.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// Looks in the file of definitions, in the log and in the databases; `None` when nothing there is legible.
///
/// # Errors
/// When the system refuses.
pub(super) fn find(folder: &Path, databases: &[PathBuf]) -> io::Result<Option<Magic>> {
    let of_definitions = read(&folder.join(DEFINITIONS_FILE))?;
    if let Some(magic) =
        magic_in(&of_definitions).filter(|magic| has_entry(&of_definitions, entry_magic(*magic)))
    {
        return Ok(Some(magic));
    }
    let mut of_entries = None;
    for entry in list(&folder.join("wal"))? {
        of_entries = of_entries.or(entry_magic_in(&read(&entry)?));
    }
    for database in databases {
        let bytes = read(&database.join("db"))?;
        if let Some(magic) = frame_magic_in(&bytes, of_entries) {
            return Ok(Some(magic));
        }
    }
    // No database has a frame: then any that fits the log will do.
    Ok(of_entries.map(|[a, b, c, d]| [a ^ 0xff, b ^ 0xff, c ^ 0xff, d ^ 0xff, a, b, c, d]))
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LOOKED_AT_BYTES).read_to_end(&mut bytes).map(|_| bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
        Err(error) => Err(error),
    }
}

fn has_entry(bytes: &[u8], magic: EntryMagic) -> bool {
    let mut places = (0..bytes.len()).step_by(ALIGNMENT);
    places.any(|at| Found::at_start_of(&bytes[at..], magic).is_some_and(|found| found.decode().is_some()))
}

/// What the first whole entry of the log starts with. Its checksum does not depend on that.
fn entry_magic_in(bytes: &[u8]) -> Option<EntryMagic> {
    let magic_at = |at: usize| {
        let magic = *bytes.get(at..)?.first_chunk()?;
        let found = Found::at_start_of(&bytes[at..], magic)?;
        // Nothing at all has a checksum of nothing.
        (found.ordinals.ordinal > 0 && found.decode().is_some()).then_some(magic)
    };
    (0..bytes.len()).step_by(ALIGNMENT).find_map(magic_at)
}

/// What two frames of a database start with, or the only one there is; it has to fit that of the log's entries.
fn frame_magic_in(bytes: &[u8], of_entries: Option<EntryMagic>) -> Option<Magic> {
    let mut seen: Option<Magic> = None;
    for at in 0..bytes.len() {
        let Some(magic) = Frame::magic_at(&bytes[at..], FRAME_BYTES_MAX) else { continue };
        if of_entries.is_some_and(|of_entries| entry_magic(magic) != of_entries) {
            continue;
        }
        if seen == Some(magic) || of_entries.is_some() {
            return Some(magic);
        }
        seen = Some(magic);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Lsn;

    const MAGIC: Magic = *b"\x9dmagic\x01\x02";

    fn part(lsn: u64) -> Vec<u8> {
        let frame = Frame::Part { lsn: Lsn(lsn), oldest: Lsn(1), part: 0, parts: 1, data: b"data" };
        frame.encode(MAGIC, b"")
    }

    #[test]
    fn frames_tell_what_they_start_with() {
        let mut bytes = vec![1; 1000];
        bytes.extend(part(1));
        bytes.extend_from_slice(&[2; 333]);
        assert_eq!(frame_magic_in(&bytes, None), Some(MAGIC));
        bytes.extend(part(2));
        bytes.extend_from_slice(&[0; 100]);
        assert_eq!(frame_magic_in(&bytes, None), Some(MAGIC));
        assert_eq!(frame_magic_in(&bytes, Some(entry_magic(MAGIC))), Some(MAGIC));
        assert_eq!(frame_magic_in(&bytes, Some(*b"othe")), None);
        assert_eq!(frame_magic_in(&[1; 5000], None), None);
    }
}
