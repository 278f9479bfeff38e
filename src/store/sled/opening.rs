//! Opening a data directory: the log is replayed on top of the database, and the definitions are those of whichever copy is whole.

use super::checkpoint::{self, Alarm, Moving};
use super::database::Database;
use super::definitions::{Chosen, Copies};
use super::{Known, Shared, SledStore, Writing};
use crate::message::Lsn;
use crate::store::definitions_file::{DefinitionsFile, Held};
use crate::store::directory::Directory;
use crate::store::stamp::Tally;
use crate::store::wal::{Place, Replayed, Wal, WalOptions};
use crate::store::{Definitions, Durability, StoreError};
use parking_lot::{Mutex, RwLock};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// See [`SledStore::open_with`].
pub(super) fn open(
    path: &Path,
    durability: Durability,
    options: WalOptions,
) -> Result<SledStore, StoreError> {
    let directory = Directory::open(path)?;
    let (database, definitions) = Database::open_or_salvage(&directory, durability)?;
    let unusable = |reason| directory.unusable(reason);
    let last = database.last().map_err(unusable)?;
    let held = Held::of(path, directory.magic());
    let held =
        held.map_err(|error| directory.refused(format!("{error}, reading the file of definitions")))?;
    let going_on = DefinitionsFile::open(path, directory.magic(), &held);
    let marked = database.stamp().map_err(unusable)?;
    let copies = Copies::new(definitions, marked, held, directory.noted_stamp());
    let known = Known { overlap: last, ..Known::default() };
    let mut replay = Replay { known, copies, last, is_sure_of_last: false };
    let mut take = |entry: Replayed<'_>, place: Option<Place>| replay.take(entry, place);
    let wal =
        Wal::open(directory.wal(), directory.wal_magic(), durability, options.for_volume(path), &mut take);
    let wal = wal.map_err(|error| directory.refused(format!("{error}, reading the write-ahead log")))?;
    directory.sync_entries(&[directory.wal()])?;
    let sequence = database.sequence().map_err(unusable)?.unwrap_or(0);
    let Chosen { table, version, mend, is_stamp_due, is_file_whole, losses } =
        replay.copies.choose(directory.is_stamped());
    // A file that lacks something, or can't be opened, is written anew.
    let file = going_on.ok().filter(|_| is_file_whole);
    let file = file.unwrap_or_else(|| DefinitionsFile::behind(path, directory.magic()));
    let writing = Writing {
        wal,
        last: replay.last,
        noted: directory.noted(),
        tally: Tally::of(version, &table),
        noted_version: 0,
        file,
        failed: None,
    };
    let shared = Arc::new(Shared {
        moving: Mutex::new(Moving::new(sequence)),
        writing: Mutex::new(writing),
        known: Mutex::new(replay.known),
        current: RwLock::new(Arc::new(database)),
        alarm: Alarm::default(),
        syncs: AtomicU64::new(0),
        held_up: Mutex::default(),
        lost: losses,
        directory,
        durability,
    });
    let mut store = SledStore { shared, mover: None };
    if is_stamp_due {
        match store.define(&mend) {
            // Where nothing is to be mended the next change says what the table is.
            Err(error) if mend.is_empty() && error.may_pass() => {}
            defined => defined?,
        }
        store.shared.sync(&mut store.shared.writing.lock())?;
    }
    store.shared.rewrite_definitions_if_due()?;
    if options.in_background {
        let started = checkpoint::start(store.shared.clone());
        store.mover = Some(started.map_err(|error| store.shared.directory.refused(error.to_string()))?);
    }
    Ok(store)
}

/// The most missing records that are reported one by one.
const LISTED_MAX: u64 = 4096;

/// Takes what the log says.
struct Replay {
    known: Known,
    copies: Copies,
    last: Lsn,
    /// Whether the log has said what the last record before its first one is.
    is_sure_of_last: bool,
}

impl Replay {
    fn take(&mut self, entry: Replayed<'_>, place: Option<Place>) {
        match entry {
            Replayed::Start(lsn) => {
                self.last = lsn.max(self.last);
                self.is_sure_of_last = true;
            }
            Replayed::Record(lsn) => {
                if self.is_sure_of_last {
                    // Of more than those the next record says how many there were.
                    let first = (self.last.0 + 1).max(lsn.0.saturating_sub(LISTED_MAX));
                    self.known.damaged.extend((first..lsn.0).map(Lsn));
                }
                self.last = lsn.max(self.last);
                self.is_sure_of_last = true;
                self.known.in_wal.extend(place.map(|place| (lsn, place)));
            }
            Replayed::Discard(lsns) => lsns.into_iter().for_each(|lsn| self.known.discard(lsn)),
            Replayed::Changes(changes, stamp) => {
                if self.copies.take(&changes, stamp) {
                    changes.into_iter().for_each(|(key, value)| self.known.define(key, value));
                }
            }
            Replayed::Damaged(entries) => {
                tracing::error!("{entries} entries of the write-ahead log are damaged");
            }
        }
    }
}
