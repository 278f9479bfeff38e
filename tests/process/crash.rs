//! `kill -9` of the real process, again and again on the same data, at moments that a seed picks, below publishers with
//! confirms, transactions, and consumers. After each the next broker has to hold what the clients were promised.
//!
//! `LEVERET_CRASHES` asks for more rounds than the usual ones, `LEVERET_SEED` for certain moments.

use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::durability::{Habits, Model, Random, Workload};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The longest life of a broker.
const LIFE_MS: u64 = 700;

/// Settings that make little things happen often: messages leave memory, records are cut.
const SMALL: [(&str, &str); 4] = [
    ("LEVERET__STORE__MEMORY_BUDGET_BYTES", "65536"),
    ("LEVERET__STORE__COMMIT_BYTES_MAX", "16384"),
    ("LEVERET__STORE__WAL_BYTES_MAX", "1048576"),
    ("LEVERET__LOG__LEVEL", "warn"),
];

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// One life of a broker, ended by SIGKILL after `life`.
fn live(workload: &mut Workload, folder: &Path, settings: &[(&str, &str)], life: Duration) {
    let broker = BrokerProcess::start_on(&folder.join("data"), &folder.join("stderr.log"), settings);
    let mut transport = Tcp::to(&broker.address());
    workload.begin(&mut transport).unwrap();
    // The time is no wait for anything: when it is over is what the seed picks.
    let killer = thread::spawn(move || {
        thread::sleep(life);
        broker.kill();
    });
    while workload.step(&mut transport).is_ok() {}
    killer.join().unwrap();
    workload.end(&mut transport);
}

fn crash_repeatedly(test: &str, seed: u64, rounds: u64, settings: &[(&str, &str)]) {
    eprintln!("{test}: LEVERET_SEED={seed}, {rounds} rounds");
    let folder = folder_of(test);
    let mut random = Random::new(!seed);
    let habits = Habits { large_one_in: 400, ..Habits::default() };
    let mut workload = Workload::new(seed, habits, Model::new(false));
    let started = Instant::now();
    for _ in 0..rounds {
        let life = Duration::from_micros(random.below(LIFE_MS * 1000));
        live(&mut workload, &folder, settings, life);
    }
    let broker = BrokerProcess::start_on(&folder.join("data"), &folder.join("stderr.log"), settings);
    workload.check(&mut Tcp::to(&broker.address())).unwrap();
    drop(broker);
    let said = std::fs::read_to_string(folder.join("stderr.log")).unwrap();
    let complaints: Vec<&str> =
        said.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    eprintln!("{test}: {rounds} rounds in {:?}: {:?}", started.elapsed(), workload.counts());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_was_promised_survives_kill_9() {
    let rounds = variable("LEVERET_CRASHES").unwrap_or(40);
    crash_repeatedly("crash", variable("LEVERET_SEED").unwrap_or(1), rounds, &[]);
}

#[test]
fn what_was_promised_survives_kill_9_with_little_memory() {
    let rounds = variable("LEVERET_CRASHES").unwrap_or(24);
    crash_repeatedly("crash-small", variable("LEVERET_SEED").unwrap_or(2), rounds, &SMALL);
}
