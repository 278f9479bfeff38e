//! Exchanges: what every type shares, that is the definition and the list of bindings. How to match is the type's.

mod binding;
mod binding_set;
mod consistent_hash;
mod direct;
mod fanout;
#[cfg(test)]
mod fixture;
mod glob;
mod headers;
mod key_hash;
mod modulus_hash;
mod murmur3;
mod partitions;
pub(in crate::broker) mod predeclared;
mod random;
mod topic;
mod types;

pub use crate::broker::error::Refusal;
pub use binding::{Binding, Destination};
pub use consistent_hash::ConsistentHash;
pub use direct::Direct;
pub use fanout::Fanout;
pub use glob::Glob;
pub use headers::Headers;
pub use modulus_hash::ModulusHash;
pub use random::Random;
pub use topic::Topic;
pub use types::{Constructor, Envelope, ExchangeType, ExchangeTypes, Matches};

use super::done::Ticket;
use super::error::{BrokerError, Resource};
use super::memory::{Held, MemoryAccount, MemoryUse};
use super::observe::stats::{ExchangeCounters, ExchangeStats, Samples};
use super::policy::{self, Applied};
use super::queue::{inequivalent, same_value};
use crate::message::{EncodedTable, FieldTable, Lsn, Millis, Name, ShortStr, Value};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was declared; it never changes. It never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDefinition {
    /// The name of its vhost.
    pub vhost: Name,
    /// Its name, unique in the vhost.
    pub name: Name,
    /// The name of its type.
    pub kind: Arc<str>,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Deleted when the last binding that starts from it goes.
    pub auto_delete: bool,
    /// Clients can't publish to it.
    pub internal: bool,
    /// Its arguments, as declared.
    pub arguments: EncodedTable,
}

impl ExchangeDefinition {
    /// The exchange as error texts name it.
    pub fn resource(&self) -> Resource {
        Resource::exchange(&self.vhost, &self.name)
    }

    /// Where messages go that match no binding.
    ///
    /// # Errors
    /// When the argument is no name.
    pub fn alternate_exchange(&self) -> Result<Option<Name>, BrokerError> {
        match self.arguments.field("alternate-exchange") {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(name) => Ok(Some(name.into())),
                None => Err(BrokerError::ArgumentNoName {
                    argument: "alternate-exchange",
                    resource: self.resource(),
                    given: value.type_name(),
                }),
            },
        }
    }

    /// Checks that a redeclaration means this exchange.
    ///
    /// # Errors
    /// With the first thing that differs.
    pub fn check_equivalent(&self, received: &ExchangeDefinition) -> Result<(), BrokerError> {
        let properties = [
            ("type", Value::from(&*self.kind), Value::from(&*received.kind)),
            ("durable", Value::Bool(self.durable), Value::Bool(received.durable)),
            ("auto_delete", Value::Bool(self.auto_delete), Value::Bool(received.auto_delete)),
            ("internal", Value::Bool(self.internal), Value::Bool(received.internal)),
        ];
        for (name, current, received) in properties {
            if current != received {
                return Err(inequivalent(name, Some(&current), Some(&received), &self.resource()));
            }
        }
        // RabbitMQ compares no other argument.
        let name = "alternate-exchange";
        let (old, new) = (self.arguments.field(name), received.arguments.field(name));
        let same = match (&old, &new) {
            (Some(old), Some(new)) => same_value(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if same { Ok(()) } else { Err(inequivalent(name, old.as_ref(), new.as_ref(), &self.resource())) }
    }
}

/// A declared exchange with its bindings and its type's index.
pub struct Exchange {
    definition: ExchangeDefinition,
    policed: RwLock<Policed>,
    bindings: RwLock<Bindings>,
    counters: ExchangeCounters,
    samples: Mutex<Samples<ExchangeStats>>,
    kept_since: Option<Ticket>,
    bindings_since: AtomicU64,
}

/// What policies make of an exchange.
#[derive(Debug, Default)]
struct Policed {
    applied: Applied,
    /// By argument or policy.
    alternate_exchange: Option<Name>,
}

/// The bindings that start from an exchange, and its type's index of them.
pub struct Bindings {
    list: BTreeMap<Identity, Arc<Binding>>,
    index: Box<dyn ExchangeType>,
    /// The arguments of the exchange and of all these, in the account of memory.
    held: Option<Held>,
}

impl Exchange {
    /// A new exchange without bindings.
    ///
    /// # Errors
    /// When no type has that name, or its arguments make no sense.
    pub fn new(definition: ExchangeDefinition, types: &ExchangeTypes) -> Result<Exchange, BrokerError> {
        let index = types
            .construct(&definition.kind, &definition.arguments.decode())
            .ok_or_else(|| BrokerError::UnknownExchangeType(definition.kind.to_string()))?
            .map_err(BrokerError::Refused)?;
        let alternate_exchange = definition.alternate_exchange()?;
        let policed = RwLock::new(Policed { applied: Applied::default(), alternate_exchange });
        let bindings = RwLock::new(Bindings { list: BTreeMap::new(), index, held: None });
        let (counters, samples) = (ExchangeCounters::default(), Mutex::default());
        let bindings_since = AtomicU64::new(0);
        Ok(Exchange { definition, policed, bindings, counters, samples, kept_since: None, bindings_since })
    }

    /// When its definition is durable, if it is kept and was not there at the start.
    pub(in crate::broker) fn kept_since(&self) -> Option<Ticket> {
        self.kept_since
    }

    pub(in crate::broker) fn set_kept_since(&mut self, since: Option<Ticket>) {
        self.kept_since = since;
    }

    /// When all bindings that start from it are durable, as far as they are kept.
    pub(in crate::broker) fn bindings_since(&self) -> Option<Ticket> {
        Some(Ticket(Lsn(self.bindings_since.load(Ordering::Relaxed))))
    }

    /// A binding was added. The topology's lock is held.
    pub(in crate::broker) fn set_bindings_since(&self, since: Option<Ticket>) {
        if let Some(Ticket(lsn)) = since {
            self.bindings_since.store(lsn.0, Ordering::Relaxed);
        }
    }

    /// Name, type, flags and arguments, as they were declared.
    pub fn definition(&self) -> &ExchangeDefinition {
        &self.definition
    }

    /// Where messages go that match no binding: what its argument says, or else the policy.
    pub fn alternate_exchange(&self) -> Option<Name> {
        self.policed.read().alternate_exchange.clone()
    }

    /// The policies that apply.
    pub fn applied(&self) -> Applied {
        self.policed.read().applied.clone()
    }

    /// Follows these policies from now on, and no others. True when that may change routes.
    pub(super) fn apply(&self, applied: Applied) -> bool {
        let mut policed = self.policed.write();
        if applied.is(&policed.applied) {
            return false;
        }
        // The argument was checked when the exchange was made.
        let declared = self.definition.alternate_exchange().ok().flatten();
        let alternate_exchange = policy::alternate_exchange(declared, &applied.definition());
        let changes_routes = alternate_exchange != policed.alternate_exchange;
        *policed = Policed { applied, alternate_exchange };
        changes_routes
    }

    /// Counts of what is published to it.
    pub fn counters(&self) -> &ExchangeCounters {
        &self.counters
    }

    /// How fast it has been published to.
    pub fn samples(&self) -> Samples<ExchangeStats> {
        *self.samples.lock()
    }

    pub(in crate::broker) fn sample(&self, now: Millis) {
        self.samples.lock().take(now, self.counters.stats());
    }

    /// Counts its arguments and those of its bindings from now on.
    pub(super) fn count_in(&self, memory: &Arc<MemoryAccount>) {
        let mut bindings = self.bindings.write();
        let of_bindings: usize = bindings.iter().map(|binding| binding.arguments.bytes()).sum();
        let bytes = self.definition.arguments.bytes() + of_bindings;
        bindings.held = Some(memory.hold(MemoryUse::Arguments, bytes));
    }

    /// The bindings, for routing and listing.
    pub fn bindings(&self) -> RwLockReadGuard<'_, Bindings> {
        self.bindings.read()
    }

    /// Adds a binding. False when it was there already.
    ///
    /// # Errors
    /// When the type refuses it.
    pub(super) fn bind(&self, binding: Binding) -> Result<bool, BrokerError> {
        let mut bindings = self.bindings.write();
        let Bindings { list, index, held } = &mut *bindings;
        index.check_binding(&binding).map_err(BrokerError::Refused)?;
        let arguments = binding.arguments.decode();
        match list.entry(identity(&binding.destination, &binding.routing_key, &arguments)) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(place) => {
                hold(held, binding.arguments.bytes() as isize);
                index.bind(place.insert(Arc::new(binding)));
                Ok(true)
            }
        }
    }

    /// Removes a binding, and returns it if it was there.
    pub(super) fn unbind(
        &self,
        destination: &Destination,
        routing_key: &ShortStr,
        arguments: &FieldTable,
    ) -> Option<Arc<Binding>> {
        let mut bindings = self.bindings.write();
        let binding = bindings.list.remove(&identity(destination, routing_key, arguments))?;
        bindings.index.unbind(&binding);
        hold(&mut bindings.held, -(binding.arguments.bytes() as isize));
        Some(binding)
    }

    /// Removes all bindings to a destination, and returns them.
    pub(super) fn unbind_all(&self, destination: &Destination) -> Vec<Arc<Binding>> {
        let mut bindings = self.bindings.write();
        let identities: Vec<_> = bindings.entries_of(destination).map(|(key, _)| key.clone()).collect();
        let Bindings { list, index, held } = &mut *bindings;
        let removed: Vec<_> = identities.iter().filter_map(|identity| list.remove(identity)).collect();
        removed.iter().for_each(|binding| index.unbind(binding));
        hold(held, -(removed.iter().map(|binding| binding.arguments.bytes()).sum::<usize>() as isize));
        removed
    }
}

impl Bindings {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, ordered by destination, key and arguments.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.list.values()
    }

    /// Those to one destination.
    pub fn of<'a>(&'a self, destination: &'a Destination) -> impl Iterator<Item = &'a Arc<Binding>> {
        self.entries_of(destination).map(|(_, binding)| binding)
    }

    fn entries_of<'a>(
        &'a self,
        destination: &'a Destination,
    ) -> impl Iterator<Item = (&'a Identity, &'a Arc<Binding>)> {
        let first = identity(destination, &ShortStr::from(""), &FieldTable::default());
        self.list.range(first..).take_while(move |((to, ..), _)| to == destination)
    }

    /// Whether there is such a binding.
    pub fn contains(&self, destination: &Destination, key: &ShortStr, arguments: &FieldTable) -> bool {
        self.list.contains_key(&identity(destination, key, arguments))
    }

    /// The index that its type keeps of the bindings.
    pub fn index(&self) -> &dyn ExchangeType {
        &*self.index
    }
}

/// Counts bytes of arguments more, or fewer, once the exchange counts them.
fn hold(held: &mut Option<Held>, bytes: isize) {
    if let Some(held) = held {
        held.set(held.bytes().saturating_add_signed(bytes));
    }
}

/// What identifies a binding of an exchange: destination, key, and the arguments, encoded in the order of their
/// names. So arguments are the same in any order, with the same types and values, and a number that is none is itself.
type Identity = (Destination, ShortStr, Box<[u8]>);

fn identity(destination: &Destination, routing_key: &ShortStr, arguments: &FieldTable) -> Identity {
    let mut encoded = Vec::new();
    if !arguments.is_empty() {
        let mut arguments = arguments.clone();
        arguments.sort();
        arguments.encode(&mut encoded);
    }
    (destination.clone(), routing_key.clone(), encoded.into())
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("definition", &self.definition).finish_non_exhaustive()
    }
}
