//! Receipts: each is sent when all is durable that the connection has done until then, in the order in which they were asked for.

use super::{Connection, End};
use crate::message::{Lsn, Millis};
use crate::stomp::error::StompError;
use crate::stomp::frame::HeadWriter;
use std::collections::VecDeque;

/// What a receipt takes in memory beside its id, roughly.
const RECEIPT_BYTES: usize = 48;

/// The receipts that wait for their records.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// The last record that something is in which the connection has done.
    last: Lsn,
    /// Asked for in this turn: they wait for its last record.
    of_turn: Vec<Vec<u8>>,
    waiting: VecDeque<(Lsn, Vec<u8>)>,
    /// What all of them take.
    bytes: usize,
    /// The last record that the journal calls the session for.
    awaited: Lsn,
    /// How many of all there were, and the last of those that come before any delivery.
    asked: u64,
    sent: u64,
    before_deliveries: u64,
}

impl Receipts {
    /// What the connection has done is in that record, or in none.
    pub(super) fn note(&mut self, record: Option<Lsn>) {
        self.last = self.last.max(record.unwrap_or_default());
    }

    /// A receipt was asked for, for what has been done.
    pub(super) fn ask(&mut self, id: Vec<u8>) {
        self.bytes += id.len() + RECEIPT_BYTES;
        self.of_turn.push(id);
        self.asked += 1;
    }

    /// The receipt that was asked for last comes before the next delivery.
    pub(super) fn comes_before_deliveries(&mut self) {
        self.before_deliveries = self.asked;
    }

    /// Whether deliveries wait for a receipt.
    pub(super) fn hold_deliveries(&self) -> bool {
        self.before_deliveries > self.sent
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.of_turn.len() + self.waiting.len()
    }

    /// The turn is over, and all its records are noted.
    fn end_turn(&mut self) {
        let last = self.last;
        self.waiting.extend(self.of_turn.drain(..).map(|id| (last, id)));
    }

    /// The next one that may be sent.
    fn next(&mut self, durable: Lsn) -> Option<Vec<u8>> {
        let (_, id) = self.waiting.pop_front_if(|(record, _)| *record <= durable)?;
        self.bytes -= id.len() + RECEIPT_BYTES;
        self.sent += 1;
        Some(id)
    }

    /// None is sent any more.
    pub(super) fn give_up(&mut self) {
        *self = Receipts { last: self.last, awaited: self.awaited, ..Receipts::default() };
    }
}

impl Connection {
    /// Has the session woken when what receipts wait for is durable. The turn has to end after this.
    pub(super) fn await_receipts(&mut self) {
        self.receipts.end_turn();
        let journal = self.stomp.broker.journal();
        if let Some((last, _)) = self.receipts.waiting.back()
            && *last > self.receipts.awaited
            && *last > journal.durable()
        {
            self.receipts.awaited = *last;
            journal.await_record(*last, self.outbox.clone());
        }
    }

    /// Puts the receipts that may be sent behind all that is to be sent.
    pub(super) fn put_receipts(&mut self, now: Millis) {
        if self.receipts.waiting.is_empty() {
            return;
        }
        let durable = self.stomp.broker.journal().durable();
        while let Some(id) = self.receipts.next(durable) {
            let mut head = HeadWriter::new("RECEIPT", &mut self.head);
            head.value("receipt-id", &id);
            head.end();
            self.put_frame(b"");
            self.traffic.confirmed();
        }
        if !self.receipts.waiting.is_empty() && self.stomp.broker.journal().failure().is_some() {
            let text = "INTERNAL_ERROR - the store failed, nothing can be confirmed any more";
            self.fail_with(End::Faulty, StompError::new("internal_error", text), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_waits_for_all_that_was_done_before_it() {
        let mut receipts = Receipts::default();
        receipts.ask(b"a".to_vec());
        receipts.end_turn();
        receipts.ask(b"b".to_vec());
        receipts.note(Some(Lsn(7)));
        receipts.end_turn();
        receipts.note(None);
        receipts.ask(b"c".to_vec());
        receipts.end_turn();
        assert_eq!(receipts.count(), 3);
        assert_eq!(receipts.next(Lsn(6)).as_deref(), Some(&b"a"[..]));
        assert_eq!(receipts.next(Lsn(6)), None);
        assert_eq!(receipts.next(Lsn(7)).as_deref(), Some(&b"b"[..]));
        assert_eq!(receipts.next(Lsn(7)).as_deref(), Some(&b"c"[..]));
        assert_eq!(receipts.bytes(), 0);
    }
}
