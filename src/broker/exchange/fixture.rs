//! What the tests of the exchange types share.

use super::{Binding, Destination, Envelope, ExchangeType, Matches};
use crate::message::{FieldTable, Message, Properties, Value};
use std::sync::Arc;

/// A binding of the exchange `x` to a queue.
pub(super) fn binding(queue: &str, routing_key: &str) -> Arc<Binding> {
    binding_with(queue, routing_key, &[])
}

/// A binding of the exchange `x` to a queue, with arguments.
pub(super) fn binding_with(queue: &str, routing_key: &str, arguments: &[(&str, Value)]) -> Arc<Binding> {
    Arc::new(Binding {
        source: "x".into(),
        destination: Destination::Queue(queue.into()),
        routing_key: routing_key.into(),
        arguments: table(arguments).into(),
    })
}

/// A field table of these fields.
pub(super) fn table(fields: &[(&str, Value)]) -> FieldTable {
    fields.iter().cloned().collect()
}

/// A message with that routing key and these properties.
pub(super) fn message(routing_key: &[u8], properties: &Properties) -> Message {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    Message::new("x", routing_key, &encoded, b"").unwrap()
}

/// The queues that a message with that routing key goes to, in order; once for each binding that matched.
pub(super) fn routed(exchange: &dyn ExchangeType, routing_key: impl AsRef<[u8]>) -> Vec<String> {
    routed_message(exchange, &message(routing_key.as_ref(), &Properties::default()))
}

/// The queues that a message with these headers goes to, in order; once for each binding that matched.
pub(super) fn routed_headers(exchange: &dyn ExchangeType, headers: &FieldTable) -> Vec<String> {
    let properties = Properties { headers: Some(headers.clone()), ..Properties::default() };
    routed_message(exchange, &message(b"", &properties))
}

/// The queues that a message goes to, in order; once for each binding that matched.
pub(super) fn routed_message(exchange: &dyn ExchangeType, message: &Message) -> Vec<String> {
    let envelope = Envelope::new(message.routing_key(), message);
    let mut matches = Matches::default();
    exchange.route(&envelope, &mut matches);
    let mut queues: Vec<String> = matches.bindings().iter().map(|binding| queue(binding)).collect();
    queues.sort();
    queues
}

/// The queue that a binding leads to.
pub(super) fn queue(binding: &Arc<Binding>) -> String {
    match &binding.destination {
        Destination::Queue(name) | Destination::Exchange(name) => name.to_string(),
    }
}

/// Numbers that look random and are the same at every run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (super::key_hash::scramble(self.0) % end as u64) as usize
    }
}
