//! A connection that waits for an answer: to a change that is made, and may be answered only when it is durable.
//!
//! What the connection says behind such a change stays behind it, so that replies keep their order; what it had to say before,
//! deliveries, confirms and heartbeats go out meanwhile. It handles no more input than further changes, which become durable
//! with the first one.

use crate::broker::Ticket;
use crate::session::Transmit;

/// What a connection holds back until an answer comes, beside what it is about to send; see the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// What is waited for: the latest of all changes.
    ticket: Option<Ticket>,
    /// What was to be sent before the first of them.
    before: Transmit,
}

impl Waiting {
    /// What is waited for, if anything is.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    /// What comes into `out` from now on is sent when the ticket is answered. True when that one is not waited for yet.
    pub(super) fn wait_for(&mut self, ticket: Ticket, out: &mut Transmit) -> bool {
        if self.ticket.is_none() {
            self.before.append(out);
        }
        let is_later = self.ticket.is_none_or(|waited_for| waited_for < ticket);
        if is_later {
            self.ticket = Some(ticket);
        }
        is_later
    }

    /// What may be sent now.
    pub(super) fn sendable<'a>(&'a mut self, out: &'a mut Transmit) -> &'a mut Transmit {
        if self.ticket.is_some() { &mut self.before } else { out }
    }

    /// Bytes that may be sent now, beside those in `out`.
    pub(super) fn len(&self) -> usize {
        self.before.len()
    }

    /// It was answered: what waited is in `out`, behind what is left of the rest.
    pub(super) fn end(&mut self, out: &mut Transmit) {
        self.ticket = None;
        self.before.append(out);
        std::mem::swap(&mut self.before, out);
    }

    /// It never will be, or the connection is at its end: what waited is dropped.
    pub(super) fn give_up(&mut self, out: &mut Transmit) {
        if self.ticket.take().is_some() {
            *out = std::mem::take(&mut self.before);
        }
    }
}
