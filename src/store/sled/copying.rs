//! Copying a database into the next one: because the old one is damaged, or much larger than what is in it.

use super::database::Database;
use super::guard::guarded;
use crate::message::Lsn;
use crate::store::Durability;
use crate::store::directory::Directory;

impl Database {
    /// Copies all definitions and these records into the next database, durably. What was written of it goes when that fails.
    pub(super) fn copy_to(
        &self,
        directory: &Directory,
        durability: Durability,
        records: &[Lsn],
    ) -> Result<Database, String> {
        let new = Database::create(directory, &directory.next_database(), durability)?;
        self.copy_into(&new, records).inspect_err(|_| new.remove_files())?;
        Ok(new)
    }

    fn copy_into(&self, new: &Database, records: &[Lsn]) -> Result<(), String> {
        let mut definitions = self.definitions.iter();
        while let Some((key, value)) = guarded(|| definitions.next().transpose())? {
            guarded(|| new.definitions.insert(key, value))?;
        }
        // By number, as in `scan`: sled's iterator stays on a page that it can't read.
        for lsn in records {
            let mut bytes = 0;
            let is_there = self.visit_pieces(*lsn, |key, frame, data, _| {
                guarded(|| new.records.insert(key, frame))?;
                bytes += data.len();
                new.has_been_given(frame.len())
            });
            new.kept_tree().insert(*lsn, bytes)?;
            if !is_there.map_err(|reason| format!("of record {lsn} {reason}"))? {
                return Err(format!("record {lsn} is missing"));
            }
        }
        if let Some(sequence) = new.sequence()? {
            new.kept_tree().mark(sequence)?;
        }
        new.flush()?;
        new.fsync().map_err(|error| error.to_string())
    }

    /// Removes its files; who still reads it may go on.
    pub(super) fn remove_files(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!("{} is not needed any more but can't be removed: {error}", self.path.display());
        }
    }
}
