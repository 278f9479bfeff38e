//! Answers that come later: what is done as far as others see it, and may be answered only when it is durable.

use super::error::BrokerError;
use super::turn::DurableWaiter;
use super::{Broker, Shared, store_error};
use crate::message::Lsn;
use std::sync::Arc;

/// The outcome of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the caller answers at once, or when the ticket is answered"]
pub enum Done<T> {
    /// It is done, and may be answered.
    Now(T),
    /// It is done as far as others see. The caller answers when the ticket is answered, and answers with the failure if
    /// that is what is answered.
    Later(T, Ticket),
}

/// What an answer waits for, see [`Broker::answered`]. Of two tickets the greater one is answered later, or with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) Lsn);

impl Ticket {
    /// The record of the journal that it waits for.
    pub fn record(self) -> Lsn {
        self.0
    }
}

impl<T> Done<T> {
    /// Later if there is a ticket.
    pub(super) fn with(value: T, ticket: Option<Ticket>) -> Done<T> {
        match ticket {
            Some(ticket) => Done::Later(value, ticket),
            None => Done::Now(value),
        }
    }

    /// What was done, for callers that wait for [`Broker::last_change`] before they answer.
    pub fn into_value(self) -> T {
        match self {
            Done::Now(value) | Done::Later(value, _) => value,
        }
    }
}

impl Shared {
    /// Whether what the ticket is for is not durable yet.
    pub(super) fn is_open(&self, ticket: Ticket) -> bool {
        ticket.0 > self.journal.durable()
    }

    pub(super) fn last_change(&self) -> Ticket {
        Ticket(self.journal.defined())
    }
}

impl Broker {
    /// Whether what the ticket is for is durable, or why it never will be; nothing while that is open.
    pub fn answered(&self, ticket: Ticket) -> Option<Result<(), BrokerError>> {
        if !self.shared.is_open(ticket) {
            return Some(Ok(()));
        }
        self.journal().failure().map(|error| Err(store_error(error)))
    }

    /// Has `waiter` called when the ticket is answered: at once if it is already. The turn has to end after this, or
    /// [`crate::store::Journal::wake_committer`] has to be called.
    pub fn await_answer(&self, ticket: Ticket, waiter: Arc<dyn DurableWaiter>) {
        self.journal().await_record(ticket.0, waiter);
    }

    /// The ticket of all that was changed so far: vhosts, users, permissions, parameters, policies, exchanges, queues, bindings.
    pub fn last_change(&self) -> Ticket {
        self.shared.last_change()
    }

    /// Makes all changes of definitions one that `act` makes: after a crash all of them have happened or none. What others do
    /// meanwhile becomes durable with them and not before, so this is for what takes moments.
    pub fn as_one_change<T>(&self, act: impl FnOnce() -> T) -> T {
        let _hold = self.journal().hold();
        act()
    }

    /// Commits until all that was changed so far is durable: for the start, when there is no committer yet.
    ///
    /// # Errors
    /// When the store failed.
    pub fn commit_changes(&self) -> Result<(), BrokerError> {
        while self.shared.is_open(self.last_change()) {
            self.journal().commit().map_err(store_error)?;
        }
        Ok(())
    }
}
