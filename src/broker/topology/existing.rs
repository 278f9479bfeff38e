//! What has to be there, and what no client may declare or delete.

use super::RESERVED_PREFIX;
use crate::broker::actor::Actor;
use crate::broker::error::{BrokerError, Resource};
use crate::broker::exchange::Exchange;
use crate::broker::queue::QueueHandle;
use crate::broker::vhost::VirtualHost;
use std::sync::Arc;

impl VirtualHost {
    /// Refuses what no exchange may be declared as, even by an administrator.
    ///
    /// # Errors
    /// When there is no such type, or the default exchange is meant.
    pub fn check_declarable(&self, name: &str, kind: &str) -> Result<(), BrokerError> {
        if !self.shared().exchange_types.contains(kind) {
            return Err(BrokerError::UnknownExchangeType(kind.to_owned()));
        }
        if name.is_empty() { Err(BrokerError::DefaultExchange) } else { Ok(()) }
    }

    /// Refuses to delete what every vhost has, even for an administrator.
    ///
    /// # Errors
    /// When it is such an exchange.
    pub fn check_deletable(&self, name: &str) -> Result<(), BrokerError> {
        if name.is_empty() {
            return Err(BrokerError::DefaultExchange);
        }
        if name.starts_with(RESERVED_PREFIX) {
            return Err(BrokerError::SystemExchange(Resource::exchange(self.name(), name)));
        }
        Ok(())
    }

    /// An exchange that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn existing_exchange(&self, name: &str) -> Result<Arc<Exchange>, BrokerError> {
        self.exchange(name).ok_or_else(|| BrokerError::NotFound(Resource::exchange(self.name(), name)))
    }

    /// A queue that has to be there and that `actor` may use.
    ///
    /// # Errors
    /// When it is not there, or is exclusive to another connection.
    pub fn accessible_queue(&self, name: &str, actor: Actor<'_>) -> Result<Arc<QueueHandle>, BrokerError> {
        let queue =
            self.queue(name).ok_or_else(|| BrokerError::NotFound(Resource::queue(self.name(), name)))?;
        if actor.may_use(queue.definition().exclusive_owner) {
            Ok(queue)
        } else {
            Err(BrokerError::Locked(queue.definition().resource()))
        }
    }
}
