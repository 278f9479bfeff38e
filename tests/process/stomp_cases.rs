//! The cases in STOMP over TCP against the built broker, as `leveret-conformance stomp` plays them.

use leveret_conformance::{Broker as Kind, Management, TcpTransport, stomp};
use leveret_test_support::broker_process::BrokerProcess;
use std::fmt::Write;

/// All cases come from one address, and many of them fail to log in on purpose.
const SETTINGS: [(&str, &str); 2] =
    [("LEVERET__LISTENERS__STOMP__BIND", "127.0.0.1:0"), ("LEVERET__LIMITS__FAILED_LOGINS_FREE", "10000")];

#[test]
fn the_built_broker_passes_every_case_in_stomp() {
    let scripts = stomp::load(&stomp::folder()).unwrap();
    let broker = BrokerProcess::start_with("stomp-cases", &SETTINGS, None);
    let address = broker.address_of_protocol("stomp");
    let management =
        Management { address: broker.address_of_http(), user: "guest".into(), password: "guest".into() };
    let mut failures = String::new();
    for script in &scripts {
        let mut transport = TcpTransport::new(&address, Some(management.clone()));
        if let Err(error) = stomp::play(script, &mut transport, Kind::Leveret, "1") {
            writeln!(failures, "{}: {error}", script.name).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
