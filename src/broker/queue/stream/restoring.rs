//! The start: what the journal has of a stream, and its log has not.

use super::{Kept, State, Stream, offset_of, position_of};
use crate::broker::error::BrokerError;
use crate::broker::turn::Turn;
use crate::message::{Message, Position};
use crate::store::RecoveredQueue;
use crate::store::stream::StreamLog;
use std::sync::Arc;

/// Bytes that are read back from the journal at a time.
const RESTORED_BYTES: usize = 4 << 20;

impl Stream {
    /// Takes over what the journal has that is not in the log. What both have is the log's from now on.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub(in crate::broker::queue) fn restore(
        self: &Arc<Self>,
        recovered: &RecoveredQueue,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        let mut log = self.log.lock();
        let mut state = self.state.lock();
        let written = log.next_offset();
        // The log was synced when it was opened.
        for run in recovered.runs.iter().filter(|run| offset_of(run.first) < written) {
            let last = run.first.0 + u64::from(run.count) - 1;
            turn.changes.settle_range(self.definition.id, run.first, Position(last.min(written)));
        }
        let mut from = position_of(written);
        let failed = |error: crate::store::StoreError| BrokerError::Store(error.to_string());
        while from <= recovered.highest {
            let read = self.journal.read(self.definition.id, 0, from, RESTORED_BYTES).map_err(failed)?;
            let Some(last) = read.last() else { break };
            from = Position(last.position.0 + 1);
            for stored in read {
                let offset = offset_of(stored.position);
                match Message::from_stored(stored.content, stored.shape) {
                    Ok(message) => state.tail.restore(offset, message, stored.enqueued_at),
                    Err(error) => {
                        tracing::error!(
                            "message {offset} of {} can't be read: {error}",
                            self.definition.resource()
                        );
                    }
                }
            }
            // What is many is not kept in memory.
            self.write(&mut log, &mut state)?;
        }
        state.tail.skip_to(offset_of(Position(recovered.highest.0 + 1)));
        state.kept = Kept::of(&log);
        state.count_memory();
        self.streams.ring(self);
        Ok(())
    }

    /// Takes over what the journal has of what is remembered of consumers.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub(in crate::broker::queue) fn restore_tracking(
        self: &Arc<Self>,
        recovered: &RecoveredQueue,
    ) -> Result<(), BrokerError> {
        let mut state = self.state.lock();
        let failed = |error: crate::store::StoreError| BrokerError::Store(error.to_string());
        let mut from = Position(0);
        while from <= recovered.highest {
            let queue = state.tracking.queue();
            let read = self.journal.read(queue, 0, from, RESTORED_BYTES).map_err(failed)?;
            let Some(last) = read.last() else { break };
            from = Position(last.position.0 + 1);
            for stored in read {
                if !state.tracking.restore(stored.position, &stored.content) {
                    tracing::error!(
                        "what a consumer of {} has acknowledged can't be read",
                        self.definition.resource()
                    );
                }
            }
        }
        state.tracking.skip_to(recovered.highest);
        drop(state);
        self.streams.ring(self);
        Ok(())
    }

    /// Writes what is durable to the log while both are locked: at the start only.
    fn write(&self, log: &mut StreamLog, state: &mut State) -> Result<(), BrokerError> {
        let failed = |error: std::io::Error| {
            BrokerError::Store(format!("{} can't be written: {error}", self.definition.resource()))
        };
        let batch = state.tail.unwritten(usize::MAX);
        for entry in &batch.entries {
            log.append(entry.offset, entry.enqueued_at, entry.message.stored()).map_err(failed)?;
        }
        log.flush(batch.last_at).map_err(failed)?;
        state.tail.note_written(batch.end);
        state.tail.drop_written(batch.end, 0);
        Ok(())
    }
}
