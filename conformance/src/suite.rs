//! Many cases at a time. Called by the binary and by a broker's own tests.

use crate::case::Case;
use crate::report::Line;
use crate::run::{Options, Outcome, run};
use crate::transport::Transport;
use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How often a case that lets time pass is played again when it fails: on a busy machine a real clock goes on while the broker
/// or the case can't.
const TRIES_AGAIN: usize = 2;

/// Plays the cases on `jobs` threads, each over a transport of its own. Those that let time pass and fail are played again
/// when the others are done, one by one. `done` is called with each case that is decided, with how many are; the lines come back
/// in the cases' order.
pub fn play(
    cases: &[Case],
    jobs: usize,
    options: &Options,
    connect: impl Fn() -> Box<dyn Transport> + Sync,
    done: impl Fn(&Case, &Line, usize) + Sync,
) -> Vec<Line> {
    // Those that wait longest begin first, so that nothing waits for them in the end.
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by_key(|index| Reverse(cases[*index].time()));
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(Vec::new());
    let late = Mutex::new(Vec::new());
    let play = |index: usize, case: &Case, attempt: usize| {
        let options =
            Options { run: format!("{}{index}{}", options.run, "x".repeat(attempt)), ..options.clone() };
        let begin = Instant::now();
        let failure = match run(case, connect().as_mut(), &options) {
            Outcome::Passed => None,
            Outcome::Failed(failure) => Some(failure),
        };
        let (took, declared) = (begin.elapsed(), case.differs());
        Line { name: case.name.clone(), rule: case.rule.clone(), declared, failure, took }
    };
    let note = |index: usize, case: &Case, line: Line| {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        done(case, &line, lines.len() + 1);
        lines.push((index, line));
    };
    let worker = || {
        loop {
            let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)).copied() else { return };
            let case = &cases[index];
            let line = play(index, case, 0);
            if line.failure.is_some() && case.lets_time_pass() {
                late.lock().unwrap_or_else(PoisonError::into_inner).push(index);
            } else {
                note(index, case, line);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(worker);
        }
    });
    for index in late.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let case = &cases[index];
        let mut line = play(index, case, 1);
        for attempt in 2..=TRIES_AGAIN {
            if line.failure.is_some() {
                line = play(index, case, attempt);
            }
        }
        note(index, case, line);
    }
    let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.sort_by_key(|(index, _)| *index);
    lines.into_iter().map(|(_, line)| line).collect()
}
