//! Consumers that wait for credit: they have credit of their own, and their link has none for them (basic.qos with global set).
//!
//! A link knows one of them for each queue. When it has credit again it asks the queues in the order in which those were
//! refused, and of a queue as many consumers join the line as the credit is for: the highest priority first, then who was refused
//! first. So consumers take turns, on one queue and on several, and none is asked in vain.

use crate::broker::queue::NewConsumer;
use crate::message::{ConnectionId, ConsumerId, LinkId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A link among those of all connections.
type LinkKey = (ConnectionId, LinkId);

/// The consumers of one queue that wait for their link's credit, by link; see the module.
#[derive(Debug, Default)]
pub(super) struct WaitingForCredit {
    by_link: BTreeMap<LinkKey, OfLink>,
}

/// Those of one link.
#[derive(Debug, Default)]
struct OfLink {
    /// The ticket that the link knows.
    notified: Option<u64>,
    waiting: BTreeMap<(Reverse<i32>, u64), ConsumerId>,
}

impl OfLink {
    /// Reports one of them to the link, if it knows of none.
    fn tell(&mut self, new: &NewConsumer) {
        if self.notified.is_none()
            && let Some(((_, ticket), id)) = self.waiting.first_key_value()
        {
            new.link_credit.wait(*ticket, *id);
            self.notified = Some(*ticket);
        }
    }

    fn take_back(&mut self, new: &NewConsumer) {
        if let Some(notified) = self.notified.take() {
            new.link_credit.forget(notified);
        }
    }
}

fn key(new: &NewConsumer) -> LinkKey {
    (new.connection, new.link)
}

impl WaitingForCredit {
    /// A consumer waits, and gets a ticket. None when there is credit again by now: the link's session may have given
    /// some back before it could see that a consumer waits.
    pub(super) fn join(&mut self, new: &NewConsumer) -> Option<u64> {
        let ticket = new.link_credit.ticket();
        let of_link = self.by_link.entry(key(new)).or_default();
        of_link.waiting.insert((Reverse(new.priority), ticket), new.id);
        of_link.tell(new);
        if new.link_credit.left() > 0 {
            self.leave(new, ticket);
            return None;
        }
        Some(ticket)
    }

    /// A consumer that waited with that ticket is gone.
    pub(super) fn leave(&mut self, new: &NewConsumer, ticket: u64) {
        let Some(of_link) = self.by_link.get_mut(&key(new)) else { return };
        of_link.waiting.remove(&(Reverse(new.priority), ticket));
        if of_link.notified.take_if(|notified| *notified == ticket).is_some() {
            new.link_credit.forget(ticket);
            of_link.tell(new);
        }
        if of_link.waiting.is_empty() {
            self.by_link.remove(&key(new));
        }
    }

    /// The link of that consumer has credit, and knows of none that waits: those whose turn it is, who wait no longer.
    pub(super) fn resume(&mut self, new: &NewConsumer) -> Vec<ConsumerId> {
        let Some(of_link) = self.by_link.get_mut(&key(new)) else { return Vec::new() };
        let mut resumed = Vec::new();
        loop {
            of_link.take_back(new);
            while resumed.len() < new.link_credit.left() as usize
                && let Some((_, id)) = of_link.waiting.pop_first()
            {
                resumed.push(id);
            }
            of_link.tell(new);
            // From here on the link sees that a consumer waits for what is given back.
            if of_link.waiting.is_empty() || (new.link_credit.left() as usize) <= resumed.len() {
                break;
            }
        }
        if of_link.waiting.is_empty() {
            self.by_link.remove(&key(new));
        }
        resumed
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_link.is_empty()
    }
}
