//! `x-random`: a message goes to one of the bindings, each as likely as the others.

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::key_hash::scramble;
use super::types::{Envelope, ExchangeType, Matches};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The index of a random exchange.
#[derive(Debug)]
pub struct Random {
    bindings: BindingSet,
    /// Counts up from the seed; scrambled, it is the next random number.
    state: AtomicU64,
}

impl Random {
    /// An exchange whose choices follow from its seed. Two exchanges need different ones, or they would choose alike.
    pub fn new(seed: u64) -> Random {
        Random { bindings: BindingSet::default(), state: AtomicU64::new(scramble(seed)) }
    }

    /// A random number below `end`.
    fn below(&self, end: usize) -> usize {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let number = scramble(self.state.fetch_add(STEP, Ordering::Relaxed));
        ((u128::from(number) * end as u128) >> 64) as usize
    }
}

impl ExchangeType for Random {
    fn bind(&mut self, binding: &Arc<Binding>) {
        self.bindings.insert(binding, ());
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        self.bindings.remove(binding);
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        if !self.bindings.is_empty() && envelope.is_for_published_key() {
            matches.push(self.bindings.at(self.below(self.bindings.len())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{binding, routed};
    use super::*;

    fn chosen(exchange: &Random) -> Vec<String> {
        (0..1000).flat_map(|_| routed(exchange, "k")).collect()
    }

    fn bindings() -> [Arc<Binding>; 4] {
        ["a", "b", "c", "d"].map(|queue| binding(queue, ""))
    }

    fn bound(seed: u64) -> Random {
        with(seed, &bindings())
    }

    fn with(seed: u64, bindings: &[Arc<Binding>]) -> Random {
        let mut exchange = Random::new(seed);
        bindings.iter().for_each(|binding| exchange.bind(binding));
        exchange
    }

    #[test]
    fn each_binding_is_as_likely_as_the_others() {
        let chosen = chosen(&bound(1));
        assert_eq!(chosen.len(), 1000);
        for queue in ["a", "b", "c", "d"] {
            let count = chosen.iter().filter(|chosen| *chosen == queue).count();
            assert!(count.abs_diff(250) < 60, "{queue} was chosen {count} times of 1000");
        }
    }

    #[test]
    fn choices_follow_from_the_seed() {
        assert_eq!(chosen(&bound(1)), chosen(&bound(1)));
        assert_ne!(chosen(&bound(1)), chosen(&bound(2)));
    }

    #[test]
    fn what_is_unbound_is_not_chosen() {
        let bindings = bindings();
        let mut exchange = with(1, &bindings);
        [0, 1, 3].iter().for_each(|other| exchange.unbind(&bindings[*other]));
        assert!(chosen(&exchange).iter().all(|chosen| chosen == "c"));
        exchange.unbind(&bindings[2]);
        assert!(chosen(&exchange).is_empty());
    }
}
