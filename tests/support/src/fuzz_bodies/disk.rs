//! What a disk may hold: records of the journal and definitions, and files of the write-ahead log. Whatever it is, it is opened,
//! what is lost is told once, and the broker goes on from there.

use super::input::Input;
use super::wire::{check_frames, opened};
use crate::lines::InMemory;
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::{AMQPMethod, Consume};
use bytes::Bytes;
use leveret::amqp::AmqpSettings;
use leveret::broker::exchange::ExchangeTypes;
use leveret::broker::topology::definitions::Definition;
use leveret::broker::{Broker, BrokerLimits};
use leveret::message::{Lsn, Message, Position, QueueId};
use leveret::store::{
    Changes, DefinitionChanges, Definitions, Durability, FaultyStore, Journal, JournalOptions, Loss,
    RecordLog, Recovered, SledStore, Store, WalOptions,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const NOW: u64 = 1_700_000_000_000;

/// Records and definitions. The first byte of each piece says which in its lowest two bits: a record whose header is right, one
/// of which a byte is damaged, one that is lost, or a definition. The other bits say how wrong the header's count of older
/// records is.
pub(super) fn journal(data: &[u8]) {
    let mut input = Input(data);
    let store = FaultyStore::default();
    let (mut kept, mut damaged) = (0, BTreeSet::new());
    while let Some(first) = input.byte() {
        let piece = input.long();
        if first & 3 == 3 {
            put_definition(&store, piece);
            continue;
        }
        let lsn = store.sync().unwrap().0 + 1;
        let counted = kept + u64::from(first >> 2 & 7);
        assert_eq!(
            store.append(&record_header(lsn, counted, piece), &Bytes::copy_from_slice(piece)),
            Ok(Lsn(lsn))
        );
        store.sync().unwrap();
        match first & 3 {
            1 => {
                store.damage(Lsn(lsn), usize::from(first));
                damaged.insert(Lsn(lsn));
            }
            2 => store.lose(Lsn(lsn)),
            _ => {}
        }
        kept += u64::from(first & 3 != 2);
    }
    // The last one is there: the engine counts on from it.
    let last = store.sync().unwrap().0 + 1;
    store.append(&record_header(last, 0, b""), &Bytes::new()).unwrap();
    store.sync().unwrap();
    let (journal, recovered) = open_journal(Box::new(store.clone()));
    let told: BTreeSet<Lsn> = recovered.losses.iter().filter_map(damaged_record).collect();
    assert!(damaged.is_subset(&told), "{damaged:?} are damaged, and {:?} is told", recovered.losses);
    check(&journal, &recovered);
    drop(journal);
    store.crash(0);
    let (journal, again) = open_journal(Box::new(store));
    assert!(of_records(&again.losses).is_empty(), "{:?} again", again.losses);
    assert_eq!(again.queues, recovered.queues, "{:?} were reported", recovered.losses);
    serve(journal, again);
}

/// The header of a record: see `src/store/journal/record.rs`.
fn record_header(lsn: u64, kept: u64, body: &[u8]) -> Vec<u8> {
    let mut header = [&[1][..], &lsn.to_le_bytes(), &kept.to_le_bytes()].concat();
    let checksum = crc32fast::hash(&[&header, body].concat());
    header.extend_from_slice(&checksum.to_le_bytes());
    header
}

/// A definition whose kind is the first byte, under its own key if it has one.
fn put_definition(store: &FaultyStore, piece: &[u8]) {
    let Some((kind, value)) = piece.split_first() else { return };
    let mut changes = DefinitionChanges::default();
    match Definition::decode(&[*kind], value) {
        Ok(Some(definition)) => definition.put(&mut changes),
        _ => changes.put(&[*kind], value),
    }
    store.define(&changes).unwrap();
}

/// What is lost of records; of definitions the same may be reported as long as it lasts.
fn of_records(losses: &[Loss]) -> Vec<&Loss> {
    losses.iter().filter(|loss| matches!(loss, Loss::Damaged { .. } | Loss::Missing { .. })).collect()
}

fn damaged_record(loss: &Loss) -> Option<Lsn> {
    match loss {
        Loss::Damaged { lsn, .. } => Some(*lsn),
        _ => None,
    }
}

fn open_journal(store: Box<dyn Store>) -> (Journal, Recovered) {
    Journal::open(store, JournalOptions::default(), |_| ()).unwrap()
}

/// All that is said to be there can be read, in order and once.
fn check(journal: &Journal, recovered: &Recovered) {
    let mut messages = 0;
    for queue in &recovered.queues {
        let priorities: BTreeSet<u8> = queue.runs.iter().map(|run| run.priority).collect();
        for priority in priorities {
            let of_priority = queue.runs.iter().filter(|run| run.priority == priority);
            let expected = of_priority.flat_map(|run| (0..u64::from(run.count)).map(|at| run.first.0 + at));
            let read = read_all(journal, queue.queue, priority);
            messages += read.len() as u64;
            assert!(expected.eq(read.iter().copied()), "queue {}: {read:?} were read", queue.queue);
            assert!(read.last().is_none_or(|last| *last <= queue.highest.0));
        }
    }
    assert_eq!(messages, recovered.messages);
    assert_eq!(journal.usage().messages, messages, "what was dropped and what waits is not alive");
}

fn read_all(journal: &Journal, queue: QueueId, priority: u8) -> Vec<u64> {
    let (mut from, mut read) = (Position(0), Vec::new());
    loop {
        let page = journal.read(queue, priority, from, 1 << 16).unwrap();
        let Some(last) = page.last() else { return read };
        from = Position(last.position.0 + 1);
        for message in page {
            read.push(message.position.0);
            // Of a content that is none no message is made.
            if let Ok(message) = Message::from_stored(message.content, message.shape) {
                message.decode_properties();
            }
        }
    }
}

/// Opens a broker on it, if it has definitions that can be read, and has a consumer take what there is.
fn serve(journal: Journal, recovered: Recovered) {
    let limits = BrokerLimits::default();
    let broker = Broker::open(Arc::new(journal), recovered, ExchangeTypes::standard(), limits, NOW);
    let Ok(broker) = broker else { return };
    let mut broker = InMemory::of(broker, AmqpSettings::default());
    let queues = broker.amqp.broker.vhost("/").unwrap().queues();
    let line = broker.open();
    // A limit may keep it out.
    broker.send(line, &opened());
    for queue in queues.into_iter().take(4) {
        let queue = queue.definition().name.clone();
        let consume = Consume { queue: (*queue).into(), no_ack: true, nowait: true, ..Consume::default() };
        broker.send(line, &crate::frames::method(1, AMQPClass::Basic(AMQPMethod::Consume(consume))));
        broker.send(line, &crate::frames::publish_to(1, &queue, b"new"));
    }
    // Names that are no text are none that a client of ours would read.
    check_frames(&broker.bytes(line));
    broker.drop_line(line);
}

/// After so many all that was appended is durable.
const COMMITS_MAX: usize = 8;

/// Damage to files of the write-ahead log, and a log that nobody would have written. Each piece of the bytes begins with one that
/// says what it is: an entry of any kind, a record, bytes as they are, another file, or a cut.
pub(super) fn log(data: &[u8]) {
    let folder = tempfile::tempdir_in(memory_folder()).unwrap();
    write_directory(folder.path(), data);
    let first = open_store(folder.path());
    let (journal, recovered) = open_journal(Box::new(first));
    check(&journal, &recovered);
    let mut changes = Changes::default();
    changes.settle(QueueId(1), Position(1));
    let lsn = journal.append(&mut changes, None);
    // What is copied forward meanwhile goes first.
    assert!((0..COMMITS_MAX).any(|_| journal.commit().unwrap() >= lsn));
    drop(journal);
    let (journal, again) = open_journal(Box::new(open_store(folder.path())));
    assert!(of_records(&again.losses).is_empty(), "{:?} again, {:?} before", again.losses, recovered.losses);
    check(&journal, &again);
}

/// Where files cost least.
fn memory_folder() -> std::path::PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

fn open_store(path: &Path) -> SledStore {
    let options = WalOptions { segment_bytes: 1 << 12, in_background: false, ..WalOptions::default() };
    SledStore::open_with(path, Durability::Write, options).unwrap()
}

const MAGIC: [u8; 8] = *b"\x9dframes\x01";

/// Makes a data directory whose log is what the bytes say.
fn write_directory(path: &Path, data: &[u8]) {
    std::fs::create_dir(path.join("wal")).unwrap();
    let format = format!("leveret store 2\ndb-1\n{:016x}\n", u64::from_be_bytes(MAGIC));
    std::fs::write(path.join("format"), format).unwrap();
    let mut log = Log { files: Vec::new(), ordinal: 0, lsn: 0 };
    log.next_file(1);
    let mut input = Input(data);
    while let Some(first) = input.byte() {
        log.put(first, &mut input);
    }
    for (name, bytes) in log.files {
        std::fs::write(path.join("wal").join(format!("{name:016x}.wal")), bytes).unwrap();
    }
}

struct Log {
    files: Vec<(u64, Vec<u8>)>,
    ordinal: u64,
    lsn: u64,
}

/// Kinds of entries; one more than to discard is a definition as it was written before, one more than changes nothing known.
const START: u32 = 1;
const RECORD: u32 = 2;
const DISCARD: u32 = 3;
const CHANGES: u32 = 5;

/// How far a number is from what it should be: mostly not at all, at times so far that it is near the end of numbers.
fn off(bits: u8) -> u64 {
    [0, 0, 0, 0, 1, 2, u64::MAX, u64::MAX / 2][usize::from(bits & 7)]
}

impl Log {
    fn next_file(&mut self, name: u64) {
        self.files.push((name, Vec::new()));
    }

    fn put(&mut self, first: u8, input: &mut Input<'_>) {
        let far = off(first >> 5);
        match first & 7 {
            0 => {
                let bytes = input.short();
                self.last().extend_from_slice(bytes);
            }
            1 => self.next_file((self.ordinal + 1).wrapping_add(far)),
            2 => {
                let at = usize::from(input.byte().unwrap_or_default());
                let file = self.last();
                file.truncate(file.len().saturating_sub(at));
            }
            kind @ 3..6 => {
                let body = input.long().to_vec();
                let kind = [START, DISCARD, CHANGES][usize::from(kind) - 3];
                // Of the older format, or what this version does not know.
                let kind = kind + u32::from(first >> 3 & 1);
                self.entry(kind, far, &body);
            }
            _ => {
                let body = input.long();
                self.lsn = self.lsn.wrapping_add(1).wrapping_add(far);
                let record = [&self.lsn.to_le_bytes()[..], &record_header(self.lsn, 0, body), body].concat();
                self.entry(RECORD, off(first >> 2), &record);
            }
        }
    }

    fn last(&mut self) -> &mut Vec<u8> {
        &mut self.files.last_mut().unwrap().1
    }

    /// An entry: see `src/store/wal/entry.rs`.
    fn entry(&mut self, kind: u32, far: u64, body: &[u8]) {
        self.ordinal = self.ordinal.wrapping_add(1).wrapping_add(far);
        let mut checked = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        checked.extend_from_slice(&kind.to_le_bytes());
        checked.extend_from_slice(&self.ordinal.to_le_bytes());
        checked.extend_from_slice(&self.ordinal.wrapping_sub(1).to_le_bytes());
        checked.extend_from_slice(body);
        let mut entry = [&MAGIC[4..], &crc32fast::hash(&checked).to_le_bytes(), &checked].concat();
        entry.resize(entry.len().next_multiple_of(8), 0);
        self.last().extend_from_slice(&entry);
    }
}
