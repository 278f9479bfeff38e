//! What a stream has to do that may take as long as the disk does: on the one thread that does it for all streams.

use super::consumers::At;
use super::reader::Found;
use super::tail::Unwritten;
use super::{Kept, State, Stream, position_of};
use crate::broker::turn::Turn;
use crate::message::{ConsumerId, Lsn, Message, Millis, NEVER, Position};
use crate::store::stream::{ReadAt, Retention, StreamLog};
use std::io;
use std::sync::Arc;

/// Bytes that are written for a stream before others have their turn.
const WRITTEN_AT_ONCE: usize = 4 << 20;

/// Bytes that are written and not synced, after which they are.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// How long what is written may stay without being synced: so long the journal keeps it, too.
const SYNC_AFTER_MS: u64 = 1000;

/// How long the files of a deleted stream stay at least. What deletes it has been handed to the journal by then.
const REMOVE_AFTER_MS: u64 = 1000;

/// How long to wait when what is remembered of consumers is not all durable.
const RETRY_TRACKING_MS: u64 = 50;

/// How long to wait when the disk has refused something.
const RETRY_AFTER_MS: u64 = 1000;

/// Bytes of messages in the log that are kept in memory for consumers near the end.
const TAIL_BYTES_MAX: usize = 4 << 20;

/// Bytes that are read for a consumer at a time.
const READ_BYTES: usize = 256 << 10;

impl Stream {
    /// Does what is due: shows consumers what has become durable, moves it into the log, reads for those that are further back, and
    /// removes what is not kept any more.
    pub(in crate::broker) fn work(self: &Arc<Self>, durable: Lsn, turn: &mut Turn) {
        let mut log = self.log.lock();
        if self.end_if_closed(&mut log, durable, turn.now) {
            return;
        }
        let unwritten = self.show_durable(durable, turn);
        let outcome = self.write_and_sync(&mut log, unwritten, turn).and_then(|()| {
            self.forget_expired(turn);
            self.write_tracking(durable, turn)?;
            self.find_resets(&mut log, turn)?;
            self.answer_questions(&mut log, turn)?;
            self.read_for_consumers(&mut log, turn)?;
            self.read_times(&mut log)?;
            self.retain(&mut log, turn.now)
        });
        let mut state = self.state.lock();
        state.kept = Kept::of(&log);
        if let Err(error) = outcome {
            tracing::error!("{}: {error}. It is tried again in a second", self.definition.resource());
            self.wake_at(&mut state, turn.now + RETRY_AFTER_MS, turn.now);
            return;
        }
        self.ask_again(&mut state, &mut log, turn.now);
    }

    /// Removes the files of a stream that was deleted, once that is durable: before, a crash brings the stream back.
    fn end_if_closed(self: &Arc<Self>, log: &mut StreamLog, durable: Lsn, now: Millis) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            return false;
        }
        if state.is_removed {
            return true;
        }
        let is_first_look = state.removed_from.is_none();
        let removed_from = *state.removed_from.get_or_insert(now + REMOVE_AFTER_MS);
        if is_first_look || now < removed_from || self.journal.defined() > durable {
            self.streams.wake_at(removed_from.max(now + 1), self);
            return true;
        }
        state.is_removed = true;
        drop(state);
        if let Err(error) = log.remove() {
            tracing::error!(
                "the files of the deleted {} can't be removed: {error}",
                self.definition.resource()
            );
        }
        true
    }

    /// Lets consumers see what is durable; returns what is to be written of it.
    fn show_durable(self: &Arc<Self>, durable: Lsn, turn: &mut Turn) -> Unwritten {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(lsn) = state.tail.note_durable(durable) {
            self.streams.await_record(lsn, self);
        }
        let ids: Vec<ConsumerId> = state.readers.iter().map(|reader| reader.new.id).collect();
        for id in ids {
            state.readers.serve(id, &state.tail, &mut state.stats, turn);
        }
        state.tail.unwritten(WRITTEN_AT_ONCE)
    }

    fn write_and_sync(
        self: &Arc<Self>,
        log: &mut StreamLog,
        unwritten: Unwritten,
        turn: &mut Turn,
    ) -> io::Result<()> {
        // What could not be written before is written anew.
        let from = log.next_offset();
        if from < unwritten.end {
            for entry in unwritten.entries.iter().filter(|entry| entry.offset >= from) {
                log.append(entry.offset, entry.enqueued_at, entry.message.stored())?;
            }
            log.flush(unwritten.last_at)?;
        }
        let is_sync_due = {
            let mut state = self.state.lock();
            state.tail.note_written(unwritten.end);
            let wanted_from = state.readers.wanted_from(state.tail.first());
            state.tail.drop_written(wanted_from, TAIL_BYTES_MAX);
            state.count_memory();
            if log.unsynced_bytes() > 0 && state.sync_at.is_none() {
                state.sync_at = Some(turn.now + SYNC_AFTER_MS);
            }
            log.unsynced_bytes() >= UNSYNCED_BYTES_MAX || state.sync_at.is_some_and(|at| at <= turn.now)
        };
        if is_sync_due {
            let before = log.synced_offset();
            log.sync()?;
            self.state.lock().sync_at = None;
            if log.synced_offset() > before {
                // The journal may forget what survives in the log.
                let last = Position(log.synced_offset());
                turn.changes.settle_range(self.definition.id, position_of(before), last);
            }
        }
        Ok(())
    }

    /// Writes what is remembered of consumers into its file, when some of it has been in the journal alone for long enough.
    fn write_tracking(self: &Arc<Self>, durable: Lsn, turn: &mut Turn) -> io::Result<()> {
        let writing = {
            let mut state = self.state.lock();
            if !state.tracking.is_unwritten() {
                state.track_at = None;
                return Ok(());
            }
            let at = *state.track_at.get_or_insert(turn.now + SYNC_AFTER_MS);
            if at > turn.now {
                return Ok(());
            }
            match state.tracking.to_write(durable) {
                Some(writing) => writing,
                None => {
                    // Others follow all the time; what there is then may be durable.
                    state.track_at = Some(turn.now + RETRY_TRACKING_MS);
                    return Ok(());
                }
            }
        };
        writing.notes.write(&**self.journal.stream_files(), self.definition.id, writing.number)?;
        let mut state = self.state.lock();
        state.tracking.note_written(&writing, turn);
        state.track_at = None;
        Ok(())
    }

    fn find_resets(self: &Arc<Self>, log: &mut StreamLog, turn: &mut Turn) -> io::Result<()> {
        let resets = std::mem::take(&mut self.state.lock().resets);
        for (name, time) in resets {
            let next = self.offset_at(log, time)?;
            self.set_next(&mut self.state.lock(), &name, next, turn);
        }
        Ok(())
    }

    fn answer_questions(self: &Arc<Self>, log: &mut StreamLog, turn: &mut Turn) -> io::Result<()> {
        let questions = std::mem::take(&mut self.state.lock().questions);
        for question in questions {
            let offset = match &question.at {
                At::Time(time) => self.offset_at(log, *time)?,
                At::LastChunk => log.last_chunk()?,
                At::Offset(at) => at.next,
            };
            question.answer(offset, turn);
        }
        Ok(())
    }

    /// Has the stream looked at when what is remembered is to be written.
    pub(super) fn look_soon(self: &Arc<Self>, state: &mut State, now: Millis) {
        state.names_due = state.names_due.min(now + state.shortest_expiry_ms());
        if state.track_at.is_none() {
            let at = now + SYNC_AFTER_MS;
            state.track_at = Some(at);
            self.wake_at(state, at, now);
        }
    }

    fn read_for_consumers(self: &Arc<Self>, log: &mut StreamLog, turn: &mut Turn) -> io::Result<()> {
        let wanting = {
            let state = self.state.lock();
            state.readers.wanting_log(&state.tail)
        };
        for id in wanting {
            let Some((at, room)) = self.state.lock().readers.place(id) else { continue };
            let from = match &at {
                At::Time(time) => ReadAt::offset(self.offset_at(log, *time)?),
                At::LastChunk => ReadAt::offset(log.last_chunk()?),
                At::Offset(from) => from.clone(),
            };
            self.read_for(log, (id, &at), from, room.min(READ_BYTES), turn)?;
        }
        Ok(())
    }

    /// The first offset that was published at a time or later: in the log, or behind it.
    fn offset_at(&self, log: &mut StreamLog, time: Millis) -> io::Result<u64> {
        let found = log.offset_at(time)?;
        if found < log.next_offset() {
            Ok(found)
        } else {
            Ok(self.state.lock().tail.offset_at(time).max(found))
        }
    }

    fn read_for(
        &self,
        log: &mut StreamLog,
        (id, was_at): (ConsumerId, &At),
        mut at: ReadAt,
        bytes_max: usize,
        turn: &mut Turn,
    ) -> io::Result<()> {
        let mut behind = at.clone();
        let read = log.read(&mut behind, bytes_max)?;
        let mut state = self.state.lock();
        let State { readers, stats, .. } = &mut *state;
        if !readers.is_at(id, was_at) {
            // It has been set back meanwhile, or has ended.
            return Ok(());
        }
        let found = read.entries.into_iter().filter_map(|entry| {
            // An entry that can't be read is one of another version: it is left out.
            let message = Message::from_stored(entry.content, entry.shape).ok()?;
            Some(Found { offset: entry.offset, enqueued_at: entry.enqueued_at, message })
        });
        let found: Vec<Found> = found.collect();
        let end = found.last().map(|last| last.offset + 1);
        match readers.give(id, found.into_iter(), stats, turn) {
            // All that was read, and what could not be.
            Some(next) if end.is_none_or(|end| next >= end) => at = behind,
            Some(next) => at.next = next,
            None if end.is_none() => at = behind,
            None => {}
        }
        readers.move_to(id, at);
        Ok(())
    }

    fn retain(&self, log: &mut StreamLog, now: Millis) -> io::Result<()> {
        let retention = self.retention();
        let removed = log.retain(retention, now)?;
        if removed > 0 {
            tracing::debug!("{} has {removed} entries less by its retention", self.definition.resource());
        }
        Ok(())
    }

    /// How long entries are kept, by arguments and policies.
    pub(super) fn retention(&self) -> Retention {
        let state = self.state.lock();
        Retention { bytes: state.settings.max_length_bytes, age_ms: state.settings.max_age_ms }
    }

    /// Asks to be looked at when there is more to do.
    fn ask_again(self: &Arc<Self>, state: &mut State, log: &mut StreamLog, now: Millis) {
        let is_more_to_read = !state.readers.wanting_log(&state.tail).is_empty();
        let is_more_to_write = !state.tail.unwritten(1).entries.is_empty();
        if is_more_to_read || is_more_to_write || state.unread.is_any_wanted() {
            return self.streams.ring(self);
        }
        if state.sync_at.is_none() {
            log.rest();
        }
        let retention =
            Retention { bytes: state.settings.max_length_bytes, age_ms: state.settings.max_age_ms };
        let dues = [state.sync_at, state.track_at].into_iter().flatten();
        let at = dues.chain([log.due_at(retention), state.names_due]).min().unwrap_or(NEVER);
        self.wake_at(state, at, now);
    }

    fn wake_at(self: &Arc<Self>, state: &mut State, at: Millis, now: Millis) {
        let is_asked = state.wake_at.is_some_and(|asked| asked > now && asked <= at);
        if at != NEVER && !is_asked {
            state.wake_at = Some(at);
            self.streams.wake_at(at.max(now + 1), self);
        }
    }
}
