//! `kill -9` below a publisher and a reader of a stream, again and again on the same data: what was confirmed is there, and what was
//! seen stays where it was. `LEVERET_CRASHES` asks for more rounds than the usual ones, `LEVERET_SEED` for certain moments.

use leveret_conformance::TcpTransport;
use leveret_conformance::frame::Content;
use leveret_conformance::method::Method;
use leveret_test_support::amqp_client::{Client, integer, method, number, string, table};
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::durability::Random;
use leveret_test_support::streams::{Known, Life, STREAM, declare, publish_last, read_up_to};
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

/// What a publisher with a name has been told, over all lives of the broker.
#[derive(Default)]
struct Resending {
    confirmed: u64,
    sent: u64,
}

impl Resending {
    /// Goes on behind what was confirmed until the broker is killed: some of it is there already.
    fn live(&mut self, transport: &mut TcpTransport, broker: BrokerProcess, life: Duration) {
        let mut client = publisher(transport);
        let (mut next, mut ids) = (self.confirmed + 1, Vec::new());
        let end = Instant::now() + life;
        while Instant::now() < end {
            if next - self.confirmed < WINDOW as u64 {
                let mut bytes = Vec::new();
                for _ in 0..20 {
                    put(&client, &mut bytes, next, 2);
                    ids.push(next);
                    next += 1;
                }
                client.send_bytes(transport, &bytes);
            }
            self.take(client.take(transport).unwrap(), &ids);
        }
        broker.kill();
        if let Ok(came) = client.take(transport) {
            self.take(came, &ids);
        }
        self.sent = self.sent.max(next - 1);
    }

    fn take(&mut self, came: Vec<(u16, Method, Option<Content>)>, ids: &[u64]) {
        for (_, came, _) in came {
            assert_eq!(came.spec.name, "basic.ack");
            self.confirmed = ids[number(&came, "delivery_tag") as usize - 1];
        }
    }
}

fn publisher(transport: &mut TcpTransport) -> Client {
    let mut client = Client::connect(transport).unwrap();
    client.open_channel(transport, 1).unwrap();
    client.call(transport, 1, &declare(&[])).unwrap();
    client.call(transport, 1, &method("confirm.select", &[])).unwrap();
    client
}

fn put(client: &Client, bytes: &mut Vec<u8>, id: u64, epoch: i128) {
    let headers = table(&[
        ("x-stream-publisher-name", string("p")),
        ("x-stream-publishing-id", integer(id.into())),
        ("x-stream-publisher-epoch", integer(epoch)),
    ]);
    client.put_publish(bytes, 1, ("", STREAM), &[("headers", headers)], id.to_string().as_bytes());
}

#[test]
fn what_a_publisher_sends_again_after_kills_is_there_once() {
    let folder = folder_of("stream-publisher-kills");
    let mut random = Random::new(variable("LEVERET_SEED").unwrap_or(1));
    let mut resending = Resending::default();
    let rounds = variable("LEVERET_CRASHES").unwrap_or(ROUNDS);
    for round in 0..rounds {
        let (broker, mut transport) = start(&folder, round);
        let life = Duration::from_millis(random.below(LIFE_MS));
        resending.live(&mut transport, broker, life);
    }
    let (_broker, mut transport) = start(&folder, rounds);
    let mut client = publisher(&mut transport);
    // An earlier run of the program is shut out, also after a restart.
    let mut bytes = Vec::new();
    put(&client, &mut bytes, resending.sent + 1, 1);
    client.send_bytes(&mut transport, &bytes);
    client.answer(&mut transport, 1, "basic.nack").unwrap();
    let last = resending.sent + 2;
    bytes.clear();
    (resending.confirmed + 1..=last).for_each(|id| put(&client, &mut bytes, id, 2));
    client.send_bytes(&mut transport, &bytes);
    let all = read_up_to(&mut transport, last.to_string().as_bytes()).unwrap();
    let ids: Vec<u64> =
        all.iter().map(|(_, body)| std::str::from_utf8(body).unwrap().parse().unwrap()).collect();
    assert!(ids.iter().copied().eq(1..=last), "each is there once, in order: {ids:?}");
    assert!(resending.confirmed > 0, "nothing was confirmed");
}
