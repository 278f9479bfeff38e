//! The exchanges that a vhost has from the start.

use super::ExchangeDefinition;
use crate::message::{EncodedTable, Name};

/// The exchanges that every vhost has, with their types (0-9-1 section 3.1.3.1, and RabbitMQ's own).
pub(in crate::broker) const PREDECLARED: [(&str, &str, bool); 7] = [
    ("", "direct", false),
    ("amq.direct", "direct", false),
    ("amq.fanout", "fanout", false),
    ("amq.topic", "topic", false),
    ("amq.headers", "headers", false),
    ("amq.match", "headers", false),
    ("amq.rabbitmq.trace", "topic", true),
];

/// The exchange of that name, if every vhost has it.
pub(in crate::broker) fn find(vhost: &Name, name: &str) -> Option<ExchangeDefinition> {
    let known = PREDECLARED.into_iter().find(|(known, ..)| *known == name)?;
    Some(definition(vhost, known))
}

/// What a predeclared exchange of a vhost is.
pub(in crate::broker) fn definition(
    vhost: &Name,
    (name, kind, internal): (&str, &str, bool),
) -> ExchangeDefinition {
    ExchangeDefinition {
        vhost: vhost.clone(),
        name: name.into(),
        kind: kind.into(),
        durable: true,
        auto_delete: false,
        internal,
        arguments: EncodedTable::default(),
    }
}
