//! Class exchange (0-9-1 section 1.6): declare, delete, and bindings between exchanges.

use super::{Channel, Context, unimplemented};
use crate::amqp::error::AmqpError;
use crate::broker::access::permissions::Access;
use crate::broker::error::BrokerError;
use crate::broker::exchange::{Binding, Destination, ExchangeDefinition};
use crate::broker::topology::without_line_ends;
use crate::message::{FieldTable, Value};
use amq_protocol::protocol::exchange::AMQPMethod::{
    Bind, BindOk, Declare, DeclareOk, Delete, DeleteOk, Unbind, UnbindOk,
};
use amq_protocol::protocol::{AMQPClass, exchange};

impl Channel {
    pub(super) fn handle_exchange(
        &mut self,
        method: exchange::AMQPMethod,
        arguments: FieldTable,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let (ok, nowait) = match method {
            Declare(declare) => {
                self.exchange_declare(&declare, arguments, context)?;
                (DeclareOk(exchange::DeclareOk {}), declare.nowait)
            }
            Delete(delete) => {
                let name = without_line_ends(delete.exchange.as_str());
                context.vhost.check_deletable(&name)?;
                context.may_use_exchange(Access::Configure, &name)?;
                let deleted = context.vhost.delete_exchange(&name, delete.if_unused, context.actor())?;
                context.done(deleted);
                (DeleteOk(exchange::DeleteOk {}), delete.nowait)
            }
            Bind(bind) => {
                let source = without_line_ends(bind.source.as_str());
                let destination =
                    Destination::Exchange(without_line_ends(bind.destination.as_str()).as_str().into());
                context.may_bind(&destination, &source, bind.routing_key.as_str().as_bytes())?;
                let binding = Binding {
                    source: source.as_str().into(),
                    destination,
                    routing_key: bind.routing_key.as_str().into(),
                    arguments: arguments.into(),
                };
                let bound = context.vhost.bind(binding, context.actor())?;
                context.done(bound);
                (BindOk(exchange::BindOk {}), bind.nowait)
            }
            Unbind(unbind) => {
                let source = without_line_ends(unbind.source.as_str());
                let destination =
                    Destination::Exchange(without_line_ends(unbind.destination.as_str()).as_str().into());
                context.may_bind(&destination, &source, unbind.routing_key.as_str().as_bytes())?;
                let routing_key = unbind.routing_key.as_str().into();
                let unbound =
                    context.vhost.unbind(&source, &destination, &routing_key, &arguments, context.actor())?;
                context.done(unbound);
                (UnbindOk(exchange::UnbindOk {}), unbind.nowait)
            }
            _ => return Err(unimplemented()),
        };
        if !nowait {
            self.reply(AMQPClass::Exchange(ok), context);
        }
        Ok(())
    }

    fn exchange_declare(
        &mut self,
        declare: &exchange::Declare,
        arguments: FieldTable,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let name = without_line_ends(declare.exchange.as_str());
        if declare.passive {
            if name.is_empty() {
                return Err(BrokerError::DefaultExchange.into());
            }
            context.vhost.existing_exchange(&name)?;
            return Ok(());
        }
        context.vhost.check_declarable(&name, declare.kind.as_str())?;
        context.may_use_exchange(Access::Configure, &name)?;
        if let Some(alternate) = arguments.field("alternate-exchange").and_then(Value::as_str) {
            context.may_use_exchange(Access::Read, &name)?;
            context.may_use_exchange(Access::Write, alternate)?;
        }
        let definition = ExchangeDefinition {
            vhost: context.vhost.name().clone(),
            name: name.as_str().into(),
            kind: declare.kind.as_str().into(),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: arguments.into(),
        };
        let declared = context.vhost.declare_exchange(definition, context.actor())?;
        context.done(declared);
        Ok(())
    }
}
