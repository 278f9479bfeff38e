//! The journal: gathers what every session changed, writes it in records, says how far they are durable, and reads messages
//! back. The same above every engine.
//!
//! Sessions call [`Journal::append`], one copy of bytes under one mutex, and [`Journal::wake_committer`] when their turn ends. The
//! committer calls [`Journal::wait_for_work`] and [`Journal::commit`] over and over; while one commit syncs, the next one gathers,
//! so a lone publisher waits for one sync and many share it. Gathered bytes are cut into records of [`JournalOptions::record_bytes`];
//! one append is never cut.
//!
//! What the records say is put together in the index, on the committer's thread, after the sync: which message of which
//! queue is alive in which record. From it follow which records may be discarded, and where a message that left memory is to be
//! read. What was appended and not yet written is read from memory, so there is no moment at which a message can't be read.
//!
//! Definitions go the same way: [`Journal::define`] gathers their changes, and what is gathered when a record is sealed is written
//! as one before that record. So a message is never durable in a queue whose definition is not.
//!
//! ```text
//! append ─> gathering ─seal─> sealed ─append, sync─> engine ─> watermark ─> waiters
//!                               └─> index ─> discard, copy forward (tidy.rs)
//! ```
//! Locks, in the order of taking: `committing`, `index`, `gathering`.

mod backup;
mod changes;
mod defining;
mod gathering;
mod index;
mod ledger;
mod numbers;
mod positions;
mod reading;
mod record;
mod recovery;
mod tidy;

pub use backup::BackupContents;
pub use changes::Changes;
pub use defining::Hold;
pub use reading::StoredMessage;
pub use recovery::{Loss, Recovered, RecoveredQueue, RecoveredRun, Redelivery};

use super::{DefinitionChanges, Store, StoreError};
use crate::message::Lsn;
use bytes::Bytes;
use gathering::{CommitterState, Gathering, Sealed};
use index::Index;
use parking_lot::{Condvar, Mutex};
use reading::RecordCache;
use record::{HEADER_BYTES, check, header};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How large things may get.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Bytes after which gathered changes become a record; a single larger append makes a larger one.
    pub record_bytes: usize,
    /// Bytes of records that one commit writes, about.
    pub commit_bytes_max: usize,
    /// How long changes without a waiter may gather before they are written.
    pub linger: Duration,
    /// Bytes that may be appended and not yet written before [`Journal::is_behind`].
    pub gathered_bytes_max: usize,
    /// How many newer records there are before one is looked at for copying forward: younger ones are likely to be discarded by
    /// themselves.
    pub copy_age_records: u64,
    /// Bytes that copying forward has to gain to be worth it; with it, copying what was copied comes to an end.
    pub copy_gain_bytes_min: u64,
    /// Records that are written between two looks for some to copy forward, unless there is nothing else to do: a look takes as
    /// long as a small commit, and passes many more records than that.
    pub copy_look_records: usize,
    /// Bytes of records after which what is mostly dead is copied forward however little that gains: an engine that writes to a
    /// log can't discard anything behind a record that is still needed.
    pub copy_anything_bytes: u64,
    /// How many waiters of one commit may take their time. The others are hurried: one thread should not answer those whom all
    /// processors could answer together.
    pub unhurried_waiters_max: usize,
}

impl Default for JournalOptions {
    fn default() -> JournalOptions {
        JournalOptions {
            record_bytes: 256 << 10,
            commit_bytes_max: 16 << 20,
            linger: Duration::from_millis(5),
            gathered_bytes_max: 32 << 20,
            copy_age_records: 256,
            copy_gain_bytes_min: 1 << 20,
            copy_look_records: 16,
            copy_anything_bytes: 16 << 20,
            unhurried_waiters_max: 64,
        }
    }
}

/// A waiter for a record to become durable.
pub trait DurableWaiter: Send + Sync {
    /// Everything up to `lsn` is durable. The committer waits for this call; when `is_hurried`, many others wait to be called, and
    /// what takes longer than waking a task is to be done elsewhere.
    fn durable(&self, lsn: Lsn, is_hurried: bool);

    /// The store failed: what was appended and is not durable yet may be lost, and will never be said to be durable.
    fn failed(&self, error: &StoreError) {
        let _ = error;
    }
}

/// The journal of a store; see the module.
pub struct Journal {
    store: Box<dyn Store>,
    options: JournalOptions,
    committing: Mutex<Committing>,
    /// Backups under way; while there are any nothing is discarded.
    snapshots: AtomicU32,
    index: Mutex<Index>,
    gathering: Mutex<Gathering>,
    work: Condvar,
    /// Something was appended that the committer waits for and was not woken for.
    is_commit_due: AtomicBool,
    durable: AtomicU64,
    /// See [`Journal::defined`].
    defined: AtomicU64,
    /// See [`Journal::is_behind`].
    behind: AtomicBool,
    /// Whether the last commit left work beside what is appended.
    work_left: AtomicBool,
    cache: Mutex<RecordCache>,
}

/// What only the committer needs.
struct Committing {
    /// The last record given to the engine.
    written: Lsn,
    /// How many records the engine keeps.
    stored: u64,
    /// Records that it is to discard: the headers of what was written since count without them.
    discards: Vec<Lsn>,
    /// Commits since the last sync.
    unsynced: u32,
    /// Records written since the last look for what is worth copying forward.
    unlooked: usize,
    /// Bytes of records written since anything mostly dead was copied forward.
    uncopied_bytes: u64,
}

/// A record that is being written.
struct Writing {
    lsn: Lsn,
    body: Bytes,
    /// What is written before it.
    definitions: Option<Arc<DefinitionChanges>>,
    asks_for_sync: bool,
}

/// How much the journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many records are kept.
    pub records: usize,
    /// How many bytes those records have.
    pub record_bytes: u64,
    /// Copies of messages alive in them: a message in two queues counts twice.
    pub messages: u64,
    /// Bytes of memory that the index of them takes, about.
    pub index_bytes: usize,
    /// Bytes appended and not yet written.
    pub gathered_bytes: usize,
}

/// Acknowledgements alone don't make the disk work; but after this many commits without a sync there is one.
const UNSYNCED_COMMITS_MAX: u32 = 32;

impl Journal {
    /// The engine, for its table of definitions.
    pub fn definitions(&self) -> &dyn Store {
        &*self.store
    }

    /// Something was gathered: notes whether that is too much, and whether the committer waits for it.
    fn note_gathered(&self, gathering: &Gathering) {
        if gathering.sealed.len() * self.options.record_bytes > self.options.gathered_bytes_max {
            self.behind.store(true, Ordering::Relaxed);
        }
        if gathering.is_waited_for() {
            self.is_commit_due.store(true, Ordering::Release);
        }
    }

    /// Takes a turn's changes; returns the record that they will be in, and leaves `changes` empty. `waiter` is called when
    /// that record is durable. [`Journal::wake_committer`] has to follow, when there is nothing more urgent left to do.
    ///
    /// After a failure of the store the changes are dropped, the waiter is called, and the number returned is one that is never
    /// durable.
    pub fn append(&self, changes: &mut Changes, waiter: Option<Arc<dyn DurableWaiter>>) -> Lsn {
        let mut gathering = self.gathering.lock();
        if let Some(error) = gathering.failed.clone() {
            drop(gathering);
            changes.clear();
            if let Some(waiter) = waiter {
                waiter.failed(&error);
            }
            return Lsn(u64::MAX);
        }
        let lsn = gathering.take(changes, waiter);
        self.note_gathered(&gathering);
        lsn
    }

    /// Wakes the committer if something was appended that it waits for. It is not woken by [`Journal::append`]: it would run
    /// before the consumer that gets the message, and the mutex would be handed to it while it is on its way.
    pub fn wake_committer(&self) {
        if self.is_commit_due.load(Ordering::Relaxed) && self.is_commit_due.swap(false, Ordering::AcqRel) {
            self.work.notify_one();
        }
    }

    /// How far the journal is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Whether appends come faster than the engine writes them: sessions that append should pause, or memory fills up.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Why the journal takes nothing more, if it doesn't.
    pub fn failure(&self) -> Option<StoreError> {
        self.gathering.lock().failed.clone()
    }

    /// How long changes wait for more, when they have no waiter.
    pub fn linger(&self) -> Duration {
        self.options.linger
    }

    /// How much the journal holds.
    pub fn usage(&self) -> Usage {
        let index = self.index.lock();
        let (records, record_bytes, messages) = index.ledger.usage();
        let index_bytes = index.memory_bytes();
        let gathering = self.gathering.lock();
        let sealed: usize = gathering.sealed.iter().map(|sealed| sealed.body.len()).sum();
        let gathered_bytes = gathering.encoded.len() + sealed;
        Usage { records, record_bytes, messages, index_bytes, gathered_bytes }
    }

    /// Waits until a commit is worth it, or `timeout` has passed. A waiter for durability or a full record makes it so
    /// at once; anything else lingers for [`JournalOptions::linger`], so that it is written with more.
    pub fn wait_for_work(&self, timeout: Duration) {
        if self.work_left.load(Ordering::Acquire) {
            return;
        }
        let mut gathering = self.gathering.lock();
        if gathering.is_empty() {
            gathering.committer = CommitterState::Idle;
            self.work.wait_for(&mut gathering, timeout);
        }
        if !gathering.is_empty() && !gathering.is_pressing() {
            gathering.committer = CommitterState::Lingering;
            self.work.wait_for(&mut gathering, self.options.linger.min(timeout));
        }
        gathering.committer = CommitterState::Busy;
    }

    /// Writes what has been gathered, makes it durable, calls the waiters, and tidies up a little. Without anything
    /// gathered it does what is left to do: syncs acknowledgements, discards, copies forward.
    ///
    /// # Errors
    /// When the engine failed: nothing more may be confirmed, and every later call says so again. Or when it has to wait
    /// ([`StoreError::Exhausted`]): then the next call goes on where this one ended.
    pub fn commit(&self) -> Result<Lsn, StoreError> {
        let mut committing = self.committing.lock();
        if let Some(error) = self.failure() {
            return Err(error);
        }
        self.commit_batch(&mut committing).inspect_err(|error| {
            if !error.may_pass() {
                self.fail(error);
            }
        })?;
        Ok(self.durable())
    }

    /// What the engine is out of, if there is anything: who publishes should wait until it is not.
    pub fn shortage(&self) -> Option<StoreError> {
        self.store.shortage()
    }

    fn commit_batch(&self, committing: &mut Committing) -> Result<(), StoreError> {
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
        committing.uncopied_bytes += written.iter().map(|writing| writing.body.len() as u64).sum::<u64>();
        self.sync_if_due(committing, is_asked_for, is_idle)?;
        {
            let mut index = self.index.lock();
            self.catch_up(&mut index);
            index.sweep_if_due();
        }
        drop(batch);
        {
            let mut gathering = self.gathering.lock();
            gathering.forget(committing.written);
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
                self.store.define(definitions)?;
            }
            let below = committing.stored - committing.discards.len() as u64;
            let given = self.store.append(&header(*lsn, below, body), body)?;
            if given != *lsn {
                let reason =
                    format!("it numbered record {lsn} as {given}; another process may be writing to it");
                return Err(StoreError::Failed(reason));
            }
            committing.written = *lsn;
            committing.stored += 1;
        }
        if !committing.discards.is_empty() {
            self.store.discard(&committing.discards)?;
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
        let is_any_unsynced = self.durable() < committing.written;
        let is_due = is_asked_for || is_idle || committing.unsynced >= UNSYNCED_COMMITS_MAX;
        if !is_any_unsynced || !is_due {
            committing.unsynced += u32::from(is_any_unsynced);
            return Ok(());
        }
        self.store.sync()?;
        committing.unsynced = 0;
        self.durable.store(committing.written.0, Ordering::Release);
        let mut waiters = Vec::new();
        for sealed in &mut self.gathering.lock().sealed {
            if sealed.lsn <= committing.written {
                waiters.append(&mut sealed.waiters);
            }
        }
        let (unhurried, hurried) = waiters.split_at(waiters.len().min(self.options.unhurried_waiters_max));
        hurried.iter().for_each(|waiter| waiter.durable(committing.written, true));
        unhurried.iter().for_each(|waiter| waiter.durable(committing.written, false));
        Ok(())
    }

    /// Applies to the index what was sealed since.
    fn catch_up(&self, index: &mut Index) {
        let sealed: Vec<(Lsn, Bytes)> = {
            let gathering = self.gathering.lock();
            let unapplied = gathering.sealed.iter().filter(|sealed| sealed.lsn > index.ledger.applied());
            unapplied.map(|sealed| (sealed.lsn, sealed.body.clone())).collect()
        };
        for (lsn, body) in sealed {
            index.apply(lsn, HEADER_BYTES + body.len(), &body, false);
        }
    }

    /// Ends the journal: nothing more is taken, and the waiters are called.
    fn fail(&self, error: &StoreError) {
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

impl Index {
    fn apply_sealed(&mut self, sealed: &VecDeque<Sealed>) {
        for sealed in sealed {
            if sealed.lsn > self.ledger.applied() {
                self.apply(sealed.lsn, HEADER_BYTES + sealed.body.len(), &sealed.body, false);
            }
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("durable", &self.durable()).finish_non_exhaustive()
    }
}
