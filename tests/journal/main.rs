//! The journal above engines that fail: simulated crashes, damage, group commit, space.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]

mod faults;
mod model;
mod simulation;

use leveret::store::FaultyStore;
use simulation::{Simulation, SledMachine};

/// `LEVERET_SIMULATIONS` asks for more runs than the usual ones.
fn simulations(usual: u64) -> u64 {
    std::env::var("LEVERET_SIMULATIONS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(usual)
}

#[test]
fn what_survives_a_crash_is_what_was_durable() {
    for seed in 0..simulations(1000) {
        let store = FaultyStore::default();
        let mut simulation = Simulation::new(seed, store.clone());
        simulation.run(600);
        simulation.drain();
        let (records, bytes) = (store.lsns().len(), store.bytes());
        assert!(records < 80, "seed {seed}: {records} records of {bytes} bytes are left");
    }
}

#[test]
fn what_survives_a_crash_on_sled_is_what_was_durable() {
    for seed in 0..simulations(16).min(200) {
        Simulation::new(seed, SledMachine::default()).run(600);
    }
}
