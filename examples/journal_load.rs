//! Measures the journal on sled: what a message costs by commit size, and what a deep queue takes of memory, disk and time.
//!
//! ```text
//! cargo run --release --example journal_load -- commits DIRECTORY
//! cargo run --release --example journal_load -- deep DIRECTORY [MESSAGES] [BODY_BYTES] [QUEUES]
//! ```
#![allow(clippy::print_stdout, reason = "printing figures is what it does")]

use leveret::message::{Millis, Position, QueueId, StoredShape};
use leveret::store::{Changes, Durability, Journal, JournalOptions, SledStore, StoreError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SHAPE: StoredShape = StoredShape {
    format: 0,
    exchange_bytes: 0,
    routing_key_bytes: 6,
    properties_bytes: 3,
    dead_lettered: false,
};
const NOW: Millis = 1_700_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let directory = PathBuf::from(arguments.get(1).ok_or("usage: journal_load commits|deep DIRECTORY ...")?);
    let number = |at: usize, usual: u64| -> Result<u64, std::num::ParseIntError> {
        arguments.get(at).map_or(Ok(usual), |argument| argument.parse())
    };
    match arguments[0].as_str() {
        "commits" => {
            for (messages, body_bytes, of_commit) in [
                (2_000_000, 100, 256),
                (4_000_000, 100, 1024),
                (500_000, 1024, 256),
                (500_000, 1024, 1024),
                (100_000, 100, 16),
            ] {
                commits(&directory, messages, body_bytes, of_commit)?;
            }
        }
        "deep" => {
            deep(&directory, number(2, 10_000_000)?, number(3, 100)? as usize, number(4, 1)?)?;
        }
        other => return Err(format!("{other} is neither commits nor deep").into()),
    }
    Ok(())
}

/// A queue that is published to in commits of one size, and consumed one commit behind.
fn commits(directory: &Path, messages: u64, body_bytes: usize, of_commit: u64) -> Result<(), StoreError> {
    let journal = open(directory)?;
    let content = content(body_bytes);
    let mut changes = Changes::default();
    let (started, processor) = (Instant::now(), processor_time());
    for commit in 0..messages / of_commit {
        let first = commit * of_commit;
        for position in first..first + of_commit {
            changes.enqueue((&content, SHAPE), NOW, &[(QueueId(1), Position(position), 0)]);
        }
        journal.append(&mut changes, None);
        if first >= of_commit {
            for position in first - of_commit..first {
                changes.settle(QueueId(1), Position(position));
            }
            journal.append(&mut changes, None);
        }
        journal.commit()?;
    }
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6 / messages as f64;
    let wall = micros(started.elapsed());
    println!(
        "{of_commit} a commit, {body_bytes} bytes: {:.2} us of processor time and {wall:.2} us a message, {:.0} a second; \
         {} MiB on disk",
        micros(processor_time() - processor),
        1e6 / wall,
        disk_bytes(directory) >> 20,
    );
    drop(journal);
    remove(directory);
    Ok(())
}

fn deep(directory: &Path, messages: u64, body_bytes: usize, queues: u64) -> Result<(), StoreError> {
    let journal = open(directory)?;
    let memory = resident_bytes();
    publish(&journal, messages, &content(body_bytes), queues)?;
    println!("{} MiB more resident", (resident_bytes() - memory) >> 20);
    let usage = journal.usage();
    println!("{usage:?}: {:.2} bytes of index a message", usage.index_bytes as f64 / messages as f64);
    println!("{} MiB on disk", disk_bytes(directory) >> 20);
    let mut started = Instant::now();
    drop(journal);
    println!("closed in {:.2?}", started.elapsed());

    started = Instant::now();
    let store = SledStore::open(directory, Durability::Fsync)?;
    let opened = started.elapsed();
    let (journal, recovered) = Journal::open(Box::new(store), JournalOptions::default(), |_| {})?;
    println!(
        "recovered {} messages in {:.2?} (sled took {opened:.2?}), {} MiB resident, losses {:?}",
        recovered.messages,
        started.elapsed(),
        resident_bytes() >> 20,
        recovered.losses
    );
    drop(recovered);
    drain(&journal, messages, queues)?;
    started = Instant::now();
    for _ in 0..200 {
        journal.commit()?;
    }
    println!(
        "tidied up in {:.2?}: {:?}, {} MiB on disk",
        started.elapsed(),
        journal.usage(),
        disk_bytes(directory) >> 20
    );
    drop(journal);
    remove(directory);
    Ok(())
}

fn publish(journal: &Journal, messages: u64, content: &[u8], queues: u64) -> Result<(), StoreError> {
    let mut changes = Changes::default();
    let tenth = messages / 10;
    let mut started = Instant::now();
    for message in 0..messages {
        let (queue, position) = (QueueId(1 + message % queues), Position(1 + message / queues));
        changes.enqueue((content, SHAPE), NOW, &[(queue, position, 0)]);
        if message % 64 == 63 {
            journal.append(&mut changes, None);
        }
        if message % 1024 == 1023 {
            journal.commit()?;
        }
        if message % tenth == tenth - 1 {
            let rate = tenth as f64 / started.elapsed().as_secs_f64();
            started = Instant::now();
            println!("published {}: {rate:.0} a second", message + 1);
        }
    }
    journal.append(&mut changes, None);
    journal.commit()?;
    Ok(())
}

fn drain(journal: &Journal, messages: u64, queues: u64) -> Result<(), StoreError> {
    let mut changes = Changes::default();
    let (started, processor) = (Instant::now(), processor_time());
    let mut next = vec![Position(0); queues as usize];
    let mut left = messages;
    let mut uncommitted = 0;
    while left > 0 {
        for queue in 0..queues {
            let at = &mut next[queue as usize];
            let page = journal.read(QueueId(1 + queue), 0, *at, 64 << 10)?;
            for message in &page {
                changes.settle(QueueId(1 + queue), message.position);
                *at = Position(message.position.0 + 1);
            }
            left -= page.len() as u64;
            uncommitted += page.len();
            journal.append(&mut changes, None);
            if uncommitted >= 4096 {
                journal.commit()?;
                uncommitted = 0;
            }
        }
    }
    journal.commit()?;
    let elapsed = started.elapsed();
    println!(
        "drained {:.0} a second, {:.2} us of processor time a message, {} MiB resident",
        messages as f64 / elapsed.as_secs_f64(),
        (processor_time() - processor).as_secs_f64() * 1e6 / messages as f64,
        resident_bytes() >> 20
    );
    Ok(())
}

fn open(directory: &Path) -> Result<Journal, StoreError> {
    let store = SledStore::open(directory, Durability::Fsync)?;
    Ok(Journal::open(Box::new(store), JournalOptions::default(), |_| {})?.0)
}

fn content(body_bytes: usize) -> Vec<u8> {
    let envelope = b"orders\x10\x00\x02".iter().copied();
    envelope.chain((0..body_bytes).map(|at| ((at * 7919) >> 3) as u8)).collect()
}

fn remove(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory) {
        println!("{} could not be removed: {error}", directory.display());
    }
}

fn disk_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// User and system time of the process, in the kernel's ticks of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0) * 1024
}
