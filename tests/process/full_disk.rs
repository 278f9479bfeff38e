//! A full disk: the data lie on a small tmpfs. Before it is full, publishers are blocked and consumers go on, until there is
//! room again. When it is full all the same, what it can't keep is not confirmed and waits until there is room, the broker says why,
//! and all that was promised is there after a crash.
//!
//! Needs root; says loudly that it was skipped where nothing can be mounted. `LEVERET_SEED` makes for another run.

use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::durability::{Habits, Model, Workload};
use leveret_test_support::volume::{Volume, skipped};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

/// How often the broker has said that in its log.
fn said(log: &Path, text: &str) -> usize {
    std::fs::read_to_string(log).unwrap_or_default().matches(text).count()
}

#[test]
fn what_a_full_disk_can_not_keep_waits_until_there_is_room() {
    let test = "full-disk";
    let Some((volume, log)) = small_volume(test, 32) else { return };
    let habits = Habits { large_one_in: 3, large_bytes: 200_000, ..Habits::default() };
    let mut workload = Workload::new(seed(), habits, Model::new(false));
    let broker = start(&volume, &log, "1");
    let mut transport = Tcp::to(&broker.address());
    workload.begin(&mut transport).unwrap();
    let deadline = Instant::now() + 3 * PATIENCE;
    let make_room = || {
        let mut mebibytes = 32;
        for times in 1..=3 {
            while said(&log, "the store has to wait") < times {
                assert!(Instant::now() < deadline, "the disk does not get full");
                std::thread::sleep(Duration::from_millis(10));
            }
            // What waits may fill what there is at once.
            while said(&log, "the store can write again") < times {
                assert!(Instant::now() < deadline, "it does not go on with {mebibytes} MiB");
                mebibytes += 16;
                volume.resize(mebibytes).unwrap();
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    };
    std::thread::scope(|scope| {
        let making_room = scope.spawn(make_room);
        while !making_room.is_finished() {
            workload.step(&mut transport).unwrap();
        }
        making_room.join().unwrap();
    });
    let promised = workload.counts().promised;
    while workload.counts().promised < promised + 100 {
        workload.step(&mut transport).unwrap();
        assert!(Instant::now() < deadline, "{:?}", workload.counts());
    }
    broker.kill();
    workload.end(&mut transport);
    let lines = std::fs::read_to_string(&log).unwrap();
    let data = volume.mount_point().join("data").display().to_string();
    let is_told =
        |line: &&str| line.contains("has to wait") && line.contains(&data) && line.contains("No space left");
    assert!(lines.lines().filter(is_told).count() >= 3, "{lines}");
    assert!(!lines.contains("panicked"), "{lines}");
    // The database needs some room to be opened, and it may just have been full again.
    volume.resize(256).unwrap();
    let broker = start(&volume, &log, "1");
    workload.check(&mut Tcp::to(&broker.address())).unwrap();
    drop(broker);
    eprintln!("{test}: {:?}", workload.counts());
    drop(volume);
    std::fs::remove_dir_all(folder_of(test)).unwrap();
}
