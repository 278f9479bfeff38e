//! A set of bindings: what an index keeps where several bindings share a key. Used by the exchange types.

use super::binding::Binding;
use super::key_hash::KeyMap;
use crate::steps;
use std::sync::Arc;

/// Below this, looking through all is faster than a table, and most sets have one binding.
const TABLE_FROM: usize = 16;

/// Bindings, each with something that its exchange type keeps beside it. Taking one in or out costs the same for any size.
#[derive(Debug)]
pub(super) struct BindingSet<T = ()> {
    entries: Vec<(Arc<Binding>, T)>,
    /// Where each binding is, by its address. Once made, it stays for as long as the set.
    places: Option<Box<KeyMap<usize, usize>>>,
}

impl<T> BindingSet<T> {
    /// Takes in a binding that is not in the set.
    pub(super) fn insert(&mut self, binding: &Arc<Binding>, beside: T) {
        if let Some(places) = &mut self.places {
            places.insert(address(binding), self.entries.len());
        }
        self.entries.push((binding.clone(), beside));
        if self.places.is_none() && self.entries.len() >= TABLE_FROM {
            let addresses = self.entries.iter().map(|(binding, _)| address(binding));
            self.places = Some(Box::new(addresses.zip(0..).collect()));
        }
    }

    /// Takes a binding out; false when it was not in the set. It is known by its address: arguments may be large, and floats
    /// that are no numbers equal nothing.
    pub(super) fn remove(&mut self, binding: &Arc<Binding>) -> bool {
        let Some(place) = self.place(binding) else { return false };
        self.entries.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&address(binding));
            if let Some((moved, _)) = self.entries.get(place) {
                places.insert(address(moved), place);
            }
        }
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

    /// How many bindings there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn place(&self, binding: &Arc<Binding>) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&address(binding)).copied(),
            None => self.entries.iter().position(|(other, _)| {
                steps::count(1);
                Arc::ptr_eq(other, binding)
            }),
        }
    }
}

// Derived, it would ask for `T: Default`.
impl<T> Default for BindingSet<T> {
    fn default() -> BindingSet<T> {
        BindingSet { entries: Vec::new(), places: None }
    }
}

fn address(binding: &Arc<Binding>) -> usize {
    Arc::as_ptr(binding).addr()
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
        for count in [2, 100, 5000] {
            let bindings: Vec<_> =
                (0..count).map(|n| binding_with("q", "k", &[("n", Value::I32(n))])).collect();
            let mut set = BindingSet::default();
            bindings.iter().for_each(|binding| set.insert(binding, ()));
            let (was_there, steps) = steps::of(|| set.remove(&bindings[1]));
            assert!(was_there && steps < 20, "{steps} steps to take out one of {count}");
            assert!(!set.iter().any(|(binding, _)| *binding == bindings[1]));
            assert_eq!(set.len() as i32, count - 1);
        }
    }
}
