//! `[[vhosts]]`, `[[exchanges]]`, `[[queues]]` and `[[bindings]]`: what exists from the start.
//!
//! All of it is declared at each start and changes nothing that is there already. What the broker itself must judge
//! (types of exchanges, meaning of arguments, conflicts with what the store holds) it judges when it declares, and can
//! name the line by `declared_at`.

use super::argument::Arguments;
use super::diagnose::Location;
use super::section::Section;
use crate::vocabulary::{DestinationType, QueueType};

/// The vhost that is meant where none is named.
const DEFAULT_VHOST: &str = "/";

/// One of `[[vhosts]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vhost {
    /// Its name. Required.
    pub name: String,
    /// A line about it, shown by the management API. Default none.
    pub description: Option<String>,
    /// What operators file it under. Default: as it was.
    pub tags: Option<Vec<String>>,
    /// Connections to it at once; -1 is no limit. Default: as it was.
    pub max_connections: Option<i64>,
    /// Queues in it; -1 is no limit. Default: as it was.
    pub max_queues: Option<i64>,
    /// Type of a queue declared here without `x-queue-type`. Default: the `default_queue_type` of the whole broker.
    pub default_queue_type: Option<QueueType>,
    /// Whether its messages are copied to `amq.rabbitmq.trace`. Default: as it was.
    pub tracing: Option<bool>,
    /// Where it stands in the file; none for the built-in `/`.
    pub declared_at: Option<Location>,
}

impl Vhost {
    pub(super) fn built_in() -> Vhost {
        Vhost {
            name: DEFAULT_VHOST.to_owned(),
            description: Some("Default virtual host".to_owned()),
            tags: None,
            max_connections: None,
            max_queues: None,
            default_queue_type: None,
            tracing: None,
            declared_at: None,
        }
    }

    pub(super) fn read(section: &mut Section<'_>) -> Vhost {
        let has_tags = section.has("tags");
        Vhost {
            name: section.required_name("name"),
            description: section.any_text("description"),
            tags: Some(section.texts("tags")).filter(|_| has_tags),
            max_connections: section.optional_whole("max_connections", -1..),
            max_queues: section.optional_whole("max_queues", -1..),
            default_queue_type: section.choice("default_queue_type", QueueType::NAMES),
            tracing: section.has("tracing").then(|| section.boolean("tracing", false)),
            declared_at: section.location(),
        }
    }

    /// The key `vhost` of another section's table.
    pub(super) fn read_reference(section: &mut Section<'_>) -> String {
        section.name("vhost").unwrap_or_else(|| DEFAULT_VHOST.to_owned())
    }
}

/// One of `[[exchanges]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The vhost it is in. Default `/`.
    pub vhost: String,
    /// Its name; `amq.` is not for use at its beginning. Required.
    pub name: String,
    /// `type`: `direct`, `fanout`, `topic`, `headers` or another that the broker knows. Required.
    pub exchange_type: String,
    /// Whether it outlives a restart. Default true.
    pub durable: bool,
    /// Whether it goes with its last binding. Default false.
    pub auto_delete: bool,
    /// Whether only other exchanges may publish to it. Default false.
    pub internal: bool,
    /// Optional arguments, such as `alternate-exchange`. Default none.
    pub arguments: Arguments,
    /// Where it stands in the file.
    pub declared_at: Option<Location>,
}

impl Exchange {
    pub(super) fn read(section: &mut Section<'_>) -> Exchange {
        if !section.has("type") {
            section.report_missing("type", "a type of exchange, such as \"direct\" or \"topic\"");
        }
        Exchange {
            vhost: Vhost::read_reference(section),
            name: section.declared_name("name"),
            exchange_type: section.name("type").unwrap_or_default(),
            durable: section.boolean("durable", true),
            auto_delete: section.boolean("auto_delete", false),
            internal: section.boolean("internal", false),
            arguments: section.arguments("arguments"),
            declared_at: section.location(),
        }
    }
}

/// One of `[[queues]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// The vhost it is in. Default `/`.
    pub vhost: String,
    /// Its name; `amq.` is not for use at its beginning. Required.
    pub name: String,
    /// Whether it outlives a restart. Default true.
    pub durable: bool,
    /// Whether it goes with its last consumer. Default false.
    pub auto_delete: bool,
    /// Optional arguments, such as `x-message-ttl`. Default none.
    pub arguments: Arguments,
    /// Where it stands in the file.
    pub declared_at: Option<Location>,
}

impl Queue {
    pub(super) fn read(section: &mut Section<'_>) -> Queue {
        Queue {
            vhost: Vhost::read_reference(section),
            name: section.declared_name("name"),
            durable: section.boolean("durable", true),
            auto_delete: section.boolean("auto_delete", false),
            arguments: section.arguments("arguments"),
            declared_at: section.location(),
        }
    }
}

/// One of `[[bindings]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The vhost of both ends. Default `/`.
    pub vhost: String,
    /// The exchange that messages come from: one of `[[exchanges]]`, or predeclared, such as `amq.topic`. Required.
    pub source: String,
    /// The queue or exchange that they go to: one of `[[queues]]`, of `[[exchanges]]`, or a predeclared exchange. Required.
    pub destination: String,
    /// Which of the two `destination` names: `queue` (default) or `exchange`.
    pub destination_type: DestinationType,
    /// What the exchange compares; its meaning is the exchange type's. At most 255 bytes. Default empty.
    pub routing_key: String,
    /// Optional arguments, such as `x-match`. Default none.
    pub arguments: Arguments,
    /// Where it stands in the file.
    pub declared_at: Option<Location>,
}

impl Binding {
    pub(super) fn read(section: &mut Section<'_>) -> Binding {
        Binding {
            vhost: Vhost::read_reference(section),
            source: section.required_name("source"),
            destination: section.required_name("destination"),
            destination_type: section
                .choice("destination_type", DestinationType::NAMES)
                .unwrap_or(DestinationType::Queue),
            routing_key: section.short_text("routing_key"),
            arguments: section.arguments("arguments"),
            declared_at: section.location(),
        }
    }
}
