//! `kill -9` below a publisher and a reader of a stream, again and again on the same data: what was confirmed is there, and what was
//! seen stays where it was. `LEVERET_CRASHES` asks for more rounds than the usual ones, `LEVERET_SEED` for certain moments.

use leveret_conformance::TcpTransport;
use leveret_test_support::amqp_client::integer;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::durability::Random;
use leveret_test_support::streams::{Known, Life, publish_last, read_up_to};
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 6;

/// The longest life of a broker.
const LIFE_MS: u64 = 600;

/// Publishes that may wait for their confirms.
const WINDOW: usize = 500;

const SETTINGS: [(&str, &str); 1] = [("LEVERET__STORE__WAL_BYTES_MAX", "1048576")];

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn start(folder: &Path, round: u64) -> (BrokerProcess, TcpTransport) {
    let broker =
        BrokerProcess::start_on(&folder.join("data"), &folder.join(format!("log-{round}")), &SETTINGS);
    let transport = TcpTransport::new(&broker.address(), None);
    (broker, transport)
}

fn check(transport: &mut TcpTransport, known: &mut Known) {
    let last = publish_last(transport, known).unwrap();
    known.check(&read_up_to(transport, &last).unwrap());
}

#[test]
fn what_was_confirmed_or_seen_survives_kills() {
    let folder = folder_of("stream-kills");
    let mut random = Random::new(variable("LEVERET_SEED").unwrap_or(1));
    let mut known = Known::default();
    let rounds = variable("LEVERET_CRASHES").unwrap_or(ROUNDS);
    for round in 0..rounds {
        let (broker, mut transport) = start(&folder, round);
        let segments = [("x-stream-max-segment-size-bytes", integer(100_000))];
        let mut life = Life::begin(&mut transport, &mut known, &segments, &mut random).unwrap();
        let end = Instant::now() + Duration::from_millis(random.below(LIFE_MS));
        while Instant::now() < end {
            if life.unconfirmed() < WINDOW {
                life.publish(&mut transport, &mut random);
            }
            life.take(&mut transport).unwrap();
        }
        broker.kill();
        drop(life.take(&mut transport));
        let (_broker, mut transport) = start(&folder, rounds + round);
        check(&mut transport, &mut known);
    }
    assert!(known.confirmed() > 0, "nothing was confirmed");
}
