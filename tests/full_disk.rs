//! A full disk: the data lie on a small tmpfs. Before it is full, publishers are held up and consumers go on, until there is
//! room again. When it is full all the same, nothing is confirmed that is not kept, the broker ends and says why, and the
//! next one, given room, has all that was promised.
//!
//! Needs root; says loudly that it was skipped where nothing can be mounted. `LEVERET_SEED` makes for another run.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod amqp_client;
mod broker_process;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod durability;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod volume;

use amqp_client::tcp::Tcp;
use broker_process::{BrokerProcess, folder_of};
use durability::{Habits, Model, Workload};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use volume::{Volume, skipped};

const PATIENCE: Duration = Duration::from_secs(60);

fn seed() -> u64 {
    std::env::var("LEVERET_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(5)
}

/// A tmpfs, and where the broker on it logs; `None`, loudly, where there can't be one.
fn small_volume(test: &str, mebibytes: u64) -> Option<(Volume, PathBuf)> {
    match Volume::tmpfs(folder_of(test).join("volume"), mebibytes) {
        Ok(volume) => Some((volume, folder_of(test).join("stderr.log"))),
        Err(reason) => {
            skipped(test, &format!("no filesystem can be mounted here: {reason}"));
            None
        }
    }
}

fn start(volume: &Volume, log: &Path, disk_free_bytes: &str) -> BrokerProcess {
    let settings = [("LEVERET__LIMITS__DISK_FREE_BYTES", disk_free_bytes)];
    BrokerProcess::start_on(&volume.mount_point().join("data"), log, &settings)
}

#[test]
fn publishers_are_held_up_until_there_is_room_again() {
    let test = "low-disk";
    let Some((volume, log)) = small_volume(test, 256) else { return };
    let broker = start(&volume, &log, "100000000");
    let mut transport = Tcp::to(&broker.address());
    let habits = Habits { unconfirmed_max: 60, large_one_in: 1000, ..Habits::default() };
    let mut workload = Workload::new(seed(), habits, Model::new(false));
    workload.begin(&mut transport).unwrap();
    let mut step_until = |workload: &mut Workload, what: &str, is_so: &dyn Fn(&Workload) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(workload) {
            workload.step(&mut transport).unwrap();
            assert!(Instant::now() < deadline, "{what}: {:?}", workload.counts());
        }
    };
    step_until(&mut workload, "publishing", &|workload| workload.counts().promised > 1000);
    let ballast = volume.mount_point().join("ballast");
    for _ in 0..2 {
        File::create(&ballast).unwrap().write_all(&vec![0; 180 << 20]).unwrap();
        step_until(&mut workload, "being held up", &|workload| workload.blocked() == (2, 2));
        let ended = workload.counts().ended;
        step_until(&mut workload, "consuming while publishers are held up", &|workload| {
            workload.counts().ended > ended + 20
        });
        assert_eq!(workload.blocked(), (2, 2));
        std::fs::remove_file(&ballast).unwrap();
        step_until(&mut workload, "going on", &|workload| workload.blocked().0 == 0);
        let promised = workload.counts().promised;
        step_until(&mut workload, "publishing again", &|workload| {
            workload.counts().promised > promised + 1000
        });
    }
    broker.kill();
    workload.end(&mut transport);
    let broker = start(&volume, &log, "100000000");
    workload.check(&mut Tcp::to(&broker.address())).unwrap();
    drop(broker);
    eprintln!("{test}: {:?}", workload.counts());
    drop(volume);
    std::fs::remove_dir_all(folder_of(test)).unwrap();
}

#[test]
fn nothing_that_a_full_disk_can_not_keep_is_confirmed() {
    let test = "full-disk";
    let Some((volume, log)) = small_volume(test, 32) else { return };
    let habits = Habits { large_one_in: 3, large_bytes: 200_000, ..Habits::default() };
    let mut workload = Workload::new(seed(), habits, Model::new(false));
    for mebibytes in [48, 64, 80] {
        let mut broker = start(&volume, &log, "1");
        let mut transport = Tcp::to(&broker.address());
        workload.begin(&mut transport).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let gone = loop {
            if let Err(gone) = workload.step(&mut transport) {
                break gone;
            }
            assert!(Instant::now() < deadline, "the disk does not get full");
        };
        workload.end(&mut transport);
        let status = broker.wait(PATIENCE).expect("the broker ends when it can keep nothing more");
        assert_eq!(status.code(), Some(1), "{gone:?}");
        eprintln!("{test}: {gone:?}, {:?}", workload.counts());
        volume.resize(mebibytes).unwrap();
    }
    let said = std::fs::read_to_string(&log).unwrap();
    let data = volume.mount_point().join("data").display().to_string();
    let is_told =
        |line: &str| line.contains(" ERROR ") && line.contains(&data) && line.contains("No space left");
    assert!(said.lines().filter(|line| is_told(line)).count() >= 3, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let broker = start(&volume, &log, "1");
    workload.check(&mut Tcp::to(&broker.address())).unwrap();
    drop(broker);
    drop(volume);
    std::fs::remove_dir_all(folder_of(test)).unwrap();
}
