//! What a channel needs of its connection, and what it asks the broker through it.

use super::AckDeadline;
use crate::amqp::answers::Answers;
use crate::amqp::error::AmqpError;
use crate::amqp::waiting::Waiting;
use crate::amqp::{Amqp, AmqpSettings};
use crate::broker::access::permissions::{Access, Grants};
use crate::broker::access::users::User;
use crate::broker::chores::Chore;
use crate::broker::delivery::Outbox;
use crate::broker::error::{BrokerError, ResourceKind};
use crate::broker::exchange::{Destination, Exchange};
use crate::broker::{Actor, Broker, Done, Turn, VirtualHost};
use crate::client::{ExclusiveQueues, NameGenerator};
use crate::message::ConnectionId;
use crate::session::Transmit;
use std::sync::Arc;

/// What a channel needs of its connection to handle a frame.
pub(in crate::amqp) struct Context<'a> {
    pub(in crate::amqp) amqp: &'a Amqp,
    pub(in crate::amqp) vhost: &'a Arc<VirtualHost>,
    pub(in crate::amqp) user: &'a User,
    /// What the user may do.
    pub(in crate::amqp) grants: &'a mut Grants,
    pub(in crate::amqp) connection: ConnectionId,
    pub(in crate::amqp) outbox: &'a Arc<Outbox>,
    pub(in crate::amqp) answers: &'a Arc<Answers>,
    pub(in crate::amqp) out: &'a mut Transmit,
    pub(in crate::amqp) waiting: &'a mut Waiting,
    pub(in crate::amqp) turn: &'a mut Turn,
    pub(in crate::amqp) frame_max: usize,
    /// Queues that go with the connection.
    pub(in crate::amqp) exclusive_queues: &'a mut ExclusiveQueues,
    /// Numbers for names that the broker gives.
    pub(in crate::amqp) names: &'a mut NameGenerator,
    pub(in crate::amqp) ack_deadline: &'a mut AckDeadline,
}

impl Context<'_> {
    pub(super) fn broker(&self) -> &Broker {
        &self.amqp.broker
    }

    /// Who acts here.
    pub(super) fn actor(&self) -> Actor<'static> {
        Actor::Connection(self.connection)
    }

    pub(super) fn settings(&self) -> &AmqpSettings {
        &self.amqp.settings
    }

    /// What was done. When it is not durable yet, what is said from now on waits for that, and so does the connection.
    pub(super) fn done<T>(&mut self, done: Done<T>) -> T {
        match done {
            Done::Now(value) => value,
            Done::Later(value, ticket) => {
                if self.waiting.wait_for(ticket, self.out) {
                    self.amqp.broker.await_answer(ticket, self.outbox.clone());
                }
                value
            }
        }
    }

    /// Has the broker's timer go on with what is left of a chore when the turn is spent.
    pub(in crate::amqp) fn leave(&mut self, chore: impl Chore + 'static) {
        self.amqp.broker.leave(self.vhost.name(), Box::new(chore), self.turn);
    }

    /// Checks that the user may do that to a queue.
    pub(super) fn may_use_queue(&mut self, access: Access, name: &str) -> Result<(), AmqpError> {
        self.may_use(access, ResourceKind::Queue, name)
    }

    /// Checks that the user may do that to an exchange.
    pub(super) fn may_use_exchange(&mut self, access: Access, name: &str) -> Result<(), AmqpError> {
        self.may_use(access, ResourceKind::Exchange, name)
    }

    pub(super) fn may_use(
        &mut self,
        access: Access,
        kind: ResourceKind,
        name: &str,
    ) -> Result<(), AmqpError> {
        Ok(self.grants.check(self.amqp.broker.permissions(), access, kind, name)?)
    }

    /// Checks that the user may use a routing key with an exchange, if that is a topic exchange.
    pub(super) fn may_use_topic(
        &mut self,
        access: Access,
        exchange: &Exchange,
        routing_key: &[u8],
    ) -> Result<(), AmqpError> {
        Ok(self.grants.check_topic(self.amqp.broker.permissions(), access, exchange, routing_key)?)
    }

    /// Checks that the user may bind, and unbind.
    pub(super) fn may_bind(
        &mut self,
        destination: &Destination,
        source: &str,
        routing_key: &[u8],
    ) -> Result<(), AmqpError> {
        match destination {
            Destination::Queue(name) => self.may_use_queue(Access::Write, name)?,
            Destination::Exchange(name) => self.may_use_exchange(Access::Write, name)?,
        }
        if source.is_empty() || matches!(destination, Destination::Exchange(name) if name.is_empty()) {
            return Err(BrokerError::DefaultExchange.into());
        }
        self.may_use_exchange(Access::Read, source)?;
        match self.vhost.exchange(source) {
            Some(exchange) => self.may_use_topic(Access::Read, &exchange, routing_key),
            None => Ok(()),
        }
    }
}
