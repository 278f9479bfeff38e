//! Durability: an ordered log of opaque records and a small table of definitions. Ids and bytes, no AMQP.
//!
//! An engine implements [`RecordLog`] and [`Definitions`]; what a record holds and how long it lives is the [`Journal`]'s, written
//! once above every engine. [`SledStore`] is the engine of a broker that keeps what it is given, [`MemoryStore`] that of one that does not,
//! and [`FaultyStore`] one that fails on purpose, for tests.

pub mod backup;
mod definitions;
mod definitions_file;
mod directory;
mod exhausted;
mod faulty;
mod journal;
mod losses;
mod magic;
mod memory;
mod salvage;
mod sled;
mod stamp;
pub mod stream;
mod wal;

pub use self::sled::{SledStore, takes_panics};
pub use crate::vocabulary::Durability;
pub use definitions::DefinitionChanges;
pub use directory::{note_in_use, was_in_use};
pub use faulty::{Faults, FaultyStore};
pub use journal::{
    BackupContents, Changes, Checkpoint, DurableWaiter, Hold, Journal, JournalOptions, Loss, Recovered,
    RecoveredQueue, RecoveredRun, Redelivery, StoredMessage, Usage,
};
pub use losses::{LossNote, keep_losses, read_losses};
pub use memory::MemoryStore;
pub use wal::WalOptions;

use crate::message::Lsn;
use bytes::Bytes;
use std::sync::Arc;
use stream::StreamFiles;

/// Records and entries of the log are never this many, nor positions of a queue: at a thousand million a second it takes eighteen
/// years. Bytes that say more are damaged, whatever their checksum, and sums of what is below can't overflow.
const NUMBER_MAX: u64 = 1 << 59;

/// Why the store could not do what it was asked. Its text is for the operator: what happened, where, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine failed; after this nothing more may be confirmed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The system is out of something that it may have again: room on the disk, descriptors, memory. Nothing of what was asked
    /// has been done, nothing is lost, and it may be asked again.
    #[error("the store has to wait: {0}")]
    Exhausted(String),
    /// Another process holds the directory.
    #[error(
        "the data directory {directory} is in use by another broker; stop that one, or give this one a data_dir of its own"
    )]
    Locked {
        /// The path of the data directory.
        directory: String,
    },
    /// The directory was written by a newer version.
    #[error(
        "the data directory {directory} has store format {found}, and this version reads formats up to {known}; \
         start the version of Leveret that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The path of the data directory.
        directory: String,
        /// The format that was found.
        found: u32,
        /// The newest format this version reads.
        known: u32,
    },
    /// The system does not let the directory be opened; there is nothing wrong with what is in it.
    #[error(
        "the data directory {directory} can't be opened: the system says: {reason}. What is in it is whole: make room on the \
         volume, raise the limit of open files, or mend what it is about, and start again"
    )]
    System {
        /// The path of the data directory.
        directory: String,
        /// What the system said.
        reason: String,
    },
    /// There is no directory yet, and none can be made.
    #[error(
        "the data directory {directory} can't be created: {reason}. Make it, owned by the broker's user, or name another one with \
         --data-dir or data_dir"
    )]
    Uncreatable {
        /// The path of the data directory.
        directory: String,
        /// What the system said.
        reason: String,
    },
    /// The directory can't be opened as it is.
    #[error(
        "the data directory {directory} can't be opened: {reason}. Keep a copy of it, then restore a backup into it or \
         move it away to start empty"
    )]
    Unusable {
        /// The path of the data directory.
        directory: String,
        /// What was found there.
        reason: String,
    },
}

impl StoreError {
    /// Whether it may be asked again, and nothing has been done so far.
    pub fn may_pass(&self) -> bool {
        matches!(self, StoreError::Exhausted(_))
    }
}

/// What [`RecordLog::scan`] found under a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A whole record, as it was appended.
    Record(Bytes),
    /// Something that is not whole, and why.
    Damaged(String),
}

/// What is called when records have become durable after [`RecordLog::sync`] has returned.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// A log of records.
///
/// [`RecordLog::append`] may buffer; what is durable is what [`RecordLog::sync`] says, and that is always a beginning of what was
/// done: a log never keeps a later operation without all earlier ones. After an error nothing may be tried again as if it had
/// not happened, unless it [may pass](StoreError::may_pass).
pub trait RecordLog: Send + Sync {
    /// Adds a record under the next number: the last one the log holds plus one, or 1. `head` and `body` are kept as one, whole or
    /// not at all. A log that sends its records elsewhere may keep `body` until they are durable, without copying it.
    ///
    /// # Errors
    /// When it could not be taken.
    fn append(&self, head: &[u8], body: &Bytes) -> Result<Lsn, StoreError>;

    /// Begins to make everything done so far as durable as the log's setting says, and returns up to which record all is durable
    /// now. A local log has done it before it returns, so that this is the last record; with others the number moves later, and
    /// they ring the bell of [`RecordLog::on_durable`] when it does. It never goes back.
    ///
    /// # Errors
    /// When the sync failed; then nothing can be relied on any more.
    fn sync(&self) -> Result<Lsn, StoreError>;

    /// Has `bell` rung whenever [`RecordLog::sync`] would return more than it did last. It may be rung from any thread.
    fn on_durable(&self, bell: Bell) {
        drop(bell);
    }

    /// One record; `None` when it was discarded or never was. A record that is not durable yet may be missing as well.
    ///
    /// # Errors
    /// When it can't be read.
    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError>;

    /// Hands over every record from `from` on in order of its number, whole or damaged.
    ///
    /// # Errors
    /// When the log can't be read at all; a damaged record is no error.
    fn scan(&self, from: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)) -> Result<(), StoreError>;

    /// Forgets records, in the order given.
    ///
    /// # Errors
    /// When the log failed.
    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError>;

    /// Keeps what spares the next start reading the records up to `at`, all of which are durable, in place of what was kept before. It is
    /// whole after a crash, or the last one is, or there is none.
    ///
    /// # Errors
    /// When it can't be kept.
    fn checkpoint(&self, at: Lsn, state: &[u8]) -> Result<(), StoreError> {
        let _ = (at, state);
        Ok(())
    }

    /// What was kept last. `None` when there is nothing, or when it is not known without reading them which records there are.
    ///
    /// # Errors
    /// When it can't be read.
    fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(None)
    }

    /// What it is out of, if there is anything, after trying to get it: then it should be given no more than it has to be. What
    /// it needs to go on for a while it has.
    fn shortage(&self) -> Option<StoreError> {
        None
    }
}

/// A small table of what is defined, as bytes.
pub trait Definitions: Send + Sync {
    /// Changes the table: after a crash all of these changes have happened, or none of them.
    ///
    /// # Errors
    /// When they could not be taken.
    fn define(&self, changes: &DefinitionChanges) -> Result<(), StoreError>;

    /// All definitions, ordered by key.
    ///
    /// # Errors
    /// When they can't be read.
    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Definitions that were there when the table was last used and are not, or not as they were.
    fn lost_definitions(&self) -> Vec<Loss> {
        Vec::new()
    }
}

/// Where streams keep for long what the log of records has for a while.
pub trait StreamStore: Send + Sync {
    /// The files of streams.
    fn stream_files(&self) -> Arc<dyn StreamFiles>;
}

/// An engine: a log of records and a table of definitions in one, so that an order holds between the two, and the files of streams. A
/// change of the table is durable no later than any record that was appended after it.
pub trait Store: RecordLog + Definitions + StreamStore {}

impl<T: RecordLog + Definitions + StreamStore> Store for T {}
