//! Which definitions there are, when the store is opened. The database and the changes in the log have them, and so has the file
//! `definitions`; each says what all of them come to. Whichever fits the newest of these stamps is taken. When neither does, each
//! kind is taken from whichever has it whole, what is then still missing is lost, and that is reported.

use crate::store::DefinitionChanges;
use crate::store::definitions::Change;
use crate::store::definitions_file::Held;
use crate::store::journal::Loss;
use crate::store::stamp::{Stamp, kind_of};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

type Table = BTreeMap<Bytes, Bytes>;

/// A table that the changes in the log are made to.
#[derive(Debug, Default)]
struct Copy {
    table: Table,
    /// The last change that it has; 0 for one that was not stamped.
    version: u64,
}

impl Copy {
    /// Makes a change that it does not have; whether it did.
    fn take(&mut self, changes: &[Change<'_>], version: u64) -> bool {
        if version <= self.version && self.version > 0 {
            return false;
        }
        self.version = version.max(self.version);
        for (key, value) in changes {
            match value {
                Some(value) => self.table.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
                None => self.table.remove(*key),
            };
        }
        true
    }
}

/// Both copies, while the log is read.
#[derive(Debug)]
pub(super) struct Copies {
    database: Copy,
    file: Copy,
    /// What the table was at last, as far as anybody says.
    newest: Option<Stamp>,
    /// What the file says, when nothing of it is damaged.
    of_file: Option<Stamp>,
}

/// What was made of them.
#[derive(Debug)]
pub(super) struct Chosen {
    /// What database and log have.
    pub(super) table: Table,
    /// The newest change that anybody knows of.
    pub(super) version: u64,
    /// What database and log lack.
    pub(super) mend: DefinitionChanges,
    /// Whether the log has to say anew what the table is.
    pub(super) is_stamp_due: bool,
    /// Whether the file has all of it, and nothing behind it.
    pub(super) is_file_whole: bool,
    pub(super) losses: Vec<Loss>,
}

impl Copies {
    /// `marked` is what the database was when it was marked, `noted` what was noted beside it.
    pub(super) fn new(database: Table, marked: Option<Stamp>, held: Held, noted: Option<Stamp>) -> Copies {
        let version = |stamp: &Option<Stamp>| stamp.as_ref().map_or(0, |stamp| stamp.version);
        let database = Copy { table: database, version: version(&marked) };
        let file = Copy { table: held.table, version: version(&held.stamp) };
        let of_file = held.stamp.clone().filter(|_| !held.is_damaged);
        let mut copies = Copies { database, file, newest: None, of_file };
        for stamp in [marked, held.stamp, noted].into_iter().flatten() {
            copies.hear(stamp);
        }
        copies
    }

    fn hear(&mut self, stamp: Stamp) {
        if self.newest.as_ref().is_none_or(|newest| newest.version < stamp.version) {
            self.newest = Some(stamp);
        }
    }

    /// Takes changes that the log has; whether the database lacked them.
    pub(super) fn take(&mut self, changes: &[Change<'_>], stamp: Option<Stamp>) -> bool {
        let version = stamp.as_ref().map_or(0, |stamp| stamp.version);
        self.file.take(changes, version);
        if let Some(stamp) = stamp {
            self.hear(stamp);
        }
        self.database.take(changes, version)
    }

    /// `is_stamped` says that something has to say what the table was: the directory is of a version that writes that.
    pub(super) fn choose(self, is_stamped: bool) -> Chosen {
        let Copies { database, file, newest, of_file } = self;
        let of_database = Stamp::of(database.version, &database.table);
        let Some(newest) = newest else {
            let losses = is_stamped.then_some(Loss::AllDefinitions).into_iter().collect();
            let is_stamp_due = !database.table.is_empty() || is_stamped;
            return Chosen { losses, is_stamp_due, ..Chosen::of(database.table, 0) };
        };
        // What the file says has to be what is in it, and the last there was.
        let is_file_whole =
            of_file.is_some_and(|stamp| stamp == newest && Stamp::of(0, &file.table).has_what(&stamp));
        let version = newest.version;
        if of_database.has_what(&newest) {
            return Chosen { is_file_whole, ..Chosen::of(database.table, version) };
        }
        let found = Found { of_file: Stamp::of(file.version, &file.table), of_database, newest };
        let mut losses = Vec::new();
        let mut wanted = Table::new();
        for kind in found.kinds() {
            found.take_kind(kind, &database.table, &file.table, &mut wanted);
            losses.extend(found.loss(kind, &wanted));
        }
        let mend = difference(&database.table, &wanted);
        tracing::error!(
            "the definitions in database and log are not those that there were; {}",
            match losses.is_empty() {
                true =>
                    "their copy in the file \"definitions\" is whole and is taken, nothing of them is lost",
                false => "their copy in the file \"definitions\" is not whole either",
            }
        );
        Chosen { mend, is_stamp_due: true, losses, is_file_whole, ..Chosen::of(database.table, version) }
    }
}

impl Chosen {
    fn of(table: Table, version: u64) -> Chosen {
        Chosen {
            table,
            version,
            mend: DefinitionChanges::default(),
            is_stamp_due: false,
            is_file_whole: false,
            losses: Vec::new(),
        }
    }
}

/// What there was, and what there is of it.
struct Found {
    newest: Stamp,
    of_database: Stamp,
    of_file: Stamp,
}

impl Found {
    fn kinds(&self) -> BTreeSet<u8> {
        self.newest.kinds().chain(self.of_database.kinds()).chain(self.of_file.kinds()).collect()
    }

    /// Puts together what there is of a kind.
    fn take_kind(&self, kind: u8, database: &Table, file: &Table, wanted: &mut Table) {
        let there_was = self.newest.of_kind(kind);
        let (first, second) = match self.of_database.of_kind(kind) == there_was {
            true => (database, None),
            false if self.of_file.of_kind(kind) == there_was => (file, None),
            // Who has heard of more comes first, and what it lacks is better old than gone.
            false if self.of_file.version > self.of_database.version => (file, Some(database)),
            false => (database, Some(file)),
        };
        let of_kind = |table: &Table| -> Vec<(Bytes, Bytes)> {
            let all = table.iter().filter(|(key, _)| kind_of(key) == kind);
            all.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let first = of_kind(first);
        let lacks_some = (first.len() as u64) < there_was.count;
        wanted.extend(first);
        for (key, value) in second.filter(|_| lacks_some).map(of_kind).unwrap_or_default() {
            wanted.entry(key).or_insert(value);
        }
    }

    /// What is missing of a kind that was put together.
    fn loss(&self, kind: u8, wanted: &Table) -> Option<Loss> {
        let of_kind = wanted.iter().filter(|(key, _)| kind_of(key) == kind);
        let there_is: Table = of_kind.map(|(key, value)| (key.clone(), value.clone())).collect();
        let there_is = Stamp::of(0, &there_is).of_kind(kind);
        let there_was = self.newest.of_kind(kind);
        let loss = Loss::Definitions { kind, there_were: there_was.count, there_are: there_is.count };
        (there_is != there_was).then_some(loss)
    }
}

/// The changes that make one table the other.
fn difference(from: &Table, to: &Table) -> DefinitionChanges {
    let mut changes = DefinitionChanges::default();
    from.keys().filter(|key| !to.contains_key(*key)).for_each(|key| changes.remove(key));
    let new = to.iter().filter(|(key, value)| from.get(*key) != Some(*value));
    new.for_each(|(key, value)| changes.put(key, value));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keys: &[&'static str]) -> Table {
        keys.iter().map(|key| (Bytes::from(*key), Bytes::from("v"))).collect()
    }

    fn stamped(version: u64, keys: &[&'static str]) -> Option<Stamp> {
        Some(Stamp::of(version, &table(keys)))
    }

    fn held(version: u64, keys: &[&'static str], of: &[&'static str]) -> Held {
        let mut held = Held::default();
        (held.table, held.stamp) = (table(keys), stamped(version, of));
        held
    }

    fn keys(chosen: &Chosen) -> Vec<Bytes> {
        let mut table = chosen.table.clone();
        chosen.mend.apply_to(&mut table);
        table.into_keys().collect()
    }

    const ALL: [&str; 4] = ["a1", "a2", "b1", "c1"];

    #[test]
    fn the_database_and_the_log_are_taken_when_they_are_whole() {
        let mut copies = Copies::new(table(&ALL[..2]), stamped(3, &ALL[..2]), Held::default(), None);
        assert!(!copies.take(&[(b"a1", None)], stamped(3, &ALL[1..2])), "the database has that");
        assert!(copies.take(&[(b"b1", Some(b"v")), (b"c1", Some(b"v"))], stamped(4, &ALL)));
        let chosen = copies.choose(true);
        assert_eq!((keys(&chosen).len(), chosen.version, chosen.is_stamp_due), (4, 4, false));
        assert!(chosen.losses.is_empty() && !chosen.is_file_whole && chosen.mend.is_empty());
    }

    #[test]
    fn the_file_is_taken_when_log_or_database_are_gone() {
        for (database, marked) in [(table(&[]), None), (table(&ALL[..2]), stamped(2, &ALL[..2]))] {
            let chosen = Copies::new(database, marked, held(5, &ALL, &ALL), None).choose(true);
            assert_eq!(keys(&chosen), table(&ALL).into_keys().collect::<Vec<_>>());
            assert_eq!((chosen.version, &chosen.losses[..]), (5, &[][..]));
            assert!(chosen.is_file_whole && chosen.is_stamp_due);
        }
        // The log has more than the file, and the database is gone.
        let mut copies = Copies::new(table(&[]), None, held(5, &ALL, &ALL), None);
        copies.take(&[(b"c1", None)], stamped(6, &ALL[..3]));
        let chosen = copies.choose(true);
        assert_eq!(keys(&chosen), table(&ALL[..3]).into_keys().collect::<Vec<_>>());
        assert!(chosen.losses.is_empty() && !chosen.is_file_whole);
    }

    #[test]
    fn what_neither_has_is_told_by_kind() {
        let (database, file) = (table(&["a1", "c0"]), held(5, &["b1"], &ALL));
        let chosen = Copies::new(database, stamped(2, &["a1", "c0"]), file, stamped(5, &ALL)).choose(true);
        assert_eq!(keys(&chosen), ["a1", "b1", "c0"]);
        let lost = |kind, there_were, there_are| Loss::Definitions { kind, there_were, there_are };
        // One of the kind c is there, and is not what it was.
        assert_eq!(chosen.losses, [lost(b'a', 2, 1), lost(b'c', 1, 1)]);
        let nothing = Copies::new(table(&[]), None, Held::default(), stamped(5, &ALL)).choose(true);
        assert_eq!(nothing.losses, [lost(b'a', 2, 0), lost(b'b', 1, 0), lost(b'c', 1, 0)]);
        let nobody_knows = Copies::new(table(&["a1"]), None, Held::default(), None).choose(true);
        assert_eq!(nobody_knows.losses, [Loss::AllDefinitions]);
    }

    #[test]
    fn what_an_earlier_version_wrote_is_taken_as_it_is() {
        let mut copies = Copies::new(table(&ALL[..2]), None, Held::default(), None);
        assert!(copies.take(&[(b"b1", Some(b"v")), (b"a2", None)], None));
        let chosen = copies.choose(false);
        assert_eq!(keys(&chosen), ["a1", "b1"]);
        assert!(chosen.is_stamp_due && chosen.losses.is_empty());
        let new = Copies::new(table(&[]), None, Held::default(), None).choose(false);
        assert!(!new.is_stamp_due);
    }
}
