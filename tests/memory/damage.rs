//! A database file or a write-ahead log with a damaged byte, or cut short: the store opens all the same, and what is gone is said.

use leveret::message::{Lsn, Position, QueueId, StoredShape};
use leveret::store::{
    Changes, DefinitionChanges, Definitions, Durability, Journal, JournalOptions, Loss, RecordLog, Recovered,
    SledStore, WalOptions, note_in_use,
};
use leveret_test_support::durability::Random;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const RECORDS: u64 = 100;
const MESSAGES: u64 = 200;

/// Where most of the records are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Log,
    Database,
}

fn open(path: &Path, place: Place) -> (Journal, Recovered) {
    let options = match place {
        Place::Log => WalOptions { segment_bytes: 4 << 20, in_background: false, ..WalOptions::default() },
        Place::Database => {
            WalOptions { segment_bytes: 1 << 10, bytes_max: 0, in_background: false, ..WalOptions::default() }
        }
    };
    let store = SledStore::open_with(path, Durability::Write, options).unwrap();
    Journal::open(Box::new(store), JournalOptions::default(), |_| {}).unwrap()
}

/// Some records of 200 KB, over several of sled's segments, or of the log's.
fn fill(path: &Path, place: Place) {
    let (journal, _) = open(path, place);
    let mut definitions = DefinitionChanges::default();
    definitions.put(b"queue/gone", b"1");
    definitions.put(b"queue/kept", b"1");
    journal.define(definitions).unwrap();
    let mut removal = DefinitionChanges::default();
    removal.remove(b"queue/gone");
    journal.define(removal).unwrap();
    let shape = StoredShape {
        format: 0,
        exchange_bytes: 0,
        routing_key_bytes: 0,
        properties_bytes: 2,
        dead_lettered: false,
    };
    let mut changes = Changes::default();
    for record in 0..RECORDS {
        for message in 0..MESSAGES {
            let content: Vec<u8> = (0..1000).map(|at| (at * (record + 3) + message) as u8).collect();
            let position = Position(1 + record * MESSAGES + message);
            changes.enqueue((&content, shape), 1, &[(QueueId(1), position, 0)]);
        }
        journal.append(&mut changes, None);
        journal.commit().unwrap();
    }
}

/// The files of the log, oldest first.
fn segments(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.join("wal")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "wal"));
    paths.sort();
    paths
}

fn damage_file(path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    damage(&mut bytes);
    std::fs::write(path, &bytes).unwrap();
}

/// Damages a fresh directory, opens it, and returns how many messages are lost.
fn lost_by(place: Place, damage: impl FnOnce(&Path)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), place);
    damage(folder.path());

    let (journal, recovered) = open(folder.path(), place);
    let lost = RECORDS * MESSAGES - recovered.messages;
    assert_eq!(lost > 0, !recovered.losses.is_empty(), "{lost} messages: {:?}", recovered.losses);
    let mut from = Position(0);
    let mut read = 0;
    loop {
        let page = journal.read(QueueId(1), 0, from, 1 << 20).unwrap();
        let Some(last) = page.last() else { break };
        from = Position(last.position.0 + 1);
        read += page.len() as u64;
    }
    assert_eq!(read, recovered.messages);
    let definitions = journal.definitions().definitions().unwrap();
    assert!(definitions.iter().all(|(key, _)| key == "queue/kept"), "{definitions:?}");

    // It goes on from there, and reports the damage once.
    let mut changes = Changes::default();
    changes.settle(QueueId(1), Position(1));
    assert!(journal.append(&mut changes, None) > Lsn(RECORDS));
    journal.commit().unwrap();
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(folder.path(), place).1.losses, []);
    lost
}

#[test]
fn a_damaged_byte_of_the_database_costs_little() {
    for eighth in 0..8 {
        let lost = lost_by(Place::Database, |path| {
            damage_file(&path.join("db-1/db"), |bytes| {
                let at = bytes.len() / 8 * eighth + 1000;
                bytes[at] ^= 0x55;
            });
        });
        assert!(lost <= RECORDS * MESSAGES / 5, "{lost} messages are lost by a byte in eighth {eighth}");
    }
}

#[test]
fn a_database_cut_short_costs_what_was_cut_off() {
    for eighths in [1, 4, 7] {
        let lost = lost_by(Place::Database, |path| {
            damage_file(&path.join("db-1/db"), |bytes| bytes.truncate(bytes.len() / 8 * eighths));
        });
        assert!(lost > 0 && lost < RECORDS * MESSAGES, "{lost} messages are lost of {eighths} eighths");
    }
}

#[test]
fn a_damaged_byte_of_the_log_costs_one_record() {
    for (segment, at) in [(0, 1000), (0, 3 << 20), (1, 10), (2, 1 << 20), (4, 300_000)] {
        let lost = lost_by(Place::Log, |path| {
            damage_file(&segments(path)[segment], |bytes| bytes[at] ^= 0x55);
        });
        let is_start_of_a_segment = at == 10;
        let expected = if is_start_of_a_segment { 0 } else { MESSAGES };
        assert_eq!(lost, expected, "byte {at} of segment {segment}");
    }
}

#[test]
fn a_log_cut_short_costs_what_was_cut_off() {
    let cut = |segment: usize| {
        lost_by(Place::Log, |path| {
            let segments = segments(path);
            damage_file(&segments[segment], |bytes| bytes.truncate(1_000_000));
        })
    };
    // A record has about 200 KB, so a segment has about 20.
    assert!((10..=20).contains(&(cut(1) / MESSAGES)));
    assert!(cut(4) > 0);
    let gone = lost_by(Place::Log, |path| std::fs::remove_file(&segments(path)[2]).unwrap());
    assert!((15..=25).contains(&(gone / MESSAGES)), "{gone}");
}

#[test]
fn files_that_are_gone_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), Place::Log);
    std::fs::remove_dir_all(folder.path().join("wal")).unwrap();
    let (_, recovered) = open(folder.path(), Place::Log);
    assert_eq!(recovered.messages, 0);
    assert!(recovered.losses[0].to_string().contains("was durable"), "{recovered:?}");
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), Place::Database);
    std::fs::remove_dir_all(folder.path().join("db-1")).unwrap();
    let (_, recovered) = open(folder.path(), Place::Database);
    assert!(!recovered.losses.is_empty());
}

/// How many definitions there are of each kind, and which.
type Table = BTreeMap<Vec<u8>, Vec<u8>>;

fn open_store(path: &Path) -> SledStore {
    let options = WalOptions { segment_bytes: 4 << 10, in_background: false, ..WalOptions::default() };
    SledStore::open_with(path, Durability::Write, options).unwrap()
}

fn definitions(store: &SledStore) -> Table {
    let all = store.definitions().unwrap();
    all.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Queues, users and others, some set again and some removed, of which some are in the database and some in the log alone.
fn define_much(path: &Path) -> Table {
    let store = open_store(path);
    for round in 0..60_u32 {
        let mut changes = DefinitionChanges::default();
        changes.put(format!("queue {round}").as_bytes(), &[round as u8; 200]);
        changes.put(format!("user {}", round % 7).as_bytes(), &[round as u8; 20]);
        changes.remove(format!("queue {}", round / 2).as_bytes());
        if round % 20 == 0 {
            changes.put(format!("vhost {round}").as_bytes(), b"");
        }
        store.define(&changes).unwrap();
        store.sync().unwrap();
        if round == 30 {
            store.checkpoint().unwrap();
        }
    }
    note_in_use(path).unwrap();
    definitions(&store)
}

/// The files that hold something, by what they are.
fn files_of(path: &Path, what: &str) -> Vec<PathBuf> {
    match what {
        "log" => segments(path),
        "database" => vec![path.join("db-1/db")],
        "formats" => vec![path.join("format"), path.join("format.copy")],
        name => vec![path.join(name)],
    }
}

type Harm = (&'static str, fn(&Path));

const HARMS: [Harm; 6] = [
    ("is removed", |path| std::fs::remove_file(path).unwrap()),
    ("is emptied", |path| std::fs::write(path, b"").unwrap()),
    ("is cut in half", |path| damage_file(path, |bytes| bytes.truncate(bytes.len() / 2))),
    ("has a page of zeros in front", |path| {
        damage_file(path, |bytes| {
            let end = bytes.len().min(4096);
            bytes[..end].fill(0);
        });
    }),
    ("is other bytes", |path| damage_file(path, |bytes| bytes.fill(0xa5))),
    ("has flipped bits", |path| {
        damage_file(path, |bytes| (0..bytes.len()).step_by(997).for_each(|at| bytes[at] ^= 4));
    }),
];

/// Damages files of a fresh directory that has definitions, and returns what there was, what there is, and what is told.
fn harmed(targets: &[&str], harm: fn(&Path)) -> (Table, Table, Vec<Loss>) {
    let folder = tempfile::tempdir().unwrap();
    let before = define_much(folder.path());
    targets.iter().flat_map(|what| files_of(folder.path(), what)).for_each(|path| harm(&path));
    let store = open_store(folder.path());
    let (after, losses) = (definitions(&store), store.lost_definitions());
    // It is told once, and what there is stays.
    let mut more = DefinitionChanges::default();
    more.put(b"queue new", b"");
    store.define(&more).unwrap();
    store.sync().unwrap();
    drop(store);
    let store = open_store(folder.path());
    assert_eq!(
        (store.lost_definitions(), definitions(&store).len()),
        (vec![], after.len() + 1),
        "{targets:?}"
    );
    (before, after, losses)
}

#[test]
fn definitions_survive_whatever_happens_to_one_of_their_copies() {
    for (what, harm) in HARMS {
        for targets in
            [&["log"][..], &["database"], &["log", "database"], &["definitions"], &["last"], &["formats"]]
        {
            let (before, after, losses) = harmed(targets, harm);
            assert!(after == before, "{targets:?} {what}: {} of {} left", after.len(), before.len());
            assert_eq!(losses, [], "{targets:?} {what}");
        }
    }
}

#[test]
fn what_is_lost_of_all_copies_of_definitions_is_told_exactly() {
    let of_kind = |table: &Table, kind: u8| {
        table.iter().filter(|(key, _)| key[0] == kind).map(|(k, v)| (k.clone(), v.clone())).collect::<Table>()
    };
    let mut lost_in_all = 0;
    for (what, harm) in HARMS {
        for targets in [&["log", "definitions"][..], &["log", "database", "definitions"]] {
            let (before, after, losses) = harmed(targets, harm);
            for kind in *b"quv" {
                let (were, are) = (of_kind(&before, kind), of_kind(&after, kind));
                let told = losses.iter().find_map(|loss| match loss {
                    Loss::Definitions { kind: of, there_were, there_are } if *of == kind => {
                        Some((*there_were as usize, *there_are as usize))
                    }
                    _ => None,
                });
                let expected = (were != are).then_some((were.len(), are.len()));
                assert_eq!(told, expected, "{targets:?} {what}: {}", char::from(kind));
                lost_in_all += usize::from(told.is_some());
            }
        }
    }
    assert!(lost_in_all > 12, "{lost_in_all}");
}

#[test]
fn losing_everything_that_says_how_much_there_was_is_told_too() {
    let harm = |path: &Path| std::fs::write(path, b"").unwrap();
    let (_, after, losses) = harmed(&["log", "database", "definitions", "last"], harm);
    assert_eq!((after.len(), losses), (0, vec![Loss::AllDefinitions]));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// Changes at random, checkpoints and kills; each kill may take the end of the second copy and make what is noted old, as a loss of
/// power may. Sometimes log and database are gone with it: then the second copy has to have all that it was given.
#[test]
fn definitions_survive_random_crashes() {
    for seed in 0..leveret_test_support::runs(60) {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut model = Table::new();
        let mut data = folder.path().join("0");
        let mut old_note = Vec::new();
        // Before that nothing else says that there is nothing.
        let mut is_anything_defined = false;
        for life in 1..6_u32 {
            let store = open_store(&data);
            note_in_use(&data).unwrap();
            assert_eq!(
                (definitions(&store), store.lost_definitions()),
                (model.clone(), vec![]),
                "seed {seed}"
            );
            for _ in 0..random.below(40) {
                let mut changes = DefinitionChanges::default();
                for _ in 0..random.below(4) {
                    let key = format!(
                        "{} {}",
                        ["queue", "user", "vhost"][random.below(3) as usize],
                        random.below(30)
                    );
                    if random.one_in(3) {
                        changes.remove(key.as_bytes());
                        model.remove(key.as_bytes());
                    } else {
                        let value = vec![random.below(200) as u8; random.below(3000) as usize];
                        changes.put(key.as_bytes(), &value);
                        model.insert(key.into_bytes(), value);
                    }
                }
                store.define(&changes).unwrap();
                is_anything_defined = true;
                if random.one_in(2) {
                    store.sync().unwrap();
                }
                if random.one_in(15) {
                    store.checkpoint().unwrap();
                }
            }
            let loses_both = random.one_in(3);
            if loses_both {
                store.sync().unwrap();
            }
            let next = folder.path().join(life.to_string());
            copy(&data, &next);
            drop(store);
            if loses_both {
                let folders = std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path());
                folders.filter(|path| path.is_dir()).for_each(|path| std::fs::remove_dir_all(path).unwrap());
            } else if is_anything_defined && random.one_in(2) {
                damage_file(&next.join("definitions"), |bytes| {
                    bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                });
            }
            let note = std::fs::read(next.join("last")).unwrap();
            if random.one_in(2) {
                std::fs::write(next.join("last"), &old_note).unwrap();
            }
            (old_note, data) = (note, next);
        }
    }
}
