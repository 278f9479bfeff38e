//! What sessions append and the committer has not yet written and indexed: bytes that gather, and the records cut from them.

use super::{Changes, DurableWaiter, StoreError};
use crate::message::Lsn;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// How many records' memory is kept for later ones.
const SPARE_MAX: usize = 4;

/// What sessions append to.
pub(super) struct Gathering {
    pub(super) encoded: BytesMut,
    /// The record that what is gathered now will become.
    pub(super) lsn: Lsn,
    pub(super) waiters: Vec<Arc<dyn DurableWaiter>>,
    /// A bit for each queue (its id modulo 64) that something gathered speaks of.
    pub(super) queues: u64,
    pub(super) enqueues: bool,
    /// Records not yet both written and indexed, in order.
    pub(super) sealed: VecDeque<Sealed>,
    /// Memory of records that were written, for those to come.
    pub(super) spare: Vec<BytesMut>,
    pub(super) record_bytes: usize,
    pub(super) committer: CommitterState,
    pub(super) failed: Option<StoreError>,
}

/// What the committer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitterState {
    /// It is at work, and looks before it waits.
    Busy,
    /// It waits for something to commit.
    Idle,
    /// It waits for more to commit with what there is.
    Lingering,
}

/// A record whose content is settled.
pub(super) struct Sealed {
    pub(super) lsn: Lsn,
    pub(super) body: Bytes,
    pub(super) waiters: Vec<Arc<dyn DurableWaiter>>,
    pub(super) enqueues: bool,
}

impl Gathering {
    pub(super) fn new(lsn: Lsn, record_bytes: usize) -> Gathering {
        Gathering {
            encoded: BytesMut::new(),
            lsn,
            waiters: Vec::new(),
            queues: 0,
            enqueues: false,
            sealed: VecDeque::new(),
            spare: Vec::new(),
            record_bytes,
            committer: CommitterState::Busy,
            failed: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.encoded.is_empty() && self.waiters.is_empty() && self.sealed.is_empty()
    }

    /// Whether a commit should not wait for more.
    pub(super) fn is_pressing(&self) -> bool {
        !self.waiters.is_empty() || !self.sealed.is_empty()
    }

    /// Whether the committer waits for what there is.
    pub(super) fn is_waited_for(&self) -> bool {
        match self.committer {
            CommitterState::Busy => false,
            CommitterState::Idle => true,
            CommitterState::Lingering => self.is_pressing(),
        }
    }

    /// Takes changes; returns the record that they are in.
    pub(super) fn take(&mut self, changes: &mut Changes, waiter: Option<Arc<dyn DurableWaiter>>) -> Lsn {
        // A large append gets a record of its own, so that small messages can't hold up its space.
        if changes.encoded.len() >= self.record_bytes / 4 {
            self.seal();
        }
        if self.encoded.capacity() == 0 && !changes.is_empty() {
            self.encoded = self.spare.pop().unwrap_or_default();
            self.encoded.reserve(changes.encoded.len().max(self.record_bytes));
        }
        self.encoded.extend_from_slice(&changes.encoded);
        self.queues |= changes.queues;
        self.enqueues |= changes.enqueues;
        if let Some(waiter) = waiter
            && !self.waiters.last().is_some_and(|last| Arc::ptr_eq(last, &waiter))
        {
            self.waiters.push(waiter);
        }
        changes.clear();
        let lsn = self.lsn;
        if self.encoded.len() >= self.record_bytes / 4 * 3 {
            self.seal();
        }
        lsn
    }

    /// What is gathered becomes a record.
    pub(super) fn seal(&mut self) {
        if !self.encoded.is_empty() || !self.waiters.is_empty() {
            self.seal_even_if_empty(self.lsn);
        }
    }

    /// As [`Gathering::seal`], for record `lsn` even when nothing is in it, unless it is sealed.
    pub(super) fn seal_even_if_empty(&mut self, lsn: Lsn) {
        if self.lsn > lsn {
            return;
        }
        self.sealed.push_back(Sealed {
            lsn: self.lsn,
            body: std::mem::take(&mut self.encoded).freeze(),
            waiters: std::mem::take(&mut self.waiters),
            enqueues: self.enqueues,
        });
        self.queues = 0;
        self.enqueues = false;
        self.lsn = Lsn(self.lsn.0 + 1);
    }

    /// Lets go of records that were written and indexed.
    pub(super) fn forget(&mut self, written: Lsn) {
        while self.sealed.front().is_some_and(|sealed| sealed.lsn <= written) {
            let memory = self.sealed.pop_front().and_then(|sealed| sealed.body.try_into_mut().ok());
            let is_usual = |memory: &BytesMut| memory.capacity() <= self.record_bytes * 2;
            if let Some(mut memory) = memory.filter(is_usual).filter(|_| self.spare.len() < SPARE_MAX) {
                memory.clear();
                self.spare.push(memory);
            }
        }
    }
}
