//! Publisher confirms: which publishes wait for which record of the journal, and what may be confirmed.

use crate::message::{DeliveryTag, Lsn};
use std::collections::VecDeque;

/// The publishes of a channel in confirm mode, numbered from 1.
///
/// Those of one turn wait for the same record, so they are kept as one entry. They are confirmed in order, as far as the
/// journal is durable, with as few acks as can be.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    published: u64,
    confirmed: u64,
    /// The last publish of a turn, and the record that it waits for.
    turns: VecDeque<(u64, Lsn)>,
    /// The last record that something published in this turn is in.
    turn_lsn: Lsn,
    /// Publishes that were nacked and not yet passed by an ack.
    nacked: VecDeque<u64>,
}

/// A basic.ack to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmation {
    pub(super) tag: DeliveryTag,
    pub(super) multiple: bool,
}

impl Confirms {
    /// Numbers a publish.
    pub(super) fn publish(&mut self) -> DeliveryTag {
        self.published += 1;
        DeliveryTag(self.published)
    }

    /// Whether publishes of this turn wait for the end of it.
    pub(super) fn has_unassigned(&self) -> bool {
        self.published > self.turns.back().map_or(self.confirmed, |(last, _)| *last)
    }

    /// How many publishes wait for their confirm.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.published - self.confirmed
    }

    /// Whether any publish waits for its confirm.
    pub(super) fn has_unconfirmed(&self) -> bool {
        self.published > self.confirmed
    }

    /// The publish was refused, and basic.nack says so.
    pub(super) fn nack(&mut self, tag: DeliveryTag) {
        let at = self.nacked.partition_point(|other| *other < tag.0);
        self.nacked.insert(at, tag.0);
    }

    /// Something that the turn published is in that record, or in none.
    pub(super) fn await_record(&mut self, lsn: Option<Lsn>) {
        self.turn_lsn = self.turn_lsn.max(lsn.unwrap_or_default());
    }

    /// The turn is over.
    pub(super) fn end_turn(&mut self) {
        if self.has_unassigned() {
            self.turns.push_back((self.published, self.turn_lsn));
        }
        self.turn_lsn = Lsn::default();
    }

    /// What can be confirmed now that the journal is durable up to `durable`.
    pub(super) fn up_to(&mut self, durable: Lsn) -> Option<Confirmation> {
        let mut last = self.confirmed;
        while let Some((turn_last, lsn)) = self.turns.front()
            && *lsn <= durable
        {
            last = *turn_last;
            self.turns.pop_front();
        }
        let first = self.confirmed + 1;
        self.confirmed = last;
        // A nacked publish is no longer counted by the client: an ack needs a tag that it still waits for.
        let nacked = self.nacked.partition_point(|tag| *tag <= last);
        let nacked: Vec<u64> = self.nacked.drain(..nacked).collect();
        let mut waiting = (first..=last).rev().filter(|tag| nacked.binary_search(tag).is_err());
        let tag = waiting.next()?;
        Some(Confirmation { tag: DeliveryTag(tag), multiple: waiting.next().is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(confirms: &mut Confirms, count: usize, lsn: Option<u64>) {
        for _ in 0..count {
            confirms.publish();
        }
        confirms.await_record(lsn.map(Lsn));
        confirms.end_turn();
    }

    fn ack(tag: u64, multiple: bool) -> Option<Confirmation> {
        Some(Confirmation { tag: DeliveryTag(tag), multiple })
    }

    #[test]
    fn turns_are_confirmed_in_order_as_far_as_they_are_durable() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 3, Some(1));
        publish(&mut confirms, 1, None);
        publish(&mut confirms, 2, Some(2));
        assert_eq!(confirms.up_to(Lsn(0)), None);
        assert_eq!(confirms.up_to(Lsn(1)), ack(4, true));
        assert_eq!(confirms.up_to(Lsn(1)), None);
        assert_eq!(confirms.up_to(Lsn(9)), ack(6, true));
    }

    #[test]
    fn a_single_publish_is_confirmed_singly() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1, None);
        assert_eq!(confirms.up_to(Lsn(0)), ack(1, false));
    }

    #[test]
    fn what_was_nacked_is_not_acked() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 3, None);
        confirms.nack(DeliveryTag(3));
        confirms.nack(DeliveryTag(2));
        assert_eq!(confirms.up_to(Lsn(0)), ack(1, false));
        publish(&mut confirms, 1, None);
        confirms.nack(DeliveryTag(4));
        assert_eq!(confirms.up_to(Lsn(0)), None);
    }
}
