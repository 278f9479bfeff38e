//! Replays the corpora of the fuzz targets, and a few seconds of changes to them that are the same every time.

use leveret::broker::exchange::{Binding, Destination, ExchangeDefinition};
use leveret::broker::queue::QueueDeclaration;
use leveret::broker::topology::definitions::Definition;
use leveret::broker::topology::vhost_settings::VhostSettings;
use leveret::message::{FieldTable, Properties, QueueId, Value};
use leveret_conformance::{Arrived, Broker as Kind, ConnectionId, Options, Transport, library, run};
use leveret_test_support::fuzz_bodies::{Step, TARGETS, TIMES_MS, opened, target};
use leveret_test_support::in_memory::InMemory;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Changes per target, and how long they may take on a slow machine; `LEVERET_FUZZ_SECONDS` asks for as many as there is time for.
const CHANGES: u64 = 3000;
const PATIENCE: Duration = Duration::from_secs(4);

fn changes_and_patience() -> (u64, Duration) {
    let seconds = std::env::var("LEVERET_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or((CHANGES, PATIENCE), |seconds| (u64::MAX, Duration::from_secs(seconds)))
}

/// The files of a target's corpus, in order.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn every_file_of_the_corpora_passes() {
    for target in TARGETS {
        for (file, data) in corpus(target.name) {
            assert!(
                catch_unwind(|| target.run(&data)).is_ok(),
                "{} fails on {}",
                target.name,
                file.display()
            );
        }
    }
}

/// Numbers that look random and are not.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }
}

/// Changes a few places of `data`: bytes, lengths, pieces left out, doubled, or taken from `other`.
fn change(data: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    const TELLING: [u8; 12] = [0, 1, 2, 3, 7, 8, 0x7f, 0x80, 0xce, 0xfe, 0xff, b'F'];
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(data.len());
        let length = numbers.below(data.len() - at).min(numbers.below(64));
        match numbers.below(6) {
            0 if !data.is_empty() => data[at] ^= 1 << numbers.below(8),
            1 if !data.is_empty() => data[at] = TELLING[numbers.below(TELLING.len())],
            2 => drop(data.drain(at..at + length)),
            3 => {
                let piece = data[at..at + length].to_vec();
                data.splice(at..at, piece);
            }
            4 => data.truncate(at.max(8)),
            _ => {
                let from = numbers.below(other.len());
                let piece = &other[from..other.len().min(from + numbers.below(200))];
                data.splice(at..at, piece.iter().copied());
            }
        }
    }
}

fn replay_changes(name: &str) {
    let (target, files) = (target(name), corpus(name));
    let start = Instant::now();
    let (changes, patience) = changes_and_patience();
    for seed in 1..=changes {
        if start.elapsed() > patience {
            return;
        }
        let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut data = files[numbers.below(files.len())].1.clone();
        let other = &files[numbers.below(files.len())].1;
        change(&mut data, other, &mut numbers);
        if catch_unwind(|| target.run(&data)).is_err() {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{seed}"));
            fs::write(&file, &data).unwrap();
            panic!("{name} fails on change {seed}, written to {}", file.display());
        }
    }
}

/// A test for each target, so that they run side by side.
macro_rules! changes {
    ($($target:ident),* $(,)?) => {
        mod changed {
            $(#[test]
            fn $target() {
                super::replay_changes(stringify!($target));
            })*
        }

        #[test]
        fn every_target_is_changed() {
            let names = TARGETS.iter().map(|target| target.name);
            assert!(names.eq([$(stringify!($target)),*]));
        }
    };
}

changes! {
    amqp10,
    certificate,
    config,
    definitions,
    exchanges,
    field_table,
    frames,
    journal,
    log,
    management,
    pattern,
    properties,
    proxy_header,
    session,
    stomp,
    stored,
    stream_protocol,
    sub_batch,
    websocket,
}

/// What a case sends, and the time that passes.
struct Recorder {
    broker: InMemory,
    sent: Vec<(ConnectionId, Vec<u8>, u64)>,
}

impl Transport for Recorder {
    fn open(&mut self) -> Result<ConnectionId, String> {
        self.broker.open()
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.sent.push((connection, bytes.to_vec(), 0));
        self.broker.send(connection, bytes);
    }

    fn receive(&mut self, connection: ConnectionId, wait: Duration, into: &mut Vec<u8>) -> Arrived {
        self.broker.receive(connection, wait, into)
    }

    fn advance(&mut self, time: Duration) {
        if let Some(last) = self.sent.last_mut() {
            last.2 += time.as_millis() as u64;
        }
        self.broker.advance(time);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.broker.close(connection);
    }

    fn exact(&self) -> bool {
        true
    }
}

/// Appends steps of the session target that do the same as `bytes` did.
fn write_steps(line: usize, mut bytes: &[u8], then_ms: u64, seed: &mut Vec<u8>, headers: &mut Vec<Vec<u8>>) {
    let opened = opened();
    let time = TIMES_MS.iter().rposition(|ms| *ms <= then_ms).unwrap_or(0) as u8;
    while !bytes.is_empty() {
        let size = bytes.get(3..7).map(|size| u32::from_be_bytes(size.try_into().unwrap()) as usize);
        let whole = size.filter(|size| bytes.len() > size + 7 && bytes[size + 7] == 0xCE && bytes[0] < 4);
        let (kind, channel, payload, rest) = match whole {
            Some(size) if bytes[0] > 0 => (bytes[0], bytes[2] & 3, &bytes[7..size + 7], &bytes[size + 8..]),
            _ => (0, 0, bytes, &[][..]),
        };
        // What every line of a session has behind it already is left out.
        let is_known = kind == 1 && opened.windows(payload.len().max(1)).any(|window| window == payload);
        if kind == 2 {
            headers.push(payload[payload.len().min(12)..].to_vec());
        }
        if !is_known && !bytes.starts_with(b"AMQP") {
            let then = if rest.is_empty() { time } else { 0 };
            seed.push(line as u8 | kind << 2 | channel << 4 | then << 6);
            seed.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            seed.extend_from_slice(payload);
        }
        bytes = rest;
    }
}

/// Writes seeds for all targets to target/fuzz-seeds: what the conformance cases send, and what there is of everything else.
/// `fuzz/README.md` says what becomes of them.
#[test]
#[ignore = "writes files; run it before fuzzing"]
fn write_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz-seeds");
    let write = |target: &str, name: String, data: &[u8]| {
        fs::create_dir_all(folder.join(target)).unwrap();
        fs::write(folder.join(target).join(name), data).unwrap();
    };
    for (target, name, data) in crate::fuzz_seeds::all() {
        write(target, name, &data);
    }
    for case in library::load(&library::folder(), "").unwrap() {
        let mut recorder = Recorder { broker: InMemory::new(), sent: Vec::new() };
        run(&case, &mut recorder, &Options { broker: Some(Kind::Leveret), ..Options::default() });
        let name = case.name.replace('/', "-");
        let (mut seed, mut headers) = (Vec::new(), Vec::new());
        for (connection, bytes, then_ms) in &recorder.sent {
            write_steps(connection % 3, bytes, *then_ms, &mut seed, &mut headers);
        }
        assert!(Step::read(&seed).is_some_and(|(step, _)| !step.bytes.is_empty()) || seed.is_empty());
        write("session", name.clone(), &seed);
        for (number, header) in headers.iter().enumerate() {
            write("properties", format!("{name}-{number}"), header);
            if let Some(headers) = Properties::decode(header).ok().and_then(|properties| properties.headers) {
                write("field_table", format!("{name}-{number}"), &encoded(8, &headers));
            }
        }
        if name.starts_with("connection") || name.starts_with("frames") {
            let first = recorder.sent.iter().filter(|sent| sent.0 == 1).flat_map(|sent| sent.1.clone());
            write("frames", name, &[0, 9].into_iter().chain(first).collect::<Vec<u8>>());
        }
    }
    for (number, definition) in definitions().iter().enumerate() {
        let kind = definition.key()[0];
        write("stored", format!("{number}"), &[&[kind, 2, 3, 2][..], &definition.encode()].concat());
    }
}

fn encoded(depth_max: u8, table: &FieldTable) -> Vec<u8> {
    let mut encoded = vec![depth_max];
    table.encode(&mut encoded);
    encoded
}

fn definitions() -> [Definition; 4] {
    let arguments: FieldTable =
        [("x-max-length", Value::I32(5)), ("a", Value::Array(vec![Value::Void]))].into_iter().collect();
    let exchange = ExchangeDefinition {
        vhost: "/".into(),
        name: "x".into(),
        kind: "topic".into(),
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: arguments.clone().into(),
    };
    let queue = QueueDeclaration {
        name: "q".into(),
        durable: true,
        auto_delete: false,
        exclusive_owner: None,
        arguments: arguments.clone(),
    };
    let binding = Binding {
        source: "x".into(),
        destination: Destination::Queue("q".into()),
        routing_key: "a.*".into(),
        arguments: arguments.into(),
    };
    [
        Definition::VirtualHost("/".into(), VhostSettings::default()),
        Definition::Exchange(exchange),
        Definition::Queue("/".into(), QueueId(7), queue),
        Definition::Binding("/".into(), binding),
    ]
}
