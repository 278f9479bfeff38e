//! `fanout`: a message goes everywhere, whatever its routing key.

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::types::{Envelope, ExchangeType, Matches};
use std::sync::Arc;

/// The index of a fanout exchange.
#[derive(Debug, Default)]
pub struct Fanout {
    bindings: BindingSet,
}

impl ExchangeType for Fanout {
    fn bind(&mut self, binding: &Arc<Binding>) {
        self.bindings.insert(binding, ());
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        self.bindings.remove(binding);
    }

    fn ignores_routing_key(&self) -> bool {
        true
    }

    fn route<'a>(&'a self, _: &Envelope<'_>, matches: &mut Matches<'a>) {
        matches.push_all(&self.bindings);
    }

    fn routes_by_key_alone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{binding, routed};
    use super::*;

    #[test]
    fn keys_do_not_matter() {
        let mut exchange = Fanout::default();
        let (a, b, again) = (binding("a", ""), binding("b", "k"), binding("a", "l"));
        [&a, &b, &again].into_iter().for_each(|binding| exchange.bind(binding));
        assert_eq!(routed(&exchange, "anything"), ["a", "a", "b"]);
        exchange.unbind(&a);
        assert_eq!(routed(&exchange, ""), ["a", "b"]);
        exchange.unbind(&again);
        exchange.unbind(&b);
        assert!(routed(&exchange, "anything").is_empty());
    }
}
