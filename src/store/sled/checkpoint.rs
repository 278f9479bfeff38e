//! Checkpoints: what is still needed of the log's oldest segment goes into the database, and the segment goes. A thread of the
//! store's own makes them; writers that are faster than it wait for it.

use super::database::{Database, PART_BYTES, REMOVED_AT_ONCE};
use super::{Change, Shared};
use crate::message::Lsn;
use crate::store::directory::Note;
use crate::store::exhausted::lasting;
use crate::store::stamp::Stamp;
use crate::store::wal::{Reader, Segment};
use crate::store::{Durability, StoreError};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A database file smaller than this is left as it is.
const SHRINK_FILE_BYTES_MIN: u64 = 64 << 20;
/// More than this is not copied to make a database smaller.
const SHRINK_LIVE_BYTES_MAX: u64 = 256 << 20;
/// The same where the volume has little room left.
const SHRINK_TIGHT_FILE_BYTES_MIN: u64 = 16 << 20;
const SHRINK_TIGHT_LIVE_BYTES_MAX: u64 = 512 << 20;

/// How many checkpoints pass before a rewrite that failed is tried again: a gibibyte of the log, or a minute where removals alone
/// make them.
const SHRINK_PAUSE_CHECKPOINTS: u32 = 64;

/// After so long a checkpoint is made again that had no room.
const HELD_UP_PAUSE: Duration = Duration::from_millis(500);
/// How long removals wait for a checkpoint that has more to do.
const REMOVALS_PATIENCE: Duration = Duration::from_secs(1);

/// Records discarded from the database that don't wait any longer.
const REMOVALS_MAX: usize = 256;

/// What only one checkpoint at a time may touch.
pub(super) struct Moving {
    /// Counts changes of the database.
    sequence: u64,
    /// How many more checkpoints have to pass before it may be rewritten, since the last attempt has failed.
    pause: u32,
    /// After this many more attempts the file of definitions may be written anew: the last attempt has failed.
    pub(super) file_pause: u32,
}

impl Moving {
    pub(super) fn new(sequence: u64) -> Moving {
        Moving { sequence, pause: 0, file_pause: 0 }
    }
}

/// Wakes the thread that makes checkpoints.
#[derive(Default)]
pub(super) struct Alarm {
    is_ringing: AtomicBool,
    stopped: Mutex<bool>,
    rung: Condvar,
}

impl Alarm {
    pub(super) fn ring_if(&self, is_due: bool) {
        if is_due && !self.is_ringing.swap(true, Ordering::AcqRel) {
            let _stopped = self.stopped.lock();
            self.rung.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.rung.notify_one();
    }

    /// Waits until it rings, or `patience` is over; false when it is to stop.
    fn wait(&self, patience: Option<Duration>) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped && !self.is_ringing.load(Ordering::Acquire) {
            match patience {
                Some(patience) => drop(self.rung.wait_for(&mut stopped, patience)),
                None => self.rung.wait(&mut stopped),
            }
        }
        self.is_ringing.store(false, Ordering::Release);
        !*stopped
    }
}

/// Starts the thread that makes checkpoints.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
        let mut patience = None;
        while shared.alarm.wait(patience) {
            let is_patience_over = patience.is_some();
            let made = catch_unwind(AssertUnwindSafe(|| shared.make_checkpoints(is_patience_over)));
            match made {
                Ok(Ok(is_any_left)) => patience = is_any_left.then_some(REMOVALS_PATIENCE),
                Ok(Err(StoreError::Exhausted(_))) => patience = Some(HELD_UP_PAUSE),
                Ok(Err(_)) => return,
                Err(_) => {
                    let reason = "it panicked, see above".to_owned();
                    shared.writing.lock().failed =
                        Some(shared.directory.failed("a checkpoint failed", &reason));
                    return;
                }
            }
        }
    })
}

/// What a checkpoint is to be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The log is large, or its oldest segment is not needed.
    Room,
    /// Besides, removals have waited long enough.
    Removals,
    /// Everything is to be in the database.
    Everything,
}

/// What one checkpoint does.
struct Plan {
    /// The segment that goes.
    segment: Option<Arc<Segment>>,
    moved: Vec<(Lsn, Reader)>,
    removed: BTreeSet<Lsn>,
    definitions: BTreeMap<Bytes, Change>,
    /// What all definitions come to with those.
    stamp: Stamp,
}

impl Plan {
    fn is_for_database(&self) -> bool {
        !self.moved.is_empty() || !self.removed.is_empty() || !self.definitions.is_empty()
    }
}

impl Shared {
    /// Makes the checkpoints that are due; whether there are removals left that can wait.
    pub(super) fn make_checkpoints(&self, is_patience_over: bool) -> Result<bool, StoreError> {
        let is_pressing = is_patience_over || self.known.lock().removed.len() > REMOVALS_MAX;
        let mut purpose = if is_pressing { Purpose::Removals } else { Purpose::Room };
        while self.checkpoint(purpose)? {
            purpose = Purpose::Room;
        }
        self.rewrite_definitions_if_due()?;
        Ok(!self.known.lock().removed.is_empty())
    }

    /// Makes one checkpoint if there is anything to do for that purpose; whether it did.
    pub(super) fn checkpoint(&self, purpose: Purpose) -> Result<bool, StoreError> {
        let mut moving = self.moving.lock();
        let Some(plan) = self.plan(purpose)? else { return Ok(false) };
        let mut sizes = Vec::with_capacity(plan.moved.len());
        if plan.is_for_database() {
            let applied = self.apply(&plan, &mut moving);
            *self.held_up.lock() = applied.as_ref().err().filter(|error| error.may_pass()).cloned();
            sizes = applied.inspect_err(|error| self.give_up(error, &plan))?;
        }
        self.conclude(plan, sizes, &moving)?;
        self.shrink(&mut moving).inspect_err(|error| self.writing.lock().failed = Some(error.clone()))?;
        Ok(true)
    }

    /// A checkpoint was not made to its end. What it was to move is in the log, and may be in the database as well.
    fn give_up(&self, error: &StoreError, plan: &Plan) {
        if !error.may_pass() {
            return self.writing.lock().failed = Some(error.clone());
        }
        let mut known = self.known.lock();
        known.overlap = plan.moved.last().map_or(known.overlap, |(lsn, _)| known.overlap.max(*lsn));
    }

    /// What there is to do. All of it is durable in the log, so that the database never knows more than the log did.
    fn plan(&self, purpose: Purpose) -> Result<Option<Plan>, StoreError> {
        let mut writing = self.writing()?;
        let is_segment_due = writing.wal.is_checkpoint_due() || purpose == Purpose::Everything;
        if !is_segment_due && purpose == Purpose::Room {
            return Ok(None);
        }
        self.sync(&mut writing)?;
        let segment = writing.wal.oldest().filter(|_| is_segment_due).cloned();
        let known = self.known.lock();
        let moved = match &segment {
            Some(segment) => {
                let of_segment = known.in_wal.iter().take_while(|(_, place)| place.is_in(segment));
                of_segment.map(|(lsn, place)| (*lsn, place.reader())).collect()
            }
            None => Vec::new(),
        };
        let (removed, definitions) = (known.removed.clone(), known.definitions.clone());
        let plan = Plan { segment, moved, removed, definitions, stamp: writing.tally.stamp().clone() };
        let is_anything = match purpose {
            Purpose::Room => plan.segment.is_some(),
            Purpose::Removals => plan.segment.is_some() || !plan.removed.is_empty(),
            Purpose::Everything => plan.segment.is_some() || plan.is_for_database(),
        };
        Ok(is_anything.then_some(plan))
    }

    /// Brings the database up to date, durably; returns the bytes of the records that were moved.
    fn apply(&self, plan: &Plan, moving: &mut Moving) -> Result<Vec<u32>, StoreError> {
        let database = self.current();
        let what = "a checkpoint can't be made";
        let failed = |error: String| self.directory.failed(what, &error);
        let no_room = |error: io::Error| self.directory.failed_or_exhausted(what, &error);
        let (oldest, removed) = {
            let known = self.known.lock();
            let oldest = known.in_database.as_ref().and_then(|records| records.keys().next().copied());
            let removed: Vec<Lsn> = plan.removed.iter().copied().collect();
            (oldest.or(plan.moved.first().map(|(lsn, _)| *lsn)).unwrap_or_default(), removed)
        };
        let mut sizes = Vec::with_capacity(plan.moved.len());
        for (lsn, reader) in &plan.moved {
            // What can't be read stays lost; reading it later reports that.
            let record = match reader.read(self.directory.wal_magic(), *lsn) {
                Ok(record) => record,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!("record {lsn} is lost: {error}");
                    sizes.push(0);
                    continue;
                }
                Err(error) => return Err(failed(error.to_string())),
            };
            database.make_room(record.len()).map_err(no_room)?;
            database.insert(self.directory.magic(), *lsn, oldest, &record).map_err(failed)?;
            sizes.push(u32::try_from(record.len()).unwrap_or(u32::MAX));
        }
        for some in removed.chunks(REMOVED_AT_ONCE) {
            database.make_room(some.len() * PART_BYTES).map_err(no_room)?;
            database.remove(some).map_err(failed)?;
        }
        for (key, change) in &plan.definitions {
            moving.sequence += 1;
            let value = change.value.as_deref();
            database.make_room(key.len() + value.map_or(0, <[u8]>::len)).map_err(no_room)?;
            database.define(self.directory.magic(), moving.sequence, key, value).map_err(failed)?;
        }
        moving.sequence += 1;
        database.mark(moving.sequence, Some(&plan.stamp)).map_err(failed)?;
        self.persist(&database)?;
        Ok(sizes)
    }

    fn persist(&self, database: &Database) -> Result<(), StoreError> {
        let what = "the database can't be made durable";
        if self.durability != Durability::None {
            database.flush().map_err(|error| self.directory.failed(what, &error))?;
        }
        if self.durability == Durability::Fsync {
            database.fsync().map_err(|error| self.directory.failed_or_exhausted(what, &error))?;
        }
        Ok(())
    }

    /// Lets the store know, and lets the segment go.
    fn conclude(&self, plan: Plan, sizes: Vec<u32>, moving: &Moving) -> Result<(), StoreError> {
        let mut writing = self.writing()?;
        let mut known = self.known.lock();
        let known = &mut *known;
        for ((lsn, reader), bytes) in plan.moved.into_iter().zip(sizes) {
            drop(reader);
            match known.in_wal.remove(&lsn) {
                Some(place) => {
                    place.release();
                    if let Some(records) = &mut known.in_database {
                        records.insert(lsn, bytes);
                        known.database_bytes += u64::from(bytes);
                    }
                }
                // Discarded in the meantime.
                None => {
                    known.removed.insert(lsn);
                }
            }
        }
        known.removed.retain(|lsn| !plan.removed.contains(lsn));
        let is_current = |key: &Bytes, change: &Change| {
            plan.definitions.get(key).is_none_or(|applied| applied.number != change.number)
        };
        known.definitions.retain(|key, change| is_current(key, change));
        let is_going = plan.segment.is_some();
        drop(plan.segment);
        if is_going {
            let dropped = writing.wal.drop_oldest();
            dropped
                .map_err(lasting)
                .map_err(|error| self.fail(&mut writing, "a segment of the log can't be removed", &error))?;
        }
        let note = Note {
            last: writing.noted.last,
            file_bytes: self.current().file_bytes(),
            sequence: moving.sequence,
        };
        self.note(&mut writing, note)
    }

    /// Copies what lives into a new database when it is little and the file is large.
    fn shrink(&self, moving: &mut Moving) -> Result<(), StoreError> {
        let old = self.current();
        let (live_bytes, is_known) = {
            let known = self.known.lock();
            (known.database_bytes, known.in_database.is_some())
        };
        if moving.pause > 0 {
            moving.pause -= 1;
        } else if is_known && is_shrinking_due(live_bytes, &old) {
            self.rewrite(&old, live_bytes, moving)?;
        }
        Ok(())
    }

    /// Copies what lives into a new database; the switch is one durable step. A copy that fails is none: everything is where it was.
    fn rewrite(&self, old: &Database, live_bytes: u64, moving: &mut Moving) -> Result<(), StoreError> {
        let records: Vec<Lsn> = self.known.lock().in_database.iter().flatten().map(|(lsn, _)| *lsn).collect();
        let old_bytes = old.file_bytes();
        let new = match old.copy_to(&self.directory, self.durability, &records) {
            Ok(new) => new,
            Err(reason) => {
                tracing::error!(
                    "{} can't be rewritten, though {} of its {} MiB are not needed: {reason}. It stays in use, and this is \
                     tried again after {SHRINK_PAUSE_CHECKPOINTS} more checkpoints",
                    self.directory.database().display(),
                    old_bytes.saturating_sub(live_bytes) >> 20,
                    old_bytes >> 20
                );
                moving.pause = SHRINK_PAUSE_CHECKPOINTS;
                return Ok(());
            }
        };
        if let Err(error) = self.directory.advance() {
            if !error.may_pass() {
                return Err(error);
            }
            tracing::error!("the rewritten database can't be taken: {error}. The old one stays in use");
            new.remove_files();
            moving.pause = SHRINK_PAUSE_CHECKPOINTS;
            return Ok(());
        }
        tracing::info!(
            "rewrote the database: {} MiB on disk held {} MiB that was needed",
            old_bytes >> 20,
            live_bytes >> 20
        );
        self.go_on_with(new, moving)?;
        old.remove_files();
        Ok(())
    }

    fn go_on_with(&self, new: Database, moving: &Moving) -> Result<(), StoreError> {
        let file_bytes = new.file_bytes();
        *self.current.write() = Arc::new(new);
        let mut writing = self.writing()?;
        let note = Note { file_bytes, sequence: moving.sequence, ..writing.noted };
        self.note(&mut writing, note)
    }

    /// Copies these records, which can be read, into a new database and puts the damaged one aside: sled's tree may lead to
    /// one leaf when it is walked and to another when something is to be removed, so what is damaged would come back with
    /// every start. Whether there was room for that.
    pub(super) fn leave_damaged_database(
        &self,
        readable: &[Lsn],
        moving: &Moving,
    ) -> Result<bool, StoreError> {
        let old = self.current();
        let new = match old.copy_to(&self.directory, self.durability, readable) {
            Ok(new) => new,
            Err(reason) => {
                tracing::error!("the damaged database stays in use, since it can't be rewritten: {reason}");
                return Ok(false);
            }
        };
        let aside = self.directory.advance_past_damage()?;
        tracing::error!(
            "moved what can be read of a damaged database, {} records, to a new one; the damaged one is kept as {}, to \
             be removed by hand",
            readable.len(),
            aside.display()
        );
        self.go_on_with(new, moving)?;
        Ok(true)
    }
}

/// Whether little is left alive in a large database, or the volume has less room left than a smaller one would give back: then
/// publishers wait for room or soon will, and more is copied.
fn is_shrinking_due(live_bytes: u64, database: &Database) -> bool {
    let file_bytes = database.file_bytes();
    if file_bytes >= SHRINK_FILE_BYTES_MIN
        && live_bytes <= SHRINK_LIVE_BYTES_MAX
        && live_bytes <= file_bytes / 8
    {
        return true;
    }
    if file_bytes < SHRINK_TIGHT_FILE_BYTES_MIN
        || live_bytes > SHRINK_TIGHT_LIVE_BYTES_MAX
        || live_bytes > file_bytes / 4
    {
        return false;
    }
    let free_bytes = database.volume_free_bytes();
    free_bytes < file_bytes - live_bytes && live_bytes <= free_bytes / 4
}

#[cfg(test)]
mod tests;
