//! Counts the steps of loops whose length a peer decides, so that tests hold work to what it should be: times would depend on
//! the machine.
//!
//! Builds with debug assertions count, which are those of tests and of fuzz targets; in others nothing is left of it.

use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Counts steps of this thread. One is what takes some ten nanoseconds: looking at an entry, moving it, a node.
#[inline(always)]
pub fn count(steps: usize) {
    if cfg!(debug_assertions) {
        TAKEN.with(|taken| taken.set(taken.get() + steps as u64));
    }
}

/// How many steps this thread has taken so far.
pub fn taken() -> u64 {
    TAKEN.with(Cell::get)
}

/// What `work` returns, and how many steps it took.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = taken();
    let result = work();
    (result, taken() - before)
}
