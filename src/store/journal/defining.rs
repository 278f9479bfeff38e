//! Changes of the table of definitions on their way: gathered beside messages, and written before the record that gathers then.

use super::{DurableWaiter, Journal};
use crate::message::Lsn;
use crate::store::{DefinitionChanges, Definitions, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Journal {
    /// Takes changes of the table of definitions, which after a crash have all happened or none; returns the record that they are
    /// durable with. What they define may be seen by others only after this call, or what those do could become durable without
    /// it. [`Journal::wake_committer`] has to follow.
    ///
    /// # Errors
    /// When the store has failed.
    pub fn define(&self, changes: DefinitionChanges) -> Result<Lsn, StoreError> {
        let mut gathering = self.gathering.lock();
        if let Some(error) = &gathering.failed {
            return Err(error.clone());
        }
        let lsn = gathering.define(changes);
        self.defined.store(lsn.0, Ordering::Release);
        self.note_gathered(&gathering);
        Ok(lsn)
    }

    /// As [`Journal::define`], durable when it returns: for the start, when nothing is gathered yet and no committer is at work. With a
    /// log that is durable later it is durable with the first record that is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn define_at_start(&self, changes: &DefinitionChanges) -> Result<(), StoreError> {
        self.definitions.define(changes)?;
        self.log.sync().map(drop)
    }

    /// The record that the last change of definitions is durable with.
    pub fn defined(&self) -> Lsn {
        Lsn(self.defined.load(Ordering::Acquire))
    }

    /// Has `waiter` called when that record is durable, or never will be: at once, if that is known already.
    /// [`Journal::wake_committer`] has to follow.
    pub fn await_record(&self, lsn: Lsn, waiter: Arc<dyn DurableWaiter>) {
        let mut gathering = self.gathering.lock();
        if let Some(error) = gathering.failed.clone() {
            drop(gathering);
            return waiter.failed(&error);
        }
        let durable = self.durable();
        if lsn <= durable {
            drop(gathering);
            return waiter.durable(durable, false);
        }
        gathering.await_record(lsn, waiter);
        self.note_gathered(&gathering);
    }

    /// Makes all changes of definitions one that are gathered while the result lives: after a crash all of them have happened or
    /// none. Nothing else that is gathered meanwhile becomes durable before them, so this is for what takes moments.
    pub fn hold(&self) -> Hold<'_> {
        self.gathering.lock().hold();
        Hold { journal: self }
    }
}

/// Keeps changes of definitions together while it lives: [`Journal::hold`].
#[must_use = "changes are one while it lives"]
pub struct Hold<'a> {
    journal: &'a Journal,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut gathering = self.journal.gathering.lock();
        gathering.release();
        self.journal.note_gathered(&gathering);
        drop(gathering);
        self.journal.wake_committer();
    }
}

/// Beside a log whose definitions are kept elsewhere.
pub(super) struct NoDefinitions;

impl Definitions for NoDefinitions {
    fn define(&self, _: &DefinitionChanges) -> Result<(), StoreError> {
        Err(StoreError::Failed("this log has no table of definitions, please report this".to_owned()))
    }

    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        Ok(Vec::new())
    }
}
