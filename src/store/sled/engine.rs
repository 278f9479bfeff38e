//! What the engine does for the journal: its log of records and its table of definitions.

use super::checkpoint::{Moving, Purpose};
use super::{Known, Shared, SledStore};
use crate::message::Lsn;
use crate::store::stream::{FolderFiles, StreamFiles};
use crate::store::wal::{Entry, Place, Reader};
use crate::store::{
    Checkpoint, DefinitionChanges, Definitions, Durability, Loss, RecordLog, Scanned, StoreError, StreamStore,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// What a scan begins with.
struct Scan {
    /// Records in the log; without a reader those that are damaged.
    in_wal: BTreeMap<Lsn, Option<Reader>>,
    removed: BTreeSet<Lsn>,
    /// Records of the database that need not be read.
    before: BTreeMap<Lsn, u32>,
    database_from: Lsn,
}

/// What a scan found in the database.
#[derive(Default)]
struct Found {
    records: BTreeMap<Lsn, u32>,
    damaged: Vec<Lsn>,
}

impl Scan {
    fn new(known: &Known, from: Lsn) -> Scan {
        let damaged = known.damaged.iter().map(|lsn| (*lsn, None));
        let readable = known.in_wal.iter().map(|(lsn, place)| (*lsn, Some(place.reader())));
        let in_wal = damaged.chain(readable).collect();
        let removed = known.removed.clone();
        // What is before that is read as well unless it is known.
        let before = known.in_database.as_ref().filter(|_| from > Lsn(1));
        let before = before.map(|records| records.range(..from).map(|(lsn, bytes)| (*lsn, *bytes)).collect());
        let database_from = if before.is_some() { from } else { Lsn(1) };
        Scan { in_wal, removed, before: before.unwrap_or_default(), database_from }
    }

    fn found(&self) -> Found {
        Found { records: self.before.clone(), damaged: Vec::new() }
    }
}

impl Found {
    fn note(&mut self, lsn: Lsn, scanned: &Scanned) {
        match scanned {
            Scanned::Record(record) => {
                self.records.insert(lsn, u32::try_from(record.len()).unwrap_or(u32::MAX));
            }
            Scanned::Damaged(_) => self.damaged.push(lsn),
        }
    }

    fn highest(&self) -> Option<Lsn> {
        self.records.keys().next_back().max(self.damaged.last()).copied()
    }
}

impl Shared {
    /// Knows from now on which records the database has. One that is damaged is left for a new one.
    fn take_over(&self, found: Found, moving: &Moving) -> Result<(), StoreError> {
        let Found { mut records, damaged } = found;
        if !damaged.is_empty() {
            let readable: Vec<Lsn> = records.keys().copied().collect();
            if !self.leave_damaged_database(&readable, moving)? {
                // What there is of them goes when they are discarded.
                records.extend(damaged.into_iter().map(|lsn| (lsn, 0)));
            }
        }
        if let Err(reason) = self.current().fill_kept(&records) {
            tracing::warn!("the next start reads all records: which there are can't be noted: {reason}");
        }
        let mut known = self.known.lock();
        known.database_bytes = records.values().map(|bytes| u64::from(*bytes)).sum();
        known.in_database = Some(records);
        Ok(())
    }
}

impl Definitions for SledStore {
    fn define(&self, changes: &DefinitionChanges) -> Result<(), StoreError> {
        let shared = &self.shared;
        let mut writing = shared.writing()?;
        shared.append_definitions(&mut writing, changes)?;
        let mut known = shared.known.lock();
        changes.iter().for_each(|(key, value)| known.define(key, value));
        Ok(())
    }

    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        // No checkpoint may come in between.
        let _moving = self.shared.moving.lock();
        let read = self.shared.current().definitions();
        let mut definitions = read.map_err(|reason| {
            let what = self.shared.directory.database();
            self.shared.directory.failed(&what.display().to_string(), &reason)
        })?;
        for (key, change) in &self.shared.known.lock().definitions {
            match &change.value {
                Some(value) => definitions.insert(key.clone(), value.clone()),
                None => definitions.remove(key),
            };
        }
        Ok(definitions.into_iter().collect())
    }

    fn lost_definitions(&self) -> Vec<Loss> {
        self.shared.lost.clone()
    }
}

impl StreamStore for SledStore {
    fn stream_files(&self) -> Arc<dyn StreamFiles> {
        let syncs = self.shared.durability == Durability::Fsync;
        Arc::new(FolderFiles::new(self.shared.directory.streams(), syncs))
    }
}

impl RecordLog for SledStore {
    fn append(&self, head: &[u8], body: &Bytes) -> Result<Lsn, StoreError> {
        let shared = &self.shared;
        let mut writing = shared.writing()?;
        let last = writing.last;
        let lsn = Lsn(last.0 + 1);
        let appended = writing.wal.append(Entry::Record(lsn, head, body), last);
        let place =
            appended.map_err(|error| shared.fail(&mut writing, "a record can't be written", &error))?;
        writing.last = lsn;
        shared.known.lock().in_wal.extend(place.map(|place| (lsn, place)));
        shared.alarm.ring_if(writing.wal.is_checkpoint_due());
        Ok(lsn)
    }

    fn sync(&self) -> Result<Lsn, StoreError> {
        let mut writing = self.shared.writing()?;
        self.shared.sync(&mut writing)?;
        let (last, is_too_large) = (writing.last, writing.wal.is_too_large());
        drop(writing);
        if self.mover.is_none() {
            self.shared.make_checkpoints(true)?;
        } else if is_too_large {
            match self.shared.checkpoint(Purpose::Room) {
                // What was synced is durable. Further writes wait until the shortage is over.
                Err(StoreError::Exhausted(_)) => {}
                made => drop(made?),
            }
        }
        Ok(last)
    }

    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError> {
        let (reader, may_be_in_database) = {
            let known = self.shared.known.lock();
            (known.in_wal.get(&lsn).map(Place::reader), known.may_be_in_database(lsn))
        };
        let unreadable =
            |reason: String| self.shared.directory.failed(&format!("record {lsn} can't be read"), &reason);
        match reader {
            Some(reader) => {
                let record = reader.read(self.shared.directory.wal_magic(), lsn);
                record.map(Some).map_err(|error| unreadable(error.to_string()))
            }
            None if !may_be_in_database => Ok(None),
            None => self.shared.current().read(lsn).map_err(unreadable),
        }
    }

    fn scan(&self, from: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)) -> Result<(), StoreError> {
        let shared = &self.shared;
        let moving = shared.moving.lock();
        let (last, noted) = {
            let writing = shared.writing.lock();
            (writing.last, writing.noted.last)
        };
        let magic = shared.directory.wal_magic();
        let scan = Scan::new(&shared.known.lock(), from);
        let mut found = scan.found();
        let mut from_wal = scan.in_wal.range(from..).peekable();
        let mut scan_wal = |below: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)| {
            while let Some((lsn, reader)) = from_wal.next_if(|(lsn, _)| **lsn < below) {
                let damaged = || Err(io::Error::other("it is damaged in the write-ahead log"));
                let record = reader.as_ref().map_or_else(damaged, |reader| reader.read(magic, *lsn));
                visit(*lsn, record.map_or_else(|error| Scanned::Damaged(error.to_string()), Scanned::Record));
            }
        };
        shared.current().scan(scan.database_from, last, &mut |lsn, scanned| {
            if scan.in_wal.contains_key(&lsn) || scan.removed.contains(&lsn) {
                return;
            }
            found.note(lsn, &scanned);
            if lsn >= from {
                scan_wal(lsn, visit);
                visit(lsn, scanned);
            }
        });
        scan_wal(Lsn(u64::MAX), visit);
        let highest = found.highest().max(scan.in_wal.keys().next_back().copied()).unwrap_or_default();
        shared.take_over(found, &moving)?;
        if noted > last {
            visit(noted, Scanned::Damaged(format!("it was durable, and the log ends at record {last}")));
            shared.writing.lock().last = noted;
        } else if highest < last {
            // The last one is never discarded, since numbers are counted on from it.
            visit(last, Scanned::Damaged("it was the last one, and neither log nor database has it".into()));
        }
        Ok(())
    }

    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError> {
        let mut writing = self.shared.writing()?;
        let last = writing.last;
        let appended = writing.wal.append(Entry::Discard(lsns), last);
        appended.map_err(|error| self.shared.fail(&mut writing, "records can't be removed", &error))?;
        let mut known = self.shared.known.lock();
        lsns.iter().for_each(|lsn| known.discard(*lsn));
        self.shared.alarm.ring_if(writing.wal.is_checkpoint_due() || !known.removed.is_empty());
        Ok(())
    }

    fn checkpoint(&self, at: Lsn, state: &[u8]) -> Result<(), StoreError> {
        self.shared.keep_checkpoint(at, state)
    }

    fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.shared.kept_checkpoint()
    }

    fn shortage(&self) -> Option<StoreError> {
        let mut writing = self.shared.writing.lock();
        let made = writing.wal.make_ready();
        drop(writing);
        let what = "the next file of the write-ahead log can't be made";
        let of_log = made.err().map(|error| self.shared.directory.failed_or_exhausted(what, &error));
        of_log.or_else(|| self.shared.held_up.lock().clone())
    }
}
