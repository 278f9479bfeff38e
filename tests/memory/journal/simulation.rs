//! Random sessions over a journal that crashes at random moments, held against the naive model. A seed gives the same run
//! every time.

use super::model::{Copy, Model, Published, Turn, View};
use leveret::message::{Lsn, Position, QueueId};
use leveret::store::{
    Durability, FaultyStore, Journal, JournalOptions, Recovered, SledStore, Store, Usage, WalOptions,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A small generator of numbers: the same seed, the same numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// An engine that can crash.
pub(crate) trait Machine {
    fn store(&mut self) -> Box<dyn Store>;
    /// Loses what a crash loses. Called before the journal is dropped.
    fn crash(&mut self, random: &mut Random);
    /// The last record that is surely durable, where the engine can tell.
    fn synced(&self) -> Option<Lsn>;
    /// Makes some of what was written durable, where that takes more than a sync.
    fn catch_up(&mut self, random: &mut Random) {
        let _ = random;
    }
    /// Another engine with what this one has, but for the checkpoint of the index.
    fn without_checkpoint(&mut self) -> Box<dyn Store>;
}

fn without_checkpoint(store: &FaultyStore) -> Box<dyn Store> {
    let copy = store.copied();
    copy.keep_checkpoint(None);
    Box::new(copy)
}

impl Machine for FaultyStore {
    fn store(&mut self) -> Box<dyn Store> {
        Box::new(self.clone())
    }

    fn crash(&mut self, random: &mut Random) {
        let unsynced = self.unsynced() as u64;
        FaultyStore::crash(self, random.below(unsynced + 1) as usize);
    }

    fn synced(&self) -> Option<Lsn> {
        Some(FaultyStore::synced(self))
    }

    fn without_checkpoint(&mut self) -> Box<dyn Store> {
        without_checkpoint(self)
    }
}

/// A log whose records become durable some time after they were written, as one that other machines keep.
pub(crate) struct LateMachine(pub(crate) FaultyStore);

impl Machine for LateMachine {
    fn store(&mut self) -> Box<dyn Store> {
        Box::new(self.0.clone())
    }

    fn crash(&mut self, random: &mut Random) {
        Machine::crash(&mut self.0, random);
    }

    fn synced(&self) -> Option<Lsn> {
        Some(self.0.synced())
    }

    fn catch_up(&mut self, random: &mut Random) {
        let undurable = self.0.unsynced() as u64;
        self.0.make_durable(random.below(undurable + 1) as usize);
    }

    fn without_checkpoint(&mut self) -> Box<dyn Store> {
        without_checkpoint(&self.0)
    }
}

/// A sled database that is copied as it lies on the disk, as after the end of the process.
#[derive(Default)]
pub(crate) struct SledMachine {
    folder: Option<tempfile::TempDir>,
    copy: Option<tempfile::TempDir>,
}

/// Small enough that there are checkpoints, and none while the folder is copied.
fn open_small(folder: &Path) -> Box<dyn Store> {
    let options = WalOptions {
        segment_bytes: 4 << 10,
        bytes_max: 32 << 10,
        in_background: false,
        ..WalOptions::default()
    };
    Box::new(SledStore::open_with(folder, Durability::Fsync, options).unwrap())
}

impl Machine for SledMachine {
    fn store(&mut self) -> Box<dyn Store> {
        let folder = self.folder.get_or_insert_with(|| tempfile::tempdir().unwrap());
        open_small(folder.path())
    }

    fn crash(&mut self, _: &mut Random) {
        let copy = tempfile::tempdir().unwrap();
        if let Some(folder) = &self.folder {
            copy_folder(folder.path(), copy.path());
        }
        self.folder = Some(copy);
    }

    fn synced(&self) -> Option<Lsn> {
        None
    }

    fn without_checkpoint(&mut self) -> Box<dyn Store> {
        let copy = tempfile::tempdir().unwrap();
        if let Some(folder) = &self.folder {
            copy_folder(folder.path(), copy.path());
        }
        let _ = std::fs::remove_file(copy.path().join("index"));
        open_small(self.copy.insert(copy).path())
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

const SESSIONS: u64 = 3;

/// One run.
pub(crate) struct Simulation<M: Machine> {
    seed: u64,
    random: Random,
    machine: M,
    journal: Journal,
    model: Model,
    turns: Vec<Turn>,
    /// What the sessions believe: done, whether appended or not.
    live: BTreeMap<Copy, (u8, u32)>,
    settled: Vec<Copy>,
    next: BTreeMap<QueueId, u64>,
    queue_ids: u64,
    options: JournalOptions,
    /// Records that were not read at a restart, since a checkpoint had what was needed of them.
    pub(crate) spared: u64,
}

impl<M: Machine> Simulation<M> {
    pub(crate) fn new(seed: u64, mut machine: M) -> Simulation<M> {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let options = JournalOptions {
            record_bytes: 512 << random.below(5),
            commit_bytes_max: 1 << (9 + random.below(6)),
            linger: Duration::ZERO,
            copy_age_records: 1 + random.below(12),
            copy_gain_bytes_min: 1 << (11 + random.below(8)),
            copy_anything_bytes: 1 << (11 + random.below(14)),
            copy_look_records: random.below(16) as usize,
            ..JournalOptions::default()
        };
        let (journal, recovered) = Journal::open(machine.store(), options, |_| {}).unwrap();
        assert_eq!(recovered, Recovered::default());
        let turns = (0..SESSIONS).map(|_| Turn::default()).collect();
        let next = (1..=3).map(|queue| (QueueId(queue), 1)).collect();
        Simulation {
            seed,
            random,
            machine,
            journal,
            model: Model::default(),
            turns,
            live: BTreeMap::new(),
            settled: Vec::new(),
            next,
            queue_ids: 3,
            options,
            spared: 0,
        }
    }

    pub(crate) fn run(&mut self, steps: u64) {
        for step in 0..steps {
            let session = self.random.below(SESSIONS) as usize;
            match self.random.below(100) {
                0..30 => self.publish(session),
                30..50 => self.settle_one(session),
                50..53 => self.settle_again(session),
                53..58 => self.requeue(session),
                58..61 => self.delivered(session),
                61..65 => self.dead_letter(session),
                65 if self.random.one_in(3) => self.purge(session),
                66 if self.random.one_in(6) => self.drop_queue(session),
                67..82 => self.end_turn(session),
                82..95 => self.commit(),
                95 => self.machine.catch_up(&mut self.random),
                96..98 => self.read(),
                98 if self.random.one_in(4) => self.crash(step),
                99 if self.random.one_in(2) => self.journal.checkpoint().unwrap(),
                _ => {}
            }
        }
    }

    /// Consumes everything and lets the journal tidy up.
    pub(crate) fn drain(&mut self) {
        (0..SESSIONS as usize).for_each(|session| self.end_turn(session));
        let live: Vec<Copy> = self.model.view().live.into_keys().collect();
        for (queue, position) in live {
            self.turns[0].settle(queue, position, position);
        }
        self.end_turn(0);
        for _ in 0..100 {
            self.machine.catch_up(&mut self.random);
            self.commit();
        }
        assert_eq!(self.journal.usage().messages, 0, "seed {}", self.seed);
    }

    fn queue(&mut self) -> QueueId {
        let at = self.random.below(self.next.len() as u64) as usize;
        *self.next.keys().nth(at).unwrap()
    }

    fn position(&mut self, queue: QueueId) -> Position {
        let next = self.next.get_mut(&queue).unwrap();
        *next += 1;
        Position(*next - 1)
    }

    fn any_live(&mut self) -> Option<Copy> {
        let bound = self.live.len() as u64;
        // Mostly the oldest, as consumers do.
        let at = if self.random.one_in(3) {
            self.random.below(bound.max(1))
        } else {
            self.random.below(4).min(bound)
        };
        self.live.keys().nth(at as usize).copied()
    }

    fn publish(&mut self, session: usize) {
        let length = match self.random.below(60) {
            0 => 20_000,
            1..6 => 700,
            _ => 30,
        };
        let count = if self.random.one_in(4) { 3 } else { 1 };
        let mut targets = Vec::new();
        for _ in 0..count {
            let queue = self.queue();
            if targets.iter().any(|(other, _, _)| *other == queue) {
                continue;
            }
            let priority = if queue.0.is_multiple_of(2) { self.random.below(3) as u8 } else { 0 };
            targets.push((queue, self.position(queue), priority));
        }
        let length = 4 + self.random.below(length) as usize;
        let content = Arc::new((0..length).map(|at| (at as u64 ^ self.random.0) as u8).collect());
        let transient = self.random.one_in(8);
        let enqueued_at = self.random.below(1 << 40);
        let published = Published { content, enqueued_at, priority: 0, transient };
        self.turns[session].enqueue(&targets, published);
        self.live
            .extend(targets.iter().map(|(queue, position, priority)| ((*queue, *position), (*priority, 0))));
    }

    fn settle_one(&mut self, session: usize) {
        let Some(copy) = self.any_live() else { return };
        let mut last = copy.1;
        while self.random.below(5) > 0 && self.live.contains_key(&(copy.0, Position(last.0 + 1))) {
            last = Position(last.0 + 1);
        }
        for position in copy.1.0..=last.0 {
            self.live.remove(&(copy.0, Position(position)));
            self.settled.push((copy.0, Position(position)));
        }
        self.turns[session].settle(copy.0, copy.1, last);
    }

    fn settle_again(&mut self, session: usize) {
        let bound = self.settled.len() as u64;
        if bound > 0 {
            let (queue, position) = self.settled[self.random.below(bound) as usize];
            if self.next.contains_key(&queue) {
                self.turns[session].settle(queue, position, position);
            }
        }
    }

    fn requeue(&mut self, session: usize) {
        let Some(copy) = self.any_live() else { return };
        let (_, count) = self.live.get_mut(&copy).unwrap();
        *count += 1;
        self.turns[session].requeue(copy, *count);
    }

    fn delivered(&mut self, session: usize) {
        let Some(copy) = self.any_live() else { return };
        let priority = self.live[&copy].0;
        self.turns[session].delivered(copy.0, priority, copy.1);
    }

    fn dead_letter(&mut self, session: usize) {
        self.end_turn(session);
        self.settle_one(session);
        self.publish(session);
        self.end_turn(session);
    }

    fn purge(&mut self, session: usize) {
        let queue = self.queue();
        let last = Position(self.next[&queue] - 1);
        if last.0 == 0 {
            return;
        }
        let first = Position(1 + self.random.below(last.0));
        self.live.retain(|(of, at), _| *of != queue || *at < first || *at > last);
        self.turns[session].settle(queue, first, last);
    }

    fn drop_queue(&mut self, session: usize) {
        let queue = self.queue();
        self.next.remove(&queue);
        self.queue_ids += 1;
        self.next.insert(QueueId(self.queue_ids), 1);
        self.live.retain(|(of, _), _| *of != queue);
        self.turns[session].drop_queue(queue);
    }

    fn end_turn(&mut self, session: usize) {
        let turn = &mut self.turns[session];
        if turn.changes.is_empty() {
            return;
        }
        let lsn = self.journal.append(&mut turn.changes, None);
        self.model.append(lsn, std::mem::take(&mut turn.done));
    }

    fn commit(&mut self) {
        let durable = self.journal.commit().unwrap();
        if let Some(synced) = self.machine.synced() {
            assert!(durable <= synced, "seed {}: {durable} before {synced}", self.seed);
        }
    }

    fn read(&mut self) {
        let view = self.model.view();
        let queue = self.queue();
        self.assert_reads(&view, queue);
    }

    fn assert_reads(&mut self, view: &View, queue: QueueId) {
        for priority in 0..3 {
            let limit = 1 + self.random.below(3000) as usize;
            let mut read = Vec::new();
            let mut from = Position(0);
            loop {
                let page = self.journal.read(queue, priority, from, limit).unwrap();
                let Some(last) = page.last() else { break };
                from = Position(last.position.0 + 1);
                read.extend(page);
            }
            let expected = view.expected(queue, priority);
            assert_eq!(read, expected, "seed {}: queue {queue}, priority {priority}", self.seed);
        }
    }

    fn crash(&mut self, step: u64) {
        let durable = self.journal.durable();
        self.machine.crash(&mut self.random);
        // Stands in while the real one is closed.
        let idle = Journal::open(Box::new(FaultyStore::default()), self.options, |_| {}).unwrap().0;
        drop(std::mem::replace(&mut self.journal, idle));
        let context = format!("seed {}, step {step}", self.seed);
        let (read, expected) =
            Journal::open(self.machine.without_checkpoint(), self.options, |_| {}).unwrap();
        let (journal, recovered) = Journal::open(self.machine.store(), self.options, |_| {}).unwrap();
        self.spared += recovered.records - recovered.scanned;
        let expected = Recovered { scanned: recovered.scanned, ..expected };
        assert!(recovered == expected, "{context}: the checkpoint makes a difference");
        let usage = |journal: &Journal| Usage { index_bytes: 0, ..journal.usage() };
        assert_eq!(usage(&journal), usage(&read), "{context}");
        drop(read);
        assert_eq!(recovered.losses, [], "{context}");
        assert!(journal.durable() >= durable, "{context}: {} after {durable}", journal.durable());
        self.journal = journal;
        self.model.crash(self.journal.durable());
        let view = self.model.view();
        view.assert_recovered(&recovered.queues, &context);
        let queues: Vec<QueueId> = self.next.keys().copied().collect();
        for queue in queues {
            self.assert_reads(&view, queue);
            let highest =
                recovered.queues.iter().find(|found| found.queue == queue).map(|found| found.highest.0);
            self.next.insert(queue, highest.unwrap_or(0) + 1);
        }
        self.turns = (0..SESSIONS).map(|_| Turn::default()).collect();
        self.settled.clear();
        let count = |copy: &Copy| view.returned.get(copy).copied().unwrap_or(0);
        self.live =
            view.live.iter().map(|(copy, published)| (*copy, (published.priority, count(copy)))).collect();
    }
}
