//! Crashes of the whole broker in memory, thousands of them, from seeds: one thread, a fake clock, and a store that forgets
//! what was not synced. After each crash the next broker has to hold what the clients were promised.
//!
//! `LEVERET_SIMULATIONS` asks for more runs than the usual ones, `LEVERET_SEED` for one alone.

use leveret::broker::BrokerLimits;
use leveret::clock::TestClock;
use leveret::store::{Faults, FaultyStore, JournalOptions};
use leveret_conformance::Transport;
use leveret_test_support::durability::{Counts, Habits, Model, Random, Workload};
use leveret_test_support::in_memory::InMemory;
use std::time::Duration;

const CRASHES: u64 = 4;

struct Simulation {
    random: Random,
    store: FaultyStore,
    clock: TestClock,
    options: JournalOptions,
    limits: BrokerLimits,
    workload: Workload,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = Random::new(!seed);
        let options = JournalOptions {
            record_bytes: 512 << random.below(6),
            commit_bytes_max: 1 << (10 + random.below(8)),
            linger: Duration::ZERO,
            copy_age_records: 1 + random.below(12),
            copy_gain_bytes_min: 1 << (11 + random.below(8)),
            copy_anything_bytes: 1 << (11 + random.below(14)),
            ..JournalOptions::default()
        };
        let limits = BrokerLimits {
            // A third of them keep nothing that a client has and does not acknowledge.
            memory_budget_bytes: if random.one_in(3) { 1 } else { 1 << (12 + random.below(10)) },
            page_bytes: 1 << (10 + random.below(9)),
            ..BrokerLimits::default()
        };
        let habits = Habits { large_one_in: if random.one_in(4) { 12 } else { 300 }, ..Habits::default() };
        Simulation {
            random,
            store: FaultyStore::default(),
            clock: TestClock::at(1_700_000_000_000),
            options,
            limits,
            workload: Workload::new(seed, habits, Model::new(true)),
        }
    }

    fn start(&self) -> InMemory {
        let store = Box::new(self.store.clone());
        let (broker, losses) =
            InMemory::open(store, self.options, self.limits.clone(), self.clock.clone()).unwrap();
        assert_eq!(losses, []);
        broker
    }

    /// One life of a broker, from its start to its crash.
    fn live(&mut self) {
        let mut broker = self.start();
        self.workload.begin(&mut broker).unwrap();
        let steps = self.random.below(70);
        for step in 0..steps {
            if step + 12 >= steps && self.random.one_in(20) {
                self.set_fault();
            }
            if self.workload.step(&mut broker).is_err() {
                break;
            }
            match self.random.below(20) {
                // A failed commit ends the connections, which the next step notices.
                0..8 => drop(broker.broker().journal().commit()),
                8 => broker.advance(Duration::from_millis(1 + self.random.below(60))),
                _ => {}
            }
        }
        if self.random.one_in(2) {
            // The store is written to, but not synced.
            self.store.set_faults(Faults { syncs_left: Some(0), ..Faults::default() });
            drop(broker.broker().journal().commit());
        }
        self.workload.end(&mut broker);
        self.crash(broker);
    }

    fn set_fault(&mut self) {
        let few = self.random.below(4) as u32;
        let faults = match self.random.below(2) {
            0 => Faults { appends_left: Some(few), ..Faults::default() },
            _ => Faults { syncs_left: Some(few), ..Faults::default() },
        };
        self.store.set_faults(faults);
    }

    fn crash(&mut self, broker: InMemory) {
        // What the broker would tidy up as it goes is not to reach the store.
        self.store.set_faults(Faults { appends_left: Some(0), syncs_left: Some(0), ..Faults::default() });
        drop(broker);
        let unsynced = self.store.unsynced() as u64;
        self.store.crash(self.random.below(unsynced + 1) as usize);
    }
}

fn simulate(seed: u64) -> Counts {
    let mut simulation = Simulation::new(seed);
    for _ in 0..CRASHES {
        simulation.live();
    }
    let mut broker = simulation.start();
    simulation.workload.check(&mut broker).unwrap();
    simulation.workload.counts()
}

fn simulate_all(seeds: impl Iterator<Item = u64>) {
    let mut total = Counts::default();
    let mut crashes = 0;
    for seed in seeds {
        let counts = std::panic::catch_unwind(|| simulate(seed));
        total += counts.unwrap_or_else(|panic| {
            eprintln!("that was LEVERET_SEED={seed}");
            std::panic::resume_unwind(panic)
        });
        crashes += CRASHES;
    }
    eprintln!("{crashes} crashes: {total:?}");
}

/// `LEVERET_SIMULATIONS` asks for more runs than the usual ones.
fn simulations() -> u64 {
    std::env::var("LEVERET_SIMULATIONS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or_else(|| leveret_test_support::runs(500))
}

#[test]
fn what_was_promised_survives_a_crash() {
    match std::env::var("LEVERET_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => simulate_all(seed..=seed),
        None => simulate_all((0..simulations()).step_by(2)),
    }
}

/// The other half, beside it.
#[test]
fn what_was_promised_survives_a_crash_too() {
    simulate_all((1..simulations()).step_by(2));
}
