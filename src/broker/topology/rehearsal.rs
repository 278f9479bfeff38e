//! Trying many declarations together before any of them is made: the same checks as in earnest, on what is there and on what
//! was tried before. Nothing changes, so after a fault there is nothing to undo.

use super::RESERVED_PREFIX;
use super::capacity::{self, Counts, check_length};
use super::vhost_settings::VhostSettings;
use crate::broker::Broker;
use crate::broker::error::{BrokerError, Resource, ResourceKind};
use crate::broker::exchange::{
    Binding, Destination, Exchange, ExchangeDefinition, ExchangeTypes, predeclared,
};
use crate::broker::queue;
use crate::broker::queue::{QueueDeclaration, QueueType};
use crate::broker::vhost::VirtualHost;
use crate::message::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Declarations that were tried so far; see the module.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    broker: &'a Broker,
    users: BTreeSet<Name>,
    vhosts: BTreeMap<Name, Vhost>,
    new_vhosts: usize,
    new_queues: usize,
    new_exchanges: usize,
}

/// A vhost as it would be.
#[derive(Debug, Default)]
struct Vhost {
    known: Option<Arc<VirtualHost>>,
    settings: VhostSettings,
    queues: BTreeSet<Name>,
    exchanges: BTreeMap<Name, Tried>,
    new_exchanges: usize,
}

/// An exchange with the bindings that were tried: a copy, where there is such an exchange.
#[derive(Debug)]
struct Tried {
    copy: Exchange,
    known: Option<Arc<Exchange>>,
    new_bindings: usize,
}

impl Vhost {
    fn has_queue(&self, name: &str) -> bool {
        self.queues.contains(name) || self.known.as_ref().is_some_and(|known| known.queue(name).is_some())
    }

    fn has_exchange(&self, name: &str) -> bool {
        self.exchanges.contains_key(name)
            || match &self.known {
                Some(known) => known.exchange(name).is_some(),
                None => predeclared::PREDECLARED.iter().any(|(known, ..)| *known == name),
            }
    }
}

impl Vhost {
    /// The exchange of that name, to bind to on trial.
    fn tried(&mut self, of: &Name, name: &Name, types: &ExchangeTypes) -> Result<&mut Tried, BrokerError> {
        if !self.exchanges.contains_key(name) {
            let known = self.known.as_ref().and_then(|known| known.exchange(name));
            let definition = match &known {
                Some(known) => Some(known.definition().clone()),
                None if self.known.is_none() => predeclared::find(of, name),
                None => None,
            };
            let missing = || BrokerError::NotFound(Resource::exchange(of, name));
            let copy = Exchange::new(definition.ok_or_else(missing)?, types)?;
            self.exchanges.insert(name.clone(), Tried { copy, known, new_bindings: 0 });
        }
        self.exchanges.get_mut(name).ok_or_else(|| BrokerError::NotFound(Resource::exchange(of, name)))
    }
}

impl<'a> Rehearsal<'a> {
    /// Nothing is tried yet.
    pub fn new(broker: &'a Broker) -> Rehearsal<'a> {
        Rehearsal {
            broker,
            users: BTreeSet::new(),
            vhosts: BTreeMap::new(),
            new_vhosts: 0,
            new_queues: 0,
            new_exchanges: 0,
        }
    }

    /// A user that is put. One can always be.
    pub fn put_user(&mut self, name: &Name) {
        self.users.insert(name.clone());
    }

    /// A user that has to be there.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn existing_user(&self, name: &str) -> Result<(), BrokerError> {
        if self.users.contains(name) { Ok(()) } else { self.broker.existing_user(name).map(drop) }
    }

    /// A vhost that is made, or changed; its settings then, and whether it is new.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn put_vhost(
        &mut self,
        name: &Name,
        change: impl FnOnce(&mut VhostSettings),
    ) -> Result<(VhostSettings, bool), BrokerError> {
        let is_new = self.find(name).is_none();
        if is_new {
            let max = self.broker.shared.limits.vhosts_max;
            if max > 0 && self.broker.vhosts.len() + self.new_vhosts >= max {
                return Err(BrokerError::VhostLimitReached { name: name.clone(), max });
            }
            self.new_vhosts += 1;
            self.new_exchanges += predeclared::PREDECLARED.len();
            self.vhosts.insert(name.clone(), Vhost::default());
        }
        let vhost = self.vhost(name)?;
        change(&mut vhost.settings);
        Ok((vhost.settings.clone(), is_new))
    }

    /// What would be said of a vhost.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn settings(&mut self, vhost: &str) -> Result<VhostSettings, BrokerError> {
        self.vhost(vhost).map(|vhost| vhost.settings.clone())
    }

    /// The type of queues that are declared in a vhost without one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn default_queue_type(&mut self, vhost: &str) -> Result<QueueType, BrokerError> {
        let of_broker = *self.broker.shared.default_queue_type.lock();
        Ok(self.vhost(vhost)?.settings.default_queue_type.unwrap_or(of_broker))
    }

    /// Whether a vhost would have such a queue or exchange.
    pub fn has(&mut self, vhost: &str, destination: &Destination) -> bool {
        self.find(vhost).is_some_and(|vhost| match destination {
            Destination::Queue(name) => vhost.has_queue(name),
            Destination::Exchange(name) => vhost.has_exchange(name),
        })
    }

    /// An exchange that is declared. One of that name stays as it is; whether there is none.
    ///
    /// # Errors
    /// As of [`VirtualHost::declare_exchange`].
    pub fn declare_exchange(&mut self, definition: ExchangeDefinition) -> Result<bool, BrokerError> {
        let broker = self.broker;
        let shared = &broker.shared;
        let in_all = shared.exchanges.load(Ordering::Relaxed) + self.new_exchanges;
        let vhost = self.vhost(&definition.vhost)?;
        if !shared.exchange_types.contains(&definition.kind) {
            return Err(BrokerError::UnknownExchangeType(definition.kind.to_string()));
        }
        if vhost.has_exchange(&definition.name) {
            return Ok(false);
        }
        check_length(ResourceKind::Exchange, &definition.name)?;
        if definition.name.starts_with(RESERVED_PREFIX) {
            return Err(BrokerError::ReservedName { kind: ResourceKind::Exchange, name: definition.name });
        }
        let known =
            vhost.known.as_ref().map_or(predeclared::PREDECLARED.len(), |known| known.exchange_count());
        let counts = Counts { in_vhost: known + vhost.new_exchanges, in_all };
        capacity::check_exchange(&shared.limits, (&definition.vhost, &definition.name), counts)?;
        capacity::check_exchange_arguments(&shared.limits, &definition)?;
        let copy = Exchange::new(definition, &shared.exchange_types)?;
        let name = copy.definition().name.clone();
        vhost.exchanges.insert(name, Tried { copy, known: None, new_bindings: 0 });
        vhost.new_exchanges += 1;
        self.new_exchanges += 1;
        Ok(true)
    }

    /// A queue that is declared. One of that name stays as it is; whether there is none.
    ///
    /// # Errors
    /// As of [`VirtualHost::declare_queue`].
    pub fn declare_queue(
        &mut self,
        of: &Name,
        mut declaration: QueueDeclaration,
    ) -> Result<bool, BrokerError> {
        let broker = self.broker;
        let shared = &broker.shared;
        let default = self.default_queue_type(of)?;
        let in_all = shared.queues.load(Ordering::Relaxed) + self.new_queues;
        let vhost = self.vhost(of)?;
        if vhost.has_queue(&declaration.name) {
            return Ok(false);
        }
        declaration.take_default_type(default);
        check_length(ResourceKind::Queue, &declaration.name)?;
        let in_vhost = vhost.known.as_ref().map_or(0, |known| known.queue_count()) + vhost.queues.len();
        let counts = Counts { in_vhost, in_all };
        capacity::check_queue(&shared.limits, &vhost.settings, (of, &declaration.name), counts)?;
        capacity::check_queue_arguments(&shared.limits, of, &declaration)?;
        queue::check(of, &declaration, &shared.limits)?;
        vhost.queues.insert(declaration.name);
        self.new_queues += 1;
        Ok(true)
    }

    /// A binding that is made; whether there is none like it.
    ///
    /// # Errors
    /// As of [`VirtualHost::bind`].
    pub fn bind(&mut self, of: &Name, binding: Binding) -> Result<bool, BrokerError> {
        let broker = self.broker;
        let shared = &broker.shared;
        let vhost = self.vhost(of)?;
        let missing = match &binding.destination {
            _ if binding.source.is_empty() => return Err(BrokerError::DefaultExchange),
            Destination::Exchange(name) if name.is_empty() => return Err(BrokerError::DefaultExchange),
            Destination::Queue(name) if !vhost.has_queue(name) => Some(Resource::queue(of, name)),
            Destination::Exchange(name) if !vhost.has_exchange(name) => Some(Resource::exchange(of, name)),
            _ => None,
        };
        let tried = vhost.tried(of, &binding.source, &shared.exchange_types)?;
        if let Some(missing) = missing {
            return Err(BrokerError::NotFound(missing));
        }
        let known = tried.known.as_ref().map(|known| known.bindings());
        let Binding { destination, routing_key, arguments, .. } = &binding;
        let arguments = arguments.decode();
        if known.as_ref().is_some_and(|known| known.contains(destination, routing_key, &arguments)) {
            return Ok(false);
        }
        let resource = || format!("a binding of {}", tried.copy.definition().resource());
        capacity::check_arguments(&shared.limits, resource, &arguments)?;
        let count = known.map_or(0, |known| known.len()) + tried.new_bindings;
        let source = binding.source.clone();
        if !tried.copy.bind(binding)? {
            return Ok(false);
        }
        capacity::check_binding(&shared.limits, (of, &source), count)?;
        tried.new_bindings += 1;
        Ok(true)
    }

    fn find(&mut self, name: &str) -> Option<&mut Vhost> {
        if !self.vhosts.contains_key(name) {
            let known = self.broker.vhost(name)?;
            let settings = (*known.settings()).clone();
            let vhost = Vhost { known: Some(known), settings, ..Vhost::default() };
            self.vhosts.insert(name.into(), vhost);
        }
        self.vhosts.get_mut(name)
    }

    fn vhost(&mut self, name: &str) -> Result<&mut Vhost, BrokerError> {
        self.find(name).ok_or_else(|| no_vhost(name))
    }
}

fn no_vhost(name: &str) -> BrokerError {
    BrokerError::NoSuchVhost(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::exchange::ExchangeTypes;
    use crate::broker::{Actor, BrokerLimits, Turn};
    use crate::message::{FieldTable, Value};
    use crate::store::{Journal, JournalOptions, MemoryStore};

    fn broker() -> Broker {
        let limits = BrokerLimits {
            vhosts_max: 3,
            queues_max: 4,
            exchanges_per_vhost_max: 9,
            bindings_per_exchange_max: 2,
            ..BrokerLimits::default()
        };
        let (journal, recovered) =
            Journal::open(Box::new(MemoryStore::default()), JournalOptions::default(), |_| ()).unwrap();
        let broker =
            Broker::open(Arc::new(journal), recovered, ExchangeTypes::standard(), limits, 0).unwrap();
        broker.put_vhost("known", |settings| settings.limits.max_queues = Some(3)).unwrap();
        broker
    }

    fn exchange(vhost: &str, name: &str, kind: &str) -> ExchangeDefinition {
        ExchangeDefinition {
            vhost: vhost.into(),
            name: name.into(),
            kind: kind.into(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default().into(),
        }
    }

    fn queue(name: &str, arguments: &[(&str, Value)]) -> QueueDeclaration {
        QueueDeclaration {
            name: name.into(),
            durable: true,
            auto_delete: false,
            exclusive_owner: None,
            arguments: arguments.iter().cloned().collect(),
        }
    }

    fn binding(source: &str, destination: Destination, key: &str) -> Binding {
        Binding {
            source: source.into(),
            destination,
            routing_key: key.into(),
            arguments: FieldTable::default().into(),
        }
    }

    /// One declaration on trial and in earnest, which have to say the same.
    enum Step {
        Vhost(&'static str),
        Exchange(ExchangeDefinition),
        Queue(&'static str, QueueDeclaration),
        Bind(&'static str, Binding),
    }

    impl Step {
        fn on_trial(&self, rehearsal: &mut Rehearsal<'_>) -> Result<(), BrokerError> {
            match self {
                Step::Vhost(name) => rehearsal.put_vhost(&(*name).into(), |_| ()).map(drop),
                Step::Exchange(definition) => rehearsal.declare_exchange(definition.clone()).map(drop),
                Step::Queue(vhost, queue) => {
                    rehearsal.declare_queue(&(*vhost).into(), queue.clone()).map(drop)
                }
                Step::Bind(vhost, binding) => rehearsal.bind(&(*vhost).into(), binding.clone()).map(drop),
            }
        }

        fn in_earnest(&self, broker: &Broker) -> Result<(), BrokerError> {
            let mut turn = Turn::at(0);
            let done = match self {
                Step::Vhost(name) => broker.put_vhost(name, |_| ()).map(drop),
                Step::Exchange(definition) => broker
                    .existing_vhost(&definition.vhost)
                    .and_then(|vhost| vhost.declare_exchange(definition.clone(), Actor::Broker))
                    .map(drop),
                Step::Queue(vhost, queue) => {
                    let vhost = broker.existing_vhost(vhost);
                    vhost.and_then(|vhost| {
                        let declared = vhost.declare_queue(queue.clone(), Actor::Broker, &mut turn).map(drop);
                        vhost.apply_effects(&mut turn);
                        declared
                    })
                }
                Step::Bind(vhost, binding) => broker
                    .existing_vhost(vhost)
                    .and_then(|vhost| vhost.bind(binding.clone(), Actor::Broker))
                    .map(drop),
            };
            broker.end_turn(&mut turn);
            done
        }
    }

    fn steps() -> Vec<Step> {
        let to_queue = |name: &str| Destination::Queue(name.into());
        let to_exchange = |name: &str| Destination::Exchange(name.into());
        let long = "x".repeat(256);
        vec![
            Step::Vhost("known"),
            Step::Vhost("new"),
            Step::Queue("none", queue("q", &[])),
            Step::Exchange(exchange("none", "x", "direct")),
            Step::Exchange(exchange("new", "x", "fanout")),
            Step::Exchange(exchange("new", "x", "fanout")),
            Step::Exchange(exchange("new", "amq.own", "fanout")),
            Step::Exchange(exchange("new", "y", "none")),
            Step::Exchange(exchange("known", &long, "fanout")),
            Step::Exchange(exchange("new", "hash", "x-consistent-hash")),
            Step::Exchange(exchange("new", "one too many", "fanout")),
            Step::Queue("new", queue("q", &[])),
            Step::Queue("new", queue("q", &[])),
            Step::Queue("new", queue(&long, &[])),
            Step::Queue("new", queue("wrong", &[("x-max-length", Value::I64(-1))])),
            Step::Queue("new", queue("wrong", &[("x-delivery-limit", Value::I64(1))])),
            Step::Bind("new", binding("x", to_queue("q"), "a")),
            Step::Bind("new", binding("x", to_queue("q"), "a")),
            Step::Bind("new", binding("x", to_queue("none"), "a")),
            Step::Bind("new", binding("none", to_queue("q"), "a")),
            Step::Bind("new", binding("", to_queue("q"), "a")),
            Step::Bind("new", binding("x", to_exchange(""), "a")),
            Step::Bind("new", binding("hash", to_queue("q"), "no weight")),
            Step::Bind("new", binding("amq.topic", to_exchange("hash"), "#")),
            Step::Bind("new", binding("x", to_exchange("hash"), "b")),
            Step::Bind("new", binding("x", to_exchange("hash"), "one too many")),
            Step::Queue("known", queue("1", &[])),
            Step::Queue("known", queue("2", &[])),
            Step::Queue("known", queue("3", &[])),
            Step::Queue("known", queue("one too many", &[])),
            Step::Queue("new", queue("one too many in all", &[])),
            Step::Vhost("third"),
            Step::Vhost("one too many"),
        ]
    }

    #[test]
    fn what_is_tried_goes_as_in_earnest() {
        let (trial, broker) = (broker(), broker());
        let mut rehearsal = Rehearsal::new(&trial);
        let mut refused = 0;
        for (at, step) in steps().iter().enumerate() {
            let tried = step.on_trial(&mut rehearsal);
            refused += usize::from(tried.is_err());
            assert_eq!(tried, step.in_earnest(&broker), "step {at}");
        }
        assert!(refused > 15, "{refused} were");
        assert_eq!(trial.vhosts().len(), 1, "nothing has changed");
    }

    #[test]
    fn what_is_there_counts() {
        let broker = broker();
        for step in steps() {
            let _ = step.in_earnest(&broker);
        }
        let mut rehearsal = Rehearsal::new(&broker);
        for (at, step) in steps().iter().enumerate() {
            assert_eq!(step.on_trial(&mut rehearsal), step.in_earnest(&broker), "step {at}");
        }
    }
}
