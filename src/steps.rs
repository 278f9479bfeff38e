//! Counts the steps of loops whose length a peer decides, so that tests hold work to what it should be: times would depend on
//! the machine.
//!
//! Builds with debug assertions count, which are those of tests and of fuzz targets; in others nothing is left of it.

use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    static AT_ONCE_MAX: Cell<usize> = const { Cell::new(usize::MAX) };
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

/// How much is done at once where that is bounded: as much as `normal` says, or as little as a test has asked for.
#[inline(always)]
pub fn at_once(normal: usize) -> usize {
    if cfg!(debug_assertions) { AT_ONCE_MAX.with(|max| normal.min(max.get())) } else { normal }
}

/// Has this thread do no more at once than that, wherever [`at_once`] is asked. For tests that what is done in many parts comes to
/// the same.
pub fn set_at_once_max(max: usize) {
    AT_ONCE_MAX.with(|at_once| at_once.set(max));
}
