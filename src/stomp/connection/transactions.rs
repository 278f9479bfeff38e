//! BEGIN, COMMIT and ABORT: messages and acknowledgements that happen together or not at all. A session may have several
//! transactions open, each by its name.

use super::Connection;
use super::underway::Underway;
use crate::broker::outcome::Outcome;
use crate::broker::routing::Route;
use crate::client::{Committing, Taken, TooLarge, Transaction, TransactionLimits, tell_queues};
use crate::message::Message;
use crate::stomp::error::StompError;
use crate::stomp::frame::Headers;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The open transactions of a session.
#[derive(Debug, Default)]
pub(super) struct Transactions(BTreeMap<Vec<u8>, Opened>);

#[derive(Debug, Default)]
struct Opened {
    transaction: Transaction,
    /// Receipts for its messages, sent when it is committed.
    receipts: Vec<Vec<u8>>,
    receipt_bytes: usize,
}

impl Transactions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that a transaction is open.
    pub(super) fn check(&self, name: &[u8]) -> Result<(), StompError> {
        if self.0.contains_key(name) { Ok(()) } else { Err(unknown(name)) }
    }

    /// What all of them take.
    pub(super) fn bytes(&self) -> usize {
        self.0.values().map(|opened| opened.transaction.bytes() + opened.receipt_bytes).sum()
    }

    /// How many messages and acknowledgements wait for a commit.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(publishes, acks), opened| {
            let (more_publishes, more_acks) = opened.transaction.counts();
            (publishes + more_publishes, acks + more_acks)
        })
    }

    /// Rolls all of them back, and returns the deliveries that are unacknowledged again.
    pub(super) fn take_all(&mut self) -> Vec<Taken> {
        std::mem::take(&mut self.0).into_values().map(|mut opened| opened.transaction.roll_back()).collect()
    }
}

fn unknown(name: &[u8]) -> StompError {
    let name = String::from_utf8_lossy(name);
    StompError::new("Bad transaction", format!("Invalid transaction identifier: \"{name}\"\n"))
}

fn name<'a>(headers: &'a Headers<'_>, command: &str) -> Result<&'a [u8], StompError> {
    headers.get("transaction").ok_or_else(|| {
        let body = format!("\"{command}\" must include a 'transaction' header\n");
        StompError::new("Missing transaction", body)
    })
}

impl From<TooLarge> for StompError {
    fn from(error: TooLarge) -> StompError {
        StompError::new("Transaction too large", format!("{error}\n"))
    }
}

impl Connection {
    pub(super) fn begin(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        let name = name(headers, "BEGIN")?;
        let max = self.stomp.settings.transactions_max;
        if self.transactions.0.contains_key(name) {
            let name = String::from_utf8_lossy(name);
            let body = format!("transaction \"{name}\" has begun already\n");
            return Err(StompError::new("Bad transaction", body));
        }
        if self.transactions.0.len() >= max {
            let body = format!("Too many concurrent transactions (limit {max})");
            return Err(StompError::new("Transaction limit exceeded", body));
        }
        self.transactions.0.insert(name.to_vec(), Opened::default());
        Ok(())
    }

    pub(super) fn abort(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        let name = name(headers, "ABORT")?;
        let mut opened = self.transactions.0.remove(name).ok_or_else(|| unknown(name))?;
        self.unacked.put_back(opened.transaction.roll_back());
        Ok(())
    }

    /// Commits: everything is written as one record first, then happens. Receipts wait until that record is durable.
    pub(super) fn commit(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        let name = name(headers, "COMMIT")?;
        let mut opened = self.transactions.0.remove(name).ok_or_else(|| unknown(name))?;
        let Some(open) = &self.open else { return Ok(()) };
        let vhost = open.vhost.clone();
        opened.transaction.check()?;
        let mut receipts = opened.receipts;
        receipts.extend(headers.get("receipt").map(<[u8]>::to_vec));
        if opened.transaction.is_large() {
            let committing = opened.transaction.begin_commit(&vhost);
            return self.go_on_committing(committing, receipts);
        }
        let mut commit = opened.transaction.stage(&vhost, &mut self.turn);
        self.traffic.stats.routed += commit.routed;
        self.traffic.stats.drop_unroutable += commit.unroutable.len() as u64;
        let record = self.turn.append_to(self.stomp.broker.journal());
        self.receipts.note(record);
        let mut refused = Vec::new();
        commit.deliver_publishes(&vhost, &mut self.turn, &mut refused);
        for (taken, outcome) in std::mem::take(&mut commit.settlements) {
            self.tell_committed(taken, outcome);
        }
        commit.deliver_letters(&vhost, &mut self.turn);
        vhost.apply_effects(&mut self.turn);
        self.committed(!refused.is_empty(), receipts)
    }

    /// Goes on with a commit that takes longer than a turn may. Nothing else of the connection is handled before it is done.
    pub(super) fn go_on_committing(
        &mut self,
        mut committing: Committing,
        receipts: Vec<Vec<u8>>,
    ) -> Result<(), StompError> {
        let is_staged = committing.stage(&mut self.turn);
        self.traffic.stats.routed += std::mem::take(&mut committing.routed);
        self.traffic.stats.drop_unroutable += std::mem::take(&mut committing.unroutable).len() as u64;
        if is_staged {
            committing.append(&mut self.turn);
            self.receipts.note(committing.record.flatten());
        }
        let is_delivered = is_staged && committing.deliver(&mut self.turn);
        while is_delivered && let Some((taken, outcome)) = committing.next_settled(&mut self.turn) {
            self.tell_committed(taken, outcome);
        }
        let is_done = is_delivered && committing.deliver_letters(&mut self.turn);
        self.apply_effects();
        if !is_done {
            self.underway = Some(Box::new(Underway::Committing(Box::new(committing), receipts)));
            return Ok(());
        }
        self.committed(committing.is_refused, receipts)
    }

    fn tell_committed(&mut self, taken: Taken, outcome: Outcome) {
        if outcome == Outcome::Accept {
            self.traffic.stats.ack += taken.len() as u64;
        }
        tell_queues(taken, outcome, &mut self.turn);
    }

    /// A commit has happened; its receipts come when its record is durable.
    fn committed(&mut self, is_refused: bool, receipts: Vec<Vec<u8>>) -> Result<(), StompError> {
        if is_refused {
            return Err(StompError::precondition("partial tx completion"));
        }
        receipts.into_iter().for_each(|receipt| self.receipts.ask(receipt));
        Ok(())
    }

    /// How large a transaction may be that has `bytes` so far, beside the others.
    fn transaction_limits(&self, bytes: usize) -> TransactionLimits {
        let settings = &self.stomp.settings;
        let others = self.transactions.bytes().saturating_sub(bytes);
        TransactionLimits {
            messages_max: settings.tx_messages_max,
            bytes_max: settings.tx_bytes_max.saturating_sub(others),
        }
    }

    fn limits_of(&self, name: &[u8]) -> Result<TransactionLimits, StompError> {
        let opened = self.transactions.0.get(name).ok_or_else(|| unknown(name))?;
        Ok(self.transaction_limits(opened.transaction.bytes()))
    }

    pub(super) fn send_in_transaction(
        &mut self,
        name: &[u8],
        route: (Arc<Route>, u64),
        message: Message,
        receipt: Option<Vec<u8>>,
    ) -> Result<(), StompError> {
        let limits = self.limits_of(name)?;
        let opened = self.transactions.0.get_mut(name).ok_or_else(|| unknown(name))?;
        opened.transaction.note_publisher(&route.0, route.0.check_publisher(&message)?);
        opened.transaction.publish(route, message, false, limits, self.stomp.broker.memory())?;
        opened.receipt_bytes += receipt.as_ref().map_or(0, Vec::len);
        opened.receipts.extend(receipt);
        Ok(())
    }

    pub(super) fn settle_in_transaction(
        &mut self,
        name: &[u8],
        taken: Taken,
        outcome: Outcome,
    ) -> Result<(), StompError> {
        let limits = self.limits_of(name)?;
        let opened = self.transactions.0.get_mut(name).ok_or_else(|| unknown(name))?;
        Ok(opened.transaction.settle(taken, outcome, limits)?)
    }
}
