//! The second copy of the definitions while the store is in use: it follows the log, and is written anew when it has grown or could
//! not be written. What is wrong with it holds nobody up.

use super::{Shared, Writing};
use crate::store::definitions_file::Anew;
use crate::store::wal::Entry;
use crate::store::{DefinitionChanges, Durability, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;

/// A file that could not be written anew is tried again after this many commits: each attempt reads all definitions.
const PAUSE: u32 = 64;

impl Shared {
    /// Appends changes to the log, with what the table is then.
    pub(super) fn append_definitions(
        &self,
        writing: &mut Writing,
        changes: &DefinitionChanges,
    ) -> Result<(), StoreError> {
        let last = writing.last;
        let undo = writing.tally.change(changes);
        if let Err(error) = writing.wal.append(Entry::Changes(changes, writing.tally.stamp()), last) {
            writing.tally.undo(undo);
            return Err(self.fail(writing, "definitions can't be written", &error));
        }
        writing.file.note(changes, writing.tally.stamp());
        Ok(())
    }

    /// Has the file of definitions, and the note beside it, follow what is durable.
    pub(super) fn note_definitions(&self, writing: &mut Writing) -> Result<(), StoreError> {
        let stamp = writing.tally.stamp();
        if stamp.version == writing.noted_version {
            return Ok(());
        }
        if self.durability != Durability::None {
            self.directory.note_stamp(stamp)?;
        }
        writing.noted_version = stamp.version;
        if let Err(error) = writing.file.write() {
            self.tell(&error);
        }
        self.alarm.ring_if(writing.file.is_rewrite_due());
        Ok(())
    }

    /// Writes the file of definitions anew when it lacks something or is too long.
    pub(super) fn rewrite_definitions_if_due(&self) -> Result<(), StoreError> {
        let mut moving = self.moving.lock();
        if !self.writing.lock().file.is_rewrite_due() {
            return Ok(());
        }
        if moving.file_pause > 0 {
            moving.file_pause -= 1;
            return Ok(());
        }
        let (stamp, changed) = {
            let mut writing = self.writing()?;
            self.sync(&mut writing)?;
            writing.file.begin_rewrite();
            let known = self.known.lock();
            let changed: Vec<(Bytes, Option<Bytes>)> =
                known.definitions.iter().map(|(key, change)| (key.clone(), change.value.clone())).collect();
            (writing.tally.stamp().clone(), changed)
        };
        // No checkpoint moves anything meanwhile.
        let written = self
            .table(changed)
            .and_then(|table| Anew::write(self.directory.path(), self.directory.magic(), &table, &stamp));
        let mut writing = self.writing()?;
        // What came meanwhile goes along, and the log has to have it first.
        self.sync(&mut writing)?;
        let taken = written.and_then(|anew| writing.file.end_rewrite(anew));
        writing.file.give_up_rewrite();
        drop(writing);
        match taken {
            Ok(()) => self.directory.sync_entries(&[]),
            Err(error) => {
                moving.file_pause = PAUSE;
                self.tell(&error);
                Ok(())
            }
        }
    }

    /// All definitions: those of the database, with what was changed since.
    fn table(&self, changed: Vec<(Bytes, Option<Bytes>)>) -> io::Result<BTreeMap<Bytes, Bytes>> {
        let mut table = self.current().definitions().map_err(io::Error::other)?;
        for (key, value) in changed {
            match value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
        Ok(table)
    }

    fn tell(&self, error: &io::Error) {
        tracing::warn!(
            "in the data directory {}: the second copy of the definitions can't be written: {error}. Nothing else depends on it; \
             it is tried again later",
            self.directory.path().display()
        );
    }
}
