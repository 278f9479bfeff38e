//! Deliveries whose messages have left memory: runs of neighbours, by tag.

use super::unacked::Unacked;
use crate::broker::queue::{DeliveredRun, QueueHandle};
use crate::message::{ConsumerId, DeliveryTag, Millis};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Deliveries with neighbouring tags, of one queue to one consumer, that are neighbours there too.
#[derive(Clone, Debug)]
pub(crate) struct UnackedRun {
    first_tag: u64,
    /// `None` for those that basic.get fetched.
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) queue: Arc<QueueHandle>,
    pub(crate) run: DeliveredRun,
    pub(crate) delivered_at: Millis,
}

impl UnackedRun {
    /// The tags, the last one excluded.
    pub(crate) fn tags(&self) -> std::ops::Range<u64> {
        self.first_tag..self.first_tag + self.run.count
    }

    fn of(unacked: &Unacked, journaled: bool) -> UnackedRun {
        UnackedRun {
            first_tag: unacked.tag.0,
            consumer: unacked.consumer,
            queue: unacked.queue.clone(),
            run: DeliveredRun::of(&unacked.entry, journaled),
            delivered_at: unacked.delivered_at,
        }
    }

    fn join(&mut self, next: &UnackedRun) -> bool {
        self.tags().end == next.first_tag
            && (self.consumer, self.delivered_at) == (next.consumer, next.delivered_at)
            && Arc::ptr_eq(&self.queue, &next.queue)
            && self.run.join(&next.run)
    }

    /// Leaves those with lower tags than `tag`, at least one, and returns the others, at least one.
    fn split_off(&mut self, tag: u64) -> UnackedRun {
        let run = self.run.split_off(tag - self.first_tag);
        UnackedRun { first_tag: tag, run, ..self.clone() }
    }
}

/// Neighbours that are taken at a time: some of the work is done for each of them.
const RUN_PART: u64 = 1024;

/// Deliveries that have left memory, by tag; see the module.
#[derive(Debug, Default)]
pub(crate) struct PagedList {
    runs: BTreeMap<u64, UnackedRun>,
    messages: u64,
}

impl PagedList {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.messages).unwrap_or(usize::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &UnackedRun> {
        self.runs.values()
    }

    /// A delivery whose message is paged out.
    pub(crate) fn push(&mut self, unacked: &Unacked, journaled: bool) {
        self.insert(UnackedRun::of(unacked, journaled));
    }

    pub(crate) fn insert(&mut self, run: UnackedRun) {
        self.messages += run.run.count;
        if let Some((_, before)) = self.runs.range_mut(..run.first_tag).next_back()
            && before.join(&run)
        {
            return;
        }
        self.runs.insert(run.first_tag, run);
    }

    /// Takes the delivery of that tag, if it is here.
    pub(crate) fn take(&mut self, tag: DeliveryTag) -> Option<UnackedRun> {
        let (_, run) = self.runs.range_mut(..=tag.0).next_back()?;
        if !run.tags().contains(&tag.0) {
            return None;
        }
        let behind = (tag.0 + 1 < run.tags().end).then(|| run.split_off(tag.0 + 1));
        let taken = if tag.0 == run.first_tag { self.runs.remove(&tag.0)? } else { run.split_off(tag.0) };
        if let Some(behind) = behind {
            self.runs.insert(behind.first_tag, behind);
        }
        self.messages -= 1;
        Some(taken)
    }

    /// Whether the delivery of that tag is here.
    pub(crate) fn contains(&self, tag: DeliveryTag) -> bool {
        self.get(tag).is_some()
    }

    /// The run that has the delivery of that tag.
    pub(crate) fn get(&self, tag: DeliveryTag) -> Option<&UnackedRun> {
        let (_, run) = self.runs.range(..=tag.0).next_back()?;
        run.tags().contains(&tag.0).then_some(run)
    }

    /// The lowest tag.
    pub(crate) fn first_tag(&self) -> Option<DeliveryTag> {
        self.runs.keys().next().copied().map(DeliveryTag)
    }

    /// Takes some runs of those up to a tag, the first ones first, and of a long run a part.
    pub(crate) fn take_part(&mut self, up_to: DeliveryTag, max: usize, taken: &mut Vec<UnackedRun>) {
        for _ in 0..max {
            let Some(mut first) = self.runs.first_entry().filter(|first| *first.key() <= up_to.0) else {
                return;
            };
            let end = first.get().tags().end.min(up_to.0.saturating_add(1)).min(first.key() + RUN_PART);
            let rest = (end < first.get().tags().end).then(|| first.get_mut().split_off(end));
            let run = first.remove();
            self.messages -= run.run.count;
            taken.push(run);
            if let Some(rest) = rest {
                self.runs.insert(rest.first_tag, rest);
            }
        }
    }

    /// Takes all up to that tag.
    pub(crate) fn take_up_to(&mut self, tag: DeliveryTag, taken: &mut Vec<UnackedRun>) {
        let Some(end) = tag.0.checked_add(1) else { return self.take_all(taken) };
        let mut behind = self.runs.split_off(&end);
        if let Some((_, last)) = self.runs.last_key_value()
            && last.tags().end > end
        {
            let (_, mut last) = self.runs.pop_last().expect("it was there just now");
            let rest = last.split_off(end);
            self.runs.insert(last.first_tag, last);
            behind.insert(rest.first_tag, rest);
        }
        let before = std::mem::replace(&mut self.runs, behind);
        self.messages -= before.values().map(|run| run.run.count).sum::<u64>();
        taken.extend(before.into_values());
    }

    /// Takes all of one consumer.
    pub(crate) fn take_of(&mut self, consumer: ConsumerId) -> Vec<UnackedRun> {
        let is_of_consumer = |_: &u64, run: &mut UnackedRun| run.consumer == Some(consumer);
        let taken: Vec<UnackedRun> = self.runs.extract_if(.., is_of_consumer).map(|(_, run)| run).collect();
        self.messages -= taken.iter().map(|run| run.run.count).sum::<u64>();
        taken
    }

    /// Takes all runs.
    pub(crate) fn take_all(&mut self, taken: &mut Vec<UnackedRun>) {
        self.messages = 0;
        taken.extend(std::mem::take(&mut self.runs).into_values());
    }
}
