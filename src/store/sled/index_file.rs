//! The file `index` of a data directory: a checkpoint of the journal's index, so that a start need not read the records. It is of
//! no use without knowing which records the database has: that is in a tree of its own, see [`super::kept`].
//! ```text
//! last record that it speaks of (8) ‖ the checkpoint, which has a checksum of its own
//! ```

use super::Shared;
use crate::files;
use crate::message::Lsn;
use crate::store::directory::sync_folder;
use crate::store::{Checkpoint, Durability, StoreError};
use bytes::Bytes;
use std::fs;
use std::io::{self, Write};

const FILE: &str = "index";

/// A file larger than this is none of ours.
const BYTES_MAX: u64 = 1 << 30;

impl Shared {
    /// Keeps a checkpoint in place of the last one.
    pub(super) fn keep_checkpoint(&self, at: Lsn, state: &[u8]) -> Result<(), StoreError> {
        let (path, new) = (self.directory.path().join(FILE), self.directory.path().join("index.new"));
        let write = || -> io::Result<()> {
            let mut file = files::options().create(true).truncate(true).write(true).open(&new)?;
            file.write_all(&at.0.to_le_bytes())?;
            file.write_all(state)?;
            if self.durability == Durability::Fsync {
                file.sync_all()?;
            }
            fs::rename(&new, &path)?;
            if self.durability == Durability::Fsync { sync_folder(self.directory.path()) } else { Ok(()) }
        };
        write().map_err(|error| {
            // What is left of it takes room and is of no use.
            let _ = fs::remove_file(&new);
            self.directory.failed_or_exhausted("a checkpoint of the index can't be written", &error)
        })
    }

    /// The checkpoint that is kept, if it is known which of its records there are, and none of them is known to be damaged.
    pub(super) fn kept_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let path = self.directory.path().join(FILE);
        let is_there = path.metadata().is_ok_and(|metadata| metadata.len() <= BYTES_MAX);
        if !is_there || !self.know_database() {
            return Ok(None);
        }
        let read = fs::read(&path);
        let bytes =
            read.map_err(|error| self.directory.failed("the checkpoint of the index can't be read", &error))?;
        let Some((at, _)) = bytes.split_first_chunk() else { return Ok(None) };
        let at = Lsn(u64::from_le_bytes(*at));
        let known = self.known.lock();
        if known.damaged.range(..=at).next().is_some() {
            return Ok(None);
        }
        let in_database = known.in_database.iter().flat_map(|records| records.range(..=at));
        let mut kept: Vec<Lsn> = in_database.map(|(lsn, _)| *lsn).collect();
        kept.extend(known.in_wal.range(..=at).map(|(lsn, _)| *lsn));
        kept.sort_unstable();
        kept.dedup();
        Ok(Some(Checkpoint { at, state: Bytes::from(bytes).slice(8..), kept }))
    }

    /// Has it known which records the database has, if that is written anywhere; whether it is.
    fn know_database(&self) -> bool {
        let _moving = self.moving.lock();
        if self.known.lock().in_database.is_some() {
            return true;
        }
        let Some(mut records) = self.current().kept() else { return false };
        let mut known = self.known.lock();
        records.retain(|lsn, _| !known.in_wal.contains_key(lsn) && !known.removed.contains(lsn));
        known.database_bytes = records.values().map(|bytes| u64::from(*bytes)).sum();
        known.in_database = Some(records);
        true
    }
}
