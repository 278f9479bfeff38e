//! A set of bindings: what an index keeps where several bindings share a key. Used by the exchange types.

use super::binding::Binding;
use super::key_hash::{KeyHashSeed, KeyMap};
use super::types::Matches;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Below this, looking through all is faster than a table, and most sets have one binding.
const TABLE_FROM: usize = 16;

/// Bindings, each with something that its exchange type keeps beside it. Taking one in or out costs the same for any size.
#[derive(Debug)]
pub(super) struct BindingSet<T = ()> {
    entries: Vec<(Arc<Binding>, T)>,
    /// Where the bindings of one identity hash are. Once made, it stays for as long as the set.
    places: Option<Box<KeyMap<u64, Vec<usize>>>>,
}

impl<T> BindingSet<T> {
    /// Takes in a binding that is not in the set.
    pub(super) fn insert(&mut self, binding: &Arc<Binding>, beside: T) {
        if let Some(places) = &mut self.places {
            places.entry(identity_hash(binding)).or_default().push(self.entries.len());
        }
        self.entries.push((binding.clone(), beside));
        if self.places.is_none() && self.entries.len() >= TABLE_FROM {
            let mut places: KeyMap<u64, Vec<usize>> = KeyMap::default();
            for (place, (binding, _)) in self.entries.iter().enumerate() {
                places.entry(identity_hash(binding)).or_default().push(place);
            }
            self.places = Some(Box::new(places));
        }
    }

    /// Takes a binding out; false when it was not in the set.
    pub(super) fn remove(&mut self, binding: &Binding) -> bool {
        let Some(place) = self.place(binding) else { return false };
        let last = self.entries.len() - 1;
        if let Some(places) = &mut self.places {
            let hash = identity_hash(binding);
            let same = places.get_mut(&hash).expect("every binding's place is in the table");
            same.retain(|at| *at != place);
            if same.is_empty() {
                places.remove(&hash);
            }
            if place != last {
                let moved = places.get_mut(&identity_hash(&self.entries[last].0));
                let moved = moved.expect("every binding's place is in the table");
                moved.iter_mut().filter(|at| **at == last).for_each(|at| *at = place);
            }
        }
        self.entries.swap_remove(place);
        true
    }

    /// The binding at a place from 0 to [`BindingSet::len`]. Taking one out moves another.
    pub(super) fn at(&self, place: usize) -> &Arc<Binding> {
        &self.entries[place].0
    }

    /// All bindings, each with what is kept beside it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Binding>, &T)> {
        self.entries.iter().map(|(binding, beside)| (binding, beside))
    }

    /// Pushes all bindings.
    pub(super) fn push_all<'a>(&'a self, matches: &mut Matches<'a>) {
        self.entries.iter().for_each(|(binding, _)| matches.push(binding));
    }

    /// How many bindings there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn place(&self, binding: &Binding) -> Option<usize> {
        // Arguments with a float that is not a number equal nothing, so the same binding is known by its address too.
        let is_it = |place: &usize| {
            let other: &Binding = &self.entries[*place].0;
            std::ptr::eq(other, binding) || other == binding
        };
        match &self.places {
            Some(places) => places.get(&identity_hash(binding))?.iter().copied().find(is_it),
            None => (0..self.entries.len()).find(is_it),
        }
    }
}

// Derived, it would ask for `T: Default`.
impl<T> Default for BindingSet<T> {
    fn default() -> BindingSet<T> {
        BindingSet { entries: Vec::new(), places: None }
    }
}

/// Bindings that differ in their arguments alone share one: they are few, and floats have no hash.
fn identity_hash(binding: &Binding) -> u64 {
    KeyHashSeed.hash_one((&binding.destination, &binding.routing_key))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{binding, binding_with};
    use super::*;
    use crate::message::Value;

    #[test]
    fn what_goes_in_comes_out_again_in_any_order() {
        let bindings: Vec<_> =
            (0..1000).map(|n| binding(&format!("q{}", n % 400), &format!("k{n}"))).collect();
        let mut set = BindingSet::default();
        bindings.iter().for_each(|binding| set.insert(binding, ()));
        for step in 0..1000 {
            assert!(set.remove(&bindings[step * 617 % 1000]));
            assert!(!set.remove(&bindings[step * 617 % 1000]));
            assert_eq!(set.len(), 999 - step);
        }
        assert!(set.is_empty() && set.places.is_some_and(|places| places.is_empty()));
    }

    #[test]
    fn bindings_that_differ_in_arguments_alone_are_kept_apart() {
        for count in [2, 100] {
            let bindings: Vec<_> =
                (0..count).map(|n| binding_with("q", "k", &[("n", Value::I32(n))])).collect();
            let mut set = BindingSet::default();
            bindings.iter().for_each(|binding| set.insert(binding, ()));
            assert!(set.remove(&bindings[1]));
            assert!(!set.iter().any(|(binding, _)| *binding == bindings[1]));
            assert_eq!(set.len() as i32, count - 1);
        }
    }
}
