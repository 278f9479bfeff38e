//! `direct`: a message goes where its routing key equals the binding key.

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::key_hash::KeyMap;
use super::partitions::Partitions;
use super::types::{Envelope, ExchangeType, Matches};
use crate::broker::error::Refusal;
use crate::message::{FieldTable, ShortStr};
use std::sync::Arc;

/// The index of a direct exchange: one look-up per message.
#[derive(Debug, Default)]
pub struct Direct {
    by_key: KeyMap<ShortStr, BindingSet>,
    /// Where keys lead that are not bound, if this is a super stream's.
    partitions: Option<Box<Partitions>>,
}

impl Direct {
    /// An exchange with these arguments.
    ///
    /// # Errors
    /// When it is a super stream's, and they say how its keys are hashed in a way that there is not.
    pub fn new(arguments: &FieldTable) -> Result<Direct, Refusal> {
        Ok(Direct { by_key: KeyMap::default(), partitions: Partitions::of(arguments)?.map(Box::new) })
    }
}

impl ExchangeType for Direct {
    fn bind(&mut self, binding: &Arc<Binding>) {
        self.by_key.entry(binding.routing_key.clone()).or_default().insert(binding, ());
        if let Some(partitions) = &mut self.partitions {
            partitions.bind(binding);
        }
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        if let Some(set) = self.by_key.get_mut(&binding.routing_key) {
            set.remove(binding);
            if set.is_empty() {
                self.by_key.remove(&binding.routing_key);
            }
        }
        if let Some(partitions) = &mut self.partitions {
            partitions.unbind(binding);
        }
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        if let Some(set) = self.by_key.get(envelope.routing_key) {
            matches.push_all(set);
        } else if let Some(binding) =
            self.partitions.as_ref().and_then(|partitions| partitions.find(envelope))
        {
            matches.push(binding);
        }
    }

    fn routes_by_key_alone(&self) -> bool {
        self.partitions.as_ref().is_none_or(|partitions| partitions.is_by_key())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{binding, binding_with, routed};
    use super::*;
    use crate::message::Value;

    #[test]
    fn keys_must_be_equal() {
        let mut exchange = Direct::default();
        for (queue, key) in [("red", "r"), ("both", "r"), ("both", "g"), ("empty", ""), ("star", "*")] {
            exchange.bind(&binding(queue, key));
        }
        assert_eq!(routed(&exchange, "r"), ["both", "red"]);
        assert_eq!(routed(&exchange, "g"), ["both"]);
        assert_eq!(routed(&exchange, ""), ["empty"]);
        assert_eq!(routed(&exchange, "*"), ["star"]);
        assert!(routed(&exchange, "R").is_empty());
        assert!(routed(&exchange, b"\xff").is_empty());
    }

    #[test]
    fn unbinding_takes_out_that_binding_alone() {
        let mut exchange = Direct::default();
        let same = [
            binding("a", "k"),
            binding("b", "k"),
            binding("a", "l"),
            binding_with("a", "k", &[("n", Value::I32(1))]),
        ];
        same.iter().for_each(|binding| exchange.bind(binding));
        exchange.unbind(&same[3]);
        assert_eq!(routed(&exchange, "k"), ["a", "b"]);
        exchange.unbind(&same[0]);
        assert_eq!(routed(&exchange, "k"), ["b"]);
        exchange.unbind(&same[1]);
        exchange.unbind(&same[2]);
        assert!(exchange.by_key.is_empty());
        exchange.unbind(&same[2]);
    }
}
