//! Class queue (0-9-1 section 1.7): declare, bind, unbind, purge, delete.

use super::{Channel, Context, unimplemented};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::broker::access::permissions::Access;
use crate::broker::error::{BrokerError, Resource, ResourceKind};
use crate::broker::exchange::{Binding, Destination};
use crate::broker::queue::{QueueCounts, QueueDeclaration, QueueType};
use crate::broker::routing::REPLY_TO_PREFIX;
use crate::broker::topology::{RESERVED_PREFIX, without_line_ends};
use crate::message::{FieldTable, Name, Value};
use crate::rabbit::module;
use amq_protocol::protocol::queue::AMQPMethod::{
    Bind, BindOk, Declare, DeclareOk, Delete, DeleteOk, Purge, PurgeOk, Unbind, UnbindOk,
};
use amq_protocol::protocol::{AMQPClass, queue};

/// The name that stands for the channel's own direct reply-to consumer.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl Channel {
    pub(super) fn handle_queue(
        &mut self,
        method: queue::AMQPMethod,
        arguments: FieldTable,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let (ok, nowait) = match method {
            Declare(declare) => (self.queue_declare(&declare, arguments, context)?, declare.nowait),
            Bind(bind) => (self.queue_bind(&bind, arguments, context)?, bind.nowait),
            Unbind(unbind) => (self.queue_unbind(&unbind, &arguments, context)?, false),
            Purge(purge) => (self.queue_purge(&purge, context)?, purge.nowait),
            Delete(delete) => (self.queue_delete(&delete, context)?, delete.nowait),
            _ => return Err(unimplemented()),
        };
        if !nowait {
            self.reply(AMQPClass::Queue(ok), context);
        }
        Ok(())
    }

    /// What a queue's name in a method stands for: an empty one is the queue declared last on this channel.
    pub(super) fn queue_name(&self, name: &str) -> Result<Name, AmqpError> {
        if !name.is_empty() {
            return Ok(name.into());
        }
        let none = || AmqpError::new(ReplyCode::NotFound, "no previously declared queue");
        self.last_queue.clone().ok_or_else(none)
    }

    fn queue_declare(
        &mut self,
        declare: &queue::Declare,
        arguments: FieldTable,
        context: &mut Context<'_>,
    ) -> Result<queue::AMQPMethod, AmqpError> {
        let asked = without_line_ends(declare.queue.as_str());
        if asked == REPLY_TO {
            return Ok(DeclareOk(queue::DeclareOk {
                queue: REPLY_TO.into(),
                message_count: 0,
                consumer_count: 1,
            }));
        }
        if let Some(token) = asked.strip_prefix(REPLY_TO_PREFIX) {
            return self.declare_reply_to(&asked, token, context);
        }
        let (name, counts) = if declare.passive {
            let name: Name = asked.as_str().into();
            let queue = context.vhost.accessible_queue(&name, context.actor())?;
            (name, queue.touch(context.turn))
        } else {
            self.create_queue(declare, &asked, arguments, context)?
        };
        self.last_queue = Some(name.clone());
        Ok(DeclareOk(queue::DeclareOk {
            queue: (*name).into(),
            message_count: saturating(counts.ready),
            consumer_count: saturating(counts.consumers),
        }))
    }

    fn create_queue(
        &mut self,
        declare: &queue::Declare,
        asked: &str,
        arguments: FieldTable,
        context: &mut Context<'_>,
    ) -> Result<(Name, QueueCounts), AmqpError> {
        let server_named = asked.is_empty();
        let asked_type = arguments.field("x-queue-type").and_then(Value::as_str).and_then(QueueType::named);
        if let Some(queue_type @ (QueueType::Quorum | QueueType::Stream)) =
            asked_type.filter(|_| server_named)
        {
            let text = format!("Cannot declare a server-named queue for type {}", module(queue_type));
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
        }
        if asked.starts_with(RESERVED_PREFIX) {
            return Err(BrokerError::ReservedName { kind: ResourceKind::Queue, name: asked.into() }.into());
        }
        let name: Name =
            if server_named { context.names.name("amq.gen-").as_str().into() } else { asked.into() };
        context.may_use_queue(Access::Configure, &name)?;
        if let Some(exchange) = arguments.field("x-dead-letter-exchange").and_then(Value::as_str) {
            context.may_use_queue(Access::Read, &name)?;
            context.may_use_exchange(Access::Write, exchange)?;
        }
        let declaration = QueueDeclaration {
            name: name.clone(),
            // An exclusive queue goes with its connection, whatever was asked for.
            durable: declare.durable && !declare.exclusive,
            auto_delete: declare.auto_delete,
            exclusive_owner: declare.exclusive.then_some(context.connection),
            arguments,
        };
        let declared = context.vhost.declare_queue(declaration, context.actor(), context.turn)?;
        let queue = context.done(declared);
        if declare.exclusive {
            context.exclusive_queues.insert(&name, context.vhost);
        }
        let counts = queue.counts();
        context.vhost.apply_effects(context.turn);
        Ok((name, counts))
    }

    /// Declaring a reply address shows whether a consumer still waits for replies there.
    fn declare_reply_to(
        &mut self,
        name: &str,
        token: &str,
        context: &Context<'_>,
    ) -> Result<queue::AMQPMethod, AmqpError> {
        if !context.broker().has_reply_consumer(token) {
            return Err(BrokerError::NotFound(Resource::queue(context.vhost.name(), name)).into());
        }
        Ok(DeclareOk(queue::DeclareOk { queue: name.into(), message_count: 0, consumer_count: 1 }))
    }

    fn queue_bind(
        &mut self,
        bind: &queue::Bind,
        arguments: FieldTable,
        context: &mut Context<'_>,
    ) -> Result<queue::AMQPMethod, AmqpError> {
        let (queue, routing_key) = self.binding_ends(bind.queue.as_str(), bind.routing_key.as_str())?;
        let source = without_line_ends(bind.exchange.as_str());
        let destination = Destination::Queue(queue);
        context.may_bind(&destination, &source, routing_key.as_bytes())?;
        let binding = Binding {
            source: source.as_str().into(),
            destination,
            routing_key: (*routing_key).into(),
            arguments: arguments.into(),
        };
        let bound = context.vhost.bind(binding, context.actor())?;
        context.done(bound);
        Ok(BindOk(queue::BindOk {}))
    }

    fn queue_unbind(
        &mut self,
        unbind: &queue::Unbind,
        arguments: &FieldTable,
        context: &mut Context<'_>,
    ) -> Result<queue::AMQPMethod, AmqpError> {
        let (queue, routing_key) = self.binding_ends(unbind.queue.as_str(), unbind.routing_key.as_str())?;
        let exchange = without_line_ends(unbind.exchange.as_str());
        let destination = Destination::Queue(queue);
        context.may_bind(&destination, &exchange, routing_key.as_bytes())?;
        let unbound = context.vhost.unbind(
            &exchange,
            &destination,
            &(*routing_key).into(),
            arguments,
            context.actor(),
        )?;
        context.done(unbound);
        Ok(UnbindOk(queue::UnbindOk {}))
    }

    /// Queue and key of a binding: where both are empty, the queue declared last stands for both.
    fn binding_ends(&self, queue: &str, routing_key: &str) -> Result<(Name, Name), AmqpError> {
        let name = self.queue_name(&without_line_ends(queue))?;
        let key = if queue.is_empty() && routing_key.is_empty() { name.clone() } else { routing_key.into() };
        Ok((name, key))
    }

    fn queue_purge(
        &mut self,
        purge: &queue::Purge,
        context: &mut Context<'_>,
    ) -> Result<queue::AMQPMethod, AmqpError> {
        let name = self.queue_name(purge.queue.as_str())?;
        context.may_use_queue(Access::Read, &name)?;
        let queue = context.vhost.accessible_queue(&name, context.actor())?;
        queue.check_purge()?;
        let count = queue.purge(context.turn);
        context.vhost.apply_effects(context.turn);
        Ok(PurgeOk(queue::PurgeOk { message_count: saturating(count) }))
    }

    fn queue_delete(
        &mut self,
        delete: &queue::Delete,
        context: &mut Context<'_>,
    ) -> Result<queue::AMQPMethod, AmqpError> {
        let name = self.queue_name(&without_line_ends(delete.queue.as_str()))?;
        context.may_use_queue(Access::Configure, &name)?;
        let deleted = context.vhost.delete_queue(
            &name,
            delete.if_unused,
            delete.if_empty,
            context.actor(),
            context.turn,
        )?;
        let count = context.done(deleted);
        Ok(DeleteOk(queue::DeleteOk { message_count: saturating(count) }))
    }
}

/// Counts are 32 bits wide on the wire.
pub(super) fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
