//! Changing a vhost's topology: declare, bind, unbind, delete. One change at a time; publishing goes on meanwhile.
//!
//! The lock is held for work in memory alone. What a change sets and removes in the store is gathered and handed to the journal as
//! one, so that all of it survives a crash or nothing; nothing is removed there that was never kept. Who asked for a change is
//! answered when it is durable, see [`Done`].

use super::capacity::{self, Counts, check_length};
use super::definitions::Definition;
use crate::broker::actor::Actor;
use crate::broker::done::{Done, Ticket};
use crate::broker::error::{BrokerError, ResourceKind};
use crate::broker::exchange::{Binding, Destination, Exchange, ExchangeDefinition};
use crate::broker::observe::stats::count;
use crate::broker::queue::{QueueDeclaration, QueueHandle};
use crate::broker::turn::Turn;
use crate::broker::vhost::VirtualHost;
use crate::message::{ConnectionId, FieldTable, Name, QueueId, ShortStr};
use crate::store::DefinitionChanges;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the topology lock guards besides the right to change anything.
#[derive(Debug, Default)]
pub(in crate::broker) struct Topology {
    /// Which exchanges have bindings to a destination.
    sources: BTreeMap<Destination, BTreeSet<Name>>,
    /// The vhost is being deleted, or has been: nothing can be made in it any more.
    is_deleted: bool,
    /// What the change that is being made removes from the store.
    removals: DefinitionChanges,
}

/// Queues of a deleted vhost that are deleted under one lock.
const DELETED_AT_ONCE: usize = 50;

/// Names that begin so are the broker's own.
pub(crate) const RESERVED_PREFIX: &str = "amq.";

/// RabbitMQ drops carriage returns and line feeds from the names of queues and exchanges, wherever they are said.
pub(crate) fn without_line_ends(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}

impl VirtualHost {
    /// Declares an exchange; declaring one again that means the same is fine.
    ///
    /// # Errors
    /// When it exists and differs, can't be made, or its name is reserved.
    pub fn declare_exchange(
        &self,
        definition: ExchangeDefinition,
        actor: Actor<'_>,
    ) -> Result<Done<()>, BrokerError> {
        let topology = self.topology.lock();
        self.check_not_deleted(&topology)?;
        self.check_declarable(&definition.name, &definition.kind)?;
        if let Some(current) = self.exchange(&definition.name) {
            current.definition().check_equivalent(&definition)?;
            return Ok(self.found((), current.kept_since()));
        }
        check_length(ResourceKind::Exchange, &definition.name)?;
        if definition.name.starts_with(RESERVED_PREFIX) {
            return Err(BrokerError::ReservedName { kind: ResourceKind::Exchange, name: definition.name });
        }
        let in_all = self.shared().exchanges.load(Ordering::Relaxed);
        let counts = Counts { in_vhost: self.exchange_count(), in_all };
        capacity::check_exchange(&self.shared().limits, (self.name(), &definition.name), counts)?;
        capacity::check_exchange_arguments(&self.shared().limits, &definition)?;
        let mut exchange = Exchange::new(definition, &self.shared().exchange_types)?;
        let ticket = match exchange.definition().durable {
            true => self.shared().define(Definition::Exchange(exchange.definition().clone()).as_change())?,
            false => None,
        };
        exchange.set_kept_since(ticket);
        self.police_exchange(&exchange);
        let declared = exchange.definition();
        self.shared().dialect().declared(&declared.resource(), &declared.arguments.decode());
        let exchange = Arc::new(exchange);
        self.insert_exchange(exchange.clone());
        self.tell_exchange_created(exchange.definition(), actor);
        Ok(Done::with((), ticket))
    }

    /// Nothing has to be changed, but what is to be so may not be durable yet.
    fn found<T>(&self, value: T, since: Option<Ticket>) -> Done<T> {
        Done::with(value, since.filter(|ticket| self.shared().is_open(*ticket)))
    }

    /// Nothing is there to be removed. It may have been until a moment ago.
    fn gone<T>(&self, value: T) -> Done<T> {
        self.found(value, Some(self.shared().last_change()))
    }

    /// Hands what the change removes to the journal.
    fn settle<T>(&self, topology: &mut Topology, value: T) -> Result<Done<T>, BrokerError> {
        let ticket = self.shared().define(std::mem::take(&mut topology.removals))?;
        Ok(Done::with(value, ticket))
    }

    /// Deletes an exchange and all bindings from and to it. One that is not there is fine.
    ///
    /// # Errors
    /// When every vhost has it, or it is in use and `if_unused` is set.
    pub fn delete_exchange(
        &self,
        name: &str,
        if_unused: bool,
        actor: Actor<'_>,
    ) -> Result<Done<()>, BrokerError> {
        let mut topology = self.topology.lock();
        self.check_deletable(name)?;
        let Some(exchange) = self.exchange(name) else { return Ok(self.gone(())) };
        if if_unused && !exchange.bindings().is_empty() {
            return Err(BrokerError::InUse(exchange.definition().resource()));
        }
        self.remove_exchange_and_bindings(&mut topology, &exchange, actor);
        self.settle(&mut topology, ())
    }

    fn remove_exchange_and_bindings(
        &self,
        topology: &mut Topology,
        exchange: &Arc<Exchange>,
        actor: Actor<'_>,
    ) {
        self.remove_exchange_and_bindings_from(topology, exchange, actor);
        let ExchangeDefinition { name, durable, .. } = exchange.definition();
        self.remove_bindings_to(topology, Destination::Exchange(name.clone()), *durable);
    }

    fn remove_exchange_and_bindings_from(
        &self,
        topology: &mut Topology,
        exchange: &Arc<Exchange>,
        actor: Actor<'_>,
    ) {
        let is_kept = exchange.definition().durable;
        if is_kept {
            Definition::Exchange(exchange.definition().clone()).remove(&mut topology.removals);
        }
        let from_here: Vec<_> = exchange.bindings().iter().cloned().collect();
        for binding in &from_here {
            // While both ends are there: one may be the other.
            if is_kept && self.is_durable(&binding.destination) {
                Definition::Binding(self.name().clone(), (**binding).clone()).remove(&mut topology.removals);
            }
        }
        self.remove_exchange(&exchange.definition().name);
        self.tell_exchange_deleted(exchange.definition(), actor);
        for binding in &from_here {
            self.tell_binding("binding.deleted", binding, actor);
            self.forget_source(topology, exchange, binding);
        }
    }

    /// Binds a queue or an exchange to an exchange. A binding that is there already is fine.
    ///
    /// # Errors
    /// When either end is missing or is the default exchange, or the type refuses the binding.
    pub fn bind(&self, binding: Binding, actor: Actor<'_>) -> Result<Done<()>, BrokerError> {
        let mut topology = self.topology.lock();
        self.check_not_deleted(&topology)?;
        let source = self.check_ends(&binding.source, &binding.destination, actor)?;
        let is_kept = self.is_kept(&source, &binding.destination);
        let definition = is_kept.then(|| Definition::Binding(self.name().clone(), binding.clone()));
        let arguments = binding.arguments.decode();
        if !source.bindings().contains(&binding.destination, &binding.routing_key, &arguments) {
            let resource = || format!("a binding of {}", source.definition().resource());
            capacity::check_arguments(&self.shared().limits, resource, &arguments)?;
            let name = &source.definition().name;
            capacity::check_binding(&self.shared().limits, (self.name(), name), source.bindings().len())?;
        }
        let is_new = self.attach(&mut topology, &source, binding.clone())?;
        self.tell_binding("binding.created", &binding, actor);
        if !is_new {
            return Ok(self.found((), source.bindings_since()));
        }
        // A message that comes through it meanwhile is in its queue, whether the binding is kept or not.
        let ticket = definition.map(|definition| self.shared().define(definition.as_change())).transpose()?;
        let ticket = ticket.flatten();
        source.set_bindings_since(ticket);
        Ok(Done::with((), ticket))
    }

    /// Takes over a stored binding. One whose ends are not both there is forgotten: they were deleted, and the broker was
    /// stopped before it got to the binding. Unless one of them may be there and could not be read (`may_be_needed`).
    pub(in crate::broker) fn restore_binding(
        &self,
        binding: Binding,
        may_be_needed: bool,
    ) -> Result<(), BrokerError> {
        let mut topology = self.topology.lock();
        match self.check_ends(&binding.source, &binding.destination, Actor::Broker) {
            Ok(source) => self.attach(&mut topology, &source, binding).map(|_| ()),
            Err(BrokerError::NotFound(missing)) if !may_be_needed => {
                tracing::info!("a binding of the deleted {missing} is forgotten");
                self.shared().define(Definition::Binding(self.name().clone(), binding).as_removal()).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds a binding to its exchange, and says whether it is new.
    fn attach(
        &self,
        topology: &mut Topology,
        source: &Exchange,
        binding: Binding,
    ) -> Result<bool, BrokerError> {
        let destination = binding.destination.clone();
        if !source.bind(binding)? {
            return Ok(false);
        }
        topology.sources.entry(destination).or_default().insert(source.definition().name.clone());
        self.topology_changed();
        Ok(true)
    }

    /// Removes a binding. One that is not there is fine, and so is a missing end.
    ///
    /// # Errors
    /// When either end is the default exchange, or there is such a binding to a queue of another connection.
    pub fn unbind(
        &self,
        source: &str,
        destination: &Destination,
        routing_key: &ShortStr,
        arguments: &FieldTable,
        actor: Actor<'_>,
    ) -> Result<Done<()>, BrokerError> {
        let mut topology = self.topology.lock();
        let bound =
            |exchange: Arc<Exchange>| exchange.bindings().contains(destination, routing_key, arguments);
        let source = match self.check_ends(source, destination, actor) {
            Err(BrokerError::NotFound(_)) => return Ok(self.gone(())),
            Err(BrokerError::Locked(_)) if !self.exchange(source).is_some_and(bound) => {
                return Ok(self.gone(()));
            }
            source => source?,
        };
        let is_kept = self.is_kept(&source, destination);
        let Some(binding) = source.unbind(destination, routing_key, arguments) else {
            return Ok(self.gone(()));
        };
        self.topology_changed();
        if is_kept {
            Definition::Binding(self.name().clone(), (*binding).clone()).remove(&mut topology.removals);
        }
        self.tell_binding("binding.deleted", &binding, actor);
        self.forget_source(&mut topology, &source, &binding);
        if is_finished(&source) {
            self.remove_exchange_and_bindings(&mut topology, &source, Actor::Broker);
        }
        self.settle(&mut topology, ())
    }

    fn check_ends(
        &self,
        source: &str,
        destination: &Destination,
        actor: Actor<'_>,
    ) -> Result<Arc<Exchange>, BrokerError> {
        if source.is_empty() || matches!(destination, Destination::Exchange(name) if name.is_empty()) {
            return Err(BrokerError::DefaultExchange);
        }
        let source = self.existing_exchange(source)?;
        match destination {
            Destination::Queue(name) => drop(self.accessible_queue(name, actor)?),
            Destination::Exchange(name) => drop(self.existing_exchange(name)?),
        }
        Ok(source)
    }

    /// Whether the store has the bindings between these two.
    fn is_kept(&self, source: &Exchange, destination: &Destination) -> bool {
        source.definition().durable && self.is_durable(destination)
    }

    fn is_durable(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Queue(name) => self.queue(name).is_some_and(|q| q.definition().survives_restart()),
            Destination::Exchange(name) => self.exchange(name).is_some_and(|e| e.definition().durable),
        }
    }

    /// A binding has been taken out of its exchange, or the exchange is gone: another one may still lead to the same place.
    fn forget_source(&self, topology: &mut Topology, source: &Exchange, binding: &Arc<Binding>) {
        let still_bound = source.bindings().of(&binding.destination).next().is_some()
            && self.exchange(&binding.source).is_some();
        if !still_bound && let Some(sources) = topology.sources.get_mut(&binding.destination) {
            sources.remove(&binding.source);
            if sources.is_empty() {
                topology.sources.remove(&binding.destination);
            }
        }
    }

    /// Removes every binding to a destination that is going away, a durable one or not, and the auto-delete exchanges that end
    /// with them: a chain of those may be long, so it is followed by a list and not by recursion.
    fn remove_bindings_to(&self, topology: &mut Topology, going: Destination, is_durable: bool) {
        let mut all_going = vec![(going, is_durable)];
        while let Some((destination, is_durable)) = all_going.pop() {
            for source in topology.sources.remove(&destination).unwrap_or_default() {
                let Some(exchange) = self.exchange(&source) else { continue };
                let removed = exchange.unbind_all(&destination);
                removed
                    .iter()
                    .for_each(|binding| self.tell_binding("binding.deleted", binding, Actor::Broker));
                if is_durable && exchange.definition().durable {
                    for binding in removed {
                        let binding = Definition::Binding(self.name().clone(), (*binding).clone());
                        binding.remove(&mut topology.removals);
                    }
                }
                self.topology_changed();
                if is_finished(&exchange) {
                    self.remove_exchange_and_bindings_from(topology, &exchange, Actor::Broker);
                    all_going.push((Destination::Exchange(source), exchange.definition().durable));
                }
            }
        }
    }

    /// Declares a queue, and says whether it is new; declaring one again that means the same is fine.
    ///
    /// # Errors
    /// When it exists and differs, belongs to another connection, or can't be made.
    pub fn declare_queue(
        &self,
        mut declaration: QueueDeclaration,
        actor: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<Done<Arc<QueueHandle>>, BrokerError> {
        let topology = self.topology.lock();
        self.check_not_deleted(&topology)?;
        declaration.take_default_type(self.default_queue_type());
        count(&self.shared().churn.queue_declared);
        if let Some(current) = self.queue(&declaration.name) {
            current.check_equivalent(&declaration)?;
            current.touch(turn);
            let since = current.kept_since();
            return Ok(self.found(current, since));
        }
        check_length(ResourceKind::Queue, &declaration.name)?;
        self.check_queue_limits(&declaration.name)?;
        capacity::check_queue_arguments(&self.shared().limits, self.name(), &declaration)?;
        let id = self.shared().next_queue_id();
        let mut queue = QueueHandle::new(self.name(), id, declaration, self.shared(), turn)?;
        let ticket = match queue.definition().survives_restart() {
            true => self.shared().define(Definition::queue(queue.definition()).as_change())?,
            false => None,
        };
        queue.set_kept_since(ticket);
        self.police_queue(&queue, turn);
        let declared = queue.definition();
        self.shared().dialect().declared(&declared.resource(), &declared.arguments.decode());
        let queue = Arc::new(queue);
        self.insert_queue(queue.clone());
        self.tell_queue_created(queue.definition(), actor);
        count(&self.shared().churn.queue_created);
        Ok(Done::with(queue, ticket))
    }

    pub(in crate::broker) fn check_not_deleted(&self, topology: &Topology) -> Result<(), BrokerError> {
        if topology.is_deleted { Err(BrokerError::NoSuchVhost(self.name().clone())) } else { Ok(()) }
    }

    fn check_queue_limits(&self, name: &str) -> Result<(), BrokerError> {
        let in_all = self.shared().queues.load(Ordering::Relaxed);
        let counts = Counts { in_vhost: self.queue_count(), in_all };
        capacity::check_queue(&self.shared().limits, &self.settings(), (self.name(), name), counts)
    }

    /// Deletes a queue, and says how many ready messages were in it. One that is not there is fine.
    ///
    /// # Errors
    /// When it is exclusive to another connection, or in use or not empty where that was asked.
    pub fn delete_queue(
        &self,
        name: &str,
        if_unused: bool,
        if_empty: bool,
        actor: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<Done<usize>, BrokerError> {
        let mut topology = self.topology.lock();
        let queue = match self.accessible_queue(name, actor) {
            Ok(queue) => queue,
            Err(BrokerError::NotFound(_)) => return Ok(self.gone(0)),
            Err(error) => return Err(error),
        };
        let count = queue.close(if_unused, if_empty, turn)?;
        self.remove_queue_and_bindings(&mut topology, &queue, actor);
        self.settle(&mut topology, count)
    }

    /// Deletes all queues, exchanges, bindings and policies; from then on nothing can be made here. What that removes from the
    /// store goes into `removals`.
    ///
    /// # Errors
    /// When a queue refuses to end, which none does that is to end whatever is in it.
    pub(in crate::broker) fn delete_everything(
        &self,
        removals: &mut DefinitionChanges,
        actor: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        self.topology.lock().is_deleted = true;
        // Its connections end meanwhile, and wait for the lock when they give back what they have.
        for queues in self.queues().chunks(DELETED_AT_ONCE) {
            let mut topology = self.topology.lock();
            for queue in queues {
                // Some may have gone with their connections.
                if self.queue_by_id(&queue.definition().name, queue.definition().id).is_some() {
                    queue.close(false, false, turn)?;
                    self.remove_queue_and_bindings(&mut topology, queue, actor);
                }
            }
            removals.append(std::mem::take(&mut topology.removals));
        }
        let mut topology = self.topology.lock();
        for exchange in self.exchanges() {
            self.remove_exchange_and_bindings(&mut topology, &exchange, actor);
        }
        self.forget_policies(&mut topology.removals);
        removals.append(std::mem::take(&mut topology.removals));
        drop(topology);
        self.apply_effects(turn);
        Ok(())
    }

    /// Deletes a queue with the connection that it belongs to. One that is not there is fine, and so is a namesake that
    /// another client declared when it was gone.
    ///
    /// # Errors
    /// When the store failed, and a durable exchange was to go with the queue.
    pub fn delete_exclusive_queue(
        &self,
        name: &str,
        owner: ConnectionId,
        turn: &mut Turn,
    ) -> Result<Done<()>, BrokerError> {
        let mut topology = self.topology.lock();
        let queue = self.queue(name).filter(|queue| queue.definition().exclusive_owner == Some(owner));
        if let Some(queue) = queue {
            queue.close(false, false, turn)?;
            self.remove_queue_and_bindings(&mut topology, &queue, Actor::Broker);
        }
        self.settle(&mut topology, ())
    }

    /// Deletes a queue that has asked for it itself, if it is still the same queue.
    pub(in crate::broker) fn delete_finished_queue(&self, name: &str, id: QueueId, turn: &mut Turn) {
        let mut topology = self.topology.lock();
        let Some(queue) = self.queue_by_id(name, id) else { return };
        if queue.close(true, false, turn).is_err() {
            return;
        }
        self.remove_queue_and_bindings(&mut topology, &queue, Actor::Broker);
        // No client asked for it, so no answer waits until it is durable.
        if let Err(error) = self.settle(&mut topology, ()) {
            tracing::error!("could not delete {}: {error}", queue.definition().resource());
        }
    }

    /// Removes a queue that has been closed.
    fn remove_queue_and_bindings(&self, topology: &mut Topology, queue: &Arc<QueueHandle>, actor: Actor<'_>) {
        let is_kept = queue.definition().survives_restart();
        if is_kept {
            Definition::queue(queue.definition()).remove(&mut topology.removals);
        }
        self.remove_queue(&queue.definition().name);
        self.shared().timer.forget(self.name(), &queue.definition().name);
        self.remove_bindings_to(topology, Destination::Queue(queue.definition().name.clone()), is_kept);
        self.tell_queue_deleted(queue.definition(), actor);
    }
}

/// An auto-delete exchange goes with the last binding that starts from it.
fn is_finished(exchange: &Exchange) -> bool {
    exchange.definition().auto_delete && exchange.bindings().is_empty()
}
