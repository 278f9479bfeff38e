//! basic.publish: the checks on a message, its route, and its way to the queues in a batch (0-9-1 section 1.8.3.7).

use super::content::Published;
use super::deliver::{envelope_bytes, fill_envelope};
use super::underway::Underway;
use super::{Channel, Context, Mode};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::{ContentMethod, fill_short_str, short_str_bytes};
use crate::broker::access::permissions::Access;
use crate::broker::chores::Chore;
use crate::broker::error::{BrokerError, Resource};
use crate::broker::exchange::Exchange;
use crate::broker::routing::{Found, REPLY_TO_PREFIX, Route, Routing};
use crate::broker::spread::Spread;
use crate::broker::turn::DELIVERY_STEPS;
use crate::client::{check_properties, properties_to_send};
use crate::message::{Lsn, Message, PropertyScan, PublishId};
use crate::steps;
use std::sync::Arc;

/// Messages of this turn that take the same route, on their way to the queues together.
#[derive(Debug, Default)]
pub(super) struct PublishBatch {
    pub(super) route: Arc<Route>,
    /// Which messages take it too, if it depends on their envelopes alone.
    route_is_for: Option<RouteIsFor>,
    messages: Vec<Message>,
    /// The confirm's number of the first; the others follow.
    first: Option<PublishId>,
}

#[derive(Debug, PartialEq, Eq)]
struct RouteIsFor {
    /// See [`Published`].
    envelope: u64,
    /// The vhost's topology when the route was found.
    version: u64,
}

/// A message whose route is being found, a part at a time.
#[derive(Debug)]
pub(super) struct Finding {
    message: Message,
    mandatory: bool,
    /// What the route is for, if it turns out to depend on that alone.
    is_for: RouteIsFor,
    routing: Routing,
}

/// A message that very many queues get, a part of them at a time.
#[derive(Debug)]
pub(super) struct Spreading {
    pub(super) spread: Spread,
    /// The record that it is in.
    record: Option<Lsn>,
}

/// A message that goes to more queues than these does so a part at a time, and alone.
const QUEUES_AT_ONCE: usize = 1000;

impl Channel {
    pub(super) fn handle_content_header(
        &mut self,
        payload: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        match self.content.header(payload, context.settings().content)? {
            Some(published) => self.basic_publish(published, context),
            None => Ok(()),
        }
    }

    pub(super) fn handle_content_body(
        &mut self,
        payload: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        match self.content.body(payload, context.settings().content)? {
            Some(published) => self.basic_publish(published, context),
            None => Ok(()),
        }
    }

    fn basic_publish(&mut self, published: Published, context: &mut Context<'_>) -> Result<(), AmqpError> {
        let Published { mut message, envelope, mandatory, immediate, needs_check } = published;
        if immediate {
            return Err(AmqpError::new(ReplyCode::NotImplemented, "immediate=true"));
        }
        // Read first: a route that is found while the topology or permissions change must not be remembered.
        let version = context.vhost.version();
        let is_for = RouteIsFor { envelope, version };
        let is_known = self.publishes.route_is_for.as_ref() == Some(&is_for) && !message.has_copies();
        let exchange = if is_known { None } else { Some(target_exchange(&message, context)?) };
        if needs_check {
            message = self.check_properties(message, context)?;
        }
        if let Some(exchange) = exchange {
            self.flush_publishes(context);
            self.tally.turn_to_exchange(&exchange.definition().name, &self.stats);
            if message.has_copies() {
                let routing = Routing::starting_at(&exchange, &message);
                for key in routing.copies() {
                    context.may_use_topic(Access::Write, &exchange, key)?;
                }
                return self.go_on_finding(Finding { message, mandatory, is_for, routing }, context);
            }
            let route = match context.vhost.begin_route(&exchange, &message) {
                Found::Whole(route) => route,
                Found::Begun(routing) => {
                    return self.go_on_finding(Finding { message, mandatory, is_for, routing }, context);
                }
            };
            context.turn.spend(route.work);
            // No route is remembered while there is tracing, so that every message comes by here.
            let is_traced = context.vhost.is_traced();
            self.publishes.route_is_for = (route.by_key_alone && !is_traced).then_some(is_for);
            self.publishes.route = Arc::new(route);
            if is_traced {
                self.trace_publish(&message, context);
            }
        }
        self.publish_routed(message, mandatory, version, context)
    }

    /// Finds a part of the route of a message that takes long to find, and publishes it when all is found.
    pub(super) fn go_on_finding(
        &mut self,
        mut finding: Finding,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        if !context.vhost.go_on_routing(&mut finding.routing, &finding.message) {
            self.goes_on_with(Underway::Finding(finding));
            return Ok(());
        }
        let Finding { message, mandatory, is_for, routing } = finding;
        let version = is_for.version;
        let (route, is_traced) = (routing.into_route(), context.vhost.is_traced());
        self.publishes.route_is_for =
            (route.by_key_alone && !message.has_copies() && !is_traced).then_some(is_for);
        self.publishes.route = Arc::new(route);
        if is_traced {
            self.trace_publish(&message, context);
        }
        self.publish_routed(message, mandatory, version, context)
    }

    /// A message whose route is found: it waits for others that take it too.
    #[inline]
    fn publish_routed(
        &mut self,
        message: Message,
        mandatory: bool,
        version: u64,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        self.stats.publish += 1;
        context.turn.sizes.count(message.body().len());
        let sequenced = self.publishes.route.check_publisher(&message)?;
        if let Mode::Tx(transaction) = &mut self.mode {
            transaction.note_publisher(&self.publishes.route, sequenced);
            let route = (self.publishes.route.clone(), version);
            let limits = context.settings().tx_limits();
            return Ok(transaction.publish(route, message, mandatory, limits, context.broker().memory())?);
        }
        if self.publishes.route.queues.len() > steps::at_once(QUEUES_AT_ONCE) {
            self.begin_spreading(message, context);
            return Ok(());
        }
        let publish = self.number_publish();
        if self.publishes.route.is_empty() {
            self.stats.routed += self.publishes.route.count(1);
            self.unroutable(&message, mandatory, context);
            return Ok(());
        }
        if self.publishes.messages.is_empty() {
            self.publishes.first = publish;
            // What was acknowledged before has made room by now.
            self.flush_settlements(context);
        }
        context.turn.spend(DELIVERY_STEPS * self.publishes.route.queues.len());
        self.publishes.messages.push(message);
        Ok(())
    }

    /// Publishes a message to very many queues. Nothing else of the connection is handled before the last one has it.
    fn begin_spreading(&mut self, message: Message, context: &mut Context<'_>) {
        // What was acknowledged before has made room by now.
        self.flush_settlements(context);
        let waits = matches!(self.mode, Mode::Confirm(_));
        context.turn.waiter = waits.then(|| context.answers.clone() as _);
        let (spread, record) = context.vhost.begin_spread(&self.publishes.route, message, context.turn);
        context.turn.waiter = None;
        self.stats.routed += self.publishes.route.count(1);
        self.go_on_spreading(Spreading { spread, record }, context);
    }

    /// Has more of the queues get the message; the publisher hears of it when all have.
    pub(super) fn go_on_spreading(&mut self, mut spreading: Spreading, context: &mut Context<'_>) {
        let is_done = spreading.spread.go_on(context.turn);
        context.vhost.apply_effects(context.turn);
        if !is_done {
            return self.goes_on_with(Underway::Spreading(spreading));
        }
        let publish = self.number_publish();
        if let Mode::Confirm(confirms) = &mut self.mode {
            confirms.await_record(spreading.record);
        }
        if let Some(publish) = publish.filter(|_| spreading.spread.was_refused()) {
            self.nack_publish(publish, context);
        }
    }

    /// Hands the gathered messages to their queues; publishers hear of those that were refused.
    pub(super) fn flush_publishes(&mut self, context: &mut Context<'_>) {
        if self.publishes.messages.is_empty() {
            return;
        }
        let mut refused = Vec::new();
        let waits = matches!(self.mode, Mode::Confirm(_));
        context.turn.waiter = waits.then(|| context.answers.clone() as _);
        let PublishBatch { route, messages, .. } = &mut self.publishes;
        self.stats.routed += route.count(messages.len());
        let record = context.vhost.publish(route, messages, context.turn, &mut refused);
        context.turn.waiter = None;
        if let Mode::Confirm(confirms) = &mut self.mode {
            confirms.await_record(record);
        }
        if let Some(first) = self.publishes.first.take() {
            refused.sort_unstable();
            refused.dedup();
            for index in refused {
                self.nack_publish(PublishId(first.0 + index as u64), context);
            }
        }
    }

    /// A message leads nowhere: it is sent back or dropped.
    pub(super) fn unroutable(&mut self, message: &Message, mandatory: bool, context: &mut Context<'_>) {
        if mandatory {
            self.stats.return_unroutable += 1;
            self.basic_return(message, context);
        } else {
            self.stats.drop_unroutable += 1;
        }
    }

    /// Sends an unroutable message back (0-9-1 section 1.8.3.8).
    fn basic_return(&self, message: &Message, context: &mut Context<'_>) {
        const RETURN: (u16, u16) = (60, 50);
        const CODE: [u8; 2] = 312u16.to_be_bytes();
        const TEXT: &[u8] = b"NO_ROUTE";
        let method = ContentMethod {
            channel: self.number,
            ids: RETURN,
            argument_bytes: CODE.len() + short_str_bytes(TEXT) + envelope_bytes(message),
            message,
            properties: &properties_to_send(message, None),
        };
        method.put(context.out, context.frame_max, |arguments| {
            arguments.put_array(CODE);
            fill_short_str(arguments, TEXT);
            fill_envelope(arguments, message);
        });
    }

    /// Looks at the properties that RabbitMQ looks at. A reply address that stands for this channel is made a real one.
    fn check_properties(&self, message: Message, context: &Context<'_>) -> Result<Message, AmqpError> {
        let scan = PropertyScan::of(message.properties(), usize::MAX)
            .map_err(|error| precondition(error.to_string()))?;
        check_properties(&scan, context.user, || message.headers().unwrap_or_default())?;
        if scan.reply_to == Some(super::queue::REPLY_TO.as_bytes()) {
            return self.with_reply_address(&message);
        }
        Ok(message)
    }

    fn with_reply_address(&self, message: &Message) -> Result<Message, AmqpError> {
        let Some(reply_to) = &self.reply_to else {
            return Err(precondition("fast reply consumer does not exist".to_owned()));
        };
        let mut properties = message.decode_properties();
        properties.reply_to = Some(format!("{REPLY_TO_PREFIX}{}", reply_to.token).as_str().into());
        let exchange = String::from_utf8_lossy(message.exchange());
        Ok(message.rewritten(&exchange, message.routing_key(), &properties))
    }
}

fn target_exchange(message: &Message, context: &mut Context<'_>) -> Result<Arc<Exchange>, AmqpError> {
    let name = String::from_utf8_lossy(message.exchange());
    context.may_use_exchange(Access::Write, &name)?;
    let exchange = context
        .vhost
        .exchange(&name)
        .ok_or_else(|| BrokerError::NotFound(Resource::exchange(context.vhost.name(), &name)))?;
    if exchange.definition().internal {
        return Err(BrokerError::InternalExchange(exchange.definition().resource()).into());
    }
    context.may_use_topic(Access::Write, &exchange, message.routing_key())?;
    Ok(exchange)
}

fn precondition(text: String) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, text)
}
