//! What the table of definitions comes to: how many there are of each kind, and a digest of them. It is written with each change
//! of the table, so that a reader of the table knows whether all of it is there, and how much is not.
//!
//! The kind of a definition is the first byte of its key. A digest is the sum of what each definition comes to, so that a change
//! costs what is changed, and no order matters. It tells damage, not ill will: who can write to the disk can write what fits.
//! ```text
//! version (8) ‖ kinds (2) ‖ for each: kind (1) ‖ definitions (8) ‖ digest (8)
//! ```

use super::DefinitionChanges;
use bytes::{BufMut, Bytes};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// What there is of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// How many definitions.
    pub(super) count: u64,
    digest: u64,
}

impl Sum {
    fn add(&mut self, entry: u64) {
        self.count += 1;
        self.digest = self.digest.wrapping_add(entry);
    }

    fn take(&mut self, entry: u64) {
        self.count = self.count.saturating_sub(1);
        self.digest = self.digest.wrapping_sub(entry);
    }
}

/// What there is of each kind. A kind that there was may be there with none.
pub(super) type Sums = BTreeMap<u8, Sum>;

/// What the table was after a number of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Counts changes of the table.
    pub(super) version: u64,
    pub(super) sums: Sums,
}

impl Stamp {
    /// The stamp of a table after that many changes.
    pub(super) fn of(version: u64, table: &BTreeMap<Bytes, Bytes>) -> Stamp {
        let mut stamp = Stamp { version, sums: Sums::new() };
        for (key, value) in table {
            stamp.sums.entry(kind_of(key)).or_default().add(digest_of(key, value));
        }
        stamp
    }

    /// What there is of a kind.
    pub(super) fn of_kind(&self, kind: u8) -> Sum {
        self.sums.get(&kind).copied().unwrap_or_default()
    }

    /// Whether a table of this stamp is the same as one of another.
    pub(super) fn has_what(&self, other: &Stamp) -> bool {
        self.kinds().chain(other.kinds()).all(|kind| self.of_kind(kind) == other.of_kind(kind))
    }

    /// The kinds it speaks of.
    pub(super) fn kinds(&self) -> impl Iterator<Item = u8> + '_ {
        self.sums.keys().copied()
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.put_u64_le(self.version);
        into.put_u16_le(u16::try_from(self.sums.len()).expect("a byte has 256 values"));
        for (kind, sum) in &self.sums {
            into.put_u8(*kind);
            into.put_u64_le(sum.count);
            into.put_u64_le(sum.digest);
        }
    }

    /// Reads one, and returns what follows it.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Stamp, &[u8])> {
        let (version, rest) = bytes.split_first_chunk()?;
        let (kinds, mut rest) = rest.split_first_chunk()?;
        let mut stamp = Stamp { version: u64::from_le_bytes(*version), sums: Sums::new() };
        for _ in 0..u16::from_le_bytes(*kinds) {
            let (&kind, behind) = rest.split_first()?;
            let (count, behind) = behind.split_first_chunk()?;
            let (digest, behind) = behind.split_first_chunk()?;
            let sum = Sum { count: u64::from_le_bytes(*count), digest: u64::from_le_bytes(*digest) };
            stamp.sums.insert(kind, sum);
            rest = behind;
        }
        Some((stamp, rest))
    }
}

/// Keeps the stamp of a table that changes, without the table.
#[derive(Debug, Default)]
pub(super) struct Tally {
    stamp: Stamp,
    /// What each definition comes to, by a hash of its key that nobody outside can foresee.
    entries: HashMap<u64, u64>,
    hasher: RandomState,
}

/// What [`Tally::change`] did, to be taken back when the change is not written.
pub(super) struct Undo {
    stamp: Stamp,
    entries: Vec<(u64, Option<u64>)>,
}

impl Tally {
    /// Of a table that was changed so often.
    pub(super) fn of(version: u64, table: &BTreeMap<Bytes, Bytes>) -> Tally {
        let mut tally = Tally { stamp: Stamp::of(version, table), ..Tally::default() };
        for (key, value) in table {
            let at = tally.hasher.hash_one(&key[..]);
            tally.entries.insert(at, digest_of(key, value));
        }
        tally
    }

    /// The stamp as the table is now.
    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The table is changed.
    pub(super) fn change(&mut self, changes: &DefinitionChanges) -> Undo {
        let mut undo = Undo { stamp: self.stamp.clone(), entries: Vec::new() };
        self.stamp.version += 1;
        for (key, value) in changes.iter() {
            let at = self.hasher.hash_one(key);
            let sum = self.stamp.sums.entry(kind_of(key)).or_default();
            let before = match value {
                Some(value) => {
                    let entry = digest_of(key, value);
                    sum.add(entry);
                    self.entries.insert(at, entry)
                }
                None => self.entries.remove(&at),
            };
            if let Some(before) = before {
                sum.take(before);
            }
            undo.entries.push((at, before));
        }
        undo
    }

    /// The change did not happen.
    pub(super) fn undo(&mut self, undo: Undo) {
        self.stamp = undo.stamp;
        for (at, before) in undo.entries.into_iter().rev() {
            match before {
                Some(entry) => self.entries.insert(at, entry),
                None => self.entries.remove(&at),
            };
        }
    }
}

/// The kind of what stands under a key.
pub(super) fn kind_of(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or_default()
}

/// FNV-1a of 64 bits over the key behind its length and the value, mixed so that sums of it tell one definition from another.
fn digest_of(key: &[u8], value: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let length = (key.len() as u64).to_le_bytes();
    let bytes = length.iter().chain(key).chain(value);
    let mut digest = bytes.fold(BASIS, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(PRIME));
    digest = (digest ^ (digest >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    digest = (digest ^ (digest >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    digest ^ (digest >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&'static str, &'static str)]) -> BTreeMap<Bytes, Bytes> {
        entries.iter().map(|(key, value)| (Bytes::from(*key), Bytes::from(*value))).collect()
    }

    fn put(entries: &[(&str, &str)]) -> DefinitionChanges {
        let mut changes = DefinitionChanges::default();
        entries.iter().for_each(|(key, value)| changes.put(key.as_bytes(), value.as_bytes()));
        changes
    }

    #[test]
    fn a_tally_comes_to_what_its_table_does() {
        let mut tally = Tally::default();
        tally.change(&put(&[("a1", "x"), ("a2", "y"), ("b1", "z")]));
        let mut changes = put(&[("a1", "other"), ("c", "")]);
        changes.remove(b"b1");
        changes.remove(b"never");
        tally.change(&changes);
        let now = table(&[("a1", "other"), ("a2", "y"), ("c", "")]);
        let of_table = Stamp::of(2, &now);
        assert!(tally.stamp().has_what(&of_table), "{:?} {of_table:?}", tally.stamp());
        assert_eq!((tally.stamp().version, tally.stamp().of_kind(b'a').count), (2, 2));
        let again = Tally::of(2, &now);
        assert_eq!(again.stamp(), &of_table);
        // What was not written did not happen.
        let undo = tally.change(&put(&[("a1", "x"), ("a1", "y"), ("d", "")]));
        assert!(!tally.stamp().has_what(&of_table));
        tally.undo(undo);
        assert!(tally.stamp().has_what(&of_table));
        tally.change(&put(&[("a1", "other")]));
        assert!(tally.stamp().has_what(&of_table));
    }

    #[test]
    fn one_bit_tells_two_tables_apart() {
        let one = Stamp::of(1, &table(&[("ab", "c"), ("ad", "e")]));
        for other in [&[("ab", "c")][..], &[("ab", "c"), ("ad", "d")], &[("abc", ""), ("ad", "e")]] {
            assert!(!one.has_what(&Stamp::of(1, &table(other))), "{other:?}");
        }
    }

    #[test]
    fn what_was_encoded_comes_back_and_what_is_cut_does_not() {
        let stamp = Stamp::of(7, &table(&[("ab", "c"), ("b", "e")]));
        let mut bytes = Vec::new();
        stamp.encode(&mut bytes);
        let whole = bytes.len();
        bytes.extend_from_slice(b"rest");
        assert_eq!(Stamp::decode(&bytes), Some((stamp, &b"rest"[..])));
        for end in 0..whole {
            assert_eq!(Stamp::decode(&bytes[..end]), None, "cut at {end}");
        }
    }
}
