//! What becomes of deliveries: acknowledged, requeued or rejected by their client, or given back by one that has ended.

use super::ending::EndingConsumers;
use super::paged::UnackedRun;
use super::unacked::{Taken, Unacked, UnackedList};
use crate::broker::Turn;
use crate::broker::chores::Chore;
use crate::broker::delivery::Entry;
use crate::broker::outcome::Outcome;
use crate::broker::queue::{DeliveredRun, Persistent, QueueHandle, QueueType};
use crate::message::{ConsumerId, DeliveryTag, QueueId};
use crate::steps;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Deliveries up to a tag about which the client has said something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settling {
    pub(crate) up_to: DeliveryTag,
    pub(crate) outcome: Outcome,
}

/// Tells the queues, and the journal, what became of messages of theirs.
pub(crate) fn tell_queues(taken: Taken, outcome: Outcome, turn: &mut Turn) {
    if outcome == Outcome::Accept {
        return settle(&taken, turn);
    }
    for OfOneQueue { queue, consumer, entries, paged } in by_queue(taken) {
        match outcome.goes_back() {
            Some(failed) => queue.requeue(consumer, entries, paged, failed, turn),
            None => queue.reject(consumer, entries, paged, turn),
        }
    }
}

/// Settles acknowledged deliveries: one lock for each run of the same queue and consumer.
pub(crate) fn settle(acked: &Taken, turn: &mut Turn) {
    for run in acked.here.chunk_by(|a, b| a.consumer == b.consumer && Arc::ptr_eq(&a.queue, &b.queue)) {
        let queue = &run[0].queue;
        if queue.definition().queue_type == QueueType::Stream {
            let positions = run.iter().map(|unacked| (unacked.entry.position, unacked.entry.position));
            queue.acknowledge(run[0].consumer, positions, turn);
        }
        let (mut bytes, mut persistent) = (0, Persistent::default());
        for neighbours in run.chunk_by(are_neighbours) {
            for Unacked { entry, .. } in neighbours {
                bytes += entry.message.body_bytes() as u64;
                persistent += Persistent::of(entry);
            }
            let (first, last) = (&neighbours[0].entry, &neighbours[neighbours.len() - 1].entry);
            if first.journaled {
                let id = queue.definition().id;
                turn.changes.settle_range(id, first.position, last.position);
            }
        }
        queue.settle(run[0].consumer, run.len(), bytes, persistent, turn);
    }
    for UnackedRun { queue, consumer, run, .. } in &acked.paged {
        if run.journaled {
            turn.changes.settle_range(queue.definition().id, run.first, run.last());
        }
        queue.acknowledge(*consumer, std::iter::once((run.first, run.last())), turn);
        queue.settle_paged(*consumer, run, turn);
    }
}

/// Whether both are in the journal in one record, or neither.
fn are_neighbours(a: &Unacked, b: &Unacked) -> bool {
    a.entry.journaled == b.entry.journaled && a.entry.position.0 + 1 == b.entry.position.0
}

/// How many count against the channel's own limit: what basic.get fetched does not.
pub(crate) fn credit_of(settled: &Taken) -> u32 {
    let here = settled.here.iter().filter(|unacked| unacked.consumer.is_some()).count() as u64;
    let paged = settled.paged.iter().filter(|held| held.consumer.is_some()).map(|held| held.run.count);
    u32::try_from(here + paged.sum::<u64>()).unwrap_or(u32::MAX)
}

/// Deliveries that go back to the same queue and count for the same consumer.
struct OfOneQueue {
    queue: Arc<QueueHandle>,
    consumer: Option<ConsumerId>,
    entries: Vec<Entry>,
    /// Those whose messages are not in memory.
    paged: Vec<DeliveredRun>,
}

#[derive(Default)]
struct ByQueue {
    groups: Vec<OfOneQueue>,
    places: BTreeMap<(QueueId, Option<ConsumerId>), usize>,
}

impl ByQueue {
    fn group(&mut self, queue: Arc<QueueHandle>, consumer: Option<ConsumerId>) -> &mut OfOneQueue {
        let place = *self.places.entry((queue.definition().id, consumer)).or_insert(self.groups.len());
        if place == self.groups.len() {
            self.groups.push(OfOneQueue { queue, consumer, entries: Vec::new(), paged: Vec::new() });
        }
        &mut self.groups[place]
    }
}

fn by_queue(taken: Taken) -> Vec<OfOneQueue> {
    let mut by_queue = ByQueue::default();
    for Unacked { consumer, queue, entry, .. } in taken.here {
        by_queue.group(queue, consumer).entries.push(entry);
    }
    for UnackedRun { consumer, queue, run, .. } in taken.paged {
        by_queue.group(queue, consumer).paged.push(run);
    }
    by_queue.groups
}

/// Deliveries that are settled or requeued between two looks at what the turn has taken.
const PART: usize = 1024;

pub(crate) fn part() -> usize {
    steps::at_once(PART)
}

/// The same for those that the client has said that of: each that is rejected may become a dead letter.
pub(crate) fn part_of(outcome: Outcome) -> usize {
    if outcome.is_refusal() { steps::at_once(PART / 8) } else { part() }
}

/// What it takes to tell a queue of one that is settled or comes back, in steps.
pub(crate) const SETTLE_STEPS: usize = 30;

/// What a channel that has ended still has of its queues' messages.
#[derive(Debug)]
pub(crate) struct Returning {
    unacked: UnackedList,
    /// What its client has said of some of them before.
    settled: Option<Settling>,
    /// Its consumers, where some have not ended yet.
    ending: Option<EndingConsumers>,
    /// Deliveries that it was never sent.
    waiting: VecDeque<Unacked>,
}

impl Returning {
    pub(crate) fn new(unacked: UnackedList, settled: Option<Settling>, waiting: Vec<Unacked>) -> Returning {
        Returning { unacked, settled, ending: None, waiting: waiting.into() }
    }

    /// The same, of a channel whose consumers have not all ended: they do before anything goes back.
    pub(crate) fn after(self, ending: EndingConsumers) -> Returning {
        Returning { ending: Some(ending), ..self }
    }
}

impl Chore for Returning {
    fn go_on(&mut self, turn: &mut Turn) -> bool {
        if let Some(ending) = &mut self.ending {
            if !ending.go_on(turn) {
                return false;
            }
            self.waiting.extend(ending.take_back());
            self.ending = None;
        }
        while !turn.is_spent() {
            let mut taken = Taken::default();
            if let Some(Settling { up_to, outcome }) = self.settled {
                if !self.unacked.take_part(up_to, part_of(outcome), &mut taken) {
                    self.settled = None;
                }
                turn.spend(SETTLE_STEPS * taken.entries());
                tell_queues(taken, outcome, turn);
                continue;
            }
            let is_more = self.unacked.take_part(DeliveryTag(u64::MAX), part(), &mut taken);
            if !is_more {
                let room = part().saturating_sub(taken.entries()).min(self.waiting.len());
                taken.here.extend(self.waiting.drain(..room));
            }
            if taken.is_empty() {
                return true;
            }
            turn.spend(SETTLE_STEPS * taken.entries());
            tell_queues(taken, Outcome::FAILED, turn);
        }
        self.settled.is_none() && self.unacked.len() == 0 && self.waiting.is_empty()
    }
}
