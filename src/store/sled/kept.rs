//! Which records the database has, and how long each is: a small tree beside them, so that neither has to be read to know it.
//!
//! It counts as whole while it was written with the same change of the database as the marker among the definitions. An earlier
//! version that has written since has not written this; then it is filled anew once all records were read.

use super::database::Database;
use super::guard::guarded;
use crate::message::Lsn;
use ::sled::Tree;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// The entry that says of which change of the database the tree is.
const MARKER: &[u8] = b"";

/// Number and length of each record in the database; see the module.
pub(super) struct Kept {
    tree: Tree,
    is_whole: AtomicBool,
}

impl Kept {
    /// For a database that has seen that number of changes; none when it is new.
    pub(super) fn new(tree: Tree, sequence: Option<u64>, is_empty: bool) -> Kept {
        let marked = guarded(|| tree.get(MARKER)).ok().flatten();
        let marked = marked.and_then(|marker| Some(u64::from_be_bytes(*marker.first_chunk()?)));
        let is_whole = match (sequence, marked) {
            (Some(sequence), Some(marked)) => sequence == marked,
            (None, None) => is_empty,
            _ => false,
        };
        Kept { tree, is_whole: AtomicBool::new(is_whole) }
    }

    /// The database has a record.
    pub(super) fn insert(&self, lsn: Lsn, bytes: usize) -> Result<(), String> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
        guarded(|| self.tree.insert(lsn.0.to_be_bytes(), &bytes)).map(|_| ())
    }

    /// It is about to have these no more.
    pub(super) fn remove(&self, lsns: &[Lsn]) -> Result<(), String> {
        lsns.iter().try_for_each(|lsn| guarded(|| self.tree.remove(lsn.0.to_be_bytes())).map(|_| ()))
    }

    /// Records are in the database of which it does not know.
    pub(super) fn is_not_whole(&self) {
        self.is_whole.store(false, Ordering::Release);
    }

    /// The database has seen that number of changes.
    pub(super) fn mark(&self, sequence: u64) -> Result<(), String> {
        if !self.is_whole.load(Ordering::Acquire) {
            return Ok(());
        }
        guarded(|| self.tree.insert(MARKER, &sequence.to_be_bytes())).map(|_| ())
    }
}

impl Database {
    /// The records that it has, with their bytes, unless that is not known.
    pub(super) fn kept(&self) -> Option<BTreeMap<Lsn, u32>> {
        let Kept { tree, is_whole } = self.kept_tree();
        if !is_whole.load(Ordering::Acquire) {
            return None;
        }
        let (mut records, mut entries) = (BTreeMap::new(), tree.iter());
        while let Some((key, bytes)) = guarded(|| entries.next().transpose()).ok()? {
            if let Ok(lsn) = key[..].try_into() {
                records.insert(Lsn(u64::from_be_bytes(lsn)), u32::from_be_bytes(bytes[..].try_into().ok()?));
            }
        }
        Some(records)
    }

    /// All records were read, and these are all that it has.
    pub(super) fn fill_kept(&self, records: &BTreeMap<Lsn, u32>) -> Result<(), String> {
        let kept = self.kept_tree();
        if kept.is_whole.load(Ordering::Acquire) {
            return Ok(());
        }
        guarded(|| kept.tree.clear())?;
        for (lsn, bytes) in records {
            kept.insert(*lsn, *bytes as usize)?;
        }
        kept.is_whole.store(true, Ordering::Release);
        self.sequence()?.map_or(Ok(()), |sequence| kept.mark(sequence))
    }
}
