//! The cases in the stream protocol over TCP against the built broker, as `leveret-conformance stream` plays them.

use leveret_conformance::{Broker as Kind, Management, TcpTransport, stream};
use leveret_test_support::broker_process::BrokerProcess;
use std::fmt::Write;

/// All cases come from one address, and many of them fail to log in on purpose.
const SETTINGS: [(&str, &str); 2] =
    [("LEVERET__LISTENERS__STREAM__BIND", "127.0.0.1:0"), ("LEVERET__LIMITS__FAILED_LOGINS_FREE", "10000")];

#[test]
fn the_built_broker_passes_every_case_in_the_stream_protocol() {
    let scripts = stream::load(&stream::folder()).unwrap();
    let broker = BrokerProcess::start_with("stream-cases", &SETTINGS, None);
    let address = broker.address_of_protocol("stream");
    let management =
        Management { address: broker.address_of_http(), user: "guest".into(), password: "guest".into() };
    let mut failures = String::new();
    for script in &scripts {
        let mut transport = TcpTransport::new(&address, Some(management.clone()));
        if let Err(error) = stream::play(script, &mut transport, Kind::Leveret, "1") {
            writeln!(failures, "{}: {error}", script.name).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
