//! Durability: an ordered log of opaque records and a small table of definitions. Ids and bytes, no AMQP.
//!
//! An engine implements [`Store`]; what a record holds and how long it lives is the [`Journal`]'s, written once above every
//! engine.

mod journal;
mod memory;

pub use journal::{Changes, DurableWaiter, Journal};
pub use memory::MemoryStore;

use crate::message::Lsn;
use bytes::Bytes;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed; after this nothing more may be confirmed.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// An engine that keeps records.
///
/// [`Store::append`] may buffer; only what [`Store::sync`] has returned for is durable. Definitions are durable when their
/// method returns.
pub trait Store: Send + Sync {
    /// Sets one definition.
    ///
    /// # Errors
    /// When it could not be made durable.
    fn put_definition(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes one definition; a missing one is fine.
    ///
    /// # Errors
    /// When the removal could not be made durable.
    fn remove_definition(&self, key: &[u8]) -> Result<(), StoreError>;

    /// All definitions, ordered by key.
    ///
    /// # Errors
    /// When they can't be read.
    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Adds a record under the next number.
    ///
    /// # Errors
    /// When it could not be taken.
    fn append(&self, record: &[u8]) -> Result<Lsn, StoreError>;

    /// Makes everything appended so far durable, and returns the number of the last such record.
    ///
    /// # Errors
    /// When that failed; it must not be tried again as if it had not.
    fn sync(&self) -> Result<Lsn, StoreError>;

    /// One record; `None` when it was discarded or never was.
    ///
    /// # Errors
    /// When it can't be read.
    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError>;

    /// Forgets records that hold nothing any more.
    ///
    /// # Errors
    /// When the engine failed.
    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError>;
}
