//! What a channel has delivered and not heard of again, by delivery tag.

use crate::broker::delivery::Entry;
use crate::broker::queue::QueueHandle;
use crate::message::{ConsumerId, DeliveryTag};
use std::collections::VecDeque;
use std::sync::Arc;

/// One delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) tag: DeliveryTag,
    /// `None` for one that basic.get fetched.
    pub(super) consumer: Option<ConsumerId>,
    pub(super) queue: Arc<QueueHandle>,
    pub(super) entry: Entry,
}

/// See the module. Tags only grow, so the list is ordered by them.
#[derive(Debug, Default)]
pub(super) struct UnackedList {
    list: VecDeque<Unacked>,
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
                Err(_) => return false,
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
