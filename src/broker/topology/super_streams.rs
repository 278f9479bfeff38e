//! Super streams: several streams that are one to those who use them. Each is a *partition*; an exchange of the super stream's name
//! leads to it by a binding that says which one it is. There is no more to a super stream than that, as in RabbitMQ, so that clients
//! may build one by hand.

use super::declare::RESERVED_PREFIX;
use crate::broker::access::permissions::Access;
use crate::broker::actor::Actor;
use crate::broker::done::Done;
use crate::broker::error::{BrokerError, Resource, ResourceKind};
use crate::broker::exchange::{Binding, Destination, Exchange, ExchangeDefinition};
use crate::broker::queue::{QueueDeclaration, QueueType};
use crate::broker::turn::Turn;
use crate::broker::vhost::VirtualHost;
use crate::message::{FieldTable, Message, Name, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The argument of an exchange that makes it a super stream.
pub const SUPER_STREAM: &str = "x-super-stream";

/// The argument of a binding that says which partition it leads to.
pub const PARTITION_ORDER: &str = "x-stream-partition-order";

/// A super stream has no more partitions than this.
pub const PARTITIONS_MAX: usize = 1000;

/// What a new super stream is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SuperStreamDeclaration {
    /// Its name, which is that of its exchange.
    pub name: String,
    /// The names of its partitions, in order.
    pub partitions: Vec<String>,
    /// The binding key of each.
    pub binding_keys: Vec<String>,
    /// Arguments of the exchange besides `x-super-stream`.
    pub exchange_arguments: FieldTable,
    /// Arguments of the partitions besides their type.
    pub arguments: FieldTable,
}

impl SuperStreamDeclaration {
    /// One of that many partitions, which are called by its name and their number, and bound by their number.
    pub fn numbered(name: &str, partitions: usize, arguments: FieldTable) -> SuperStreamDeclaration {
        // One more than there may be is refused like any greater number.
        let keys: Vec<String> =
            (0..partitions.min(PARTITIONS_MAX + 1)).map(|number| number.to_string()).collect();
        SuperStreamDeclaration::keyed(name, keys, arguments)
    }

    /// One with a partition for each binding key, called by its name and the key.
    pub fn keyed(name: &str, binding_keys: Vec<String>, arguments: FieldTable) -> SuperStreamDeclaration {
        let partitions = binding_keys.iter().map(|key| format!("{name}-{key}")).collect();
        let exchange_arguments = FieldTable::default();
        SuperStreamDeclaration {
            name: name.to_owned(),
            partitions,
            binding_keys,
            exchange_arguments,
            arguments,
        }
    }

    /// What a user has to be permitted who creates it, or deletes it: to configure all of it, and to bind.
    pub fn needs(&self, vhost: &Name) -> Vec<(Access, Resource)> {
        let exchange = || Resource::exchange(vhost, &self.name);
        let mut needs = vec![(Access::Configure, exchange()), (Access::Read, exchange())];
        for partition in &self.partitions {
            let queue = || Resource::queue(vhost, partition);
            needs.extend([(Access::Configure, queue()), (Access::Write, queue())]);
        }
        needs
    }

    fn check(&self) -> Result<(), BrokerError> {
        let refuse = |text: String| Err(BrokerError::Precondition(text));
        let SuperStreamDeclaration { name, partitions, binding_keys, .. } = self;
        if name.is_empty() {
            return refuse("a super stream needs a name".to_owned());
        }
        if let Some(reserved) = partitions.iter().find(|name| name.starts_with(RESERVED_PREFIX)) {
            let name = reserved.as_str().into();
            return Err(BrokerError::ReservedName { kind: ResourceKind::Queue, name });
        }
        if partitions.is_empty() || partitions.len() > PARTITIONS_MAX {
            return refuse(format!(
                "super stream '{name}' can't have {} partitions: it has 1 to {PARTITIONS_MAX}",
                partitions.len()
            ));
        }
        if partitions.len() != binding_keys.len() {
            return refuse(format!(
                "super stream '{name}' has {} partitions and {} binding keys; each partition needs one",
                partitions.len(),
                binding_keys.len()
            ));
        }
        for (what, all) in [("partition", partitions), ("binding key", binding_keys)] {
            let mut seen = BTreeSet::new();
            if let Some(twice) = all.iter().find(|each| !seen.insert(*each)) {
                return refuse(format!("super stream '{name}' has the {what} '{twice}' twice"));
            }
        }
        Ok(())
    }

    fn exchange(&self, vhost: &Name) -> ExchangeDefinition {
        let mut arguments = self.exchange_arguments.clone();
        arguments.insert(SUPER_STREAM, Value::Bool(true));
        ExchangeDefinition {
            vhost: vhost.clone(),
            name: self.name.as_str().into(),
            kind: "direct".into(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: (&arguments).into(),
        }
    }

    fn partition(&self, name: &str) -> QueueDeclaration {
        let mut arguments = self.arguments.clone();
        arguments.insert("x-queue-type", Value::from(QueueType::Stream.name()));
        QueueDeclaration {
            name: name.into(),
            durable: true,
            auto_delete: false,
            exclusive_owner: None,
            arguments,
        }
    }
}

/// Whether an exchange is one of a super stream.
pub fn is_super_stream(exchange: &Exchange) -> bool {
    exchange.definition().arguments.field(SUPER_STREAM) == Some(Value::Bool(true))
}

impl VirtualHost {
    /// Creates a super stream: its exchange, its partitions and their bindings, all of them in one change or none.
    ///
    /// # Errors
    /// When its exchange or one of its partitions is there already ([`BrokerError::AlreadyThere`]), the numbers of partitions and keys
    /// differ, one is named twice, or anything of it can't be declared.
    pub fn create_super_stream(
        &self,
        declaration: &SuperStreamDeclaration,
        actor: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<Done<()>, BrokerError> {
        declaration.check()?;
        let SuperStreamDeclaration { name, partitions, .. } = declaration;
        if self.exchange(name).is_some() {
            return Err(BrokerError::AlreadyThere(Resource::exchange(self.name(), name)));
        }
        if let Some(partition) = partitions.iter().find(|partition| self.queue(partition).is_some()) {
            return Err(BrokerError::AlreadyThere(Resource::queue(self.name(), partition)));
        }
        let _one_change = self.shared().journal.hold();
        let mut made = Vec::with_capacity(partitions.len());
        let outcome = self.make_super_stream(declaration, &mut made, actor, turn);
        if outcome.is_err() {
            // Nothing of it is to stay, and nobody else has had the time to use it.
            for partition in made {
                self.delete_queue(partition, false, false, actor, turn)?.into_value();
            }
            self.delete_exchange(name, false, actor)?.into_value();
        }
        outcome
    }

    fn make_super_stream<'d>(
        &self,
        declaration: &'d SuperStreamDeclaration,
        made: &mut Vec<&'d str>,
        actor: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<Done<()>, BrokerError> {
        let mut done = self.declare_exchange(declaration.exchange(self.name()), actor)?;
        let keys = &declaration.binding_keys;
        for (order, (partition, key)) in declaration.partitions.iter().zip(keys).enumerate() {
            self.declare_queue(declaration.partition(partition), actor, turn)?.into_value();
            made.push(partition);
            let order = i64::try_from(order).unwrap_or(i64::MAX);
            let arguments: FieldTable = [(PARTITION_ORDER, Value::I64(order))].into_iter().collect();
            done = self.bind(
                Binding {
                    source: declaration.name.as_str().into(),
                    destination: Destination::Queue(partition.as_str().into()),
                    routing_key: key.as_str().into(),
                    arguments: (&arguments).into(),
                },
                actor,
            )?;
        }
        Ok(done)
    }

    /// A super stream, by name.
    ///
    /// # Errors
    /// When there is no exchange of that name that is one.
    pub fn super_stream(&self, name: &str) -> Result<Arc<Exchange>, BrokerError> {
        let exchange = self.exchange(name).filter(|exchange| is_super_stream(exchange));
        exchange.ok_or_else(|| BrokerError::NotFound(Resource::exchange(self.name(), name)))
    }

    /// Deletes a super stream with all its partitions, all of them in one change.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn delete_super_stream(
        &self,
        name: &str,
        actor: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<Done<()>, BrokerError> {
        let exchange = self.super_stream(name)?;
        let _one_change = self.shared().journal.hold();
        for partition in self.partitions(&exchange) {
            self.delete_queue(&partition, false, false, actor, turn)?.into_value();
        }
        self.delete_exchange(name, false, actor)
    }

    /// The partitions of a super stream in their order: by what their bindings say; those without behind them, in the order of their
    /// names. Queues of other types are no partitions.
    pub fn partitions(&self, exchange: &Exchange) -> Vec<Name> {
        let mut found: Vec<(i64, Name)> = Vec::new();
        for binding in exchange.bindings().iter() {
            let Destination::Queue(name) = &binding.destination else { continue };
            if self.is_stream(name) {
                let order = binding.arguments.field(PARTITION_ORDER).and_then(|order| order.as_integer());
                found.push((order.unwrap_or(i64::MAX), name.clone()));
            }
        }
        found.sort();
        let mut seen = BTreeSet::new();
        found.retain(|(_, name)| seen.insert(name.clone()));
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// The partitions that a message with this routing key gets into.
    pub fn route_super_stream(&self, exchange: &Arc<Exchange>, routing_key: &str) -> Vec<Name> {
        let name = &exchange.definition().name;
        let Ok(message) = Message::new(name, routing_key.as_bytes(), &[0, 0], b"") else { return Vec::new() };
        let queues = self.route(exchange, &message).queues;
        let streams = queues.iter().filter(|queue| queue.definition().queue_type == QueueType::Stream);
        streams.map(|queue| queue.definition().name.clone()).collect()
    }

    /// All super streams, by name.
    pub fn super_streams(&self) -> Vec<Arc<Exchange>> {
        let mut found: Vec<_> =
            self.exchanges().into_iter().filter(|exchange| is_super_stream(exchange)).collect();
        found.sort_by(|a, b| a.definition().name.cmp(&b.definition().name));
        found
    }

    fn is_stream(&self, name: &str) -> bool {
        self.queue(name).is_some_and(|queue| queue.definition().queue_type == QueueType::Stream)
    }
}
