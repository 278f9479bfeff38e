//! A store that fails on purpose: for tests of what stands above a store, see [`FaultyStore`].

use super::stream::{MemoryFiles, StreamFiles};
use super::{Bell, Checkpoint, DefinitionChanges, Definitions, RecordLog, Scanned, StoreError, StreamStore};
use crate::message::Lsn;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Remembers what was synced, and at a crash forgets what was not; loses and damages records, fails, and holds syncs back.
/// Clones are handles of the same store, so that a test keeps one of them beside the journal's.
///
/// One that is [late](FaultyStore::late) makes nothing durable when it is asked to sync, but when the test says so, as a log does
/// whose records are kept by other machines.
#[derive(Clone, Debug, Default)]
pub struct FaultyStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
    bell: Mutex<Option<Bell>>,
    streams: MemoryFiles,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What is to go wrong, and when. Counts are of operations still to come; `None` is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// How many appends and changes of definitions succeed before one fails.
    pub appends_left: Option<u32>,
    /// How many syncs succeed before one fails.
    pub syncs_left: Option<u32>,
    /// Syncs wait until this is taken back.
    pub syncs_held: bool,
    /// How many appends and discards succeed before they find no room until this is taken back.
    pub room_left: Option<u32>,
}

#[derive(Debug, Default)]
struct State {
    /// What survives a crash for sure.
    durable: Contents,
    /// What was done since, in order.
    unsynced: Vec<Operation>,
    /// The sum of both.
    current: Contents,
    faults: Faults,
    syncs: u64,
    syncs_waiting: u32,
    is_late: bool,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    definitions: BTreeMap<Bytes, Bytes>,
    records: BTreeMap<Lsn, Bytes>,
    last: Lsn,
    checkpoint: Option<(Lsn, Bytes)>,
}

#[derive(Clone, Debug)]
enum Operation {
    Checkpoint(Lsn, Bytes),
    Append(Lsn, Bytes),
    Discard(Lsn),
    Define(DefinitionChanges),
}

impl FaultyStore {
    /// One whose syncs return before what they are for is durable, see [`FaultyStore::make_durable`].
    pub fn late() -> FaultyStore {
        let store = FaultyStore::default();
        store.shared.state.lock().is_late = true;
        store
    }

    /// The first `operations` of what is not durable are, from now on, and the journal's bell rings.
    pub fn make_durable(&self, operations: usize) {
        self.shared.state.lock().make_durable(operations);
        if let Some(bell) = &*self.shared.bell.lock() {
            bell();
        }
    }

    /// Sets what is to go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.state.lock().faults = faults;
        self.shared.released.notify_all();
    }

    /// Loses power: of what was not synced, the first `kept` operations survive. Faults end.
    pub fn crash(&self, kept: usize) {
        let mut state = self.shared.state.lock();
        state.make_durable(kept);
        state.unsynced.clear();
        state.durable.last = state.durable.records.keys().next_back().copied().unwrap_or_default();
        state.current = state.durable.clone();
        state.faults = Faults::default();
    }

    /// The files of streams, which lose power by themselves, see [`MemoryFiles::crash`].
    pub fn streams(&self) -> &MemoryFiles {
        &self.shared.streams
    }

    /// How many operations are not synced.
    pub fn unsynced(&self) -> usize {
        self.shared.state.lock().unsynced.len()
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.shared.state.lock().syncs
    }

    /// The last record that a sync covered.
    pub fn synced(&self) -> Lsn {
        self.shared.state.lock().durable.last
    }

    /// The numbers of the records kept.
    pub fn lsns(&self) -> Vec<Lsn> {
        self.shared.state.lock().current.records.keys().copied().collect()
    }

    /// Bytes of the records kept.
    pub fn bytes(&self) -> usize {
        self.shared.state.lock().current.records.values().map(Bytes::len).sum()
    }

    /// Changes one byte of a record, wherever it is kept.
    pub fn damage(&self, lsn: Lsn, at: usize) {
        let mut state = self.shared.state.lock();
        let State { durable, current, .. } = &mut *state;
        for contents in [durable, current] {
            if let Some(record) = contents.records.get_mut(&lsn) {
                let mut damaged = BytesMut::from(&record[..]);
                let at = at % damaged.len();
                damaged[at] ^= 0x40;
                *record = damaged.freeze();
            }
        }
    }

    /// Loses a record without a word.
    pub fn lose(&self, lsn: Lsn) {
        let mut state = self.shared.state.lock();
        state.durable.records.remove(&lsn);
        state.current.records.remove(&lsn);
    }

    /// The checkpoint of the index that is kept.
    pub fn kept_checkpoint(&self) -> Option<(Lsn, Bytes)> {
        self.shared.state.lock().current.checkpoint.clone()
    }

    /// Keeps another checkpoint of the index in its place, or none.
    pub fn keep_checkpoint(&self, checkpoint: Option<(Lsn, Bytes)>) {
        let mut state = self.shared.state.lock();
        state.durable.checkpoint = checkpoint.clone();
        state.current.checkpoint = checkpoint;
    }

    /// Another store with what this one has now.
    pub fn copied(&self) -> FaultyStore {
        let copy = FaultyStore::default();
        {
            let (from, mut to) = (self.shared.state.lock(), copy.shared.state.lock());
            to.durable = from.current.clone();
            to.current = from.current.clone();
        }
        copy
    }

    /// Waits until a sync is being held back.
    pub fn wait_for_held_sync(&self) {
        let mut state = self.shared.state.lock();
        while state.syncs_waiting == 0 {
            self.shared.released.wait(&mut state);
        }
    }
}

impl Definitions for FaultyStore {
    fn define(&self, changes: &DefinitionChanges) -> Result<(), StoreError> {
        let mut state = self.shared.state.lock();
        state.take_room()?;
        count_down(&mut state.faults.appends_left, "a change of definitions")?;
        let operation = Operation::Define(changes.clone());
        state.current.apply(operation.clone());
        state.unsynced.push(operation);
        Ok(())
    }

    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let state = self.shared.state.lock();
        Ok(state.current.definitions.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl StreamStore for FaultyStore {
    fn stream_files(&self) -> Arc<dyn StreamFiles> {
        Arc::new(self.shared.streams.clone())
    }
}

impl RecordLog for FaultyStore {
    fn append(&self, head: &[u8], body: &Bytes) -> Result<Lsn, StoreError> {
        let mut record = BytesMut::with_capacity(head.len() + body.len());
        record.put_slice(head);
        record.put_slice(body);
        let mut state = self.shared.state.lock();
        state.take_room()?;
        count_down(&mut state.faults.appends_left, "an append")?;
        let lsn = Lsn(state.current.last.0 + 1);
        let operation = Operation::Append(lsn, record.freeze());
        state.current.apply(operation.clone());
        state.unsynced.push(operation);
        Ok(lsn)
    }

    fn sync(&self) -> Result<Lsn, StoreError> {
        let mut state = self.shared.state.lock();
        state.syncs_waiting += 1;
        self.shared.released.notify_all();
        while state.faults.syncs_held {
            self.shared.released.wait(&mut state);
        }
        state.syncs_waiting -= 1;
        state.sync()?;
        Ok(state.durable.last)
    }

    fn on_durable(&self, bell: Bell) {
        *self.shared.bell.lock() = Some(bell);
    }

    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError> {
        let state = self.shared.state.lock();
        let readable =
            if state.is_late && lsn > state.durable.last { &state.durable } else { &state.current };
        Ok(readable.records.get(&lsn).cloned())
    }

    fn scan(&self, from: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)) -> Result<(), StoreError> {
        let records = self.shared.state.lock().current.records.clone();
        for (lsn, record) in records.into_iter().filter(|(lsn, _)| *lsn >= from) {
            visit(lsn, Scanned::Record(record));
        }
        Ok(())
    }

    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError> {
        let mut state = self.shared.state.lock();
        state.take_room()?;
        for &lsn in lsns {
            state.current.apply(Operation::Discard(lsn));
            state.unsynced.push(Operation::Discard(lsn));
        }
        Ok(())
    }

    fn checkpoint(&self, at: Lsn, state: &[u8]) -> Result<(), StoreError> {
        let mut state_now = self.shared.state.lock();
        state_now.take_room()?;
        let operation = Operation::Checkpoint(at, Bytes::copy_from_slice(state));
        state_now.current.apply(operation.clone());
        state_now.unsynced.push(operation);
        Ok(())
    }

    fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let state = self.shared.state.lock();
        let kept = |at: Lsn| state.current.records.range(..=at).map(|(lsn, _)| *lsn).collect();
        let last = state.current.checkpoint.clone();
        Ok(last.map(|(at, state)| Checkpoint { at, state, kept: kept(at) }))
    }

    fn shortage(&self) -> Option<StoreError> {
        (self.shared.state.lock().faults.room_left == Some(0)).then(no_room)
    }
}

fn no_room() -> StoreError {
    StoreError::Exhausted("it was told to have no room".to_owned())
}

impl State {
    fn take_room(&mut self) -> Result<(), StoreError> {
        match &mut self.faults.room_left {
            Some(0) => return Err(no_room()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        count_down(&mut self.faults.syncs_left, "a sync")?;
        self.syncs += 1;
        if !self.is_late {
            self.make_durable(self.unsynced.len());
        }
        Ok(())
    }

    fn make_durable(&mut self, operations: usize) {
        for operation in self.unsynced.drain(..operations.min(self.unsynced.len())) {
            self.durable.apply(operation);
        }
    }
}

impl Contents {
    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Checkpoint(at, state) => self.checkpoint = Some((at, state)),
            Operation::Append(lsn, record) => {
                self.records.insert(lsn, record);
                self.last = lsn;
            }
            Operation::Discard(lsn) => {
                self.records.remove(&lsn);
            }
            Operation::Define(changes) => changes.apply_to(&mut self.definitions),
        }
    }
}

fn count_down(left: &mut Option<u32>, what: &str) -> Result<(), StoreError> {
    match left {
        Some(0) => Err(StoreError::Failed(format!("{what} was told to fail"))),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}
