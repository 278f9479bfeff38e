//! Consumers that stand aside: they have credit of their own, and their channel has none for them (basic.qos with global set).
//!
//! A channel knows one of them for each queue. When it has credit again it asks the queues in the order in which those were
//! refused, and of a queue as many consumers join the line as the credit is for: the highest priority first, then who was refused
//! first. So consumers take turns, on one queue and on several, and none is asked in vain.

use super::NewConsumer;
use crate::message::{ChannelNumber, ConnectionId, ConsumerId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A channel among those of all connections.
type ChannelKey = (ConnectionId, ChannelNumber);

/// The consumers of one queue that stand aside, by channel; see the module.
#[derive(Debug, Default)]
pub(super) struct Aside {
    by_channel: BTreeMap<ChannelKey, OfChannel>,
}

/// Those of one channel.
#[derive(Debug, Default)]
struct OfChannel {
    /// The ticket that the channel knows.
    told: Option<u64>,
    waiting: BTreeMap<(Reverse<i32>, u64), ConsumerId>,
}

impl OfChannel {
    /// Reports one of them to the channel, if it knows of none.
    fn tell(&mut self, new: &NewConsumer) {
        if self.told.is_none()
            && let Some(((_, ticket), id)) = self.waiting.first_key_value()
        {
            new.channel_credit.wait(*ticket, *id);
            self.told = Some(*ticket);
        }
    }

    fn take_back(&mut self, new: &NewConsumer) {
        if let Some(told) = self.told.take() {
            new.channel_credit.forget(told);
        }
    }
}

fn key(new: &NewConsumer) -> ChannelKey {
    (new.connection, new.channel)
}

impl Aside {
    /// A consumer stands aside, and gets a ticket. None when there is credit again by now: the channel's session may have given
    /// some back before it could see that a consumer waits.
    pub(super) fn join(&mut self, new: &NewConsumer) -> Option<u64> {
        let ticket = new.channel_credit.ticket();
        let of_channel = self.by_channel.entry(key(new)).or_default();
        of_channel.waiting.insert((Reverse(new.priority), ticket), new.id);
        of_channel.tell(new);
        if new.channel_credit.left() > 0 {
            self.leave(new, ticket);
            return None;
        }
        Some(ticket)
    }

    /// A consumer that stood aside with that ticket is gone.
    pub(super) fn leave(&mut self, new: &NewConsumer, ticket: u64) {
        let Some(of_channel) = self.by_channel.get_mut(&key(new)) else { return };
        of_channel.waiting.remove(&(Reverse(new.priority), ticket));
        if of_channel.told.take_if(|told| *told == ticket).is_some() {
            new.channel_credit.forget(ticket);
            of_channel.tell(new);
        }
        if of_channel.waiting.is_empty() {
            self.by_channel.remove(&key(new));
        }
    }

    /// The channel of that consumer has credit, and knows of none that waits: those whose turn it is, who stand aside no longer.
    pub(super) fn resume(&mut self, new: &NewConsumer) -> Vec<ConsumerId> {
        let Some(of_channel) = self.by_channel.get_mut(&key(new)) else { return Vec::new() };
        let mut resumed = Vec::new();
        loop {
            of_channel.take_back(new);
            while resumed.len() < new.channel_credit.left() as usize
                && let Some((_, id)) = of_channel.waiting.pop_first()
            {
                resumed.push(id);
            }
            of_channel.tell(new);
            // From here on the channel sees that a consumer waits for what is given back.
            if of_channel.waiting.is_empty() || (new.channel_credit.left() as usize) <= resumed.len() {
                break;
            }
        }
        if of_channel.waiting.is_empty() {
            self.by_channel.remove(&key(new));
        }
        resumed
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_channel.is_empty()
    }
}
