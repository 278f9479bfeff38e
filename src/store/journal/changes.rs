//! What one session's turn changes in stored queues, encoded as it goes; handed to [`super::Journal::append`].

use super::record::{OperationWriter, Target};
use crate::message::{Millis, Position, QueueId, StoredShape};

/// What one turn changed. All of it lands in one record, so it happens whole or not at all.
///
/// A queue and a position name one copy of a message and are never used again. What is said about one copy may reach the journal in any order
/// between sessions: an acknowledgement may be appended before the publish that it answers.
#[derive(Debug, Default)]
pub struct Changes {
    pub(super) encoded: Vec<u8>,
    /// The settle written last, so that the next position can join it.
    settled: Option<Settled>,
    /// A bit for each queue (its id modulo 64) that is spoken of.
    pub(super) queues: u64,
    /// Whether something is in it that has to be made durable without being asked for.
    pub(super) enqueues: bool,
}

#[derive(Clone, Copy, Debug)]
struct Settled {
    at: usize,
    queue: QueueId,
    first: Position,
    last: Position,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Bytes that it takes in a record.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// A message went into queues; its content is written once for all of them. A target is a queue, the position in it,
    /// and the priority that the message has there (0 where the queue has none).
    pub fn enqueue(
        &mut self,
        stored: (&[u8], StoredShape),
        enqueued_at: Millis,
        targets: &[(QueueId, Position, u8)],
    ) {
        self.enqueues = true;
        self.write_enqueue(stored, enqueued_at, false, targets);
    }

    /// As [`Changes::enqueue`], for messages that leave memory because there is no room for them: they can be read back while
    /// the broker runs, and are not recovered after a restart.
    pub fn spill(
        &mut self,
        stored: (&[u8], StoredShape),
        enqueued_at: Millis,
        targets: &[(QueueId, Position, u8)],
    ) {
        self.write_enqueue(stored, enqueued_at, true, targets);
    }

    /// A message has left its queue for good.
    pub fn settle(&mut self, queue: QueueId, position: Position) {
        self.settle_range(queue, position, position);
    }

    /// Every message from `first` to `last` has left its queue for good, those among them that the journal has yet to hear
    /// of. Nothing when `last` is before `first`.
    pub fn settle_range(&mut self, queue: QueueId, first: Position, last: Position) {
        if last < first {
            return;
        }
        let mut settled = Settled { at: self.encoded.len(), queue, first, last };
        if let Some(before) = self.settled
            && before.queue == queue
            && before.last.0.checked_add(1) == Some(first.0)
        {
            settled = Settled { last, ..before };
            self.encoded.truncate(settled.at);
        }
        self.settled = Some(settled);
        self.queues |= queue_bit(queue);
        OperationWriter(&mut self.encoded).settle(queue, settled.first, last);
    }

    /// A message was delivered and came back: it is redelivered from now on. `delivery_count` is what a later delivery is to
    /// be counted from.
    pub fn requeue(&mut self, queue: QueueId, position: Position, delivery_count: u32) {
        self.settled = None;
        self.queues |= queue_bit(queue);
        OperationWriter(&mut self.encoded).requeue(queue, position, delivery_count);
    }

    /// Every message of this priority up to `position` was handed to a consumer at least once: after a crash those still
    /// there come back redelivered. Said once a turn and queue, for the furthest position.
    pub fn delivered(&mut self, queue: QueueId, priority: u8, position: Position) {
        self.settled = None;
        self.queues |= queue_bit(queue);
        OperationWriter(&mut self.encoded).delivered(queue, priority, position);
    }

    /// A queue is gone, with all that is in it.
    pub fn drop_queue(&mut self, queue: QueueId) {
        self.settled = None;
        self.queues |= queue_bit(queue);
        OperationWriter(&mut self.encoded).drop_queue(queue);
    }

    /// A copy of a message that is kept already, with what was noted about it since.
    pub(super) fn copy(
        &mut self,
        stored: (&[u8], StoredShape),
        enqueued_at: Millis,
        transient: bool,
        targets: &[Target],
    ) {
        self.settled = None;
        self.enqueues |= !transient;
        for target in targets {
            self.queues |= queue_bit(target.queue);
        }
        let targets = targets.iter().copied();
        OperationWriter(&mut self.encoded).enqueue(stored, enqueued_at, transient, targets);
    }

    /// Empties it, and keeps its memory unless a large message made that large.
    pub(super) fn clear(&mut self) {
        self.encoded.clear();
        self.encoded.shrink_to(KEPT_BYTES_MAX);
        *self = Changes { encoded: std::mem::take(&mut self.encoded), ..Changes::default() };
    }

    fn write_enqueue(
        &mut self,
        stored: (&[u8], StoredShape),
        enqueued_at: Millis,
        transient: bool,
        targets: &[(QueueId, Position, u8)],
    ) {
        self.settled = None;
        for (queue, _, _) in targets {
            self.queues |= queue_bit(*queue);
        }
        let targets = targets.iter().map(|&(queue, position, priority)| Target {
            queue,
            position,
            priority,
            returned: None,
        });
        OperationWriter(&mut self.encoded).enqueue(stored, enqueued_at, transient, targets);
    }
}

const KEPT_BYTES_MAX: usize = 1 << 20;

/// The bit that stands for a queue in [`Changes::queues`].
pub(super) fn queue_bit(queue: QueueId) -> u64 {
    1 << (queue.0 % 64)
}

#[cfg(test)]
mod tests {
    use super::super::record::{Operation, OperationReader};
    use super::*;

    #[test]
    fn neighbouring_settles_become_one() {
        let mut changes = Changes::default();
        for position in [4, 5, 6, 8] {
            changes.settle(QueueId(1), Position(position));
        }
        changes.settle(QueueId(2), Position(9));
        changes.drop_queue(QueueId(3));
        changes.settle(QueueId(2), Position(10));
        let settled: Vec<_> = OperationReader::new(&changes.encoded)
            .filter_map(|operation| match operation {
                Operation::Settle { queue, first, last } => Some((queue.0, first.0, last.0)),
                _ => None,
            })
            .collect();
        assert_eq!(settled, [(1, 4, 6), (1, 8, 8), (2, 9, 9), (2, 10, 10)]);
        assert!(OperationReader::is_sound(&changes.encoded));
    }
}
