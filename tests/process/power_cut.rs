//! Power cuts: the data lie on an ext4 of their own that is shut down without flushing its log while the broker is at work, so
//! that only what was really synced is there afterwards. The broker is killed, the filesystem mounted again, and the next
//! broker has to hold what the clients were promised.
//!
//! Needs root and loop devices; says loudly that it was skipped where it can't have them. `LEVERET_CRASHES` asks for more
//! rounds than the usual ones, `LEVERET_SEED` for certain moments.

use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::durability::{Habits, Model, Random, Workload};
use leveret_test_support::volume::{Volume, skipped};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest life of a broker.
const LIFE_MS: u64 = 700;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn start(volume: &Volume, log: &Path) -> BrokerProcess {
    BrokerProcess::start_on(&volume.mount_point().join("data"), log, &[])
}

/// What is defined.
fn definitions(broker: &BrokerProcess) -> String {
    let address = broker.management();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!("GET /api/definitions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

/// One life of a broker, ended by a power cut after `life`.
fn live(workload: &mut Workload, volume: &mut Volume, log: &Path, life: Duration) {
    let broker = start(volume, log);
    let mut transport = Tcp::to(&broker.address());
    workload.begin(&mut transport).unwrap();
    let cut_at = Instant::now() + life;
    std::thread::scope(|scope| {
        let volume = &*volume;
        // The time is no wait for anything: when it is over is what the seed picks.
        scope.spawn(move || {
            std::thread::sleep(cut_at.saturating_duration_since(Instant::now()));
            volume.cut_power().unwrap();
            broker.kill();
        });
        while workload.step(&mut transport).is_ok() {}
    });
    workload.end(&mut transport);
    volume.unmount().unwrap();
    volume.mount().unwrap();
}

fn cut_power_repeatedly(test: &str, seed: u64, rounds: u64, habits: Habits) {
    let log = folder_of(test).join("stderr.log");
    let mut volume = match Volume::ext4(folder_of(test).join("volume"), 512) {
        Ok(volume) => volume,
        Err(reason) => return skipped(test, &format!("no filesystem can be mounted here: {reason}")),
    };
    if let Err(reason) = volume.cut_power() {
        return skipped(test, &format!("the filesystem can't be shut down here: {reason}"));
    }
    volume.unmount().unwrap();
    volume.mount().unwrap();
    eprintln!("{test}: LEVERET_SEED={seed}, {rounds} rounds");
    let mut random = Random::new(!seed);
    let mut workload = Workload::new(seed, habits, Model::new(false));
    let started = Instant::now();
    for _ in 0..rounds {
        live(&mut workload, &mut volume, &log, Duration::from_micros(random.below(LIFE_MS * 1000)));
    }
    let broker = start(&volume, &log);
    workload.check(&mut Tcp::to(&broker.address())).unwrap();
    let defined = definitions(&broker);
    drop(broker);
    // The second copy of what is defined has come through the cuts as well.
    let data = volume.mount_point().join("data");
    std::fs::remove_dir_all(data.join("wal")).unwrap();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with("db-") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let without = log.with_file_name("without.log");
    let broker = BrokerProcess::start_on(&data, &without, &[]);
    assert_eq!(definitions(&broker), defined);
    drop(broker);
    let said = std::fs::read_to_string(&log).unwrap();
    let is_complaint = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
    // The failure of the disk below a broker is logged; a loss must not be.
    let of_the_cut = ["Input/output error", "Read-only file system"];
    let is_of_the_cut = |line: &&str| of_the_cut.iter().any(|error| line.contains(error));
    let complaints: Vec<&str> =
        said.lines().filter(is_complaint).filter(|line| !is_of_the_cut(line)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    eprintln!("{test}: {rounds} rounds in {:?}: {:?}", started.elapsed(), workload.counts());
    drop(volume);
    std::fs::remove_dir_all(folder_of(test)).unwrap();
}

#[test]
fn what_was_promised_survives_power_cuts() {
    let rounds = variable("LEVERET_CRASHES").unwrap_or(12);
    let habits = Habits { large_one_in: 400, ..Habits::default() };
    cut_power_repeatedly("power-cut", variable("LEVERET_SEED").unwrap_or(3), rounds, habits);
}

/// Messages far larger than a record, and than what the store keeps in one piece.
#[test]
fn large_messages_survive_power_cuts() {
    let rounds = variable("LEVERET_CRASHES").unwrap_or(8);
    let habits = Habits { batch: 4, unconfirmed_max: 8, large_one_in: 6, large_bytes: 2 << 20 };
    cut_power_repeatedly("power-cut-large", variable("LEVERET_SEED").unwrap_or(4), rounds, habits);
}
