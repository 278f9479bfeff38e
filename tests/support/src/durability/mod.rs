//! What durability promises, as a workload that any broker can be put under and a model that says what has to be there after a
//! crash. The simulation runs it in memory; the tests that kill the process and cut the power run it over sockets.

mod consumer;
mod messages;
mod model;
mod publisher;
mod survey;
mod topology;
mod transactor;
mod workload;

pub use model::{Counts, Model};
pub use workload::{Habits, Workload};

/// A small generator of numbers: the same seed, the same numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) % bound
    }

    /// True once in `bound` times.
    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}
