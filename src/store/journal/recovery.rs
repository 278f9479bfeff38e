//! Recovery: reads every record once, in order, and says what is alive. A record that can't be read costs what it holds.
//!
//! Contents are not kept. What is live comes as runs of neighbouring positions; bytes of bodies are added up record by record
//! on the way, and only records of which some messages are gone are read a second time to get them right.

use super::bell::Doorbell;
use super::checkpoint::{Checkpointing, Entry, entries_of, is_same};
use super::defining::NoDefinitions;
use super::index::Index;
use super::ledger::Slot;
use super::positions::Known;
use super::reading::RecordCache;
use super::record::{HEADER_BYTES, OperationReader, Target, check};
use super::runs::{RecordRun, each_run};
use super::{Committing, Definitions, Gathering, Journal, JournalOptions, RecordLog, Store, StoreError};
use crate::message::{Lsn, Position, QueueId};
use crate::store::Scanned;
use crate::store::stream::{NoStreams, StreamFiles};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// What a journal found when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every queue that records speak of, by id. Those no longer defined are to be dropped.
    pub queues: Vec<RecoveredQueue>,
    /// How many records there are.
    pub records: u64,
    /// How many of them were read; of the others a checkpoint said what was needed.
    pub scanned: u64,
    /// Messages alive; one in two queues counts twice.
    pub messages: u64,
    /// What is not as it was written, for the log.
    pub losses: Vec<Loss>,
}

/// A queue as its records leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// Id that the queue's definition has in the store.
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
        let streams = store.stream_files();
        Journal::open_parts(store.clone(), store, streams, options, progress)
    }

    /// As [`Journal::open`], of a log that has no table of definitions beside it, and no streams.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_log(
        log: Box<dyn RecordLog>,
        options: JournalOptions,
        progress: impl FnMut(u64),
    ) -> Result<(Journal, Recovered), StoreError> {
        let streams = Arc::new(NoStreams);
        Journal::open_parts(Arc::from(log), Arc::new(NoDefinitions), streams, options, progress)
    }

    fn open_parts(
        log: Arc<dyn RecordLog>,
        definitions: Arc<dyn Definitions>,
        streams: Arc<dyn StreamFiles>,
        options: JournalOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<(Journal, Recovered), StoreError> {
        let mut recovery = match Recovery::with_checkpoint(&*log, &mut progress) {
            Ok(recovery) => recovery,
            Err(why) => {
                if let Some(why) = why {
                    tracing::warn!("the checkpoint of the index can't be used: {why}. All records are read");
                }
                let mut recovery = Recovery::default();
                recovery.scan(&*log, Lsn(1), &mut progress)?;
                recovery
            }
        };
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
            streams,
            options,
            committing: Mutex::new(committing),
            snapshots: AtomicU32::new(0),
            checkpointing: Mutex::new(Checkpointing::trusting(recovery.trusted)),
            distrusted: Mutex::default(),
            is_checkpoint_wrong: AtomicBool::new(false),
            written_bytes: AtomicU64::new(recovery.scanned_bytes),
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
    scanned: u64,
    scanned_bytes: u64,
    /// Up to this record the log's checkpoint holds.
    trusted: Lsn,
    /// Records in the engine, damaged ones among them.
    present: u64,
    /// The last record that can be read, how many it says are kept below it, and how many there are.
    counted: Option<(Lsn, u64, u64)>,
    damaged: Vec<Lsn>,
    runs: Vec<RecordRun>,
    losses: Vec<Loss>,
}

impl Recovery {
    /// Reads all records from `from` on.
    fn scan(
        &mut self,
        log: &dyn RecordLog,
        from: Lsn,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), StoreError> {
        log.scan(from, &mut |lsn, scanned| {
            self.take(lsn, scanned);
            if self.records.is_multiple_of(PROGRESS_EVERY_RECORDS) {
                progress(self.records);
            }
        })
    }

    /// The same with what a checkpoint has. An error says why it can't be used, if there is one.
    fn with_checkpoint(
        log: &dyn RecordLog,
        progress: &mut impl FnMut(u64),
    ) -> Result<Recovery, Option<String>> {
        let text = |error: StoreError| Some(error.to_string());
        let Some(checkpoint) = log.last_checkpoint().map_err(text)? else { return Err(None) };
        let mut entries = entries_of(&checkpoint)?;
        entries.retain(|entry| checkpoint.kept.binary_search(&entry.lsn).is_ok());
        let mut recovery = Recovery::default();
        // Of an older log it may be, or of another one; what is true of its newest record is true of all before.
        let newest = match entries.last() {
            Some(newest) => Some(
                is_same(log, newest)
                    .ok_or_else(|| format!("record {} is not the one it speaks of", newest.lsn))?,
            ),
            None => None,
        };
        let last_entry = entries.last().map(|entry| entry.lsn);
        let mut entries = entries.into_iter().peekable();
        for lsn in checkpoint.kept {
            let Some(entry) = entries.next_if(|entry| entry.lsn == lsn) else {
                let record = log.get(lsn).map_err(text)?;
                let record = record.ok_or_else(|| format!("record {lsn} is missing"))?;
                recovery.take(lsn, Scanned::Record(record));
                continue;
            };
            if let Some(record) = newest.as_ref().filter(|_| last_entry == Some(lsn)) {
                recovery.counted = check(lsn, record).ok().map(|kept| (lsn, kept, recovery.present));
            }
            recovery.take_digest(&entry)?;
        }
        recovery.trusted = last_entry.unwrap_or_default();
        recovery.scan(log, Lsn(checkpoint.at.0 + 1), progress).map_err(text)?;
        match recovery.missing() {
            Some((count, below)) => Err(Some(format!("{count} records below record {below} are missing"))),
            None => Ok(recovery),
        }
    }

    fn take_digest(&mut self, entry: &Entry) -> Result<(), String> {
        self.records += 1;
        self.present += 1;
        self.last = entry.lsn;
        let runs = &mut self.runs;
        let is_whole =
            self.index.apply_digest(entry.lsn, entry.record_bytes, &entry.digest, |run| runs.push(run));
        if is_whole { Ok(()) } else { Err(format!("its digest of record {} can't be read", entry.lsn)) }
    }

    fn take(&mut self, lsn: Lsn, scanned: Scanned) {
        self.records += 1;
        self.scanned += 1;
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
        self.scanned_bytes += bytes as u64;
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

    /// How many records are not there, and which one counted them.
    fn missing(&self) -> Option<(u64, Lsn)> {
        let (below, kept, present) = self.counted?;
        kept.checked_sub(present).filter(|missing| *missing > 0).map(|missing| (missing, below))
    }

    fn count_missing(&mut self) {
        let missing = self.missing().map(|(count, below)| Loss::Missing { count, below });
        self.losses.extend(missing);
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
        Ok(Recovered { queues, records: self.records, scanned: self.scanned, messages, losses })
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
