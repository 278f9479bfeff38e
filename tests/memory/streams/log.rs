//! The log of a stream against a naive one: random entries, reads, retention, damage, and losses of power.

use super::simulations;
use bytes::Bytes;
use leveret::message::{FORMAT_AMQP_091, QueueId, StoredShape};
use leveret::store::stream::{
    FileKind, MemoryFiles, ReadAt, Retention, StreamEntry, StreamFiles, StreamLog, StreamLogOptions,
};
use leveret_test_support::durability::Random;
use std::sync::Arc;

const STREAM: QueueId = QueueId(7);

fn options(random: &mut Random) -> StreamLogOptions {
    StreamLogOptions {
        segment_bytes: 200 + random.below(3000),
        chunk_bytes: 50 + random.below(600) as usize,
        index_every_bytes: random.below(800),
    }
}

fn open(files: &MemoryFiles, options: StreamLogOptions) -> StreamLog {
    StreamLog::open(Arc::new(files.clone()), STREAM, options).unwrap()
}

fn entry(offset: u64, enqueued_at: u64, random: &mut Random) -> StreamEntry {
    let body = vec![offset as u8; random.below(200) as usize];
    let content = Bytes::from([b"xkey".to_vec(), vec![0, 0], body].concat());
    let shape = StoredShape {
        format: FORMAT_AMQP_091,
        exchange_bytes: 1,
        routing_key_bytes: 3,
        properties_bytes: 2,
        dead_lettered: random.one_in(4),
    };
    StreamEntry { offset, enqueued_at, content, shape }
}

fn read_from(log: &mut StreamLog, offset: u64, bytes_max: usize) -> Vec<StreamEntry> {
    let mut reader = ReadAt::offset(offset);
    let mut all = Vec::new();
    loop {
        let read = log.read(&mut reader, bytes_max).unwrap();
        all.extend(read.entries);
        if read.is_at_end {
            return all;
        }
    }
}

#[test]
fn it_is_what_a_naive_log_is() {
    for seed in simulations() {
        let mut random = Random::new(seed);
        let (files, mut now) = (MemoryFiles::default(), 1_000_000);
        let mut log = open(&files, options(&mut random));
        let mut model: Vec<StreamEntry> = Vec::new();
        for _ in 0..120 {
            now += random.below(50);
            match random.below(8) {
                0..3 => {
                    let mut last_at = now;
                    for _ in 0..1 + random.below(30) {
                        // A hole now and then, as a crash may leave one.
                        let next = model.last().map_or(log.next_offset(), |last| last.offset + 1);
                        let entry = entry(next + u64::from(random.one_in(40)), now, &mut random);
                        last_at = entry.enqueued_at;
                        log.append(entry.offset, entry.enqueued_at, (&entry.content, entry.shape)).unwrap();
                        model.push(entry);
                    }
                    log.flush(last_at).unwrap();
                }
                3 => log.sync().unwrap(),
                4 => {
                    log.sync().unwrap();
                    log.rest();
                }
                5 => {
                    let retention = Retention {
                        bytes: random.one_in(2).then(|| random.below(9000)),
                        age_ms: random.one_in(2).then(|| random.below(2000)),
                    };
                    log.retain(retention, now).unwrap();
                    let first = log.first_offset();
                    model.retain(|entry| entry.offset >= first);
                }
                6 => {
                    let synced = log.synced_offset();
                    drop(log);
                    files.crash(random.below(3000) as usize);
                    log = open(&files, options(&mut random));
                    assert!(log.next_offset() >= synced, "what was synced is there");
                    let next = log.next_offset();
                    model.retain(|entry| entry.offset < next);
                }
                _ => {
                    drop(log);
                    log = open(&files, options(&mut random));
                }
            }
            assert_eq!(log.entries(), model.len() as u64, "seed {seed}");
            let from = random.below(log.next_offset() + 3);
            let bytes_max = 1 + random.below(2000) as usize;
            let expected: Vec<_> = model.iter().filter(|entry| entry.offset >= from).cloned().collect();
            assert_eq!(read_from(&mut log, from, bytes_max), expected, "seed {seed} from {from}");
            let at = now.saturating_sub(random.below(3000));
            let expected = model.iter().find(|entry| entry.enqueued_at >= at);
            let expected = expected.map_or(log.next_offset(), |entry| entry.offset);
            assert_eq!(log.offset_at(at).unwrap(), expected, "seed {seed} at {at}");
        }
    }
}

#[test]
fn damage_costs_the_chunks_that_it_is_in() {
    let mut random = Random::new(1);
    let files = MemoryFiles::default();
    let options = StreamLogOptions { segment_bytes: 2000, chunk_bytes: 1, index_every_bytes: 0 };
    let mut log = open(&files, options);
    for offset in 0..100 {
        let entry = entry(offset, 5, &mut random);
        log.append(offset, 5, (&entry.content, entry.shape)).unwrap();
    }
    log.flush(5).unwrap();
    log.sync().unwrap();
    drop(log);
    let segments: Vec<u64> = files
        .names(STREAM)
        .unwrap()
        .into_iter()
        .filter(|(_, kind)| *kind == FileKind::Segment)
        .map(|(first, _)| first)
        .collect();
    assert!(segments.len() > 3);
    for first in &segments {
        files.damage(STREAM, (*first, FileKind::Segment), 45);
    }
    let mut log = open(&files, options);
    let left: Vec<u64> = read_from(&mut log, 0, 500).iter().map(|entry| entry.offset).collect();
    let lost: Vec<u64> = (0..100).filter(|offset| !left.contains(offset)).collect();
    assert_eq!(lost, segments, "the first entry of each segment");
    assert_eq!(log.damaged(), segments.len() as u64);
    // An index that is damaged is made anew.
    for first in &segments {
        files.damage(STREAM, (*first, FileKind::Segment), 45);
        files.damage(STREAM, (*first, FileKind::Index), 10);
    }
    let mut log = open(&files, options);
    assert_eq!(read_from(&mut log, 0, 500).len(), 100);
}
