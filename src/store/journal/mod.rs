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
//! append ─> gathering ─seal─> sealed ─append, sync─> log ─> watermark ─> waiters
//!                               └─> index ─> discard, copy forward (tidy.rs)
//! ```
//! The watermark is what the log's sync returns. A log that says later how far it is durable rings the journal's bell, and the
//! committer asks again; until then what was written stays in memory, to be read from there.
//!
//! Locks, in the order of taking: `checkpointing`, `committing`, `index`, `gathering`.

mod backup;
mod bell;
mod changes;
mod checkpoint;
mod committing;
mod defining;
mod digest;
mod gathering;
mod index;
mod ledger;
pub(in crate::store) mod numbers;
mod positions;
mod reading;
mod record;
mod recovery;
mod runs;
mod tidy;
mod waiting;

pub use backup::BackupContents;
pub use changes::Changes;
pub use checkpoint::Checkpoint;
pub use defining::Hold;
pub use reading::StoredMessage;
pub use recovery::{Loss, Recovered, RecoveredQueue, RecoveredRun, Redelivery};

use super::stream::StreamFiles;
use super::{DefinitionChanges, Definitions, RecordLog, Store, StoreError};
use crate::message::Lsn;
use bell::Doorbell;
use bytes::Bytes;
use checkpoint::Checkpointing;
use committing::Committing;
use gathering::{CommitterState, Gathering, Sealed};
use index::Index;
use parking_lot::Mutex;
use reading::RecordCache;
use record::{HEADER_BYTES, check};
use std::collections::{BTreeSet, VecDeque};
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
    /// Bytes that may be appended and not yet durable before [`Journal::is_behind`].
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
    /// Bytes of records after which a checkpoint of the index is due; 0 for none at all.
    pub checkpoint_every_bytes: u64,
    /// Bytes that a checkpoint may take. Records that it has no room for are read at the next start.
    pub checkpoint_bytes_max: usize,
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
            checkpoint_every_bytes: 64 << 20,
            checkpoint_bytes_max: 256 << 20,
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
    log: Arc<dyn RecordLog>,
    definitions: Arc<dyn Definitions>,
    streams: Arc<dyn StreamFiles>,
    options: JournalOptions,
    committing: Mutex<Committing>,
    /// Backups under way; while there are any nothing is discarded.
    snapshots: AtomicU32,
    /// Taken before all other locks.
    checkpointing: Mutex<Checkpointing>,
    /// Records that could not be read while they were kept.
    distrusted: Mutex<BTreeSet<Lsn>>,
    is_checkpoint_wrong: AtomicBool,
    /// Bytes of records that were read at the start, and written since.
    written_bytes: AtomicU64,
    index: Mutex<Index>,
    gathering: Arc<Mutex<Gathering>>,
    bell: Arc<Doorbell>,
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
    /// Bytes appended and not yet durable.
    pub gathered_bytes: usize,
}

impl Journal {
    /// The table of definitions beside the log.
    pub fn definitions(&self) -> &dyn Definitions {
        &*self.definitions
    }

    /// The files of streams beside the log.
    pub fn stream_files(&self) -> &Arc<dyn StreamFiles> {
        &self.streams
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

    /// The last record that something was appended to.
    pub fn last_appended(&self) -> Lsn {
        let gathering = self.gathering.lock();
        let is_open = !gathering.encoded.is_empty();
        Lsn(gathering.lsn.0 - u64::from(!is_open))
    }

    /// Wakes the committer if something was appended that it waits for. It is not woken by [`Journal::append`]: it would run
    /// before the consumer that gets the message, and the mutex would be handed to it while it is on its way.
    pub fn wake_committer(&self) {
        if self.is_commit_due.load(Ordering::Relaxed) && self.is_commit_due.swap(false, Ordering::AcqRel) {
            self.bell.notify();
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
        if self.work_left.load(Ordering::Acquire) || self.bell.is_rung() {
            return;
        }
        let mut gathering = self.gathering.lock();
        if gathering.is_empty() {
            gathering.committer = CommitterState::Idle;
            self.bell.wait(&mut gathering, timeout);
        }
        if !gathering.is_empty() && !gathering.is_pressing() {
            gathering.committer = CommitterState::Lingering;
            self.bell.wait(&mut gathering, self.options.linger.min(timeout));
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
        self.log.shortage()
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
