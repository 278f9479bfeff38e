//! A commit of the journal on sled: messages that are written, and those of the commit before settled.

use divan::Bencher;
use divan::counter::ItemsCount;
use leveret::message::{Millis, Position, QueueId, StoredShape};
use leveret::store::{Changes, Durability, Journal, JournalOptions, SledStore};
use std::path::Path;

const SHAPE: StoredShape = StoredShape {
    format: 0,
    exchange_bytes: 0,
    routing_key_bytes: 6,
    properties_bytes: 3,
    dead_lettered: false,
};
const NOW: Millis = 1_700_000_000_000;
const QUEUE: QueueId = QueueId(1);

/// Bytes of a body.
const BODY_BYTES: usize = 100;

/// Messages of a commit.
const MESSAGES: [u64; 3] = [1, 64, 1024];

/// With a sync of the disk, whose share is the disk's.
#[divan::bench(args = MESSAGES, sample_count = 50)]
fn fsync(bencher: Bencher<'_, '_>, messages: u64) {
    commit(bencher, messages, Durability::Fsync);
}

/// With the write alone.
#[divan::bench(args = MESSAGES, sample_count = 50)]
fn write(bencher: Bencher<'_, '_>, messages: u64) {
    commit(bencher, messages, Durability::Write);
}

fn commit(bencher: Bencher<'_, '_>, messages: u64, durability: Durability) {
    // Below target/, which is on a disk where /tmp may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("target/ can be written");
    let journal = open(folder.path(), durability);
    let content: Vec<u8> = b"orders\x10\x00\x02".iter().copied().chain([b'x'; BODY_BYTES]).collect();
    let (mut next, mut changes) = (0, Changes::default());
    bencher.counter(ItemsCount::new(messages)).bench_local(|| {
        for position in next..next + messages {
            changes.enqueue((&content, SHAPE), NOW, &[(QUEUE, Position(position), 0)]);
            if position >= messages {
                changes.settle(QUEUE, Position(position - messages));
            }
        }
        next += messages;
        journal.append(&mut changes, None);
        journal.commit().expect("the disk has room")
    });
}

fn open(folder: &Path, durability: Durability) -> Journal {
    let store = SledStore::open(folder, durability).expect("the folder is empty");
    Journal::open(Box::new(store), JournalOptions::default(), |_| {}).expect("the store is empty").0
}
