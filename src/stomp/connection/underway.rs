//! What a connection is in the middle of, since it takes longer than a turn may. It is gone on with in the next turns, and no other
//! frame is handled before it is done. When the connection ends meanwhile, the broker goes on with what others rely on.

use super::Connection;
use super::send::{Asked, Target};
use crate::broker::chores::Chore;
use crate::broker::routing::Routing;
use crate::broker::spread::Spread;
use crate::client::{Committing, Settling};
use crate::message::{Message, Millis};
use crate::stomp::error::StompError;

/// Work that takes longer than a turn may.
#[derive(Debug)]
pub(super) enum Underway {
    /// A message whose route is being found.
    Finding(Box<Finding>),
    /// A message that very many queues get.
    Spreading(Spreading),
    /// Very many deliveries that were judged at once.
    Settling(Settling),
    /// A COMMIT of very much, with the receipts that it brings.
    Committing(Box<Committing>, Vec<Vec<u8>>),
}

/// A message whose route is being found, a part at a time.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) message: Message,
    pub(super) routing: Routing,
    pub(super) target: Target,
    pub(super) asked: Asked,
}

/// A message that very many queues get, a part of them at a time.
#[derive(Debug)]
pub(super) struct Spreading {
    pub(super) spread: Spread,
    pub(super) receipt: Option<Vec<u8>>,
}

impl Connection {
    /// Does more of what a frame asked for.
    pub(super) fn go_on(&mut self, now: Millis) {
        let Some(underway) = self.underway.take() else { return };
        match *underway {
            Underway::Finding(finding) => {
                let receipt = finding.asked.receipt.clone();
                if let Err(error) = self.go_on_finding(*finding) {
                    self.fail(StompError { receipt, ..error }, now);
                }
            }
            Underway::Spreading(spreading) => self.go_on_spreading(spreading),
            Underway::Settling(settling) => self.go_on_settling(settling),
            Underway::Committing(committing, receipts) => {
                if let Err(error) = self.go_on_committing(*committing, receipts) {
                    self.fail(error, now);
                }
            }
        }
    }

    /// Has more of the queues get the message; its receipt comes when all have it and none has refused.
    pub(super) fn go_on_spreading(&mut self, mut spreading: Spreading) {
        let is_done = spreading.spread.go_on(&mut self.turn);
        self.apply_effects();
        if !is_done {
            self.underway = Some(Box::new(Underway::Spreading(spreading)));
            return;
        }
        if let Some(receipt) = spreading.receipt.filter(|_| !spreading.spread.was_refused()) {
            self.receipts.ask(receipt);
        }
    }

    /// The connection ends in the middle of something. Returns what the client has said of deliveries.
    pub(super) fn leave_underway(&mut self) -> Option<Settling> {
        match *self.underway.take()? {
            Underway::Spreading(spreading) => self.leave(spreading.spread),
            Underway::Settling(settling) => return Some(settling),
            Underway::Committing(committing, _) => self.leave(*committing),
            // It has not done anything so far.
            Underway::Finding(_) => {}
        }
        None
    }
}
