//! What the committer does: writes what is sealed, asks the log how far it is durable, calls who waits for that, and discards.

use super::gathering::Sealed;
use super::index::Index;
use super::record::header;
use super::{DefinitionChanges, Journal, StoreError};
use crate::message::Lsn;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What only the committer needs.
#[derive(Default)]
pub(super) struct Committing {
    /// The last record given to the engine.
    pub(super) written: Lsn,
    /// How many records the engine keeps.
    stored: u64,
    /// Records that it is to discard: the headers of what was written since count without them.
    discards: Vec<Lsn>,
    /// Commits since the log was last asked to sync, and bytes of their records.
    unsynced: u32,
    unsynced_bytes: usize,
    /// Records written since the last look for what is worth copying forward.
    pub(super) unlooked: usize,
    /// Bytes of records written since anything mostly dead was copied forward.
    pub(super) uncopied_bytes: u64,
}

impl Committing {
    /// Of a log whose last record is `written`, which keeps `stored` records, `discards` among them.
    pub(super) fn new(written: Lsn, stored: u64, discards: Vec<Lsn>) -> Committing {
        Committing { written, stored, discards, ..Committing::default() }
    }
}

/// A record that is being written.
struct Writing {
    lsn: Lsn,
    body: Bytes,
    /// What is written before it.
    definitions: Option<Arc<DefinitionChanges>>,
    asks_for_sync: bool,
}

/// Acknowledgements alone don't make the disk work; but after this many commits without a sync there is one.
const UNSYNCED_COMMITS_MAX: u32 = 32;

impl Journal {
    pub(super) fn commit_batch(&self, committing: &mut Committing) -> Result<(), StoreError> {
        let batch = self.take_batch(committing);
        // What could be written before the engine has to wait is made durable all the same.
        let held_up = match self.write(committing, &batch) {
            Err(error) if error.may_pass() => Some(error),
            written => {
                written?;
                None
            }
        };
        let written = &batch[..batch.partition_point(|writing| writing.lsn <= committing.written)];
        let is_asked_for = written.iter().any(|writing| writing.asks_for_sync);
        let is_idle = batch.is_empty();
        committing.unlooked += written.len();
        let bytes: usize = written.iter().map(|writing| writing.body.len()).sum();
        committing.uncopied_bytes += bytes as u64;
        committing.unsynced_bytes += bytes;
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.sync_if_due(committing, is_asked_for, is_idle)?;
        {
            let mut index = self.index.lock();
            self.catch_up(&mut index);
            index.sweep_if_due();
        }
        drop(batch);
        {
            let mut gathering = self.gathering.lock();
            gathering.written = committing.written;
            gathering.forget(self.durable());
            if gathering.sealed.len() * self.options.record_bytes <= self.options.gathered_bytes_max / 2 {
                self.behind.store(false, Ordering::Relaxed);
            }
        }
        let is_tidied = self.tidy_if_due(committing, is_idle)?;
        let is_more_due = {
            let index = self.index.lock();
            self.is_discard_due(&index, committing.written)
        };
        self.work_left.store(is_tidied || is_more_due, Ordering::Release);
        held_up.map_or(Ok(()), Err)
    }

    /// Writes a batch, and discards what is to be discarded. An engine that has to wait has done so for the first of them.
    fn write(&self, committing: &mut Committing, batch: &[Writing]) -> Result<(), StoreError> {
        for Writing { lsn, body, definitions, .. } in batch {
            if let Some(definitions) = definitions {
                self.definitions.define(definitions)?;
            }
            let below = committing.stored - committing.discards.len() as u64;
            let given = self.log.append(&header(*lsn, below, body), body)?;
            if given != *lsn {
                let reason =
                    format!("it numbered record {lsn} as {given}; another process may be writing to it");
                return Err(StoreError::Failed(reason));
            }
            committing.written = *lsn;
            committing.stored += 1;
        }
        if !committing.discards.is_empty() {
            self.log.discard(&committing.discards)?;
            committing.stored -= committing.discards.len() as u64;
            committing.discards.clear();
        }
        Ok(())
    }

    fn is_discard_due(&self, index: &Index, written: Lsn) -> bool {
        self.snapshots.load(Ordering::Acquire) == 0 && index.ledger.is_discard_due(self.durable(), written)
    }

    /// The records to write now; notes the records to discard now.
    fn take_batch(&self, committing: &mut Committing) -> Vec<Writing> {
        let mut index = self.index.lock();
        let mut gathering = self.gathering.lock();
        let durable = self.durable();
        if gathering.may_be_written(gathering.lsn) {
            gathering.seal();
        }
        let is_discard_due = self.is_discard_due(&index, committing.written);
        let is_unwritten = |sealed: &&Sealed| sealed.lsn > committing.written;
        let is_anything_sealed = gathering.sealed.iter().any(|sealed| is_unwritten(&sealed));
        if is_discard_due && !is_anything_sealed && gathering.may_be_written(gathering.lsn) {
            // The discards need a record that counts without them, see `header`.
            let at = gathering.lsn;
            gathering.seal_even_if_empty(at);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        let unwritten = gathering.sealed.iter().filter(is_unwritten);
        for sealed in unwritten.take_while(|sealed| gathering.may_be_written(sealed.lsn)) {
            batch.push(Writing {
                lsn: sealed.lsn,
                body: sealed.body.clone(),
                definitions: sealed.definitions.clone(),
                asks_for_sync: sealed.asks_for_sync(),
            });
            bytes += sealed.body.len();
            bytes += sealed.definitions.as_ref().map_or(0, |definitions| definitions.len_bytes());
            if bytes >= self.options.commit_bytes_max {
                break;
            }
        }
        drop(gathering);
        // A removal costs the engine about as much as a small record, so a few are done together. Those that it had no room for
        // come first.
        if is_discard_due && !batch.is_empty() && committing.discards.is_empty() {
            committing.discards = index.ledger.take_dead(durable, committing.written);
        }
        batch
    }

    fn sync_if_due(
        &self,
        committing: &mut Committing,
        is_asked_for: bool,
        is_idle: bool,
    ) -> Result<(), StoreError> {
        let is_rung = self.bell.answer();
        let is_any_unsynced = self.durable() < committing.written;
        let is_much = committing.unsynced >= UNSYNCED_COMMITS_MAX
            || committing.unsynced_bytes >= self.options.gathered_bytes_max / 4;
        if is_any_unsynced && (is_asked_for || is_idle || is_rung || is_much) {
            return self.sync(committing);
        }
        committing.unsynced += u32::from(is_any_unsynced);
        Ok(())
    }

    /// Asks the log how far it is durable, and calls who waits for that. What is beyond that stays in memory until it is durable
    /// as well: the log may not be able to read it yet.
    pub(super) fn sync(&self, committing: &mut Committing) -> Result<(), StoreError> {
        let durable = self.log.sync()?.min(committing.written);
        (committing.unsynced, committing.unsynced_bytes) = (0, 0);
        if durable <= self.durable() {
            return Ok(());
        }
        self.durable.store(durable.0, Ordering::Release);
        let mut waiters = Vec::new();
        for sealed in &mut self.gathering.lock().sealed {
            if sealed.lsn <= durable {
                waiters.append(&mut sealed.waiters);
            }
        }
        let (unhurried, hurried) = waiters.split_at(waiters.len().min(self.options.unhurried_waiters_max));
        hurried.iter().for_each(|waiter| waiter.durable(durable, true));
        unhurried.iter().for_each(|waiter| waiter.durable(durable, false));
        Ok(())
    }

    /// Ends the journal: nothing more is taken, and the waiters are called.
    pub(super) fn fail(&self, error: &StoreError) {
        let waiters = {
            let mut gathering = self.gathering.lock();
            gathering.failed = Some(error.clone());
            let mut waiters = std::mem::take(&mut gathering.waiters);
            for sealed in &mut gathering.sealed {
                waiters.append(&mut sealed.waiters);
            }
            waiters
        };
        for waiter in waiters {
            waiter.failed(error);
        }
    }
}
