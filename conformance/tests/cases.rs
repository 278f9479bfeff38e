//! Every case can be read, names its rule, and is declared when the brokers differ.

use leveret_conformance::{differences, library, stomp, stream};

#[test]
fn every_case_can_be_played_and_every_difference_is_declared() {
    let cases = library::load(&library::folder(), "").unwrap();
    assert!(!cases.is_empty());
    differences::check(&cases, &differences::declared().unwrap()).unwrap();
}

#[test]
fn every_case_in_stomp_can_be_played_and_every_difference_is_declared() {
    let scripts = stomp::load(&stomp::folder()).unwrap();
    assert!(scripts.iter().all(|script| !script.rule.is_empty()));
    differences::check_stomp(&scripts, &differences::declared().unwrap()).unwrap();
}

#[test]
fn every_case_in_the_stream_protocol_can_be_played_and_every_difference_is_declared() {
    let scripts = stream::load(&stream::folder()).unwrap();
    assert!(scripts.iter().all(|script| !script.rule.is_empty()));
    differences::check_stream(&scripts, &differences::declared().unwrap()).unwrap();
}
