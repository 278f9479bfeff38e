//! `x-modulus-hash`: a message goes to one binding, found by its routing key's hash modulo the number of bindings.
//!
//! Binding keys don't matter. Unlike with `x-consistent-hash`, most keys move when a binding comes or goes.

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::key_hash::stable_hash;
use super::types::{Envelope, ExchangeType, Matches};
use std::sync::{Arc, OnceLock};

/// The index of a modulus hash exchange.
#[derive(Debug, Default)]
pub struct ModulusHash {
    bindings: BindingSet,
    /// The same, ordered by destination, key and arguments, so that a key goes the same way after a restart. Sorted when the
    /// first message after a change needs it.
    ordered: OnceLock<Vec<Arc<Binding>>>,
}

impl ModulusHash {
    fn ordered(&self) -> &[Arc<Binding>] {
        self.ordered.get_or_init(|| {
            let mut ordered: Vec<_> = self.bindings.iter().map(|(binding, _)| binding.clone()).collect();
            ordered.sort_by_cached_key(|binding| {
                let mut arguments = Vec::new();
                binding.arguments.encode(&mut arguments);
                (binding.destination.clone(), binding.routing_key.clone(), arguments)
            });
            ordered
        })
    }
}

impl ExchangeType for ModulusHash {
    fn bind(&mut self, binding: &Arc<Binding>) {
        self.bindings.insert(binding, ());
        self.ordered.take();
    }

    fn unbind(&mut self, binding: &Binding) {
        self.bindings.remove(binding);
        self.ordered.take();
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        let ordered = self.ordered();
        if !ordered.is_empty() && envelope.is_for_published_key() {
            let place = stable_hash(envelope.routing_key) % ordered.len() as u64;
            matches.push(&ordered[place as usize]);
        }
    }

    fn routes_by_key_alone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{binding, binding_with, routed};
    use super::*;
    use crate::message::Value;

    fn owners(exchange: &ModulusHash) -> Vec<String> {
        (0..1000).flat_map(|n| routed(exchange, format!("key-{n}"))).collect()
    }

    #[test]
    fn a_key_goes_to_one_binding_whatever_their_order() {
        let bindings = [
            binding("a", ""),
            binding("b", "k"),
            binding("c", "k"),
            binding_with("c", "k", &[("n", Value::I32(1))]),
        ];
        let (mut one, mut other) = (ModulusHash::default(), ModulusHash::default());
        assert!(owners(&one).is_empty());
        bindings.iter().for_each(|binding| one.bind(binding));
        bindings.iter().rev().for_each(|binding| other.bind(binding));
        assert_eq!(owners(&one), owners(&other));
        for (queue, expected) in [("a", 250), ("b", 250), ("c", 500)] {
            let count = owners(&one).iter().filter(|owner| *owner == queue).count();
            assert!(count.abs_diff(expected) < 60, "{queue} has {count} keys of 1000, not {expected}");
        }
    }

    #[test]
    fn unbinding_takes_out_that_binding_alone() {
        let (mut exchange, a, b) = (ModulusHash::default(), binding("a", ""), binding("b", ""));
        [&a, &b].iter().for_each(|binding| exchange.bind(binding));
        exchange.unbind(&a);
        assert!(owners(&exchange).iter().all(|owner| owner == "b"));
        exchange.unbind(&b);
        assert!(owners(&exchange).is_empty());
    }
}
