//! Publisher confirms: a link's publishes by their numbers, and which record of the journal each turn's wait for.

use crate::message::{Lsn, PublishId};

/// The publishes of a link that are to be confirmed, numbered from 1. Those of one turn are confirmed together, in order, when the
/// journal is durable up to the last record that any of them is in.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    published: u64,
    confirmed: u64,
    /// The last publish of an earlier turn.
    entered: u64,
    /// The last record that something published so far is in.
    lsn: Lsn,
    /// Publishes of this turn that were refused.
    refused: Vec<PublishId>,
}

impl Confirms {
    /// Gives a publish its number.
    pub(crate) fn publish(&mut self) -> PublishId {
        self.published += 1;
        PublishId(self.published)
    }

    /// How many publishes wait for their confirm.
    pub(crate) fn unconfirmed(&self) -> u64 {
        self.published - self.confirmed
    }

    /// The publish was refused, and its client has been answered that.
    pub(crate) fn refuse(&mut self, publish: PublishId) {
        let at = self.refused.partition_point(|other| *other < publish);
        self.refused.insert(at, publish);
    }

    /// Something that the turn published is in that record, or in none.
    pub(crate) fn await_record(&mut self, lsn: Option<Lsn>) {
        self.lsn = self.lsn.max(lsn.unwrap_or_default());
    }

    /// The turn is over: what it published, and the record which that waits for. No later one is confirmed before.
    pub(crate) fn end_turn(&mut self) -> Option<(Publishes, Lsn)> {
        if self.published == self.entered {
            return None;
        }
        let first = PublishId(self.entered + 1);
        self.entered = self.published;
        let refused = std::mem::take(&mut self.refused);
        Some((Publishes { first, last: PublishId(self.published), refused }, self.lsn))
    }

    /// All up to that publish have been confirmed; returns how many those are.
    pub(crate) fn confirm(&mut self, last: PublishId) -> u64 {
        last.0 - std::mem::replace(&mut self.confirmed, last.0)
    }
}

/// Publishes of a link that follow each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Publishes {
    pub(crate) first: PublishId,
    pub(crate) last: PublishId,
    /// Those that were refused and answered already, in order.
    pub(crate) refused: Vec<PublishId>,
}

impl Publishes {
    /// How many they are, with those that were refused.
    pub(crate) fn count(&self) -> u64 {
        self.last.0 + 1 - self.first.0
    }

    /// Takes in those that come next.
    pub(crate) fn join(&mut self, next: Publishes) {
        self.last = next.last;
        self.refused.extend(next.refused);
    }

    /// The publish to name in one answer that confirms all up to it, and whether it confirms several; none if all were refused. A
    /// publish that was refused is no longer counted by the client, so it has to be one that the client still waits for.
    pub(crate) fn ack(&self) -> Option<(PublishId, bool)> {
        let of_all = (self.first.0..=self.last.0).rev().map(PublishId);
        let mut acked = of_all.filter(|publish| self.refused.binary_search(publish).is_err());
        let last = acked.next()?;
        Some((last, acked.next().is_some()))
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
        confirms.refuse(PublishId(2));
        confirms.await_record(Some(Lsn(7)));
        confirms.await_record(None);
        let turn = Publishes { first: PublishId(1), last: PublishId(2), refused: vec![PublishId(2)] };
        assert_eq!(confirms.end_turn(), Some((turn, Lsn(7))));
        confirms.publish();
        confirms.await_record(None);
        let turn = Publishes { first: PublishId(3), last: PublishId(3), refused: vec![] };
        assert_eq!(confirms.end_turn(), Some((turn, Lsn(7))));
        assert_eq!((confirms.end_turn(), confirms.unconfirmed()), (None, 3));
        assert_eq!(
            (confirms.confirm(PublishId(2)), confirms.confirm(PublishId(3)), confirms.unconfirmed()),
            (2, 1, 0)
        );
    }
}
