//! Counts the instructions that a message costs on its way through the broker, with valgrind, and compares them with what was
//! counted before. Unlike times they are the same on a busy machine, so a test can hold them.
//!
//! ```text
//! cargo bench --profile counted --bench instructions              compare with benches/instructions.toml
//! cargo bench --profile counted --bench instructions -- --write   write the figures there anew
//! ```
//!
//! With `--profile dev` it counts what the tests are built with: several times as many, but quickly to be had, and just as
//! sensitive to what is done twice. That is what `tests/run` holds.
//!
//! Each scenario runs twice, with more messages the second time; the difference is free of what starting costs.
#![allow(clippy::print_stdout, reason = "printing figures is what it does")]

use bytes::{Buf, BytesMut};
use leveret::amqp::{Amqp, AmqpSettings, Connection};
use leveret::broker::access::permissions::Patterns;
use leveret::broker::access::users::User;
use leveret::broker::exchange::ExchangeTypes;
use leveret::broker::observe::connections::Endpoint;
use leveret::broker::{Broker, BrokerLimits};
use leveret::message::Millis;
use leveret::protocol::Peer;
use leveret::session::{Session, Transmit};
use leveret::store::{Journal, JournalOptions, MemoryStore};
use leveret_conformance::frame::{self, encode, encode_header};
use leveret_conformance::method::{Method, Wire, by_name, empty};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

const NOW: Millis = 1_700_000_000_000;

/// How many messages the two runs have.
const MESSAGES: [u64; 2] = [2_000, 12_000];

/// How much more or less a message may cost, in percent.
const TOLERANCE: u64 = 5;

/// A frame with basic.ack, and where in it the delivery tag is: behind the frame's head and the method's two numbers.
const ACK_BYTES: usize = 21;
const ACK_TAG_AT: usize = 11;

/// As what this is built.
const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "counted" };

/// Instructions a message, by profile and scenario.
type Figures = BTreeMap<String, BTreeMap<String, u64>>;

/// What is done with messages of 100 bytes.
struct Scenario {
    name: &'static str,
    durable: bool,
    queues: u64,
    acks: Acks,
    /// Messages that come with one read.
    turn: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Acks {
    None,
    Multiple,
    Single,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "transient_no_ack", durable: false, queues: 1, acks: Acks::None, turn: 250 },
    Scenario { name: "transient_ack", durable: false, queues: 1, acks: Acks::Multiple, turn: 250 },
    Scenario { name: "transient_ack_one_by_one", durable: false, queues: 1, acks: Acks::Multiple, turn: 1 },
    Scenario { name: "transient_single_ack", durable: false, queues: 1, acks: Acks::Single, turn: 250 },
    Scenario { name: "durable_confirm_ack", durable: true, queues: 1, acks: Acks::Multiple, turn: 250 },
    Scenario { name: "durable_confirm_ack_tens", durable: true, queues: 1, acks: Acks::Multiple, turn: 10 },
    Scenario { name: "fanout_to_ten", durable: false, queues: 10, acks: Acks::Multiple, turn: 250 },
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--run") {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == arguments[at + 1]);
        scenario.ok_or("no such scenario")?.run(arguments[at + 2].parse()?);
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!(
            "WARNING: no valgrind, so instructions are not counted. On Debian or Ubuntu: apt-get install valgrind"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut counted = BTreeMap::new();
    for scenario in SCENARIOS {
        counted.insert(scenario.name.to_owned(), scenario.instructions()?);
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml");
    let mut figures: Figures = toml::from_str(&std::fs::read_to_string(&file)?)?;
    if arguments.iter().any(|argument| argument == "--write") {
        figures.insert(PROFILE.to_owned(), counted);
        std::fs::write(file, text(&figures)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(compare(&counted, &figures.remove(PROFILE).unwrap_or_default()))
}

/// Prints both figures of each scenario, and fails when one is too far off.
fn compare(counted: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> ExitCode {
    let mut all_well = true;
    println!("{:24} {:>8} {:>8}", "instructions a message", "before", "now");
    for (name, now) in counted {
        let was = before.get(name).copied().unwrap_or_default();
        let is_well = now.abs_diff(was) * 100 <= was * TOLERANCE;
        println!("{name:24} {was:8} {now:8}{}", if is_well { "" } else { "  <- more than 5% off" });
        all_well &= is_well;
    }
    if all_well {
        return ExitCode::SUCCESS;
    }
    println!(
        "If that is meant to be: cargo bench --profile {PROFILE} --bench instructions -- --write, and with the other profile"
    );
    ExitCode::FAILURE
}

fn text(figures: &Figures) -> Result<String, std::fmt::Error> {
    let mut text =
        "# Instructions that a message of 100 bytes costs; written by benches/instructions.rs.\n".to_owned();
    for (profile, counted) in figures {
        writeln!(text, "\n[{profile}]")?;
        for (name, instructions) in counted {
            writeln!(text, "{name} = {instructions}")?;
        }
    }
    Ok(text)
}

impl Scenario {
    /// What a message costs.
    fn instructions(&self) -> Result<u64, Box<dyn Error>> {
        let [few, many] = MESSAGES;
        Ok((self.count(many)? - self.count(few)?) / (many - few))
    }

    /// Counts a whole run.
    fn count(&self, messages: u64) -> Result<u64, Box<dyn Error>> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe()?)
            .args(["--run", self.name, &messages.to_string()])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let count = said.lines().find_map(|line| line.split_once("Collected :"));
        let (_, count) =
            count.filter(|_| output.status.success()).ok_or_else(|| said.clone().into_owned())?;
        Ok(count.trim().parse()?)
    }

    /// One publisher, one consumer for each queue.
    fn run(&self, messages: u64) {
        let broker = Arc::new(broker());
        let mut publisher = Line::open(&broker);
        let mut consumers: Vec<Line> = (0..self.queues).map(|_| Line::open(&broker)).collect();
        for (number, consumer) in (0..).zip(&mut consumers) {
            let queue = text_of(&format!("q{number}"));
            consumer.call("queue.declare", &[("queue", queue.clone()), ("durable", Wire::Bit(self.durable))]);
            let bind = [("queue", queue.clone()), ("exchange", text_of("amq.fanout"))];
            consumer.call("queue.bind", &bind);
            let no_ack = Wire::Bit(self.acks == Acks::None);
            consumer.call("basic.consume", &[("queue", queue), ("no_ack", no_ack)]);
        }
        if self.durable {
            publisher.call("confirm.select", &[]);
        }
        let turn = self.turn();
        let mut acks = Vec::new();
        for last in (self.turn..=messages).step_by(usize::try_from(self.turn).expect("a turn is short")) {
            self.put_acks_of(last, &mut acks);
            publisher.send(&turn);
            if self.durable {
                broker.journal().commit().expect("memory takes everything");
                publisher.read();
            }
            for consumer in &mut consumers {
                consumer.read();
                consumer.send(&acks);
            }
        }
        let vhost = broker.vhost("/").expect("it was added");
        let consumed = vhost.queues().into_iter().map(|queue| {
            let (counts, stats) = (queue.counts(), queue.stats());
            assert_eq!((counts.ready, counts.unacked), (0, 0), "not all was consumed");
            stats.deliver + stats.deliver_no_ack
        });
        assert_eq!(consumed.sum::<u64>(), messages * self.queues, "not all was delivered");
    }

    /// What a publisher sends at once.
    fn turn(&self) -> Vec<u8> {
        let (exchange, key) = if self.queues > 1 { ("amq.fanout", "") } else { ("", "q0") };
        let properties = [("delivery_mode", Wire::Int(2))];
        let properties = if self.durable { &properties[..] } else { &[] };
        let mut bytes = Vec::new();
        for _ in 0..self.turn {
            let arguments = [("exchange", text_of(exchange)), ("routing_key", text_of(key))];
            bytes.extend(encode(frame::METHOD, 1, &method("basic.publish", &arguments)));
            bytes.extend(encode(frame::HEADER, 1, &encode_header(60, 0, 100, properties)));
            bytes.extend(encode(frame::BODY, 1, &[b'x'; 100]));
        }
        bytes
    }

    /// How a consumer answers a turn that ends with that delivery. Its tag is all that changes, so that next to nothing of
    /// what is counted is counted here.
    fn put_acks_of(&self, last: u64, out: &mut Vec<u8>) {
        let first = match self.acks {
            Acks::None => return,
            Acks::Multiple => last,
            Acks::Single => last - self.turn + 1,
        };
        if out.is_empty() {
            let multiple = Wire::Bit(self.acks == Acks::Multiple);
            let ack = encode(frame::METHOD, 1, &method("basic.ack", &[("multiple", multiple)]));
            assert_eq!(ack.len(), ACK_BYTES);
            *out = ack.repeat(usize::try_from(last - first + 1).expect("a turn is short"));
        }
        for (ack, tag) in out.chunks_exact_mut(ACK_BYTES).zip(first..) {
            ack[ACK_TAG_AT..ACK_TAG_AT + 8].copy_from_slice(&tag.to_be_bytes());
        }
    }
}

fn broker() -> Broker {
    let store = Box::new(MemoryStore::default());
    let (journal, recovered) =
        Journal::open(store, JournalOptions::default(), |_| ()).expect("nothing is kept");
    let types = ExchangeTypes::standard();
    let broker = Broker::open(Arc::new(journal), recovered, types, BrokerLimits::default(), NOW)
        .expect("there is nothing to restore");
    broker.add_vhost("/").expect("it is the first");
    broker
        .put_user(User::with_password("guest", "guest", [1, 2, 3, 4], Vec::new()))
        .expect("it is the first");
    let all = Patterns::new(".*", ".*", ".*").expect("they are regular expressions");
    broker.set_permissions("guest", "/", all).expect("both are there");
    broker
}

/// A connection with one channel.
struct Line {
    broker: Arc<Broker>,
    session: Connection,
    input: BytesMut,
    out: Transmit,
}

impl Line {
    fn open(broker: &Arc<Broker>) -> Line {
        let amqp = Amqp { broker: broker.clone(), settings: Arc::new(AmqpSettings::default()) };
        let end = || Endpoint { host: "memory".to_owned(), port: 0 };
        let session = Connection::new(amqp, Peer::new(end(), end(), true), Box::new(|| ()), None, NOW);
        let (broker, input) = (broker.clone(), BytesMut::new());
        let mut line = Line { broker, session, input, out: Transmit::default() };
        line.send(b"AMQP\x00\x00\x09\x01");
        let login = [
            ("mechanism", text_of("PLAIN")),
            ("response", text_of("\0guest\0guest")),
            ("locale", text_of("en_US")),
        ];
        line.send(&encode(frame::METHOD, 0, &method("connection.start-ok", &login)));
        line.send(&encode(
            frame::METHOD,
            0,
            &method(
                "connection.tune-ok",
                &[("channel_max", Wire::Int(1)), ("frame_max", Wire::Int(131_072))],
            ),
        ));
        line.send(&encode(frame::METHOD, 0, &method("connection.open", &[("virtual_host", text_of("/"))])));
        line.call("channel.open", &[]);
        line
    }

    fn call(&mut self, name: &str, arguments: &[(&str, Wire)]) {
        self.send(&encode(frame::METHOD, 1, &method(name, arguments)));
        self.broker.commit_changes().expect("memory takes everything");
        self.read();
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.session.handle_input(&mut self.input, NOW);
        assert!(self.input.is_empty(), "not all was taken");
    }

    /// Takes all that the broker has to say.
    fn read(&mut self) {
        loop {
            self.session.poll_transmit(&mut self.out, NOW);
            if self.out.is_empty() {
                return;
            }
            self.out.advance(self.out.len());
        }
    }
}

fn text_of(text: &str) -> Wire {
    Wire::Text(text.as_bytes().to_vec())
}

/// An encoded method; arguments that are not given say nothing.
fn method(name: &str, given: &[(&str, Wire)]) -> Vec<u8> {
    let spec = by_name(name).expect("the specification has it");
    let value = |name: &str, kind| {
        given.iter().find(|(other, _)| *other == name).map_or_else(|| empty(kind), |(_, value)| value.clone())
    };
    Method { spec, args: spec.args.iter().map(|(name, kind)| value(name, *kind)).collect() }.encode()
}
