//! Which records are kept, and why: how many live messages each holds, and how many records still need what it says about
//! their messages. Owned by [`super::index::Index`].
//!
//! A record is needed by another one when it settles a message of that one: were it forgotten first, the message would be back
//! after a restart. So a record is discarded when nothing in it lives and no other record needs it, which may free others.

use crate::message::Lsn;

/// Where a record stands in the ledger. Used again for another record once nothing refers to the first one any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its operations are being applied.
    Filling,
    /// The engine holds it.
    Kept,
    /// What is needed of it is in a later record as well.
    Copied,
    /// Waits to be discarded.
    Dead,
    /// Discarded; the slot waits for a sweep.
    Retired,
    /// The slot is free.
    Free,
}

#[derive(Debug)]
struct Record {
    lsn: Lsn,
    /// The last record that made it hold less: only once that is durable may it go.
    emptied: Lsn,
    bytes: u32,
    /// Copies of messages that it was written with, and those alive.
    total: u32,
    live: u32,
    /// How many settled messages, returns and marks count on it being there.
    needed: u32,
    /// The records that settled messages of this one, and how many each.
    settled_by: Vec<(Slot, u32)>,
    state: State,
}

/// A record that the engine may forget once `after` is durable.
#[derive(Clone, Copy, Debug)]
struct Dead {
    slot: Slot,
    after: Lsn,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: Vec<Record>,
    free: Vec<Slot>,
    retired: Vec<Slot>,
    dead: Vec<Dead>,
    /// The last record when some were discarded last.
    discarded_at: Lsn,
    kept: usize,
    kept_bytes: u64,
    live: u64,
    /// The record being applied, or applied last.
    applied: Lsn,
    /// How far [`Ledger::mostly_dead`] has looked.
    looked: usize,
}

/// What a record costs even when it is tiny: a value in the engine, an entry here, a step at recovery.
const FOOTPRINT_BYTES_MIN: u32 = 16 << 10;

/// Bytes that a settle, a return or a mark takes in a record, about.
const NOTE_BYTES: u64 = 12;

impl Ledger {
    /// Enters a new record, without messages yet.
    pub(super) fn open(&mut self, lsn: Lsn, bytes: usize) -> Slot {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let record = Record {
            lsn,
            emptied: lsn,
            bytes,
            total: 0,
            live: 0,
            needed: 0,
            settled_by: Vec::new(),
            state: State::Filling,
        };
        self.applied = lsn;
        self.kept += 1;
        self.kept_bytes += u64::from(bytes);
        if let Some(slot) = self.free.pop() {
            self.records[slot.0 as usize] = record;
            return slot;
        }
        self.records.push(record);
        Slot(
            u32::try_from(self.records.len() - 1).expect("fewer than four thousand million records are kept"),
        )
    }

    /// All operations of a record were applied.
    pub(super) fn close(&mut self, slot: Slot) {
        self.record_mut(slot).state = State::Kept;
        self.check(slot);
    }

    /// There is nothing under this number, or nothing that can be read.
    pub(super) fn skip(&mut self, lsn: Lsn) {
        self.applied = lsn;
    }

    /// The record being applied, or applied last.
    pub(super) fn applied(&self) -> Lsn {
        self.applied
    }

    pub(super) fn lsn(&self, slot: Slot) -> Lsn {
        self.record(slot).lsn
    }

    /// Whether the engine has forgotten the record, or may at any moment.
    pub(super) fn is_retired(&self, slot: Slot) -> bool {
        matches!(self.record(slot).state, State::Retired | State::Free)
    }

    /// Whether the messages it was written with are all alive.
    pub(super) fn is_whole(&self, slot: Slot) -> bool {
        let record = self.record(slot);
        record.live == record.total
    }

    /// A message of this record is there, alive or not.
    pub(super) fn enqueued(&mut self, slot: Slot, alive: bool) {
        let record = self.record_mut(slot);
        record.total += 1;
        record.live += u32::from(alive);
        self.live += u64::from(alive);
    }

    /// `live` messages of record `slot` are alive no more, because record `by` says so.
    pub(super) fn settled(&mut self, slot: Slot, by: Slot, live: u32) {
        if slot != by {
            let settled_by = &mut self.record_mut(slot).settled_by;
            match settled_by.last_mut() {
                Some((last, count)) if *last == by => *count += 1,
                _ => settled_by.push((by, 1)),
            }
            self.need(by);
        }
        self.unlive(slot, live);
    }

    /// `count` messages of record `slot` are gone, or live on as copies in the record being applied.
    pub(super) fn unlive(&mut self, slot: Slot, count: u32) {
        if count == 0 {
            return;
        }
        self.live -= u64::from(count);
        let applied = self.applied;
        let record = self.record_mut(slot);
        record.live -= count;
        record.emptied = applied;
        self.check(slot);
    }

    /// Something counts on the record being there.
    pub(super) fn need(&mut self, slot: Slot) {
        self.record_mut(slot).needed += 1;
    }

    /// That no longer does, because of what the record being applied says.
    pub(super) fn release(&mut self, slot: Slot) {
        let applied = self.applied;
        let record = self.record_mut(slot);
        if !matches!(record.state, State::Retired | State::Free) {
            record.needed -= 1;
            record.emptied = applied;
            self.check(slot);
        }
    }

    fn check(&mut self, slot: Slot) {
        let record = self.record_mut(slot);
        if record.state == State::Kept && record.live == 0 && record.needed == 0 {
            record.state = State::Dead;
            let after = record.emptied;
            self.dead.push(Dead { slot, after });
        }
    }

    /// Everything that is needed of these records is in the record numbered `at` as well.
    pub(super) fn replaced(&mut self, slots: &[Slot], at: Lsn) {
        for &slot in slots {
            let record = self.record_mut(slot);
            if record.state == State::Copied {
                record.state = State::Dead;
                self.dead.push(Dead { slot, after: at });
            }
        }
    }

    /// Takes records out of the search, because they are being copied.
    pub(super) fn mark_copied(&mut self, slot: Slot) -> bool {
        let record = self.record_mut(slot);
        let kept = record.state == State::Kept;
        if kept {
            record.state = State::Copied;
        }
        kept
    }

    /// Records to forget now, in the order to do it in, but a few: an engine may hold on to all that it removes in one go.
    /// `newest` stays: the next number is counted from it. Everything up to `durable` is.
    pub(super) fn take_dead(&mut self, durable: Lsn, newest: Lsn) -> Vec<Lsn> {
        self.discarded_at = newest;
        let mut lsns = Vec::new();
        let mut waiting = Vec::new();
        while lsns.len() < DISCARDED_AT_ONCE
            && let Some(dead) = self.dead.pop()
        {
            let lsn = self.record(dead.slot).lsn;
            if dead.after > durable || lsn >= newest {
                waiting.push(dead);
                continue;
            }
            lsns.push(lsn);
            self.retire(dead.slot);
        }
        self.dead.append(&mut waiting);
        lsns
    }

    /// Whether so much waits to be discarded that it is worth a record of its own. After some records anything is: more may be
    /// needed by nothing but the one that waits.
    pub(super) fn is_discard_due(&self, durable: Lsn, newest: Lsn) -> bool {
        let due =
            self.dead.iter().filter(|dead| dead.after <= durable && self.record(dead.slot).lsn < newest);
        let (count, bytes) = due.fold((0, 0), |(count, bytes), dead| {
            (count + 1, bytes + u64::from(self.record(dead.slot).bytes))
        });
        let is_long_ago = newest.0 >= self.discarded_at.0 + DISCARDED_EVERY;
        bytes >= 64 << 10 || count >= 16 || count > 0 && is_long_ago
    }

    fn retire(&mut self, slot: Slot) {
        let record = self.record_mut(slot);
        record.state = State::Retired;
        let bytes = u64::from(record.bytes);
        let settled_by = std::mem::take(&mut record.settled_by);
        self.kept -= 1;
        self.kept_bytes -= bytes;
        self.retired.push(slot);
        for (by, count) in settled_by {
            let record = self.record_mut(by);
            if !matches!(record.state, State::Retired | State::Free) {
                record.needed -= count;
                self.check(by);
            }
        }
    }

    /// Whether enough slots wait for a sweep to be worth its cost.
    pub(super) fn is_sweep_due(&self) -> bool {
        self.retired.len() > self.kept.max(1024)
    }

    /// Frees the slots of discarded records. Nothing but the ledger may refer to them any more.
    pub(super) fn sweep(&mut self) {
        for at in 0..self.records.len() {
            let mut settled_by = std::mem::take(&mut self.records[at].settled_by);
            settled_by.retain(|(by, _)| !self.is_retired(*by));
            self.records[at].settled_by = settled_by;
        }
        for slot in std::mem::take(&mut self.retired) {
            self.record_mut(slot).state = State::Free;
            self.free.push(slot);
        }
        if self.kept == 0 {
            *self = Ledger { applied: self.applied, ..Ledger::default() };
        }
    }

    /// Records that are worth rewriting: at least `age` records old, and either mostly dead or tiny. Looks at a few with each
    /// call and ends at `bytes_max` bytes alive; returns nothing until rewriting would gain `gain_bytes_min`.
    pub(super) fn mostly_dead(
        &mut self,
        newest: Lsn,
        age: u64,
        bytes_max: u64,
        gain_bytes_min: u64,
    ) -> Vec<Slot> {
        let mut slots = Vec::new();
        let (mut alive_bytes, mut gain_bytes) = (0, 0);
        for _ in 0..self.records.len().min(LOOKED_AT_ONCE) {
            self.looked = (self.looked + 1) % self.records.len();
            let record = &self.records[self.looked];
            let footprint = u64::from(record.bytes.max(FOOTPRINT_BYTES_MIN));
            let alive = record.alive_bytes();
            if record.state != State::Kept || record.lsn.0 + age > newest.0 || alive * 2 > footprint {
                continue;
            }
            alive_bytes += alive;
            gain_bytes += footprint - alive;
            slots.push(Slot(u32::try_from(self.looked).expect("slots are counted in 32 bits")));
            if alive_bytes >= bytes_max || slots.len() >= COPIED_AT_ONCE {
                break;
            }
        }
        if gain_bytes < gain_bytes_min {
            slots.clear();
        }
        slots.sort_by_key(|slot| self.record(*slot).lsn);
        slots
    }

    /// The records kept up to that one, in order.
    pub(super) fn kept_up_to(&self, written: Lsn) -> Vec<Lsn> {
        let kept =
            |record: &&Record| record.lsn <= written && !matches!(record.state, State::Retired | State::Free);
        let mut lsns: Vec<Lsn> = self.records.iter().filter(kept).map(|record| record.lsn).collect();
        lsns.sort_unstable();
        lsns
    }

    /// Records kept, their bytes, and the copies of messages alive in them.
    pub(super) fn usage(&self) -> (usize, u64, u64) {
        (self.kept, self.kept_bytes, self.live)
    }

    /// Bytes of memory that the ledger takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let settled_by: usize = self.records.iter().map(|record| record.settled_by.capacity()).sum();
        self.records.capacity() * size_of::<Record>() + settled_by * size_of::<(Slot, u32)>()
    }

    fn record(&self, slot: Slot) -> &Record {
        &self.records[slot.0 as usize]
    }

    fn record_mut(&mut self, slot: Slot) -> &mut Record {
        &mut self.records[slot.0 as usize]
    }
}

/// Sled, for one, keeps every page that a batch touches in memory until the batch is through.
const DISCARDED_AT_ONCE: usize = 64;

/// Records after which something is discarded however little it is.
const DISCARDED_EVERY: u64 = 16;

const LOOKED_AT_ONCE: usize = 1024;
const COPIED_AT_ONCE: usize = 256;

impl Record {
    fn alive_bytes(&self) -> u64 {
        let messages = u64::from(self.bytes) * u64::from(self.live) / u64::from(self.total.max(1));
        messages + u64::from(self.needed) * NOTE_BYTES
    }
}
