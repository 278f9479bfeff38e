//! Messages of a record, put together to runs of neighbouring positions: what recovery hands on, and what a digest says.

use super::ledger::Slot;
use super::record::{Enqueue, Operation, OperationReader, Target};
use super::recovery::RecoveredRun;
use crate::message::QueueId;

/// Neighbouring messages in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordRun {
    pub(super) slot: Slot,
    pub(super) queue: QueueId,
    pub(super) run: RecoveredRun,
}

/// The runs being continued, one for each queue and priority; few are, and the one continued last comes last.
pub(super) struct OpenRuns {
    slot: Slot,
    open: Vec<RecordRun>,
}

const OPEN_RUNS_MAX: usize = 64;

impl OpenRuns {
    /// Of record `slot`.
    pub(super) fn of(slot: Slot) -> OpenRuns {
        OpenRuns { slot, open: Vec::new() }
    }

    /// One more message; `add` is called with a run that it ends.
    pub(super) fn add(&mut self, enqueue: &Enqueue<'_>, target: &Target, mut add: impl FnMut(RecordRun)) {
        let run = run_of(enqueue, target);
        let new = RecordRun { slot: self.slot, queue: target.queue, run };
        let open = &mut self.open;
        let of_target = |run: &RecordRun| run.queue == target.queue && run.run.priority == target.priority;
        match open.iter().rposition(of_target) {
            Some(at) if open[at].run.is_followed_by(&run) => open[at].run.extend(&run),
            Some(at) => add(std::mem::replace(&mut open[at], new)),
            None => {
                if open.len() == OPEN_RUNS_MAX {
                    add(open.remove(0));
                }
                open.push(new);
            }
        }
    }

    /// Ends the runs of a queue.
    pub(super) fn end_queue(&mut self, queue: QueueId, mut add: impl FnMut(RecordRun)) {
        self.open.retain(|run| {
            if run.queue == queue {
                add(*run);
            }
            run.queue != queue
        });
    }

    /// Ends all of them.
    pub(super) fn end(self, add: impl FnMut(RecordRun)) {
        self.open.into_iter().for_each(add);
    }
}

/// A run of one message.
pub(super) fn run_of(enqueue: &Enqueue<'_>, target: &Target) -> RecoveredRun {
    RecoveredRun {
        first: target.position,
        count: 1,
        priority: target.priority,
        body_bytes: enqueue.body_bytes(),
        expires: enqueue.shape.has_expiration(enqueue.content),
    }
}

/// Calls `add` for every run of those messages of a record that `is_wanted`.
pub(super) fn each_run(
    slot: Slot,
    body: &[u8],
    mut is_wanted: impl FnMut(&Target) -> bool,
    mut add: impl FnMut(RecordRun),
) {
    let mut open = OpenRuns::of(slot);
    for operation in OperationReader::new(body) {
        let Operation::Enqueue(enqueue) = operation else { continue };
        if enqueue.transient {
            continue;
        }
        for target in enqueue.targets().filter(|target| is_wanted(target)) {
            open.add(&enqueue, &target, &mut add);
        }
    }
    open.end(add);
}

impl RecoveredRun {
    pub(super) fn is_followed_by(&self, next: &RecoveredRun) -> bool {
        self.priority == next.priority
            && self.first.0 + u64::from(self.count) == next.first.0
            && self.count.checked_add(next.count).is_some()
    }

    pub(super) fn extend(&mut self, next: &RecoveredRun) {
        self.count += next.count;
        self.body_bytes += next.body_bytes;
        self.expires |= next.expires;
    }
}
