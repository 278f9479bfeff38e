//! All that can run short at once: few descriptors and crowds that take them, a limit of memory, a disk that gets full and of which
//! each sync takes a tenth of a second, under load from ten clients. Nothing that was confirmed is lost, health checks are
//! answered throughout, the process stays below its limit and a fifth, and all goes on when there is room again.
//!
//! Needs root, and strace, which makes the disk slow; says loudly that it was skipped where there is none.

use leveret_conformance::method::Wire;
use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::amqp_client::{Client, bit, method, number, text};
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::volume::{Volume, run, skipped};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TEST: &str = "exhausted";
const CLIENTS: usize = 10;
const DESCRIPTORS: u32 = 128;
const MEMORY_BYTES: u64 = 200 << 20;
const SYNC_DELAY_US: u32 = 100_000;
const BODY_BYTES: usize = 20_000;

/// Publishes that one client lets wait for their confirms.
const WINDOW: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client knows of its queue.
#[derive(Default)]
struct Kept {
    confirmed: BTreeSet<u64>,
    /// Fetched and acknowledged; it may come back, since acknowledgements are not confirmed.
    fetched: BTreeSet<u64>,
}

/// What all clients and the test share.
#[derive(Default)]
struct Progress {
    is_over: AtomicBool,
    confirmed: [AtomicU64; CLIENTS],
}

#[test]
fn with_everything_short_at_once_nothing_is_lost_and_all_goes_back() {
    if let Err(reason) = run("strace", &["-o", "/dev/null", "true"]) {
        return skipped(TEST, &format!("no system calls can be made slow here: {reason}"));
    }
    let folder = folder_of(TEST);
    let volume = match Volume::tmpfs(folder.join("volume"), 64) {
        Ok(volume) => volume,
        Err(reason) => return skipped(TEST, &format!("no filesystem can be mounted here: {reason}")),
    };
    let (data, log) = (volume.mount_point().join("data"), folder.join("stderr.log"));
    let broker = start_slow(&data, &log);
    let (address, management) = (broker.address(), broker.management());
    let progress = Progress::default();
    let kept: Vec<Kept> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (address, progress) = (&address, &progress);
                scope.spawn(move || load(address, client, progress))
            })
            .collect();
        let watch = Watch { broker: &broker, management: &management, deadline: Instant::now() + PATIENCE };
        watch.until("all clients are at work", || progress.least() > 0);
        // Who says nothing, on both ports, takes what there is.
        let crowd = |address: &str| -> Vec<TcpStream> {
            (0..100).filter_map(|_| TcpStream::connect(address).ok()).collect()
        };
        let crowds = (crowd(&address), crowd(&management));
        watch.until("the disk is full", || broker.log().contains("the store has to wait"));
        let mut looks = 0;
        watch.until("it has been full for a while", || {
            looks += 1;
            looks > 20
        });
        volume.resize(512).unwrap();
        watch.until("it goes on", || broker.log().contains("the store can write again"));
        let before: Vec<u64> = progress.all();
        watch.until("each client has more confirmed", || {
            progress.all().iter().zip(&before).all(|(now, before)| now > &(before + 5))
        });
        drop(crowds);
        progress.is_over.store(true, Ordering::Release);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    broker.kill();
    let broker = BrokerProcess::start_on(&data, &log, &[]);
    for (client, kept) in kept.iter().enumerate() {
        let left = drain(&broker.address(), client);
        let lost: Vec<_> =
            kept.confirmed.iter().filter(|id| !kept.fetched.contains(id) && !left.contains(id)).collect();
        assert!(lost.is_empty(), "client {client} lost {lost:?}");
    }
    assert!(!broker.log().contains("panicked"), "{}", broker.log());
    drop(broker);
    drop(volume);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A broker with little of everything, whose every sync is slow.
fn start_slow(data: &Path, log: &Path) -> BrokerProcess {
    let mut command = Command::new("sh");
    let traced = format!(
        "ulimit -n {DESCRIPTORS}; exec strace -D -f --seccomp-bpf -o /dev/null -e trace=fsync,fdatasync \
         -e inject=fsync,fdatasync:delay_enter={SYNC_DELAY_US} -e signal=none \"$0\" \"$@\""
    );
    command.args(["-c", &traced, env!("CARGO_BIN_EXE_leveret")]);
    command.env("LEVERET__LIMITS__MEMORY_HIGH_WATERMARK", MEMORY_BYTES.to_string());
    command.env("LEVERET__LIMITS__DISK_FREE_BYTES", "1");
    BrokerProcess::start_command(command, data, log)
}

impl Progress {
    fn all(&self) -> Vec<u64> {
        self.confirmed.iter().map(|count| count.load(Ordering::Acquire)).collect()
    }

    fn least(&self) -> u64 {
        self.all().into_iter().min().unwrap_or_default()
    }
}

/// Looks at the broker while something is waited for.
struct Watch<'a> {
    broker: &'a BrokerProcess,
    management: &'a str,
    deadline: Instant,
}

impl Watch<'_> {
    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            assert!(Instant::now() < self.deadline, "waited in vain until {what}\n{}", self.broker.log());
            for path in ["/health/live", "/health/ready"] {
                assert_eq!(status_of(self.management, path), "200", "{path}, waiting until {what}");
            }
            let resident = self.resident_bytes();
            assert!(resident < MEMORY_BYTES + MEMORY_BYTES / 5, "{resident} bytes, waiting until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.broker.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// The status that a page is answered with.
fn status_of(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn queue_of(client: usize) -> String {
    format!("load-{client}")
}

/// Publishes to a queue of its own with confirms, and fetches one message in four, until it is over.
fn load(address: &str, client: usize, progress: &Progress) -> Kept {
    let transport = &mut Tcp::to(address);
    let queue = queue_of(client);
    let mut connection = Client::connect(transport).unwrap();
    connection.open_channel(transport, 1).unwrap();
    let declare = [("queue", text(&queue)), ("durable", Wire::Bit(true))];
    connection.call(transport, 1, &method("queue.declare", &declare)).unwrap();
    connection.call(transport, 1, &method("confirm.select", &[])).unwrap();
    let (mut kept, mut waiting, mut next) = (Kept::default(), BTreeSet::new(), 1);
    while !(progress.is_over.load(Ordering::Acquire) && waiting.is_empty()) {
        if waiting.len() < WINDOW && !progress.is_over.load(Ordering::Acquire) {
            let mut body = format!("{next} ").into_bytes();
            body.resize(BODY_BYTES, b'.');
            let mut publish = Vec::new();
            connection.put_publish(&mut publish, 1, ("", &queue), &[("delivery_mode", Wire::Int(2))], &body);
            connection.send_bytes(transport, &publish);
            waiting.insert(next);
            if next % 4 == 0 {
                let get = [("queue", text(&queue)), ("no_ack", Wire::Bit(true))];
                connection.send(transport, 1, &method("basic.get", &get));
            }
            next += 1;
        }
        let came =
            if waiting.len() < WINDOW { connection.take(transport) } else { connection.wait(transport) };
        for (_, method, content) in came.unwrap() {
            match method.spec.name {
                "basic.ack" => {
                    let tag = number(&method, "delivery_tag");
                    let confirmed: Vec<u64> = match bit(&method, "multiple") {
                        true => waiting.range(..=tag).copied().collect(),
                        false => vec![tag],
                    };
                    waiting.retain(|id| !confirmed.contains(id));
                    kept.confirmed.extend(confirmed);
                }
                "basic.get-ok" => drop(kept.fetched.insert(id_of(&content.unwrap().body))),
                "basic.get-empty" | "connection.blocked" | "connection.unblocked" => {}
                other => panic!("client {client} was sent {other}"),
            }
        }
        progress.confirmed[client].store(kept.confirmed.len() as u64, Ordering::Release);
    }
    kept
}

/// The number at the front of a body.
fn id_of(body: &[u8]) -> u64 {
    String::from_utf8_lossy(body).split(' ').next().unwrap().parse().unwrap()
}

/// All that is left in a client's queue.
fn drain(address: &str, client: usize) -> BTreeSet<u64> {
    let transport = &mut Tcp::to(address);
    let mut connection = Client::connect(transport).unwrap();
    connection.open_channel(transport, 1).unwrap();
    let mut left = BTreeSet::new();
    loop {
        let get = [("queue", text(&queue_of(client))), ("no_ack", Wire::Bit(true))];
        connection.send(transport, 1, &method("basic.get", &get));
        for (_, method, content) in connection.wait(transport).unwrap() {
            match (method.spec.name, content) {
                ("basic.get-ok", Some(content)) => drop(left.insert(id_of(&content.body))),
                _ => return left,
            }
        }
    }
}
