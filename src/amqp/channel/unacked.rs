//! What a channel has delivered and not heard of again, by delivery tag.

use super::Channel;
use crate::broker::browse::UnackedMessage;
use crate::broker::delivery::Entry;
use crate::broker::queue::QueueHandle;
use crate::message::{ConsumerId, DeliveryTag, Millis, Position, QueueId};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// One delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) tag: DeliveryTag,
    /// `None` for one that basic.get fetched.
    pub(super) consumer: Option<ConsumerId>,
    pub(super) queue: Arc<QueueHandle>,
    pub(super) entry: Entry,
    pub(super) delivered_at: Millis,
}

impl Unacked {
    /// A delivery that is taken back before it has left: as if the client had it and gave it back. It has no tag.
    pub(super) fn unsent(consumer: ConsumerId, queue: Arc<QueueHandle>, entry: Entry) -> Unacked {
        Unacked { tag: DeliveryTag(0), consumer: Some(consumer), queue, entry, delivered_at: 0 }
    }
}

impl Channel {
    /// What the channel has unacknowledged of a queue, behind a position.
    pub(in crate::amqp) fn unacked_of(
        &self,
        queue: QueueId,
        after: Position,
    ) -> impl Iterator<Item = UnackedMessage> {
        let of_queue = self
            .unacked
            .iter()
            .filter(move |unacked| unacked.queue.definition().id == queue && unacked.entry.position > after);
        of_queue.map(|unacked| UnackedMessage {
            seen: (&unacked.entry).into(),
            channel: self.number,
            consumer_tag: unacked
                .consumer
                .and_then(|id| self.consumers.get(&id))
                .map(|consumer| consumer.tag.clone()),
            delivered_at: unacked.delivered_at,
        })
    }
}

/// Tags that a channel remembers after it took their deliveries back.
const TAKEN_BACK_MAX: usize = 16_384;

/// See the module. Tags only grow, so the list is ordered by them.
#[derive(Debug, Default)]
pub(super) struct UnackedList {
    list: VecDeque<Unacked>,
    /// Deliveries that were taken back from a consumer which did not acknowledge them in time. It may still do so.
    taken_back: BTreeSet<DeliveryTag>,
}

impl UnackedList {
    pub(super) fn push(&mut self, unacked: Unacked) {
        self.list.push_back(unacked);
    }

    /// Takes the delivery of that tag, or with `multiple` all up to it, into `taken`. Tag 0 with `multiple` is all of them.
    /// False when there is no such delivery.
    pub(super) fn take(&mut self, tag: DeliveryTag, multiple: bool, taken: &mut Vec<Unacked>) -> bool {
        if multiple && tag == DeliveryTag(0) {
            taken.extend(self.list.drain(..));
            return true;
        }
        let at = match self.list.front() {
            Some(front) if front.tag == tag => 0,
            _ => match self.list.binary_search_by_key(&tag, |unacked| unacked.tag) {
                Ok(at) => at,
                Err(behind) => {
                    let was_taken_back = self.taken_back.remove(&tag);
                    if was_taken_back && multiple {
                        taken.extend(self.list.drain(..behind));
                    }
                    return was_taken_back;
                }
            },
        };
        if multiple {
            taken.extend(self.list.drain(..=at));
        } else {
            taken.extend(self.list.remove(at));
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Unacked> {
        self.list.iter()
    }

    /// Takes all of one consumer, which may acknowledge them later without an effect.
    pub(super) fn take_of(&mut self, consumer: ConsumerId) -> Vec<Unacked> {
        let all: Vec<Unacked> = std::mem::take(&mut self.list).into();
        let (taken, left): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|unacked| unacked.consumer == Some(consumer));
        self.list = left.into();
        self.taken_back.extend(taken.iter().map(|unacked| unacked.tag));
        while self.taken_back.len() > TAKEN_BACK_MAX {
            self.taken_back.pop_first();
        }
        taken
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> Vec<Unacked> {
        std::mem::take(&mut self.list).into()
    }

    /// Puts back what was taken and not settled after all.
    pub(super) fn put_back(&mut self, taken: impl IntoIterator<Item = Unacked>) {
        let mut all: Vec<Unacked> = std::mem::take(&mut self.list).into();
        all.extend(taken);
        all.sort_by_key(|unacked| unacked.tag);
        self.list = all.into();
    }
}
