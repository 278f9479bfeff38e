//! Where subscriptions consume from, and where messages go: the queues of destinations, declared and bound.

use super::send::invalid_destination;
use super::{Connection, Open};
use crate::broker::Done;
use crate::broker::access::permissions::Access;
use crate::broker::error::{BrokerError, ResourceKind};
use crate::broker::exchange::{Binding, Destination as BindingDestination};
use crate::broker::queue::QueueDeclaration;
use crate::broker::topology::{RESERVED_PREFIX, without_line_ends};
use crate::message::{EncodedTable, Name, Value};
use crate::stomp::convert;
use crate::stomp::destination::Destination;
use crate::stomp::error::StompError;
use crate::stomp::frame::Headers;

/// The queue that a subscription consumes from, and what it is bound to.
pub(super) struct Source {
    pub(super) queue: Name,
    pub(super) is_new: bool,
    binding: Option<(String, Vec<u8>)>,
}

impl Connection {
    /// The queue of a destination, made if it has to be.
    pub(super) fn source(
        &mut self,
        destination: Destination,
        text: &[u8],
        headers: &Headers<'_>,
    ) -> Result<Source, StompError> {
        let (exchange, key) = match destination {
            Destination::Queue(name) => {
                let queue = self.ensure_queue(&name, headers, true)?;
                return Ok(Source { queue, is_new: false, binding: None });
            }
            Destination::ExistingQueue(name) => {
                let queue = String::from_utf8_lossy(&name).as_ref().into();
                return Ok(Source { queue, is_new: false, binding: None });
            }
            Destination::TempQueue(_) => return Err(invalid_destination(text, "SUBSCRIBE")),
            Destination::Topic(key) => (self.stomp.settings.default_topic_exchange.clone(), key),
            Destination::Exchange { name, key } => {
                (String::from_utf8_lossy(&name).into_owned(), key.unwrap_or_default())
            }
        };
        let name = self.subscription_queue_name(headers, text);
        let (queue, is_new) = self.declare(&name, headers, Properties::of_subscription(headers))?;
        Ok(Source { queue, is_new, binding: Some((exchange, key)) })
    }

    /// What the queue of a subscription to an exchange is called: the same for the same durable subscription.
    fn subscription_queue_name(&mut self, headers: &Headers<'_>, destination: &[u8]) -> String {
        const PREFIX: &str = "stomp-subscription-";
        if let Some(name) = headers.text("x-queue-name") {
            return name.into_owned();
        }
        match headers.get("id").filter(|_| headers.is_durable()) {
            Some(id) => format!("{PREFIX}{}", hash(destination, id)),
            None => self.names.name(PREFIX),
        }
    }

    /// The queue of `/queue/NAME`: declared once in a session. One that is there is used as it is.
    pub(super) fn ensure_queue(
        &mut self,
        name: &[u8],
        headers: &Headers<'_>,
        is_subscribe: bool,
    ) -> Result<Name, StompError> {
        if name.is_empty() {
            return Err(StompError::new("Invalid destination", "Destination cannot be blank"));
        }
        let name = without_line_ends(&String::from_utf8_lossy(name));
        if self.declared.contains(&name) {
            return Ok(name.as_str().into());
        }
        let (queue, _) = self.declare(&name, headers, Properties::of_queue(headers, is_subscribe))?;
        if self.declared.len() < self.stomp.settings.subscriptions_max {
            self.declared.insert(name);
        }
        Ok(queue)
    }

    /// Declares a queue, unless it is there, and says whether it is new.
    pub(super) fn declare(
        &mut self,
        name: &str,
        headers: &Headers<'_>,
        properties: Properties,
    ) -> Result<(Name, bool), StompError> {
        let queue: Name = name.into();
        let arguments = convert::queue_arguments(headers)?;
        self.may_use(Access::Configure, ResourceKind::Queue, name)?;
        if let Some(exchange) = arguments.field("x-dead-letter-exchange").and_then(Value::as_str) {
            let exchange = exchange.to_owned();
            self.may_use(Access::Read, ResourceKind::Queue, name)?;
            self.may_use(Access::Write, ResourceKind::Exchange, &exchange)?;
        }
        let (actor, id) = (self.actor(), self.id);
        let Some(open) = &self.open else { return Ok((queue, false)) };
        if open.vhost.queue(name).is_some() {
            open.vhost.accessible_queue(name, actor)?;
            return Ok((queue, false));
        }
        if name.starts_with(RESERVED_PREFIX) {
            return Err(BrokerError::ReservedName { kind: ResourceKind::Queue, name: queue }.into());
        }
        let Properties { durable, auto_delete, exclusive } = properties;
        let declaration = QueueDeclaration {
            name: queue.clone(),
            durable: durable && !exclusive,
            auto_delete,
            exclusive_owner: exclusive.then_some(id),
            arguments,
        };
        let vhost = open.vhost.clone();
        let declared = vhost.declare_queue(declaration, actor, &mut self.turn)?;
        self.done(declared);
        if exclusive {
            self.exclusive_queues.insert(&queue, &vhost);
        }
        vhost.apply_effects(&mut self.turn);
        Ok((queue, true))
    }

    /// What was done. Receipts wait until it is durable.
    pub(super) fn done<T>(&mut self, done: Done<T>) -> T {
        match done {
            Done::Now(value) => value,
            Done::Later(value, ticket) => {
                self.receipts.note(Some(ticket.record()));
                value
            }
        }
    }

    /// Checks that the user may do that.
    pub(super) fn may_use(
        &mut self,
        access: Access,
        kind: ResourceKind,
        name: &str,
    ) -> Result<(), StompError> {
        let permissions = self.stomp.broker.permissions();
        let Some(open) = &mut self.open else { return Ok(()) };
        Ok(open.grants.check(permissions, access, kind, name)?)
    }

    /// Binds the queue of a subscription to what it listens to.
    pub(super) fn bind_source(&mut self, source: Source) -> Result<(), StompError> {
        let Some((exchange, key)) = source.binding else { return Ok(()) };
        self.may_use(Access::Write, ResourceKind::Queue, &source.queue)?;
        self.may_use(Access::Read, ResourceKind::Exchange, &exchange)?;
        let actor = self.actor();
        let permissions = self.stomp.broker.permissions();
        let Some(Open { vhost, grants, .. }) = &mut self.open else { return Ok(()) };
        if let Some(found) = vhost.exchange(&exchange) {
            grants.check_topic(permissions, Access::Read, &found, &key)?;
        }
        if key.len() > 255 {
            let text = format!("a binding key of {} bytes is longer than 255", key.len());
            return Err(StompError::precondition(text));
        }
        let binding = Binding {
            source: exchange.as_str().into(),
            destination: BindingDestination::Queue(source.queue),
            routing_key: key.as_slice().into(),
            arguments: EncodedTable::default(),
        };
        let bound = vhost.bind(binding, actor)?;
        self.done(bound);
        Ok(())
    }

    /// Deletes a queue that was this session's, whatever is in it.
    pub(super) fn delete_queue(&mut self, name: &str) {
        let actor = self.actor();
        let Some(open) = &self.open else { return };
        let vhost = open.vhost.clone();
        match vhost.delete_queue(name, false, false, actor, &mut self.turn) {
            Ok(done) => {
                self.done(done);
            }
            Err(error) => tracing::warn!("queue '{name}' of a subscription could not be deleted: {error}"),
        }
        vhost.apply_effects(&mut self.turn);
    }
}

/// What a queue is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) exclusive: bool,
}

impl Properties {
    /// Those of a queue that a destination names. `persistent` of a SEND is about the message.
    fn of_queue(headers: &Headers<'_>, is_subscribe: bool) -> Properties {
        let persistent = headers.flag("persistent").filter(|_| is_subscribe);
        let durable = headers.flag("durable").or(persistent).unwrap_or(true);
        Properties {
            durable,
            auto_delete: !durable || headers.flag("auto-delete").unwrap_or(false),
            exclusive: !durable || headers.flag("exclusive").unwrap_or(false),
        }
    }

    /// Those of the queue of a subscription to an exchange: one that is not durable goes with its connection.
    fn of_subscription(headers: &Headers<'_>) -> Properties {
        if !headers.is_durable() {
            return Properties { durable: false, auto_delete: true, exclusive: true };
        }
        Properties {
            durable: true,
            auto_delete: headers.flag("auto-delete").unwrap_or(true),
            exclusive: headers.flag("exclusive").unwrap_or(false),
        }
    }
}

/// A name for a durable subscription that is the same whenever the same client comes back.
fn hash(destination: &[u8], id: &[u8]) -> String {
    use base64::Engine;
    use sha2::Digest;
    let length = (destination.len() as u64).to_be_bytes();
    let mut digest = sha2::Sha256::new();
    for part in [&length[..], destination, id] {
        digest.update(part);
    }
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest.finalize()[..16])
}
