//! The conformance cases over TCP against the built broker, as `conformance/run leveret` plays them: what is no pass is a
//! undeclared difference.

use leveret_conformance::{
    Broker as Kind, Management, Options, TcpTransport, differences, library, suite, url,
};
use leveret_test_support::broker_process::BrokerProcess;
use std::fmt::Write;
use std::time::Duration;

/// All cases come from one address, and many of them fail to log in on purpose.
const GUESSES: (&str, &str) = ("LEVERET__LIMITS__FAILED_LOGINS_FREE", "10000");

#[test]
fn the_built_broker_passes_every_case() {
    let cases = library::load(&library::folder(), "").unwrap();
    differences::check(&cases, &differences::declared().unwrap()).unwrap();
    let broker = BrokerProcess::start_with("conformance", &[GUESSES], None);
    let management =
        Management { address: broker.management(), user: "guest".into(), password: "guest".into() };
    let (address, options) = url::parse(&broker.url).unwrap();
    let options = Options { broker: Some(Kind::Leveret), timeout: Duration::from_secs(15), ..options };
    let connect = || -> Box<dyn leveret_conformance::Transport> {
        Box::new(TcpTransport::new(&address, Some(management.clone())))
    };
    let mut failures = String::new();
    for line in suite::play(&cases, 24, &options, connect, |_, _, _| ()) {
        if let Some(failure) = line.failure {
            writeln!(failures, "{}:{}: {} {:?}", line.name, failure.line, failure.reason, failure.got)
                .unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
