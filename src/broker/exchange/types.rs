//! The plug-in point of routing: what an exchange type is, and the registry that finds one by name.
//!
//! A type owns only its match index. The list of bindings, auto-delete, alternate exchanges and the removal of duplicate
//! destinations live once, in [`super::Exchange`] and [`crate::broker::routing`].

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::consistent_hash::ConsistentHash;
use super::direct::Direct;
use super::fanout::Fanout;
use super::glob::Glob;
use super::headers::Headers;
use super::key_hash::KeyHashSeed;
use super::modulus_hash::ModulusHash;
use super::random::Random;
use super::topic::Topic;
use crate::broker::error::Refusal;
use crate::message::{FieldTable, Message};
use crate::steps;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a message is matched by. One message is routed once for its routing key and once for each of its CC and BCC keys.
#[derive(Debug)]
pub struct Envelope<'m> {
    /// The key to match.
    pub routing_key: &'m [u8],
    /// The message, for types that look at its properties or body.
    pub message: &'m Message,
    headers: OnceCell<FieldTable>,
}

impl<'m> Envelope<'m> {
    /// An envelope for one routing key of a message.
    pub fn new(routing_key: &'m [u8], message: &'m Message) -> Envelope<'m> {
        Envelope { routing_key, message, headers: OnceCell::new() }
    }

    /// Whether this is the key that the message was published with, rather than one from its CC or BCC. A type that picks one
    /// binding for a message does so for this key alone.
    pub fn is_for_published_key(&self) -> bool {
        self.routing_key == self.message.routing_key()
    }

    /// The message's headers, decoded at the first call; empty when it has none.
    pub fn headers(&self) -> &FieldTable {
        self.headers.get_or_init(|| self.message.headers().unwrap_or_default())
    }
}

/// The bindings that a message matched. The same destination may be in it several times.
#[derive(Debug, Default)]
pub struct Matches<'a> {
    bindings: Vec<&'a Arc<Binding>>,
    /// What is in it, or was pushed together, by address; there when a message has several keys, which often match the same.
    known: Option<HashSet<usize, KeyHashSeed>>,
    work: usize,
}

impl<'a> Matches<'a> {
    /// For a message with several keys: a binding is in it once.
    pub(in crate::broker) fn of_several_keys() -> Matches<'a> {
        Matches { known: Some(HashSet::default()), ..Matches::default() }
    }

    /// Adds a binding that matches.
    pub fn push(&mut self, binding: &'a Arc<Binding>) {
        if let Some(known) = &mut self.known
            && !known.insert(Arc::as_ptr(binding).addr())
        {
            return;
        }
        self.bindings.push(binding);
    }

    /// Adds bindings that match together, and always do.
    pub(super) fn push_all<T>(&mut self, bindings: &'a BindingSet<T>) {
        if let Some(known) = &mut self.known
            && !known.insert(std::ptr::from_ref(bindings).addr())
        {
            return;
        }
        self.bindings.extend(bindings.iter().map(|(binding, _)| binding));
    }

    /// Notes how many steps finding them took, besides those that are pushed.
    pub fn count_work(&mut self, steps: usize) {
        self.work += steps;
        steps::count(steps);
    }

    /// How many steps it has taken so far, roughly: of ten nanoseconds or so.
    pub(in crate::broker) fn work(&self) -> usize {
        self.work + self.bindings.len()
    }

    /// All that have matched.
    pub(in crate::broker) fn into_bindings(self) -> Vec<&'a Arc<Binding>> {
        self.bindings
    }

    /// What has matched so far.
    pub fn bindings(&self) -> &[&'a Arc<Binding>] {
        &self.bindings
    }
}

/// How an exchange finds the bindings that a message matches.
pub trait ExchangeType: Send + Sync {
    /// Looks at a binding before it is made.
    ///
    /// # Errors
    /// When this type can't use the binding's key or arguments.
    fn check_binding(&self, binding: &Binding) -> Result<(), Refusal> {
        let _ = binding;
        Ok(())
    }

    /// Whether [`ExchangeType::route`] is as quick as it can be.
    fn is_prepared(&self) -> bool {
        true
    }

    /// Does a part of what makes it so, a millisecond or so of it, and says whether that was all. Who routes calls it until it was.
    fn prepare(&self) -> bool {
        self.is_prepared()
    }

    /// Takes a new binding into the index. The same binding never comes twice.
    fn bind(&mut self, binding: &Arc<Binding>);

    /// Takes a binding out of the index again: the very one that it took in.
    fn unbind(&mut self, binding: &Arc<Binding>);

    /// Pushes every binding that matches.
    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>);

    /// Whether the routing key does not matter: then a message with several keys is matched once, with the one that it was
    /// published with.
    fn ignores_routing_key(&self) -> bool {
        false
    }

    /// Whether a route depends on nothing but the routing key and the bindings, so that it may be remembered.
    fn routes_by_key_alone(&self) -> bool {
        false
    }
}

/// Makes the index of a new exchange from its arguments.
pub type Constructor = Arc<dyn Fn(&FieldTable) -> Result<Box<dyn ExchangeType>, Refusal> + Send + Sync>;

/// All types of exchange that this broker knows, by name.
#[derive(Clone)]
pub struct ExchangeTypes {
    by_name: BTreeMap<String, Constructor>,
}

impl ExchangeTypes {
    /// A registry of all types that Leveret brings along.
    pub fn standard() -> ExchangeTypes {
        let mut types = ExchangeTypes::empty();
        types.register("direct", |arguments| Ok(Box::new(Direct::new(arguments)?)));
        types.register("fanout", |_| Ok(Box::new(Fanout::default())));
        types.register("topic", |_| Ok(Box::new(Topic::default())));
        types.register("headers", |_| Ok(Box::new(Headers::default())));
        types.register("x-consistent-hash", |arguments| Ok(Box::new(ConsistentHash::new(arguments)?)));
        types.register("x-modulus-hash", |_| Ok(Box::new(ModulusHash::default())));
        types.register("x-glob", |_| Ok(Box::new(Glob::default())));
        // Each random exchange has a seed of its own: two in a row that chose alike would never reach some queues.
        let seed = AtomicU64::new(0);
        types.register("x-random", move |_| Ok(Box::new(Random::new(seed.fetch_add(1, Ordering::Relaxed)))));
        types
    }

    /// A registry without any type.
    pub fn empty() -> ExchangeTypes {
        ExchangeTypes { by_name: BTreeMap::new() }
    }

    /// Adds a type, or replaces the one of that name.
    pub fn register<F>(&mut self, name: &str, constructor: F)
    where
        F: Fn(&FieldTable) -> Result<Box<dyn ExchangeType>, Refusal> + Send + Sync + 'static,
    {
        self.by_name.insert(name.to_owned(), Arc::new(constructor));
    }

    /// Makes the index of a new exchange; `None` when no type has that name.
    pub fn construct(
        &self,
        name: &str,
        arguments: &FieldTable,
    ) -> Option<Result<Box<dyn ExchangeType>, Refusal>> {
        self.by_name.get(name).map(|constructor| constructor(arguments))
    }

    /// Whether a type has that name.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The names of all types, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for ExchangeTypes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{binding, routed, table};
    use super::*;

    #[test]
    fn every_standard_type_takes_bindings_and_routes() {
        let types = ExchangeTypes::standard();
        let by_key = [
            ("direct", true),
            ("fanout", true),
            ("headers", false),
            ("topic", true),
            ("x-consistent-hash", true),
            ("x-glob", true),
            ("x-modulus-hash", true),
            ("x-random", false),
        ];
        assert!(types.names().eq(by_key.iter().map(|(name, _)| *name)));
        for (name, by_key_alone) in by_key {
            let mut exchange = types.construct(name, &FieldTable::default()).unwrap().unwrap();
            let binding = binding("q", "1");
            assert_eq!(exchange.check_binding(&binding), Ok(()), "{name}");
            exchange.bind(&binding);
            assert_eq!(routed(&*exchange, "1"), ["q"], "{name}");
            assert_eq!(exchange.routes_by_key_alone(), by_key_alone, "{name}");
            exchange.unbind(&binding);
            assert!(routed(&*exchange, "1").is_empty(), "{name}");
        }
        assert!(types.construct("x-unknown", &FieldTable::default()).is_none());
        let refused = types.construct("x-consistent-hash", &table(&[("hash-property", "no".into())]));
        assert_eq!(refused.unwrap().err(), Some(Refusal::Because("Unsupported property: no".into())));
    }

    #[test]
    fn random_exchanges_in_a_row_choose_each_for_itself() {
        let types = ExchangeTypes::standard();
        let chosen =
            |exchange: &dyn ExchangeType| (0..64).flat_map(|_| routed(exchange, "k")).collect::<Vec<_>>();
        let exchanges = [(); 2].map(|()| {
            let mut exchange = types.construct("x-random", &FieldTable::default()).unwrap().unwrap();
            ["a", "b"].iter().for_each(|queue| exchange.bind(&binding(queue, "")));
            chosen(&*exchange)
        });
        assert_ne!(exchanges[0], exchanges[1]);
    }
}
