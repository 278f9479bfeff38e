//! Many cases at a time. Called by the binary and by a broker's own tests.

use crate::case::Case;
use crate::report::Line;
use crate::run::{Options, Outcome, run};
use crate::transport::Transport;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Plays the cases on `jobs` threads, each over a transport of its own. `done` is told of each, with how many are done; the
/// lines come back in the cases' order.
pub fn play(
    cases: &[Case],
    jobs: usize,
    options: &Options,
    connect: impl Fn() -> Box<dyn Transport> + Sync,
    done: impl Fn(&Case, &Line, usize) + Sync,
) -> Vec<Line> {
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return };
            let options = Options { run: format!("{}{index}", options.run), ..options.clone() };
            let begin = Instant::now();
            let failure = match run(case, connect().as_mut(), &options) {
                Outcome::Passed => None,
                Outcome::Failed(failure) => Some(failure),
            };
            let (took, declared) = (begin.elapsed(), case.differs());
            let line = Line { name: case.name.clone(), rule: case.rule.clone(), declared, failure, took };
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            done(case, &line, lines.len() + 1);
            lines.push((index, line));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(worker);
        }
    });
    let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.sort_by_key(|(index, _)| *index);
    lines.into_iter().map(|(_, line)| line).collect()
}
