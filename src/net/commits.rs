//! Figures of the committer and its store: how long commits and syncs take, how much goes into one. Taken once a commit, never
//! for a single message.

use crate::message::Lsn;
use crate::store::stream::StreamFiles;
use crate::store::{
    Bell, Checkpoint, DefinitionChanges, Definitions, Loss, RecordLog, Scanned, Store, StoreError,
    StreamStore,
};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of durations: 100 us to 10 s, in nanoseconds.
const DURATIONS_NS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];

/// Upper bounds of sizes: 1 KiB to 16 MiB.
const SIZES_BYTES: &[u64] = &[1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// Nanoseconds in a second.
const NS_PER_S: f64 = 1e9;

/// How often values came, by their size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// How many counted units make one reported unit, such as nanoseconds in a second.
    scale: f64,
    /// One for each bound, and one for what is above.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// What a histogram says.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper bounds, each with how many values were not above it.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all values.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
}

impl Histogram {
    fn new(bounds: &'static [u64], scale: f64) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, scale, counts, sum: AtomicU64::new(0) }
    }

    fn add(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn add_duration(&self, duration: Duration) {
        self.add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What has been counted so far.
    pub fn distribution(&self) -> Distribution {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, counted) in self.bounds.iter().zip(&self.counts) {
            count += counted.load(Ordering::Relaxed);
            buckets.push((*bound as f64 / self.scale, count));
        }
        count += self.counts[self.bounds.len()].load(Ordering::Relaxed);
        Distribution { buckets, sum: self.sum.load(Ordering::Relaxed) as f64 / self.scale, count }
    }
}

/// Figures of the committer and its store; see the module.
#[derive(Debug)]
pub struct CommitStats {
    /// Seconds from when the first change of a commit can have come at the earliest until the commit is durable: what a
    /// publisher waits for its confirm at most, within the broker.
    pub latency_s: Histogram,
    /// Seconds that a commit took.
    pub commit_s: Histogram,
    /// Seconds that the engine took to make records durable.
    pub sync_s: Histogram,
    /// Bytes of records that went into a commit.
    pub bytes: Histogram,
    /// Since the last commit.
    appended_bytes: AtomicU64,
    writes: Operations,
    reads: Operations,
}

/// Operations of the engine of one kind.
#[derive(Debug, Default)]
struct Operations {
    count: AtomicU64,
    bytes: AtomicU64,
    ns: AtomicU64,
}

impl Operations {
    fn add(&self, bytes: usize, duration: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn totals(&self) -> IoTotals {
        IoTotals {
            count: self.count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            seconds: self.ns.load(Ordering::Relaxed) as f64 / NS_PER_S,
        }
    }
}

/// What the engine has done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Io {
    /// Reads of single records from the log.
    pub reads: IoTotals,
    /// Writes of records, each with all that one commit gathered.
    pub writes: IoTotals,
    /// Syncs; they have no bytes.
    pub syncs: IoTotals,
}

/// How often something was done since the start, with how many bytes, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IoTotals {
    /// How often it was done.
    pub count: u64,
    /// How many bytes it moved.
    pub bytes: u64,
    /// How many seconds it took.
    pub seconds: f64,
}

impl CommitStats {
    /// What the engine has done since the start.
    pub fn io(&self) -> Io {
        let Distribution { sum, count, .. } = self.sync_s.distribution();
        let syncs = IoTotals { count, bytes: 0, seconds: sum };
        Io { reads: self.reads.totals(), writes: self.writes.totals(), syncs }
    }
}

impl Default for CommitStats {
    fn default() -> CommitStats {
        let durations = || Histogram::new(DURATIONS_NS, NS_PER_S);
        CommitStats {
            latency_s: durations(),
            commit_s: durations(),
            sync_s: durations(),
            bytes: Histogram::new(SIZES_BYTES, 1.0),
            appended_bytes: AtomicU64::new(0),
            writes: Operations::default(),
            reads: Operations::default(),
        }
    }
}

/// Notes what one commit after the other takes.
#[derive(Debug)]
pub(super) struct CommitTimer {
    stats: Arc<CommitStats>,
    linger: Duration,
    waiting_since: Instant,
    last_began: Instant,
}

impl CommitTimer {
    /// Changes wait for `linger` before they are committed, if there is nothing to do.
    pub(super) fn new(stats: Arc<CommitStats>, linger: Duration) -> CommitTimer {
        let now = Instant::now();
        CommitTimer { stats, linger, waiting_since: now, last_began: now }
    }

    /// Notes that the committer begins to wait for work.
    pub(super) fn wait(&mut self) {
        self.waiting_since = Instant::now();
    }

    /// Measures one commit.
    pub(super) fn commit<T>(&mut self, commit: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        // After a long wait what came had the time to linger at most; else it can have come while the last commit went on.
        let gathered_since = match began - self.waiting_since > self.linger {
            true => began - self.linger,
            false => self.last_began,
        };
        let committed = commit();
        let bytes = self.stats.appended_bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            self.stats.bytes.add(bytes);
            self.stats.commit_s.add_duration(began.elapsed());
            self.stats.latency_s.add_duration(gathered_since.elapsed());
        }
        self.last_began = began;
        committed
    }
}

/// An engine whose work is measured.
pub struct MeasuredStore {
    store: Box<dyn Store>,
    stats: Arc<CommitStats>,
}

impl MeasuredStore {
    /// Wraps an engine, and counts what it does.
    pub fn new(store: Box<dyn Store>, stats: Arc<CommitStats>) -> MeasuredStore {
        MeasuredStore { store, stats }
    }
}

impl Definitions for MeasuredStore {
    fn define(&self, changes: &DefinitionChanges) -> Result<(), StoreError> {
        self.store.define(changes)
    }

    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.store.definitions()
    }

    fn lost_definitions(&self) -> Vec<Loss> {
        self.store.lost_definitions()
    }
}

impl StreamStore for MeasuredStore {
    fn stream_files(&self) -> Arc<dyn StreamFiles> {
        self.store.stream_files()
    }
}

impl RecordLog for MeasuredStore {
    fn append(&self, head: &[u8], body: &Bytes) -> Result<Lsn, StoreError> {
        let bytes = head.len() + body.len();
        self.stats.appended_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let began = Instant::now();
        let appended = self.store.append(head, body);
        self.stats.writes.add(bytes, began.elapsed());
        appended
    }

    fn sync(&self) -> Result<Lsn, StoreError> {
        let began = Instant::now();
        let synced = self.store.sync();
        self.stats.sync_s.add_duration(began.elapsed());
        synced
    }

    fn on_durable(&self, bell: Bell) {
        self.store.on_durable(bell);
    }

    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError> {
        let began = Instant::now();
        let record = self.store.get(lsn)?;
        self.stats.reads.add(record.as_ref().map_or(0, Bytes::len), began.elapsed());
        Ok(record)
    }

    fn scan(&self, from: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)) -> Result<(), StoreError> {
        self.store.scan(from, visit)
    }

    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError> {
        self.store.discard(lsns)
    }

    fn checkpoint(&self, at: Lsn, state: &[u8]) -> Result<(), StoreError> {
        self.store.checkpoint(at, state)
    }

    fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.store.last_checkpoint()
    }

    fn shortage(&self) -> Option<StoreError> {
        self.store.shortage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn values_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::new(SIZES_BYTES, 1.0);
        for value in [0, 1024, 1025, 1 << 30] {
            histogram.add(value);
        }
        let Distribution { buckets, sum, count } = histogram.distribution();
        assert_eq!(buckets[..2], [(1024.0, 2), (4096.0, 3)]);
        assert_eq!(buckets.last(), Some(&(f64::from(16 << 20), 3)));
        assert_eq!((sum, count), (f64::from((1 << 30) + 2049), 4));
    }

    #[test]
    fn only_commits_that_wrote_something_count() {
        let stats = Arc::new(CommitStats::default());
        let store = MeasuredStore::new(Box::new(MemoryStore::default()), stats.clone());
        let mut timer = CommitTimer::new(stats.clone(), Duration::ZERO);
        timer.wait();
        timer.commit(|| ());
        assert_eq!(stats.commit_s.distribution().count, 0);
        timer.commit(|| {
            store.append(b"head", &Bytes::from_static(b"body")).unwrap();
            store.append(b"head", &Bytes::from_static(b"body")).unwrap();
            store.sync().unwrap();
        });
        let counts = [&stats.latency_s, &stats.commit_s, &stats.sync_s]
            .map(|histogram| histogram.distribution().count);
        assert_eq!(counts, [1, 1, 1]);
        let bytes = stats.bytes.distribution();
        assert_eq!((bytes.sum, bytes.count), (16.0, 1));
        let lsn = store.append(b"head", &Bytes::from_static(b"body")).unwrap();
        store.sync().unwrap();
        assert!(store.get(lsn).unwrap().is_some());
        let Io { reads, writes, syncs } = stats.io();
        assert_eq!((reads.count, reads.bytes), (1, 8));
        assert_eq!((writes.count, writes.bytes), (3, 24));
        assert_eq!(syncs.count, 2);
    }
}
