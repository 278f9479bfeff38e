//! The file `definitions`: a second copy of the table of definitions, beside what log and database have of it, for when those are
//! damaged.
//! ```text
//! "leveret definitions " ‖ magic, in hexadecimal ‖ "\n" ‖ entries as in the log: changes with their stamps
//! ```
//! The first entries set all that there was when the file was written; each change since then follows. It is written behind the
//! log, once a change is durable there, and never has what the log does not. It is synced when it is written anew and at an orderly
//! end, not with each change: what a loss of power takes from it, the log has. When it has become twice as long it is written anew.

use super::DefinitionChanges;
use super::salvage::Magic;
use super::stamp::Stamp;
use super::wal::{ALIGNMENT, Entry, EntryMagic, Found, Ordinals, Replayed, padded};
use crate::files;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Its name in the data directory.
pub(super) const DEFINITIONS_FILE: &str = "definitions";

const TITLE: &str = "leveret definitions ";

/// Bytes of its first line, a multiple of [`ALIGNMENT`] as every entry.
const TITLE_BYTES: usize = 40;

/// Definitions that are set with one entry take about this many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// A file is left to grow by so much before it is written anew.
const GROWTH_BYTES: u64 = 256 << 10;

/// The second copy, open for writing; see the module.
#[derive(Debug)]
pub(super) struct DefinitionsFile {
    path: PathBuf,
    magic: Magic,
    /// None when it could not be written.
    file: Option<File>,
    end: u64,
    /// How long it was when it was written anew.
    whole_bytes: u64,
    /// Entries that are not in it yet.
    pending: Vec<u8>,
    /// Those of the changes that came since it is being written anew.
    meanwhile: Option<Vec<u8>>,
}

/// What a file was found to hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The table, as far as it can be read.
    pub(super) table: BTreeMap<Bytes, Bytes>,
    /// What the last entry says of the table.
    pub(super) stamp: Option<Stamp>,
    /// Where its last whole entry ends.
    end: u64,
    /// Whether there is something else than whole entries.
    pub(super) is_damaged: bool,
}

impl Held {
    /// Reads the file of a data directory; one that is not there holds nothing.
    pub(super) fn of(folder: &Path, magic: Magic) -> io::Result<Held> {
        let bytes = match fs::read(folder.join(DEFINITIONS_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::default()),
            bytes => bytes?,
        };
        let mut held = Held { is_damaged: magic_in(&bytes) != Some(magic), ..Held::default() };
        let mut at = TITLE_BYTES;
        while at < bytes.len() {
            match Found::at_start_of(&bytes[at..], entry_magic(magic)) {
                Some(found) => {
                    if let Some(Replayed::Changes(changes, Some(stamp))) = found.decode() {
                        changes.into_iter().for_each(|(key, value)| held.set(key, value));
                        held.stamp = Some(stamp);
                    }
                    at = padded((at + found.bytes) as u64) as usize;
                    held.end = at as u64;
                }
                None => {
                    held.is_damaged = true;
                    at += ALIGNMENT;
                }
            }
        }
        Ok(held)
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.table.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
            None => self.table.remove(key),
        };
    }
}

/// What the frames and entries of the data directory start with, as the file's first line has it.
pub(super) fn magic_in(bytes: &[u8]) -> Option<Magic> {
    let title = std::str::from_utf8(bytes.get(..TITLE_BYTES)?).ok()?;
    let digits = title.strip_prefix(TITLE)?.trim_end();
    u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16).map(u64::to_be_bytes)
}

/// What entries start with.
pub(super) fn entry_magic(magic: Magic) -> EntryMagic {
    let [.., a, b, c, d] = magic;
    [a, b, c, d]
}

impl DefinitionsFile {
    /// One that was read and is whole, to be gone on with; what is behind its last entry is cut off.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn open(folder: &Path, magic: Magic, held: &Held) -> io::Result<DefinitionsFile> {
        let path = folder.join(DEFINITIONS_FILE);
        let file = files::options().read(true).write(true).open(&path)?;
        file.set_len(held.end)?;
        Ok(DefinitionsFile {
            file: Some(file),
            end: held.end,
            whole_bytes: held.end,
            ..DefinitionsFile::at(path, magic)
        })
    }

    /// One that can't be written now: everything goes past it until it is written anew.
    pub(super) fn behind(folder: &Path, magic: Magic) -> DefinitionsFile {
        DefinitionsFile::at(folder.join(DEFINITIONS_FILE), magic)
    }

    fn at(path: PathBuf, magic: Magic) -> DefinitionsFile {
        DefinitionsFile {
            path,
            magic,
            file: None,
            end: 0,
            whole_bytes: 0,
            pending: Vec::new(),
            meanwhile: None,
        }
    }

    /// Takes a change and what the table is with it, to be written when the log has it.
    pub(super) fn note(&mut self, changes: &DefinitionChanges, stamp: &Stamp) {
        let pending = self.file.is_some().then_some(&mut self.pending);
        for kept in pending.into_iter().chain(self.meanwhile.as_mut()) {
            put(kept, entry_magic(self.magic), changes, stamp);
        }
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// When that failed: it is behind then, until it is written anew.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| !self.pending.is_empty()) else { return Ok(()) };
        let written = file.write_all_at(&self.pending, self.end);
        match written {
            Ok(()) => self.end += self.pending.len() as u64,
            Err(_) => self.file = None,
        }
        self.pending.clear();
        written
    }

    /// Whether it lacks something, or is much longer than it has to be.
    pub(super) fn is_rewrite_due(&self) -> bool {
        self.file.is_none() || self.end > self.whole_bytes.saturating_mul(2).saturating_add(GROWTH_BYTES)
    }

    /// It is going to be written anew: what comes from now on is kept for the new file.
    pub(super) fn begin_rewrite(&mut self) {
        self.meanwhile = Some(Vec::new());
    }

    /// It is not written anew after all.
    pub(super) fn give_up_rewrite(&mut self) {
        self.meanwhile = None;
    }

    /// Takes the new file, with what came meanwhile.
    ///
    /// # Errors
    /// When the system refuses: the old one stays.
    pub(super) fn end_rewrite(&mut self, anew: Anew) -> io::Result<()> {
        let meanwhile = self.meanwhile.take().unwrap_or_default();
        anew.file.write_all_at(&meanwhile, anew.bytes)?;
        fs::rename(&anew.path, &self.path)?;
        self.file = Some(anew.file);
        self.end = anew.bytes + meanwhile.len() as u64;
        self.whole_bytes = anew.bytes;
        self.pending.clear();
        Ok(())
    }

    /// Makes what is in it survive a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

/// A new file, not yet under its name.
#[derive(Debug)]
pub(super) struct Anew {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Anew {
    /// Writes a whole table, durably.
    ///
    /// # Errors
    /// When the system refuses; nothing of it is left then.
    pub(super) fn write(
        folder: &Path,
        magic: Magic,
        table: &BTreeMap<Bytes, Bytes>,
        stamp: &Stamp,
    ) -> io::Result<Anew> {
        let path = folder.join("definitions.new");
        let written = Anew::write_at(&path, magic, table, stamp);
        if written.is_err() {
            // The error says what matters; this is only tidying up.
            let _ = fs::remove_file(&path);
        }
        let (file, bytes) = written?;
        Ok(Anew { path, file, bytes })
    }

    fn write_at(
        path: &Path,
        magic: Magic,
        table: &BTreeMap<Bytes, Bytes>,
        stamp: &Stamp,
    ) -> io::Result<(File, u64)> {
        let mut file = files::options().create(true).truncate(true).read(true).write(true).open(path)?;
        let mut piece = format!("{TITLE}{:016x}", u64::from_be_bytes(magic)).into_bytes();
        piece.resize(TITLE_BYTES - 1, b' ');
        piece.push(b'\n');
        let mut bytes = 0;
        let mut changes = DefinitionChanges::default();
        let mut entries = table.iter().peekable();
        loop {
            let next = entries.next();
            if let Some((key, value)) = next {
                changes.put(key, value);
            }
            if next.is_none() || entries.peek().is_none() || changes.len_bytes() >= PIECE_BYTES {
                put(&mut piece, entry_magic(magic), &changes, stamp);
                file.write_all(&piece)?;
                bytes += piece.len() as u64;
                piece.clear();
                changes = DefinitionChanges::default();
            }
            if entries.peek().is_none() {
                file.sync_data()?;
                return Ok((file, bytes));
            }
        }
    }
}

/// Adds an entry.
fn put(to: &mut Vec<u8>, magic: EntryMagic, changes: &DefinitionChanges, stamp: &Stamp) {
    let entry = Entry::Changes(changes, stamp);
    let mut head = Vec::new();
    entry.encode(magic, Ordinals { ordinal: 0, synced: 0 }, &mut head);
    to.extend_from_slice(&head);
    entry.data().into_iter().for_each(|piece| to.extend_from_slice(piece));
    to.resize(padded(to.len() as u64) as usize, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::stamp::Tally;

    const MAGIC: Magic = *b"\x9dmagic\x01\x02";

    fn table(many: usize) -> BTreeMap<Bytes, Bytes> {
        (0..many).map(|at| (Bytes::from(format!("key {at}")), Bytes::from(vec![at as u8; 100]))).collect()
    }

    fn set(key: &[u8], value: &[u8]) -> DefinitionChanges {
        let mut changes = DefinitionChanges::default();
        changes.put(key, value);
        changes
    }

    #[test]
    fn what_was_written_anew_and_added_comes_back() {
        for many in [0, 1, 3, 3000] {
            let folder = tempfile::tempdir().unwrap();
            let all = table(many);
            let mut tally = Tally::of(5, &all);
            let mut file = DefinitionsFile::behind(folder.path(), MAGIC);
            assert!(file.is_rewrite_due());
            file.begin_rewrite();
            let anew = Anew::write(folder.path(), MAGIC, &all, tally.stamp()).unwrap();
            for (at, key) in [(1, &b"key 1"[..]), (2, b"more")] {
                if at == 2 {
                    file.end_rewrite(Anew {
                        file: anew.file.try_clone().unwrap(),
                        path: anew.path.clone(),
                        ..anew
                    })
                    .unwrap();
                }
                let changes = set(key, b"new");
                tally.change(&changes);
                file.note(&changes, tally.stamp());
            }
            file.write().unwrap();
            file.sync().unwrap();
            assert!(!file.is_rewrite_due());
            let held = Held::of(folder.path(), MAGIC).unwrap();
            let mut expected = all.clone();
            for key in ["key 1", "more"] {
                expected.insert(Bytes::from(key), Bytes::from("new"));
            }
            assert_eq!((&held.table, held.is_damaged), (&expected, false), "{many}");
            assert_eq!(held.stamp.as_ref(), Some(tally.stamp()));
            assert!(Stamp::of(7, &held.table).has_what(tally.stamp()));
        }
    }

    #[test]
    fn a_damaged_entry_costs_what_is_in_it_and_a_torn_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let all = table(3000);
        let stamp = Stamp::of(1, &all);
        let anew = Anew::write(folder.path(), MAGIC, &all, &stamp).unwrap();
        let mut file = DefinitionsFile::behind(folder.path(), MAGIC);
        file.end_rewrite(anew).unwrap();
        let path = folder.path().join(DEFINITIONS_FILE);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[PIECE_BYTES * 2] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let held = Held::of(folder.path(), MAGIC).unwrap();
        assert!(
            held.is_damaged && held.table.len() > 1000 && held.table.len() < 3000,
            "{}",
            held.table.len()
        );
        assert!(held.stamp.is_some_and(|stamp| !stamp.has_what(&Stamp::of(1, &held.table))));

        fs::write(&path, [&whole[..], &whole[TITLE_BYTES..TITLE_BYTES + 100]].concat()).unwrap();
        let held = Held::of(folder.path(), MAGIC).unwrap();
        assert_eq!((held.table.len(), held.end), (3000, whole.len() as u64));
        drop(DefinitionsFile::open(folder.path(), MAGIC, &held).unwrap());
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(magic_in(&whole), Some(MAGIC));
    }

    #[test]
    fn it_is_written_anew_when_it_has_become_long() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = Stamp::default();
        let mut file = DefinitionsFile::behind(folder.path(), MAGIC);
        file.end_rewrite(Anew::write(folder.path(), MAGIC, &BTreeMap::new(), &stamp).unwrap()).unwrap();
        let changes = set(b"key", &[7; 1000]);
        let mut notes = 0;
        while !file.is_rewrite_due() {
            file.note(&changes, &stamp);
            file.write().unwrap();
            notes += 1;
        }
        assert!((200..400).contains(&notes), "{notes}");
    }
}
