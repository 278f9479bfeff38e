//! Backing up: what the engine holds at one moment goes into another one, while the journal goes on.
//!
//! The moment is one between two commits. Records don't change, so it is enough to know which were kept then, and to discard
//! none of them until they are copied. They get new numbers: an engine counts its own without gaps.

use super::record::{HEADER_BYTES, check, header};
use super::{DefinitionChanges, Journal, Store, StoreError};
use crate::message::Lsn;
use bytes::Bytes;
use std::sync::atomic::Ordering;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupContents {
    /// How many definitions were copied.
    pub definitions: u64,
    /// How many records were copied.
    pub records: u64,
    /// How many bytes those records have.
    pub bytes: u64,
    /// Bytes of the logs of streams, which are copied beside the records.
    pub stream_bytes: u64,
    /// Records that can't be read and are not in it.
    pub damaged: u64,
}

/// What there was at the moment of the backup. While it lives no record is discarded.
struct Snapshot<'a> {
    journal: &'a Journal,
    definitions: Vec<(Bytes, Bytes)>,
    records: Vec<Lsn>,
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.journal.snapshots.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Journal {
    /// Copies everything into an empty engine: what a crash at one moment after the call would have left, with all that was
    /// durable before it. Other threads go on; records that are discarded meanwhile take up space until the copy is done. `progress` is
    /// called with how many records of how many are copied, and ends the copying when it returns false: then there is no result.
    ///
    /// # Errors
    /// When one of the engines fails.
    pub fn back_up(
        &self,
        into: &dyn Store,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Option<BackupContents>, StoreError> {
        let snapshot = self.snapshot()?;
        let mut contents = BackupContents::default();
        let mut definitions = DefinitionChanges::default();
        for (key, value) in &snapshot.definitions {
            definitions.put(key, value);
            contents.definitions += 1;
        }
        into.define(&definitions)?;
        let total = snapshot.records.len() as u64;
        for (done, &lsn) in (0..).zip(&snapshot.records) {
            if !progress(done, total) {
                return Ok(None);
            }
            let Some(record) = self.log.get(lsn)? else {
                return Err(StoreError::Failed(format!("record {lsn} is gone while it is backed up")));
            };
            if let Err(reason) = check(lsn, &record) {
                tracing::error!("record {lsn} is not in the backup: {reason}");
                contents.damaged += 1;
                continue;
            }
            let body = record.slice(HEADER_BYTES..);
            into.append(&header(Lsn(contents.records + 1), contents.records, &body), &body)?;
            contents.records += 1;
            contents.bytes += record.len() as u64;
        }
        Ok(Some(contents))
    }

    fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let mut committing = self.committing.lock();
        if let Some(error) = self.failure() {
            return Err(error);
        }
        // All that is durable can be read; acknowledgements may have been written and not synced.
        self.sync(&mut committing).inspect_err(|error| self.fail(error))?;
        self.snapshots.fetch_add(1, Ordering::AcqRel);
        let mut snapshot = Snapshot { journal: self, definitions: Vec::new(), records: Vec::new() };
        snapshot.definitions = self.definitions.definitions()?;
        snapshot.records = self.index.lock().ledger.kept_up_to(self.durable());
        Ok(snapshot)
    }
}
