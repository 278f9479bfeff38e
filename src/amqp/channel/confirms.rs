//! Publisher confirms: a channel's publishes by their numbers, and which record of the journal each turn's wait for.

use crate::amqp::answers::Publishes;
use crate::message::{DeliveryTag, Lsn};

/// The publishes of a channel in confirm mode, numbered from 1. Those of one turn are confirmed together, in order, when the
/// journal is durable up to the last record that any of them is in.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    published: u64,
    confirmed: u64,
    /// The last publish of an earlier turn.
    entered: u64,
    /// The last record that something published so far is in.
    lsn: Lsn,
    /// Publishes of this turn that were nacked.
    nacked: Vec<u64>,
}

impl Confirms {
    /// Gives a publish its number, the delivery tag of its confirm.
    pub(super) fn publish(&mut self) -> DeliveryTag {
        self.published += 1;
        DeliveryTag(self.published)
    }

    /// How many publishes wait for their confirm.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.published - self.confirmed
    }

    /// The publish was refused, and basic.nack says so.
    pub(super) fn nack(&mut self, tag: DeliveryTag) {
        let at = self.nacked.partition_point(|other| *other < tag.0);
        self.nacked.insert(at, tag.0);
    }

    /// Something that the turn published is in that record, or in none.
    pub(super) fn await_record(&mut self, lsn: Option<Lsn>) {
        self.lsn = self.lsn.max(lsn.unwrap_or_default());
    }

    /// The turn is over: what it published, and the record which that waits for. No later one is confirmed before.
    pub(super) fn end_turn(&mut self) -> Option<(Publishes, Lsn)> {
        if self.published == self.entered {
            return None;
        }
        let first = self.entered + 1;
        self.entered = self.published;
        Some((Publishes { first, last: self.published, nacked: std::mem::take(&mut self.nacked) }, self.lsn))
    }

    /// All up to that publish have been confirmed; returns how many those are.
    pub(super) fn confirm(&mut self, last: u64) -> u64 {
        last - std::mem::replace(&mut self.confirmed, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_waits_for_the_last_record_so_far() {
        let mut confirms = Confirms::default();
        assert_eq!(confirms.end_turn(), None);
        confirms.publish();
        confirms.publish();
        confirms.nack(DeliveryTag(2));
        confirms.await_record(Some(Lsn(7)));
        confirms.await_record(None);
        let turn = Publishes { first: 1, last: 2, nacked: vec![2] };
        assert_eq!(confirms.end_turn(), Some((turn, Lsn(7))));
        confirms.publish();
        confirms.await_record(None);
        let turn = Publishes { first: 3, last: 3, nacked: vec![] };
        assert_eq!(confirms.end_turn(), Some((turn, Lsn(7))));
        assert_eq!((confirms.end_turn(), confirms.unconfirmed()), (None, 3));
        assert_eq!((confirms.confirm(2), confirms.confirm(3), confirms.unconfirmed()), (2, 1, 0));
    }
}
