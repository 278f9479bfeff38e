//! What sessions append and is not yet durable and indexed: bytes that gather, and the records cut from them.

use super::{Changes, DefinitionChanges, DurableWaiter, StoreError};
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
    /// What is written before that record.
    pub(super) definitions: DefinitionChanges,
    pub(super) waiters: Vec<Arc<dyn DurableWaiter>>,
    /// A bit for each queue (its id modulo 64) that something gathered speaks of.
    pub(super) queues: u64,
    pub(super) enqueues: bool,
    /// Records not yet both durable and indexed, in order.
    pub(super) sealed: VecDeque<Sealed>,
    /// The last of them that was given to the log.
    pub(super) written: Lsn,
    /// Memory of records that were written, for those to come.
    pub(super) spare: Vec<BytesMut>,
    pub(super) record_bytes: usize,
    pub(super) committer: CommitterState,
    /// How many hold records back, and from which one on.
    holds: u32,
    held_from: Lsn,
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
    /// What is written before it, if anything is.
    pub(super) definitions: Option<Arc<DefinitionChanges>>,
    pub(super) waiters: Vec<Arc<dyn DurableWaiter>>,
    pub(super) enqueues: bool,
}

impl Sealed {
    /// Whether a waiter relies on it being durable.
    pub(super) fn asks_for_sync(&self) -> bool {
        self.enqueues || !self.waiters.is_empty() || self.definitions.is_some()
    }
}

impl Gathering {
    pub(super) fn new(lsn: Lsn, record_bytes: usize) -> Gathering {
        Gathering {
            encoded: BytesMut::new(),
            lsn,
            definitions: DefinitionChanges::default(),
            waiters: Vec::new(),
            queues: 0,
            enqueues: false,
            sealed: VecDeque::new(),
            written: Lsn(lsn.0.saturating_sub(1)),
            spare: Vec::new(),
            record_bytes,
            committer: CommitterState::Busy,
            holds: 0,
            held_from: Lsn(u64::MAX),
            failed: None,
        }
    }

    /// Whether there is nothing that may be written.
    pub(super) fn is_empty(&self) -> bool {
        match self.is_held() {
            true => self.first_unwritten().is_none_or(|lsn| lsn >= self.held_from),
            false => self.is_nothing_gathered() && self.first_unwritten().is_none(),
        }
    }

    /// The first sealed record that the log has not been given.
    fn first_unwritten(&self) -> Option<Lsn> {
        self.sealed.back().filter(|last| last.lsn > self.written).map(|_| Lsn(self.written.0 + 1))
    }

    fn is_held(&self) -> bool {
        self.holds > 0
    }

    /// Whether that record may be written now.
    pub(super) fn may_be_written(&self, lsn: Lsn) -> bool {
        lsn < self.held_from
    }

    /// Nothing that is gathered from now on is written until [`Gathering::release`].
    pub(super) fn hold(&mut self) {
        if !self.is_held() {
            self.held_from = self.lsn;
        }
        self.holds += 1;
    }

    /// Ends one hold. After the last one, all changes of definitions that were gathered meanwhile are written as one.
    pub(super) fn release(&mut self) {
        self.holds -= 1;
        if self.is_held() {
            return;
        }
        let first = self.sealed.iter_mut().find(|sealed| sealed.lsn == self.held_from);
        if let Some(first) = first.filter(|_| !self.definitions.is_empty()) {
            first.definitions = Some(Arc::new(std::mem::take(&mut self.definitions)));
        }
        self.held_from = Lsn(u64::MAX);
    }

    fn is_nothing_gathered(&self) -> bool {
        self.encoded.is_empty() && self.waiters.is_empty() && self.definitions.is_empty()
    }

    /// Whether a commit should not wait for more.
    pub(super) fn is_pressing(&self) -> bool {
        !self.is_empty() && (!self.waiters.is_empty() || self.first_unwritten().is_some())
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
        if let Some(waiter) = waiter {
            add_waiter(&mut self.waiters, waiter);
        }
        changes.clear();
        let lsn = self.lsn;
        if self.encoded.len() >= self.record_bytes / 4 * 3 {
            self.seal();
        }
        lsn
    }

    /// Takes changes of definitions; returns the record that they are written before.
    pub(super) fn define(&mut self, changes: DefinitionChanges) -> Lsn {
        self.definitions.append(changes);
        let lsn = self.lsn;
        if self.is_held() {
            // They are written before the first record that is held.
            return self.held_from;
        }
        if self.definitions.len_bytes() >= self.record_bytes {
            self.seal();
        }
        lsn
    }

    /// Has a waiter called when a record is durable that is not yet.
    pub(super) fn await_record(&mut self, lsn: Lsn, waiter: Arc<dyn DurableWaiter>) {
        // One without waiters may be written already without a sync: a later record is waited for instead.
        match self.sealed.iter_mut().find(|sealed| sealed.lsn == lsn && sealed.asks_for_sync()) {
            Some(sealed) => add_waiter(&mut sealed.waiters, waiter),
            None => add_waiter(&mut self.waiters, waiter),
        }
    }

    /// What is gathered becomes a record.
    pub(super) fn seal(&mut self) {
        if !self.is_nothing_gathered() {
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
            definitions: (!self.definitions.is_empty() && !self.is_held())
                .then(|| Arc::new(std::mem::take(&mut self.definitions))),
            waiters: std::mem::take(&mut self.waiters),
            enqueues: self.enqueues,
        });
        self.queues = 0;
        self.enqueues = false;
        self.lsn = Lsn(self.lsn.0 + 1);
    }

    /// Frees records that are durable and indexed.
    pub(super) fn forget(&mut self, durable: Lsn) {
        while self.sealed.front().is_some_and(|sealed| sealed.lsn <= durable) {
            let memory = self.sealed.pop_front().and_then(|sealed| sealed.body.try_into_mut().ok());
            let is_usual = |memory: &BytesMut| memory.capacity() <= self.record_bytes * 2;
            if let Some(mut memory) = memory.filter(is_usual).filter(|_| self.spare.len() < SPARE_MAX) {
                memory.clear();
                self.spare.push(memory);
            }
        }
    }
}

fn add_waiter(waiters: &mut Vec<Arc<dyn DurableWaiter>>, waiter: Arc<dyn DurableWaiter>) {
    if !waiters.last().is_some_and(|last| Arc::ptr_eq(last, &waiter)) {
        waiters.push(waiter);
    }
}
