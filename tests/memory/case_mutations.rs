//! Every conformance case can fail: with anything that it expects changed, the broker in memory does not pass it.

use leveret_conformance::{Broker as Kind, Options, Outcome, library, mutate, run};
use leveret_test_support::in_memory::InMemory;
use leveret_test_support::runs;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// All of them, or with fewer runs than usual some of each case.
fn is_tried(number: usize) -> bool {
    const ALL: u64 = 10;
    number as u64 % ALL < runs(ALL)
}

/// Set GOLDEN_ONLY to a pattern to try some cases alone.
#[test]
fn every_case_fails_when_it_expects_something_else() {
    let only = std::env::var("GOLDEN_ONLY").unwrap_or_default();
    let cases = library::load(&library::folder(), &only).unwrap();
    let next = AtomicUsize::new(0);
    let worker = || {
        let (mut tried, mut survived) = (0, String::new());
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let variants = mutate::variants(case, Kind::Leveret).into_iter().enumerate();
            for (_, (line, variant)) in variants.filter(|(number, _)| is_tried(*number)) {
                tried += 1;
                let options = Options { broker: Some(Kind::Leveret), ..Options::default() };
                if let Outcome::Passed = run(&variant, &mut InMemory::new(), &options) {
                    survived += &format!("{}:{line}: {}\n", case.name, case.lines[line - 1]);
                }
            }
        }
        (tried, survived)
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (mut tried, mut survived) = (0, String::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let (more, others) = worker.join().unwrap();
            tried += more;
            survived += &others;
        }
    });
    assert!(tried > runs(cases.len() as u64) as usize, "only {tried} variants of {} cases", cases.len());
    assert!(survived.is_empty(), "these can be changed and nothing fails:\n{survived}");
}
