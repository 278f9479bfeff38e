//! Recovery: reads every record once, in order, and says what is alive. A record that can't be read costs what it holds.
//!
//! Contents are not kept. What is live comes as runs of neighbouring positions; bytes of bodies are added up record by record
//! on the way, and only records of which some messages are gone are read a second time to get them right.

use super::bell::Doorbell;
use super::defining::NoDefinitions;
use super::index::Index;
use super::ledger::Slot;
use super::positions::Known;
use super::reading::RecordCache;
use super::record::{HEADER_BYTES, Operation, OperationReader, Target, check};
use super::{Committing, Definitions, Gathering, Journal, JournalOptions, RecordLog, Store, StoreError};
use crate::message::{Lsn, Position, QueueId};
use crate::store::Scanned;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// What a journal found when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every queue that records speak of, by id. Those no longer defined are to be dropped.
    pub queues: Vec<RecoveredQueue>,
    /// How many records were read.
    pub records: u64,
    /// Messages alive; one in two queues counts twice.
    pub messages: u64,
    /// What is not as it was written, for the log.
    pub losses: Vec<Loss>,
}

/// A queue as its records leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// The queue's id.
    pub queue: QueueId,
    /// The highest position ever used, as far as records know: new ones have to be greater.
    pub highest: Position,
    /// Messages alive, ordered by position.
    pub runs: Vec<RecoveredRun>,
    /// Messages among them that came back from a consumer, ordered by position.
    pub redeliveries: Vec<Redelivery>,
    /// Up to where each priority was handed to consumers: (priority, position). What is alive up to there is redelivered.
    pub delivered: Vec<(u8, Position)>,
}

/// Neighbouring messages of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredRun {
    /// The first one's position; the others follow without a gap.
    pub first: Position,
    /// How many there are.
    pub count: u32,
    /// The priority that they have.
    pub priority: u8,
    /// Bytes of all their bodies.
    pub body_bytes: u64,
    /// Whether one of them carries an expiration.
    pub expires: bool,
}

/// A message that came back from a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redelivery {
    /// The message's position in its queue.
    pub position: Position,
    /// How often it was delivered before that.
    pub delivery_count: u32,
}

/// Something that was written and is not there any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// A record that can't be read.
    #[error(
        "record {lsn} ({bytes} bytes) can't be read: {reason}. The messages in it are lost, \
         and messages that it acknowledged may come again"
    )]
    Damaged {
        /// The number of the record.
        lsn: Lsn,
        /// Its length, as far as known.
        bytes: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Records that are not there at all.
    #[error(
        "{count} records below record {below} are missing. The messages in them are lost, and messages that \
         they acknowledged may come again"
    )]
    Missing {
        /// How many there are.
        count: u64,
        /// The record that counted them.
        below: Lsn,
    },
    /// Definitions of one kind are missing, or not as they were set last.
    #[error("of {there_were} definitions of the kind '{}' {there_are} are left", char::from(*kind).escape_default())]
    Definitions {
        /// What kind: the first byte of their keys.
        kind: u8,
        /// How many there were.
        there_were: u64,
        /// How many there are. As many: then some are not as they were set last.
        there_are: u64,
    },
    /// All definitions may be missing, and nothing says how many there were.
    #[error("what was defined can't be read, and nothing is left that says how much it was")]
    AllDefinitions,
}

impl Journal {
    /// Opens the journal that an engine holds, an empty one if it holds nothing. `progress` is called now and then with
    /// the number of records read so far.
    ///
    /// # Errors
    /// When the engine can't be read at all; damaged records are [`Loss`]es.
    pub fn open(
        store: Box<dyn Store>,
        options: JournalOptions,
        progress: impl FnMut(u64),
    ) -> Result<(Journal, Recovered), StoreError> {
        let store: Arc<dyn Store> = Arc::from(store);
        Journal::open_parts(store.clone(), store, options, progress)
    }

    /// As [`Journal::open`], of a log that has no table of definitions beside it.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_log(
        log: Box<dyn RecordLog>,
        options: JournalOptions,
        progress: impl FnMut(u64),
    ) -> Result<(Journal, Recovered), StoreError> {
        Journal::open_parts(Arc::from(log), Arc::new(NoDefinitions), options, progress)
    }

    fn open_parts(
        log: Arc<dyn RecordLog>,
        definitions: Arc<dyn Definitions>,
        options: JournalOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<(Journal, Recovered), StoreError> {
        let mut recovery = Recovery::default();
        log.scan(Lsn(1), &mut |lsn, scanned| {
            recovery.take(lsn, scanned);
            if recovery.records % PROGRESS_EVERY_RECORDS == 0 {
                progress(recovery.records);
            }
        })?;
        recovery.index.end_waiting();
        recovery.count_missing();
        recovery.losses.extend(definitions.lost_definitions());
        let recovered = recovery.recovered(&*log)?;
        let written = recovery.last;
        let gathering = Arc::new(Mutex::new(Gathering::new(Lsn(written.0 + 1), options.record_bytes)));
        let bell = Arc::new(Doorbell::default());
        {
            let (bell, gathering) = (bell.clone(), gathering.clone());
            log.on_durable(Box::new(move || bell.ring(&gathering)));
        }
        let committing = Committing::new(written, recovery.present, recovery.damaged);
        let journal = Journal {
            log,
            definitions,
            options,
            committing: Mutex::new(committing),
            snapshots: AtomicU32::new(0),
            index: Mutex::new(recovery.index),
            gathering,
            bell,
            is_commit_due: AtomicBool::new(false),
            durable: AtomicU64::new(written.0),
            defined: AtomicU64::new(written.0),
            behind: AtomicBool::new(false),
            work_left: AtomicBool::new(false),
            cache: Mutex::new(RecordCache::default()),
        };
        if !recovered.losses.is_empty() {
            journal.write_off()?;
        }
        Ok((journal, recovered))
    }
}

impl Journal {
    /// Writes an empty record that counts without those lost, so that a loss is reported once. Where there is no room for it, it
    /// waits for some like any other record.
    fn write_off(&self) -> Result<(), StoreError> {
        let lsn = {
            let mut gathering = self.gathering.lock();
            let lsn = gathering.lsn;
            gathering.seal_even_if_empty(lsn);
            lsn
        };
        // What is copied forward meanwhile has commits of its own, and an empty record asks for no sync.
        for _ in 0..WRITE_OFF_COMMITS_MAX {
            match self.commit() {
                Ok(durable) if durable < lsn => {}
                Err(error) if !error.may_pass() => return Err(error),
                _ => break,
            }
        }
        Ok(())
    }
}

/// After this many commits nothing is left to be copied forward.
const WRITE_OFF_COMMITS_MAX: usize = 64;

const PROGRESS_EVERY_RECORDS: u64 = 64;

#[derive(Default)]
struct Recovery {
    index: Index,
    last: Lsn,
    records: u64,
    /// Records in the engine, damaged ones among them.
    present: u64,
    /// The last record that can be read, how many it says are kept below it, and how many there are.
    counted: Option<(Lsn, u64, u64)>,
    damaged: Vec<Lsn>,
    runs: Vec<RecordRun>,
    losses: Vec<Loss>,
}

/// Neighbouring messages in one record.
#[derive(Clone, Copy)]
struct RecordRun {
    slot: Slot,
    queue: QueueId,
    run: RecoveredRun,
}

impl Recovery {
    fn take(&mut self, lsn: Lsn, scanned: Scanned) {
        self.records += 1;
        self.last = lsn;
        let (record, reason) = match scanned {
            Scanned::Damaged(reason) => (None, reason),
            Scanned::Record(record) => match check(lsn, &record) {
                Ok(kept) if OperationReader::is_sound(&record[HEADER_BYTES..]) => {
                    self.counted = Some((lsn, kept, self.present));
                    (Some(record), String::new())
                }
                Ok(_) => {
                    (Some(record), "it holds operations that this version of Leveret doesn't know".into())
                }
                Err(reason) => (Some(record), reason),
            },
        };
        self.present += 1;
        let bytes = record.as_ref().map_or(0, bytes::Bytes::len);
        match record.filter(|_| reason.is_empty()) {
            Some(record) => {
                let body = &record[HEADER_BYTES..];
                let slot = self.index.apply(lsn, bytes, body, true);
                let runs = &mut self.runs;
                each_run(slot, body, |_| true, |run| runs.push(run));
            }
            None => {
                self.index.ledger.skip(lsn);
                self.damaged.push(lsn);
                self.losses.push(Loss::Damaged { lsn, bytes, reason });
            }
        }
    }

    fn count_missing(&mut self) {
        if let Some((below, kept, present)) = self.counted
            && kept > present
        {
            self.losses.push(Loss::Missing { count: kept - present, below });
        }
    }

    fn recovered(&mut self, log: &dyn RecordLog) -> Result<Recovered, StoreError> {
        let doubled = std::mem::take(&mut self.index.doubled);
        let index = &self.index;
        let mut queues: BTreeMap<QueueId, RecoveredQueue> = BTreeMap::new();
        let mut add = |run: RecordRun| {
            queues.entry(run.queue).or_default().runs.push(run.run);
        };
        for of_record in std::mem::take(&mut self.runs).chunk_by(|one, other| one.slot == other.slot) {
            let slot = of_record[0].slot;
            let is_doubled = doubled.contains(&slot);
            if index.ledger.is_whole(slot) && !is_doubled {
                of_record.iter().copied().for_each(&mut add);
                continue;
            }
            if of_record.iter().all(|run| !index.is_any_alive(run)) {
                continue;
            }
            let Some(record) = log.get(index.ledger.lsn(slot))? else { continue };
            let mut known = HashSet::new();
            let is_alive = |target: &Target| {
                index.is_alive(slot, target) && (!is_doubled || known.insert((target.queue, target.position)))
            };
            each_run(slot, &record[HEADER_BYTES..], is_alive, &mut add);
        }
        for (id, known) in &index.queues {
            if known.is_forgotten() {
                continue;
            }
            let queue = queues.entry(*id).or_default();
            queue.queue = *id;
            queue.highest = known.highest;
            queue.delivered = known.marks.iter().map(|mark| (mark.priority, mark.position)).collect();
            queue.delivered.sort_unstable();
            let returned = known.returned.iter();
            queue.redeliveries = returned
                .map(|(position, returned)| Redelivery {
                    position: *position,
                    delivery_count: returned.delivery_count,
                })
                .collect();
            join_runs(&mut queue.runs);
        }
        let queues: Vec<RecoveredQueue> = queues.into_values().collect();
        let runs = queues.iter().flat_map(|queue| &queue.runs);
        let messages = runs.map(|run| u64::from(run.count)).sum();
        let losses = std::mem::take(&mut self.losses);
        Ok(Recovered { queues, records: self.records, messages, losses })
    }
}

impl Index {
    fn is_alive(&self, slot: Slot, target: &Target) -> bool {
        let queue = self.queues.get(&target.queue);
        queue.is_some_and(|queue| queue.positions.find(&self.ledger, target.position) == Known::Alive(slot))
    }

    fn is_any_alive(&self, run: &RecordRun) -> bool {
        let positions = run.run.first.0..run.run.first.0 + u64::from(run.run.count);
        positions.into_iter().any(|position| {
            let target = Target {
                queue: run.queue,
                position: Position(position),
                priority: run.run.priority,
                returned: None,
            };
            self.is_alive(run.slot, &target)
        })
    }
}

/// Calls `add` for every run of those messages of a record that `is_wanted`.
fn each_run(
    slot: Slot,
    body: &[u8],
    mut is_wanted: impl FnMut(&Target) -> bool,
    mut add: impl FnMut(RecordRun),
) {
    // The runs being continued, one for each queue and priority; few are, and the one continued last comes first.
    let mut open: Vec<RecordRun> = Vec::new();
    for operation in OperationReader::new(body) {
        let Operation::Enqueue(enqueue) = operation else { continue };
        if enqueue.transient {
            continue;
        }
        for target in enqueue.targets().filter(|target| is_wanted(target)) {
            let body_bytes = enqueue.body_bytes();
            let new = RecoveredRun {
                first: target.position,
                count: 1,
                priority: target.priority,
                body_bytes,
                expires: enqueue.shape.has_expiration(enqueue.content),
            };
            let of_target =
                |run: &RecordRun| run.queue == target.queue && run.run.priority == target.priority;
            match open.iter().rposition(of_target) {
                Some(at) if open[at].run.is_followed_by(&new) => open[at].run.extend(&new),
                Some(at) => {
                    let done =
                        std::mem::replace(&mut open[at], RecordRun { slot, queue: target.queue, run: new });
                    add(done);
                }
                None => {
                    if open.len() == OPEN_RUNS_MAX {
                        add(open.remove(0));
                    }
                    open.push(RecordRun { slot, queue: target.queue, run: new });
                }
            }
        }
    }
    open.into_iter().for_each(add);
}

const OPEN_RUNS_MAX: usize = 64;

/// Orders runs by position and joins neighbours.
fn join_runs(runs: &mut Vec<RecoveredRun>) {
    runs.sort_unstable_by_key(|run| run.first);
    runs.dedup_by(|next, run| {
        let joined = run.is_followed_by(next);
        if joined {
            run.extend(next);
        }
        joined
    });
    runs.shrink_to_fit();
}

impl RecoveredRun {
    fn is_followed_by(&self, next: &RecoveredRun) -> bool {
        self.priority == next.priority
            && self.first.0 + u64::from(self.count) == next.first.0
            && self.count.checked_add(next.count).is_some()
    }

    fn extend(&mut self, next: &RecoveredRun) {
        self.count += next.count;
        self.body_bytes += next.body_bytes;
        self.expires |= next.expires;
    }
}
