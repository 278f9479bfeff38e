//! SEND: the checks on a message, its route, and its way to the queues in a batch.

use super::repeated::RepeatedHead;
use super::underway::{Finding, Spreading, Underway};
use super::{Connection, Open};
use crate::broker::access::permissions::Access;
use crate::broker::access::users::User;
use crate::broker::error::{BrokerError, Resource, ResourceKind};
use crate::broker::exchange::Exchange;
use crate::broker::routing::{Found, Route, Routing};
use crate::broker::turn::DELIVERY_STEPS;
use crate::client::check_properties;
use crate::message::{Message, MessageBuffer, PropertyScan, ROUTING_KEY_BYTES_MAX};
use crate::steps;
use crate::stomp::convert;
use crate::stomp::destination::Destination;
use crate::stomp::error::StompError;
use crate::stomp::frame::{Frame, Headers};
use std::borrow::Cow;
use std::sync::Arc;

/// A message that goes to more queues than these does so a part at a time, and alone.
const QUEUES_AT_ONCE: usize = 1000;

/// Messages of this turn that take the same route, on their way to the queues together.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    pub(super) route: Arc<Route>,
    /// Which messages take it too, if it depends on where they go alone.
    pub(super) target: Option<Target>,
    /// The properties of the last message, if one with the same head may come again and needs nothing but a place in the batch.
    pub(super) repeatable: Option<Cow<'static, [u8]>>,
    pub(super) repeated: Option<RepeatedHead>,
    messages: Vec<Message>,
    /// Of each of them the receipt that was asked for.
    receipts: Vec<Option<Vec<u8>>>,
}

/// Where messages go that are sent to one destination.
#[derive(Debug)]
pub(super) struct Target {
    destination: Vec<u8>,
    /// The exchange and the routing key, one behind the other.
    names: Vec<u8>,
    exchange_bytes: usize,
    /// The vhost's topology and permissions when that was found out.
    pub(super) version: u64,
}

/// What was asked for a message, beside its route.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) receipt: Option<Vec<u8>>,
    /// The transaction that it is part of.
    pub(super) transaction: Option<Vec<u8>>,
    /// The vhost's topology when its route was found.
    pub(super) version: u64,
}

impl Connection {
    pub(super) fn send(&mut self, frame: &Frame<'_>) -> Result<(), StompError> {
        let headers = &frame.headers;
        if headers.get("message-id").is_some() {
            return Err(StompError::new("Invalid header", "'message-id' is not allowed on 'SEND'.\n"));
        }
        let transaction = headers.get("transaction").map(<[u8]>::to_vec);
        if let Some(transaction) = &transaction {
            self.transactions.check(transaction)?;
        }
        let destination = headers.get("destination").ok_or_else(|| missing_destination("SEND"))?;
        let reply_to = self.reply_to(headers)?;
        let Some(open) = &self.open else { return Ok(()) };
        // Read first: a route that is found while the topology or permissions change must not be remembered.
        let version = open.vhost.version();
        let known = self.publishes.target.take();
        let known = known.filter(|target| target.version == version && target.destination == destination);
        let is_known = known.is_some();
        let (target, exchange) = match known {
            Some(target) => (target, None),
            None => {
                self.flush_publishes();
                let (target, exchange) = self.target(destination, headers, version)?;
                (target, Some(exchange))
            }
        };
        let Some(open) = &self.open else { return Ok(()) };
        let properties = convert::properties(headers, reply_to.as_deref())?;
        let message = message(&target, &properties, frame.body, &open.user)?;
        let receipt = headers.get("receipt").map(<[u8]>::to_vec);
        let asks_nothing = receipt.is_none() && transaction.is_none() && reply_to.is_none();
        let may_repeat = asks_nothing && headers.get("content-length").is_some();
        self.publishes.repeatable = may_repeat.then_some(properties);
        let asked = Asked { receipt, transaction, version };
        if let Some(exchange) = exchange {
            self.find_route(message, &exchange, target, asked)
        } else {
            debug_assert!(is_known);
            self.publishes.target = Some(target);
            self.publish_routed(message, asked)
        }
    }

    /// Where messages to a destination go, when all has been made and checked that they need.
    fn target(
        &mut self,
        destination: &[u8],
        headers: &Headers<'_>,
        version: u64,
    ) -> Result<(Target, Arc<Exchange>), StompError> {
        let (exchange, key) = match Destination::read(destination)? {
            Destination::Queue(name) => {
                self.ensure_queue(&name, headers, false)?;
                (String::new(), name)
            }
            Destination::ExistingQueue(name) => (String::new(), name),
            Destination::Exchange { name, key } => {
                (String::from_utf8_lossy(&name).into_owned(), key.unwrap_or_default())
            }
            Destination::Topic(key) => (self.stomp.settings.default_topic_exchange.clone(), key),
            Destination::TempQueue(_) => return Err(invalid_destination(destination, "SEND")),
        };
        if key.len() > ROUTING_KEY_BYTES_MAX {
            let text = format!("a routing key of {} bytes is longer than {ROUTING_KEY_BYTES_MAX}", key.len());
            return Err(StompError::precondition(text));
        }
        let found = self.check_exchange(&exchange, &key)?;
        self.traffic.tally.turn_to_exchange(&found.definition().name, &self.traffic.stats);
        let (names, exchange_bytes) = ([exchange.as_bytes(), &key].concat(), exchange.len());
        Ok((Target { destination: destination.to_vec(), names, exchange_bytes, version }, found))
    }

    /// The exchange of that name, if the user may publish to it with that key.
    fn check_exchange(&mut self, name: &str, key: &[u8]) -> Result<Arc<Exchange>, StompError> {
        let permissions = self.stomp.broker.permissions();
        let Some(Open { vhost, grants, .. }) = &mut self.open else {
            return Err(StompError::precondition("the connection is closed"));
        };
        grants.check(permissions, Access::Write, ResourceKind::Exchange, name)?;
        let not_found = || BrokerError::NotFound(Resource::exchange(vhost.name(), name));
        let exchange = vhost.exchange(name).ok_or_else(not_found)?;
        if exchange.definition().internal {
            return Err(BrokerError::InternalExchange(exchange.definition().resource()).into());
        }
        grants.check_topic(permissions, Access::Write, &exchange, key)?;
        Ok(exchange)
    }

    fn find_route(
        &mut self,
        message: Message,
        exchange: &Arc<Exchange>,
        target: Target,
        asked: Asked,
    ) -> Result<(), StompError> {
        let Some(open) = &self.open else { return Ok(()) };
        let vhost = open.vhost.clone();
        match vhost.begin_route(exchange, &message) {
            Found::Whole(route) => {
                self.turn.spend(route.work);
                self.set_route(route, target, &message);
                self.publish_routed(message, asked)
            }
            Found::Begun(routing) => self.go_on_finding(Finding { message, routing, target, asked }),
        }
    }

    /// Finds a part of the route of a message that takes long to find, and publishes it when all is found.
    pub(super) fn go_on_finding(&mut self, mut finding: Finding) -> Result<(), StompError> {
        let Some(open) = &self.open else { return Ok(()) };
        if !open.vhost.clone().go_on_routing(&mut finding.routing, &finding.message) {
            self.underway = Some(Box::new(Underway::Finding(Box::new(finding))));
            return Ok(());
        }
        let Finding { message, routing, target, asked } = finding;
        self.set_route(Routing::into_route(routing), target, &message);
        self.publish_routed(message, asked)
    }

    /// Remembers a route for the messages that take it too.
    fn set_route(&mut self, route: Route, target: Target, message: &Message) {
        let Some(open) = &self.open else { return };
        // None is remembered while there is tracing, so that every message comes by here.
        let is_traced = open.vhost.is_traced();
        self.publishes.target = (route.by_key_alone && !message.has_copies() && !is_traced).then_some(target);
        self.publishes.route = Arc::new(route);
        if is_traced {
            open.vhost.clone().trace_publish(
                super::progress::party(&open.live),
                message,
                &self.publishes.route,
                &mut self.turn,
            );
        }
    }

    /// A message whose route is found: it waits for others that take it too.
    pub(super) fn publish_routed(&mut self, message: Message, asked: Asked) -> Result<(), StompError> {
        let Asked { receipt, transaction, version } = asked;
        self.traffic.stats.publish += 1;
        self.turn.sizes.count(message.body().len());
        if let Some(transaction) = transaction {
            let route = (self.publishes.route.clone(), version);
            return self.send_in_transaction(&transaction, route, message, receipt);
        }
        self.publishes.route.check_publisher(&message)?;
        if self.publishes.route.queues.len() > steps::at_once(QUEUES_AT_ONCE) {
            self.begin_spreading(message, receipt);
            return Ok(());
        }
        if self.publishes.route.is_empty() {
            // What was sent before comes before its receipt.
            self.flush_publishes();
            self.traffic.stats.routed += self.publishes.route.count(1);
            self.traffic.stats.drop_unroutable += 1;
            receipt.into_iter().for_each(|receipt| self.receipts.ask(receipt));
            return Ok(());
        }
        if self.publishes.messages.is_empty() {
            // What was acknowledged before has made room by now.
            self.flush_acks();
        }
        self.turn.spend(DELIVERY_STEPS * self.publishes.route.queues.len());
        self.publishes.messages.push(message);
        self.publishes.receipts.push(receipt);
        Ok(())
    }

    /// Publishes a message to very many queues. Nothing else of the connection is handled before the last one has it.
    fn begin_spreading(&mut self, message: Message, receipt: Option<Vec<u8>>) {
        self.flush_publishes();
        self.flush_acks();
        let Some(open) = &self.open else { return };
        let (spread, record) = open.vhost.begin_spread(&self.publishes.route, message, &mut self.turn);
        self.traffic.stats.routed += self.publishes.route.count(1);
        self.receipts.note(record);
        self.go_on_spreading(Spreading { spread, receipt });
    }

    /// Hands the gathered messages to their queues. Of those that a queue refused no receipt is sent.
    pub(super) fn flush_publishes(&mut self) {
        let Publishes { route, messages, receipts, .. } = &mut self.publishes;
        if messages.is_empty() {
            return;
        }
        let Some(open) = &self.open else {
            messages.clear();
            return receipts.clear();
        };
        let mut refused = Vec::new();
        self.traffic.stats.routed += route.count(messages.len());
        let record = open.vhost.publish(route, messages, &mut self.turn, &mut refused);
        self.receipts.note(record);
        for index in &refused {
            receipts[*index] = None;
        }
        log_refused(refused, &self.peer.name);
        for receipt in receipts.drain(..).flatten() {
            self.receipts.ask(receipt);
        }
        open.vhost.apply_effects(&mut self.turn);
    }

    /// What the header `reply-to` becomes that names a queue of the session's own.
    fn reply_to(&mut self, headers: &Headers<'_>) -> Result<Option<Vec<u8>>, StompError> {
        let Some(reply_to) = headers.get("reply-to").filter(|name| name.starts_with(b"/temp-queue/")) else {
            return Ok(None);
        };
        match Destination::read(reply_to)? {
            Destination::TempQueue(name) => self.ensure_reply_queue(&name).map(Some),
            _ => Ok(None),
        }
    }
}

/// The message with that body and these properties, if `user` may send it.
pub(super) fn message(
    target: &Target,
    properties: &[u8],
    body: &[u8],
    user: &User,
) -> Result<Message, StompError> {
    let scan = PropertyScan::of(properties, usize::MAX).map_err(StompError::precondition)?;
    let mut message = MessageBuffer::new(&target.names, target.exchange_bytes, properties, &scan, body.len());
    message.extend_body(body);
    let message = message.finish();
    check_properties(&scan, user, || message.headers().unwrap_or_default())?;
    Ok(message)
}

/// Says which messages a queue refused, in the log of who looks closely: their sender waits for receipts in vain.
fn log_refused(mut refused: Vec<usize>, name: &str) {
    if refused.is_empty() {
        return;
    }
    refused.sort_unstable();
    refused.dedup();
    tracing::debug!(
        "connection {name}: {} messages were refused by full queues; no receipts are sent",
        refused.len()
    );
}

pub(super) fn missing_destination(command: &str) -> StompError {
    let body = format!("\"{command}\" must include a 'destination' header\n");
    StompError::new("Missing destination", body)
}

pub(super) fn invalid_destination(destination: &[u8], command: &str) -> StompError {
    let destination = String::from_utf8_lossy(destination);
    let body = format!("'{destination}' is not a valid destination for '{command}'\n");
    StompError::new("Invalid destination", body)
}
