//! A broker whose disk or memory is low from the start, as a process of its own.

use leveret_conformance::{Case, Options, Outcome, TcpTransport, run};
use leveret_test_support::broker_process::BrokerProcess;

/// Nothing has so much room.
const TOO_MUCH: (&str, &str) = ("LEVERET__LIMITS__DISK_FREE_BYTES", "9000000000000000000");

/// No process takes so little.
const TOO_LITTLE: (&str, &str) = ("LEVERET__LIMITS__MEMORY_HIGH_WATERMARK", "100000");

/// What a blocked connection has not acknowledged comes back when its socket closes, which shows that this is noticed.
const CASE: &str = r#"# Held up, a connection gets deliveries and is not read from; others go on.
1> queue.declare queue=$q durable
1< queue.declare-ok queue=$q
1> basic.consume queue=$q consumer_tag=c
1< basic.consume-ok consumer_tag=c
1> publish key=$q ""
a< connection.blocked reason="low on disk"
1< deliver consumer_tag=c delivery_tag=1 key=$q ""
1> publish key=$q "behind it"
pause a
b1> basic.consume queue=$q consumer_tag=d
b1< basic.consume-ok consumer_tag=d
drop a
b1< deliver consumer_tag=d delivery_tag=1 key=$q redelivered ""
b1> queue.delete queue=$q
b1<~ queue.delete-ok
b1<~ basic.cancel consumer_tag=d nowait
"#;

#[test]
fn low_on_disk_from_the_start_a_publisher_is_held_up_and_its_end_is_noticed() {
    let log = play_against("disk-low", TOO_MUCH, CASE);
    assert!(log.contains("low on disk: ") && log.contains("limits.disk_free_bytes asks for"), "{log}");
}

#[test]
fn low_on_memory_from_the_start_a_publisher_is_held_up() {
    let log = play_against("memory-low", TOO_LITTLE, &CASE.replace("low on disk", "low on memory"));
    assert!(log.contains("low on memory: ") && log.contains("limits.memory_high_watermark allows"), "{log}");
}

/// Plays the case against a broker with that setting, and returns its log.
fn play_against(name: &str, setting: (&str, &str), case: &str) -> String {
    let broker = BrokerProcess::start_with(name, &[setting], None);
    let case = Case::parse(name, case).unwrap();
    let mut transport = TcpTransport::new(&broker.address(), None);
    if let Outcome::Failed(failure) = run(&case, &mut transport, &Options::default()) {
        panic!("line {}: {}\n{:#?}", failure.line, failure.reason, failure.got);
    }
    broker.log()
}
