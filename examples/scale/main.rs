//! Measures what a broker's things cost in memory, each by itself: connections, durable queues, bindings, ready messages; and
//! whether bindings that do not match slow routing down.
//!
//! ```text
//! cargo build --release
//! ulimit -n 20000
//! cargo run --release --example scale -- target/release/leveret DIRECTORY [connections|queues|messages|routing]
//! ```
//! Each measurement starts the binary anew on a data directory below DIRECTORY, which it removes again. Memory is what the kernel
//! says is resident, before and after, divided by how many there are.
#![allow(clippy::print_stdout, reason = "printing figures is what it does")]

#[allow(dead_code, reason = "the example depth uses all of it")]
#[path = "../depth/broker.rs"]
mod broker;
#[allow(dead_code, reason = "the example depth uses all of it")]
#[path = "../depth/client.rs"]
mod client;

use broker::{BrokerProcess, Ended};
use client::{Client, put_frame, short};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CONNECTIONS: u64 = 10_000;
const QUEUES: u64 = 100_000;
const BINDINGS: u64 = 100_000;
const MESSAGES: u64 = 1_000_000;
const BODY_BYTES: usize = 100;

/// Messages that are routed, each with another key than the one before, so that no route can be remembered.
const ROUTED: u64 = 500_000;

/// Octets of the properties of a message that has a delivery mode alone.
const PROPERTIES_BYTES: u64 = 3;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// The rest of the process's files, beside its connections.
const OTHER_FILES: u64 = 200;

/// How much is written at once.
const BATCH_BYTES: usize = 64 * 1024;

type Measurement = fn(&str, &Path) -> Result<()>;

const MEASUREMENTS: [(&str, Measurement); 4] =
    [("connections", connections), ("queues", queues), ("messages", messages), ("routing", routing)];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, directory, only @ ..] = &arguments[..] else {
        return Err("usage: scale LEVERET DIRECTORY [connections|queues|messages|routing]".into());
    };
    let limit = open_files_max();
    if limit < CONNECTIONS + OTHER_FILES {
        return Err(
            format!("{limit} open files are too few for {CONNECTIONS} connections: ulimit -n 20000").into()
        );
    }
    let data = PathBuf::from(directory).join("scale-data");
    if data.exists() {
        return Err(
            format!("{} is there already; remove it or name another directory", data.display()).into()
        );
    }
    let mut result = Ok(());
    for (name, measure) in MEASUREMENTS {
        if result.is_ok() && (only.is_empty() || only.iter().any(|wanted| wanted == name)) {
            result = measure(binary, &data);
        }
    }
    let _ = std::fs::remove_dir_all(&data);
    result
}

/// How many files this process may have open. The broker, which it starts, may as many.
fn open_files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    soft.parse().unwrap_or(u64::MAX)
}

/// A broker on an empty directory. Nothing is synced, since durable queues are to be declared by the thousand; what it holds in
/// memory is the same.
fn start(binary: &str, data: &Path) -> Result<BrokerProcess> {
    if data.exists() {
        std::fs::remove_dir_all(data)?;
    }
    // Ready messages are to stay in memory, a disk that is nearly full is no matter, and ten thousand lines about connections are of no use.
    let variables = [
        ("LEVERET__STORE__DURABILITY", "none"),
        ("LEVERET__STORE__MEMORY_BUDGET_BYTES", "4000000000"),
        ("LEVERET__LIMITS__DISK_FREE_BYTES", "1000000"),
        ("LEVERET__LOG__LEVEL", "warn"),
    ];
    BrokerProcess::start(binary, data, &variables)
}

/// Prints what one of many things takes when all is done. `without` are the bytes of one that do not count.
fn tell(broker: &BrokerProcess, what: &str, count: u64, before: u64, without: u64) {
    settle(broker);
    let bytes = broker.resident_bytes().saturating_sub(before);
    let each = (bytes / count).saturating_sub(without);
    println!("{count} {what}: {each} bytes each, {} MiB together", bytes >> 20);
}

fn connections(binary: &str, data: &Path) -> Result<()> {
    let mut broker = start(binary, data)?;
    // What every broker needs as soon as it has had clients is none of theirs.
    drop(Client::connect(broker.address)?);
    let before = broker.resident_bytes();
    let began = Instant::now();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(Client::connect(broker.address)?.into_idle());
    }
    let took = began.elapsed();
    tell(&broker, "idle connections with a channel", CONNECTIONS, before, 0);
    println!("they were open after {took:.1?}");
    let processor = broker.processor_time();
    std::thread::sleep(Duration::from_secs(10));
    println!("idle for 10 s, the broker took {:?} of processor time", broker.processor_time() - processor);
    drop(open);
    settle(&broker);
    println!("closed again: {}", broker.state());
    broker.end(Ended::Terminated)
}

fn queues(binary: &str, data: &Path) -> Result<()> {
    let mut broker = start(binary, data)?;
    let mut client = Client::connect(broker.address)?;
    let before = broker.resident_bytes();
    let began = Instant::now();
    let mut out = Output::to(&mut client);
    for number in 0..QUEUES {
        // Durable, and no answer wanted.
        let arguments = [b"\0\0", short(&format!("queue-{number}")).as_slice(), b"\x12\0\0\0\0"].concat();
        out.method((50, 10), &arguments)?;
    }
    out.flush()?;
    client.declare()?;
    println!("{QUEUES} durable queues were declared in {:.1?}", began.elapsed());
    tell(&broker, "idle durable queues", QUEUES, before, 0);
    drop(client);
    broker.end(Ended::Terminated)?;
    let began = Instant::now();
    let mut broker = BrokerProcess::start(binary, data, &[])?;
    println!("a restart with them took {:.1?}: {}", began.elapsed(), broker.state());
    broker.end(Ended::Terminated)
}

fn messages(binary: &str, data: &Path) -> Result<()> {
    let mut broker = start(binary, data)?;
    let mut client = Client::connect(broker.address)?;
    client.declare()?;
    let before = broker.resident_bytes();
    let mut publisher = client.publisher(BODY_BYTES, false)?;
    publisher.publish_up_to(MESSAGES)?;
    publisher.finish()?;
    let own = BODY_BYTES as u64 + PROPERTIES_BYTES;
    tell(&broker, "ready messages, beyond body and properties", MESSAGES, before, own);
    client.purge()?;
    drop(client);
    settle(&broker);
    println!("purged: {}", broker.state());
    broker.end(Ended::Terminated)
}

fn routing(binary: &str, data: &Path) -> Result<()> {
    let mut broker = start(binary, data)?;
    let mut client = Client::connect(broker.address)?;
    // A transient topic exchange, and a queue that keeps ten messages, so that routing is most of the work.
    client.call(1, (40, 10), &[b"\0\0", &short("scale")[..], &short("topic"), b"\0\0\0\0\0"].concat())?;
    client.expect((40, 11))?;
    let limit = [&short("x-max-length")[..], b"I\0\0\0\x0a"].concat();
    let table = [&(limit.len() as u32).to_be_bytes()[..], &limit].concat();
    client.call(1, (50, 10), &[b"\0\0", &short("live")[..], b"\0", &table].concat())?;
    client.expect((50, 11))?;
    bind(&mut client, std::iter::once("live.*.*".to_owned()))?;
    let alone = route(&broker, &mut client)?;
    let before = broker.resident_bytes();
    let began = Instant::now();
    bind(&mut client, (0..BINDINGS).map(|number| format!("dead-{number}.*.#")))?;
    println!("{BINDINGS} bindings were made in {:.1?}", began.elapsed());
    tell(&broker, "bindings of a topic exchange", BINDINGS, before, 0);
    let among = route(&broker, &mut client)?;
    println!(
        "a message takes {alone:.2} us of the broker's processor time beside no other binding, {among:.2} us beside {BINDINGS}"
    );
    drop(client);
    broker.end(Ended::Terminated)
}

/// Binds the queue with each key; returns when all are there.
fn bind(client: &mut Client, keys: impl Iterator<Item = String>) -> Result<()> {
    let mut out = Output::to(client);
    for key in keys {
        let names = [short("live"), short("scale"), short(&key)].concat();
        out.method((50, 20), &[b"\0\0", names.as_slice(), b"\x01\0\0\0\0"].concat())?;
    }
    out.flush()?;
    synchronize(client)
}

/// Publishes, and returns the broker's processor time for a message in microseconds.
fn route(broker: &BrokerProcess, client: &mut Client) -> Result<f64> {
    let before = broker.processor_time();
    let mut out = Output::to(client);
    let header = [b"\0\x3c\0\0".as_slice(), &8u64.to_be_bytes(), b"\x10\0\x01"].concat();
    for number in 0..ROUTED {
        let key = short(&format!("live.{}.{number}", number % 100));
        out.method((60, 40), &[b"\0\0", short("scale").as_slice(), &key, b"\0"].concat())?;
        put_frame(&mut out.bytes, HEADER, 1, &header);
        put_frame(&mut out.bytes, BODY, 1, &number.to_be_bytes());
    }
    out.flush()?;
    synchronize(client)?;
    Ok((broker.processor_time() - before).as_secs_f64() * 1e6 / ROUTED as f64)
}

/// Waits until all that was sent has been done: the answer to basic.qos comes behind it.
fn synchronize(client: &mut Client) -> Result<()> {
    client.call(1, (60, 10), &[0; 7])?;
    client.expect((60, 11)).map(drop)
}

/// Waits until the broker has nothing left to tidy up or to give back: its processor time and its memory stand still.
fn settle(broker: &BrokerProcess) {
    let began = Instant::now();
    let mut before = (broker.processor_time(), broker.resident_bytes());
    while began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_secs(1));
        let now = (broker.processor_time(), broker.resident_bytes());
        if now.0 - before.0 <= Duration::from_millis(20) && now.1.abs_diff(before.1) <= 1 << 20 {
            break;
        }
        before = now;
    }
}

/// Frames on their way, sent many at once.
struct Output<'a> {
    client: &'a mut Client,
    bytes: Vec<u8>,
}

impl Output<'_> {
    fn to(client: &mut Client) -> Output<'_> {
        Output { client, bytes: Vec::new() }
    }

    fn method(&mut self, ids: (u16, u16), arguments: &[u8]) -> Result<()> {
        if self.bytes.len() >= BATCH_BYTES {
            self.flush()?;
        }
        let payload = [&ids.0.to_be_bytes(), &ids.1.to_be_bytes(), arguments].concat();
        put_frame(&mut self.bytes, METHOD, 1, &payload);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.client.send(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
