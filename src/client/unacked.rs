//! What a client has been delivered and has not answered, by delivery tag.

use super::paged::{PagedList, UnackedRun};
use crate::broker::Turn;
use crate::broker::delivery::Entry;
use crate::broker::observe::browse::SeenOrPaged;
use crate::broker::queue::QueueHandle;
use crate::message::{ConsumerId, DeliveryTag, Millis, Position, QueueId};
use crate::steps;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// One delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub(crate) tag: DeliveryTag,
    /// `None` for one that basic.get fetched.
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) queue: Arc<QueueHandle>,
    pub(crate) entry: Entry,
    pub(crate) delivered_at: Millis,
}

impl Unacked {
    /// A delivery that is taken back before it has left: as if the client had it and gave it back. It has no tag.
    pub(crate) fn unsent(consumer: ConsumerId, queue: Arc<QueueHandle>, entry: Entry) -> Unacked {
        Unacked { tag: DeliveryTag(0), consumer: Some(consumer), queue, entry, delivered_at: 0 }
    }
}

/// Deliveries that are no longer unacknowledged: those whose messages are in memory, and the others.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) here: Vec<Unacked>,
    pub(crate) paged: Vec<UnackedRun>,
}

impl Taken {
    pub(crate) fn is_empty(&self) -> bool {
        self.here.is_empty() && self.paged.is_empty()
    }

    /// How many there are, runs of those that are not in memory for one each.
    pub(crate) fn entries(&self) -> usize {
        self.here.len() + self.paged.len()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let paged: u64 = self.paged.iter().map(|held| held.run.count).sum();
        self.here.len() + usize::try_from(paged).unwrap_or(usize::MAX)
    }

    pub(crate) fn extend(&mut self, others: Taken) {
        self.here.extend(others.here);
        self.paged.extend(others.paged);
    }
}

impl From<Vec<Unacked>> for Taken {
    fn from(here: Vec<Unacked>) -> Taken {
        Taken { here, paged: Vec::new() }
    }
}

/// Taking one moves no more than this many others.
const MOVED_MAX: usize = 256;

/// Tags that a channel remembers after it took their deliveries back.
const TAKEN_BACK_MAX: usize = 16_384;

/// A channel's unacknowledged deliveries in memory. Tags only grow, so the list is ordered by them.
#[derive(Debug, Default)]
pub(crate) struct UnackedList {
    list: VecDeque<Unacked>,
    /// Those before the list, once one far from both its ends was taken: what is behind it would have to move each time.
    early: BTreeMap<DeliveryTag, Unacked>,
    /// Those whose messages have left memory.
    paged: PagedList,
    /// Deliveries that were taken back from a consumer which did not acknowledge them in time. It may still do so.
    taken_back: BTreeSet<DeliveryTag>,
}

impl UnackedList {
    pub(crate) fn push(&mut self, unacked: Unacked) {
        self.list.push_back(unacked);
    }

    /// Takes the delivery of that tag, or with `multiple` all up to it, into `taken`. Tag 0 with `multiple` is all of them.
    /// False when there is no such delivery.
    pub(crate) fn take(&mut self, tag: DeliveryTag, multiple: bool, taken: &mut Taken) -> bool {
        if multiple && tag == DeliveryTag(0) {
            self.take_early(None, taken);
            taken.here.extend(self.list.drain(..));
            self.paged.take_all(&mut taken.paged);
            return true;
        }
        let at = match self.list.front() {
            Some(front) if front.tag == tag => 0,
            _ => match self.list.binary_search_by_key(&tag, |unacked| unacked.tag) {
                Ok(at) => at,
                Err(0) if self.early.contains_key(&tag) => {
                    self.take_early_one(tag, multiple, taken);
                    return true;
                }
                Err(behind) => {
                    let paged = self.paged.take(tag);
                    let is_known = paged.is_some() || self.taken_back.remove(&tag);
                    if is_known && multiple {
                        self.take_early(Some(tag), taken);
                        taken.here.extend(self.list.drain(..behind));
                        self.paged.take_up_to(tag, &mut taken.paged);
                    }
                    taken.paged.extend(paged);
                    return is_known;
                }
            },
        };
        if multiple {
            self.take_early(None, taken);
            taken.here.extend(self.list.drain(..=at));
            if !self.paged.is_empty() {
                self.paged.take_up_to(tag, &mut taken.paged);
            }
        } else if at.min(self.list.len() - at) > MOVED_MAX {
            steps::count(self.list.len());
            self.early.extend(self.list.drain(..).map(|unacked| (unacked.tag, unacked)));
            taken.here.extend(self.early.remove(&tag));
        } else {
            steps::count(1 + at.min(self.list.len() - at));
            taken.here.extend(self.list.remove(at));
        }
        true
    }

    fn take_early_one(&mut self, tag: DeliveryTag, multiple: bool, taken: &mut Taken) {
        steps::count(1);
        if !multiple {
            taken.here.extend(self.early.remove(&tag));
            return;
        }
        self.take_early(Some(tag), taken);
        if !self.paged.is_empty() {
            self.paged.take_up_to(tag, &mut taken.paged);
        }
    }

    /// Takes those before the list, up to a tag if there is one.
    fn take_early(&mut self, up_to: Option<DeliveryTag>, taken: &mut Taken) {
        if self.early.is_empty() {
            return;
        }
        let behind = up_to.map(|tag| self.early.split_off(&DeliveryTag(tag.0 + 1))).unwrap_or_default();
        taken.here.extend(std::mem::replace(&mut self.early, behind).into_values());
    }

    /// All in memory, in order.
    fn take_here(&mut self) -> Vec<Unacked> {
        let list = std::mem::take(&mut self.list);
        if self.early.is_empty() {
            return list.into();
        }
        std::mem::take(&mut self.early).into_values().chain(list).collect()
    }

    fn iter_here(&self) -> impl Iterator<Item = &Unacked> {
        self.early.values().chain(&self.list)
    }

    pub(crate) fn len(&self) -> usize {
        self.early.len() + self.list.len() + self.paged.len()
    }

    /// Of each that is in memory, and of each run of others: the queue, the consumer, and when it was delivered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<QueueHandle>, Option<ConsumerId>, Millis)> {
        let here = self.iter_here().map(|unacked| (&unacked.queue, unacked.consumer, unacked.delivered_at));
        here.chain(self.paged.iter().map(|held| (&held.queue, held.consumer, held.delivered_at)))
    }

    /// Takes all of one consumer, which may acknowledge them later without an effect.
    pub(crate) fn take_of(&mut self, consumer: ConsumerId) -> Taken {
        let all = self.take_here();
        let (taken, left): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|unacked| unacked.consumer == Some(consumer));
        self.list = left.into();
        let paged = self.paged.take_of(consumer);
        self.taken_back.extend(taken.iter().map(|unacked| unacked.tag));
        for held in &paged {
            self.taken_back.extend(held.tags().rev().take(TAKEN_BACK_MAX).map(DeliveryTag));
        }
        while self.taken_back.len() > TAKEN_BACK_MAX {
            self.taken_back.pop_first();
        }
        Taken { here: taken, paged }
    }

    /// Whether there is a delivery of that tag, or was one that may be acknowledged late; only once then.
    pub(crate) fn knows(&mut self, tag: DeliveryTag) -> bool {
        self.list.binary_search_by_key(&tag, |unacked| unacked.tag).is_ok()
            || self.early.contains_key(&tag)
            || self.paged.contains(tag)
            || self.taken_back.remove(&tag)
    }

    /// The consumer that was given the delivery of that tag, if it waits for an acknowledgement.
    pub(crate) fn consumer_of(&self, tag: DeliveryTag) -> Option<ConsumerId> {
        // Most are acknowledged in order.
        if let Some(front) = self.list.front().filter(|front| front.tag == tag) {
            return front.consumer;
        }
        match self.list.binary_search_by_key(&tag, |unacked| unacked.tag) {
            Ok(at) => self.list[at].consumer,
            Err(_) => match self.early.get(&tag) {
                Some(unacked) => unacked.consumer,
                None => self.paged.get(tag)?.consumer,
            },
        }
    }

    /// Takes some of those up to a tag, the first ones first, and says whether there are more.
    pub(crate) fn take_part(&mut self, up_to: DeliveryTag, max: usize, taken: &mut Taken) -> bool {
        let mut left = max;
        while left > 0
            && let Some(first) = self.first_tag().filter(|first| *first <= up_to)
        {
            let before = taken.entries();
            match self.paged.first_tag() {
                Some(paged) if paged == first => {
                    let bound = self
                        .first_here()
                        .map_or(up_to, |here| up_to.min(DeliveryTag(here.0.saturating_sub(1))));
                    self.paged.take_part(bound, left, &mut taken.paged);
                }
                paged => self.take_here_below(paged.unwrap_or(DeliveryTag(u64::MAX)), up_to, left, taken),
            }
            left -= (taken.entries() - before).clamp(1, left);
        }
        self.first_tag().is_some_and(|first| first <= up_to)
    }

    /// The lowest tag of those in memory.
    fn first_here(&self) -> Option<DeliveryTag> {
        self.early.first_key_value().map(|(tag, _)| *tag).or_else(|| Some(self.list.front()?.tag))
    }

    fn first_tag(&self) -> Option<DeliveryTag> {
        self.first_here().into_iter().chain(self.paged.first_tag()).min()
    }

    /// Takes up to `max` of those in memory with tags below `paged` and up to `up_to`.
    fn take_here_below(&mut self, paged: DeliveryTag, up_to: DeliveryTag, max: usize, taken: &mut Taken) {
        let is_meant = |tag: DeliveryTag| tag < paged && tag <= up_to;
        let mut left = max;
        while left > 0
            && let Some(first) = self.early.first_entry().filter(|first| is_meant(*first.key()))
        {
            taken.here.push(first.remove());
            left -= 1;
        }
        let of_list = self.list.iter().take(left).take_while(|unacked| is_meant(unacked.tag)).count();
        taken.here.extend(self.list.drain(..of_list));
    }

    /// Puts back what was taken and not settled after all.
    pub(crate) fn put_back(&mut self, taken: Taken) {
        taken.paged.into_iter().for_each(|run| self.paged.insert(run));
        let mut all = self.take_here();
        all.extend(taken.here);
        all.sort_by_key(|unacked| unacked.tag);
        self.list = all.into();
    }

    /// What there is of a queue, behind a position: each message, or where it was, with its consumer and the time of its delivery.
    pub(crate) fn of_queue(
        &self,
        queue: QueueId,
        after: Position,
    ) -> impl Iterator<Item = (SeenOrPaged, Option<ConsumerId>, Millis)> {
        let here = self
            .iter_here()
            .filter(move |unacked| unacked.queue.definition().id == queue && unacked.entry.position > after)
            .map(|unacked| {
                (SeenOrPaged::Seen((&unacked.entry).into()), unacked.consumer, unacked.delivered_at)
            });
        let paged = self.paged.iter().filter(move |held| held.queue.definition().id == queue);
        let paged = paged.flat_map(move |held| {
            let first = held.run.first.0.max(after.0 + 1);
            (first..=held.run.last().0).map(|position| {
                let seen = SeenOrPaged::Paged { priority: held.run.priority, position: Position(position) };
                (seen, held.consumer, held.delivered_at)
            })
        });
        here.chain(paged)
    }

    /// Bytes that it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        let here = self.list.iter().map(|unacked| unacked.entry.message.size_bytes() + size_of::<Unacked>());
        here.sum::<usize>() + self.paged.iter().count() * 2 * size_of::<UnackedRun>()
    }

    /// Releases the messages from memory: the journal has them, or is given them now. True when it is given some.
    pub(crate) fn spill(&mut self, turn: &mut Turn) -> bool {
        let of_list = self.take_here();
        let has_spilled = of_list.iter().any(|unacked| !unacked.entry.journaled);
        for neighbours in of_list.chunk_by(|one, other| Arc::ptr_eq(&one.queue, &other.queue)) {
            let entries = neighbours.iter().map(|unacked| &unacked.entry);
            let journaled = neighbours[0].queue.page_out_delivered(entries, turn);
            neighbours.iter().for_each(|unacked| self.paged.push(unacked, journaled));
        }
        has_spilled
    }
}
