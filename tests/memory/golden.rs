//! Plays every conformance case on the whole broker in memory. What a client would see is compared frame by frame; time
//! passes only when a case says so.

use leveret_conformance::{Broker as Kind, Options, Outcome, library, run};
use leveret_test_support::in_memory::InMemory;

/// Set GOLDEN_ONLY to a pattern to play some cases alone.
#[test]
fn every_case_passes_in_memory() {
    play_all();
}

/// What is long for a turn is done in as many parts as can be, and comes to the same.
#[test]
fn every_case_passes_with_turns_as_short_as_can_be() {
    leveret::steps::set_at_once_max(1);
    play_all();
}

fn play_all() {
    let only = std::env::var("GOLDEN_ONLY").unwrap_or_default();
    let cases = library::load(&library::folder(), &only).unwrap();
    assert!(!cases.is_empty(), "no case contains '{only}'");
    let mut failures = String::new();
    let mut failed = 0;
    for case in &cases {
        let options = Options { broker: Some(Kind::Leveret), ..Options::default() };
        if let Outcome::Failed(failure) = run(case, &mut InMemory::new(), &options) {
            failed += 1;
            let line = case.lines.get(failure.line - 1).map_or("(end)", String::as_str);
            failures += &format!("{}:{}: {line}\n    {}\n", case.name, failure.line, failure.reason);
            for got in &failure.got {
                failures += &format!("    got: {got}\n");
            }
        }
    }
    assert!(failed == 0, "{failed} of {} cases failed:\n{failures}", cases.len());
}
