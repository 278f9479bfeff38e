//! `x-modulus-hash`: a message goes to one binding, found by its routing key's hash modulo the number of bindings.
//!
//! Binding keys don't matter. Unlike with `x-consistent-hash`, most keys move when a binding comes or goes.

use super::binding::Binding;
use super::key_hash::stable_hash;
use super::types::{Envelope, ExchangeType, Matches};
use crate::steps;
use std::cmp::Ordering;
use std::sync::Arc;

/// Bindings of one piece of the order at most: a new one moves no more than these, whatever their number.
const PIECE_MAX: usize = 512;

/// The index of a modulus hash exchange.
#[derive(Debug, Default)]
pub struct ModulusHash {
    /// Ordered by destination, key and arguments, so that a key goes the same way after a restart; in pieces, none of them
    /// empty.
    pieces: Vec<Vec<Arc<Binding>>>,
    count: usize,
}

impl ModulusHash {
    /// The piece that a binding belongs to, and where in it: as `Ok` if it is there.
    fn place(&self, binding: &Binding) -> (usize, Result<usize, usize>) {
        let ends_before =
            |piece: &Vec<Arc<Binding>>| piece.last().is_some_and(|last| order(last, binding).is_lt());
        let piece = self.pieces.partition_point(ends_before).min(self.pieces.len().saturating_sub(1));
        let at = self
            .pieces
            .get(piece)
            .map_or(Err(0), |piece| piece.binary_search_by(|other| order(other, binding)));
        (piece, at)
    }

    fn nth(&self, mut place: usize) -> Option<&Arc<Binding>> {
        for piece in &self.pieces {
            match piece.get(place) {
                Some(binding) => return Some(binding),
                None => place -= piece.len(),
            }
        }
        None
    }
}

fn order(a: &Binding, b: &Binding) -> Ordering {
    steps::count(1);
    let encoded = |binding: &Binding| {
        let mut arguments = Vec::new();
        binding.arguments.encode(&mut arguments);
        arguments
    };
    (&a.destination, &a.routing_key)
        .cmp(&(&b.destination, &b.routing_key))
        .then_with(|| encoded(a).cmp(&encoded(b)))
}

impl ExchangeType for ModulusHash {
    fn bind(&mut self, binding: &Arc<Binding>) {
        let (piece, at) = self.place(binding);
        if self.pieces.is_empty() {
            self.pieces.push(Vec::new());
        }
        let found = &mut self.pieces[piece];
        let at = at.unwrap_or_else(|at| at);
        steps::count(1 + (found.len() - at) / 64);
        found.insert(at, binding.clone());
        if found.len() > PIECE_MAX {
            let behind = found.split_off(PIECE_MAX / 2);
            self.pieces.insert(piece + 1, behind);
        }
        self.count += 1;
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        let (piece, Ok(at)) = self.place(binding) else { return };
        self.pieces[piece].remove(at);
        if self.pieces[piece].is_empty() {
            self.pieces.remove(piece);
        }
        self.count -= 1;
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        if self.count > 0 && envelope.is_for_published_key() {
            let place = stable_hash(envelope.routing_key) % self.count as u64;
            self.nth(place as usize).into_iter().for_each(|binding| matches.push(binding));
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
    #[test]
    fn many_bindings_keep_their_order_and_cost_little_each() {
        const COUNT: usize = 20_000;
        let bindings: Vec<_> =
            (0..COUNT).map(|n| binding(&format!("q{:05}", n * 7919 % COUNT), "")).collect();
        let mut exchange = ModulusHash::default();
        let (_, steps) = steps::of(|| {
            for binding in &bindings {
                exchange.bind(binding);
                assert_eq!(routed(&exchange, "k").len(), 1);
            }
        });
        assert!(steps < 40 * COUNT as u64, "{steps} steps for {COUNT} bindings, each followed by a message");
        let places: Vec<_> = (0..COUNT).filter_map(|place| exchange.nth(place)).collect();
        assert!(places.len() == COUNT && places.is_sorted_by_key(|binding| &binding.destination));
        bindings.iter().rev().for_each(|binding| exchange.unbind(binding));
        assert!(exchange.count == 0 && exchange.pieces.is_empty());
    }
}
