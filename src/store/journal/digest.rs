//! A digest: what recovery needs of a record, without the contents of its messages. To apply a record's digest to the index comes to the
//! same as to apply the record. Checkpoints are made of them, see [`super::checkpoint`].
//!
//! ```text
//! run     6 | flags ‖ queue ‖ first position ‖ messages ‖ priority (1) ‖ bytes of their bodies ‖
//!         with the flag "returned": delivery count
//! ```
//! and between the runs the record's other operations as it has them, each behind what the record says of its queue before. Numbers
//! without a size are LEB128. The flags of a run: 0x10, one of its messages carries an expiration; 0x20, returned: a copy of one
//! message that had come back.

use super::index::Index;
use super::ledger::Slot;
use super::numbers::Numbers;
use super::record::{Operation, OperationReader, OperationWriter, Target};
use super::recovery::RecoveredRun;
use super::runs::{OpenRuns, RecordRun, run_of};
use crate::message::{Lsn, Position, QueueId};
use crate::store::NUMBER_MAX;

const KIND: u8 = 0x0f;
const RUN: u8 = 6;
const EXPIRES: u8 = 0x10;
const RETURNED: u8 = 0x20;

/// Writes the digest of a record with this body.
pub(super) fn write_digest(body: &[u8], into: &mut Vec<u8>) {
    let mut open = OpenRuns::of(Slot(0));
    for operation in OperationReader::new(body) {
        let queue = match operation {
            Operation::Enqueue(enqueue) if enqueue.transient => continue,
            Operation::Enqueue(enqueue) => {
                for target in enqueue.targets() {
                    if target.returned.is_some() {
                        open.end_queue(target.queue, |run| write_run(into, &run, None));
                        let run = run_of(&enqueue, &target);
                        let alone = RecordRun { slot: Slot(0), queue: target.queue, run };
                        write_run(into, &alone, target.returned);
                    } else {
                        open.add(&enqueue, &target, |run| write_run(into, &run, None));
                    }
                }
                continue;
            }
            Operation::Settle { queue, .. }
            | Operation::Requeue { queue, .. }
            | Operation::DropQueue { queue }
            | Operation::Delivered { queue, .. } => queue,
        };
        open.end_queue(queue, |run| write_run(into, &run, None));
        let mut writer = OperationWriter(into);
        match operation {
            Operation::Enqueue(_) => {}
            Operation::Settle { queue, first, last } => writer.settle(queue, first, last),
            Operation::Requeue { queue, position, delivery_count } => {
                writer.requeue(queue, position, delivery_count);
            }
            Operation::DropQueue { queue } => writer.drop_queue(queue),
            Operation::Delivered { queue, priority, position } => writer.delivered(queue, priority, position),
        }
    }
    open.end(|run| write_run(into, &run, None));
}

fn write_run(into: &mut Vec<u8>, of_record: &RecordRun, returned: Option<u32>) {
    let RecordRun { queue, run, .. } = of_record;
    let expires = if run.expires { EXPIRES } else { 0 };
    let mut numbers = Numbers::new();
    numbers.byte(RUN | expires | if returned.is_some() { RETURNED } else { 0 });
    numbers.number(queue.0);
    numbers.number(run.first.0);
    numbers.number(u64::from(run.count));
    numbers.byte(run.priority);
    into.extend_from_slice(numbers.as_bytes());
    let mut numbers = Numbers::new();
    numbers.number(run.body_bytes);
    if let Some(count) = returned {
        numbers.number(u64::from(count));
    }
    into.extend_from_slice(numbers.as_bytes());
}

/// A piece of a digest.
enum Piece<'a> {
    Run(RecordRun, Option<u32>),
    Operation(Operation<'a>),
}

/// Reads the next piece. `bytes_max` bounds how many messages a run can have: none takes less than a byte of its record.
fn piece<'a>(reader: &mut OperationReader<'a>, bytes_max: u64) -> Option<Piece<'a>> {
    let kind = reader.peek()?;
    if kind & KIND != RUN {
        return reader.next().map(Piece::Operation);
    }
    let mut ahead = reader.clone();
    let run = run(&mut ahead, kind, bytes_max)?;
    *reader = ahead;
    Some(run)
}

fn run<'a>(reader: &mut OperationReader<'a>, kind: u8, bytes_max: u64) -> Option<Piece<'a>> {
    reader.byte()?;
    let queue = QueueId(reader.number()?);
    let first = reader.number().filter(|first| *first <= NUMBER_MAX)?;
    let count = reader.number().filter(|count| (1..=bytes_max).contains(count))?;
    let run = RecoveredRun {
        first: Position(first),
        count: u32::try_from(count).ok()?,
        priority: reader.byte()?,
        body_bytes: reader.number().filter(|bytes| *bytes <= NUMBER_MAX)?,
        expires: kind & EXPIRES != 0,
    };
    let returned = match kind & RETURNED != 0 {
        true => Some(u32::try_from(reader.number()?).ok()?),
        false => None,
    };
    Some(Piece::Run(RecordRun { slot: Slot(0), queue, run }, returned))
}

impl Index {
    /// As [`Index::apply`] at recovery, with the digest of a record of `record_bytes` bytes; `add` is called with its runs. False when it
    /// can't be read: then the index is of no use any more.
    pub(super) fn apply_digest(
        &mut self,
        lsn: Lsn,
        record_bytes: usize,
        digest: &[u8],
        mut add: impl FnMut(RecordRun),
    ) -> bool {
        let slot = self.ledger.open(lsn, record_bytes);
        let mut reader = OperationReader::new(digest);
        let mut messages_left = record_bytes as u64;
        while let Some(piece) = piece(&mut reader, messages_left) {
            match piece {
                Piece::Operation(operation) => self.apply_operation(slot, &operation, true),
                Piece::Run(of_record, returned) => {
                    let RecoveredRun { first, count, priority, .. } = of_record.run;
                    messages_left -= u64::from(count);
                    let queue = of_record.queue;
                    self.enqueue_run(
                        slot,
                        (0..u64::from(count)).map(|at| Target {
                            queue,
                            position: Position(first.0 + at),
                            priority,
                            returned,
                        }),
                    );
                    add(RecordRun { slot, ..of_record });
                }
            }
        }
        self.end_record(lsn, slot);
        reader.is_at_end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::changes::Changes;
    use super::super::runs::each_run;
    use super::*;
    use crate::message::StoredShape;

    const SHAPE: StoredShape = StoredShape {
        format: 0,
        exchange_bytes: 0,
        routing_key_bytes: 0,
        properties_bytes: 0,
        dead_lettered: false,
    };

    fn body_of(changes: &Changes) -> Vec<u8> {
        changes.encoded.clone()
    }

    #[test]
    fn neighbours_of_a_queue_become_one_run() {
        let mut changes = Changes::default();
        for position in 1..=1000 {
            changes.enqueue((&[7; 100], SHAPE), 5, &[(QueueId(3), Position(position), 0)]);
        }
        let body = body_of(&changes);
        let mut digest = Vec::new();
        write_digest(&body, &mut digest);
        assert!(digest.len() < 12, "{} bytes", digest.len());
        let (mut index, mut runs) = (Index::default(), Vec::new());
        assert!(index.apply_digest(Lsn(1), body.len(), &digest, |run| runs.push(run)));
        let mut expected = Vec::new();
        each_run(Slot(0), &body, |_| true, |run| expected.push(run));
        assert_eq!(runs, expected);
        assert_eq!(index.ledger.usage(), (1, body.len() as u64, 1000));
    }

    #[test]
    fn a_run_of_more_messages_than_its_record_could_hold_is_damage() {
        let mut digest = Vec::new();
        let run = RecoveredRun { first: Position(1), count: 100, priority: 0, body_bytes: 0, expires: false };
        write_run(&mut digest, &RecordRun { slot: Slot(0), queue: QueueId(1), run }, None);
        for (record_bytes, is_sound) in [(100, true), (99, false)] {
            assert_eq!(Index::default().apply_digest(Lsn(1), record_bytes, &digest, |_| ()), is_sound);
        }
    }

    #[test]
    fn what_is_cut_short_is_noticed() {
        let mut changes = Changes::default();
        changes.enqueue((b"body", SHAPE), 5, &[(QueueId(300), Position(300), 4)]);
        changes.settle_range(QueueId(300), Position(1), Position(200));
        changes.delivered(QueueId(300), 4, Position(300));
        let body = body_of(&changes);
        let mut digest = Vec::new();
        write_digest(&body, &mut digest);
        let whole: Vec<usize> = (0..=digest.len())
            .filter(|end| Index::default().apply_digest(Lsn(1), body.len(), &digest[..*end], |_| ()))
            .collect();
        assert_eq!(whole.len(), 4, "between pieces: {whole:?}");
    }
}
