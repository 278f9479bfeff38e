//! The differential runs of `leveret-conformance diff`, on brokers in memory: two that are the same never differ, and one that
//! lies is found, with a short script.

use leveret_conformance::diff::observe::Observation;
use leveret_conformance::diff::{Differ, End, Finding, Target};
use leveret_conformance::{Case, Options};
use leveret_test_support::in_memory::InMemory;
use std::time::Duration;

const STEPS: usize = 80;

fn in_memory(alter: Option<fn(&mut Observation)>) -> Target<'static> {
    Target { connect: Box::new(|| Box::new(InMemory::new())), options: Options::default(), alter }
}

fn differ(alter: Option<fn(&mut Observation)>) -> Differ<'static> {
    Differ { left: in_memory(None), right: in_memory(alter), declared: Vec::new(), pause: Duration::ZERO }
}

/// The first seed that shows what is altered.
fn found(alter: fn(&mut Observation)) -> Box<Finding> {
    let differ = differ(Some(alter));
    for seed in 0..100 {
        if let End::Different(finding) = differ.seed(seed, STEPS).unwrap() {
            return finding;
        }
    }
    panic!("nothing was found in a hundred seeds")
}

#[test]
fn a_broker_does_not_differ_from_itself() {
    let differ = differ(None);
    for seed in 0..40 {
        match differ.seed(seed, STEPS).unwrap() {
            End::Same(_) => {}
            End::Different(finding) => panic!("seed {seed}:\n{}", finding.text),
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

#[test]
fn a_method_that_is_changed_is_found_and_the_script_is_short() {
    let finding = found(|observation| {
        for line in &mut observation.lines {
            *line = line.replace("queue.purge-ok message_count=", "queue.purge-ok message_count=1");
        }
    });
    // A queue, a message, and the purge that counts it.
    assert_eq!(finding.script.len(), 3, "{}", finding.text);
    assert!(finding.text.contains("[right] ") && finding.text.contains("queue.purge-ok message_count=1"));
    Case::parse(
        "found",
        &format!("# found\n{}", finding.text.replace("[left] ", "").replace("[right] ", "# ")),
    )
    .unwrap_or_else(|error| panic!("{error}\n{}", finding.text));
}

#[test]
fn a_delivery_that_is_missing_is_found() {
    let finding = found(|observation| {
        observation.lines.retain(|line| !line.contains("redelivered"));
    });
    assert!(finding.difference.right.is_empty(), "{}", finding.text);
    assert!(finding.script.len() <= 5, "{}", finding.text);
}

#[test]
fn a_count_that_is_wrong_is_found() {
    let finding = found(|observation| {
        for count in &mut observation.counts {
            *count = count.replace(" 2 consumers", " 1 consumers");
        }
    });
    // A queue and two consumers.
    assert_eq!(finding.script.len(), 3, "{}", finding.text);
}
