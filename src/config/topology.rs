//! `[[vhosts]]`, `[[exchanges]]`, `[[queues]]` and `[[bindings]]`: what exists from the start.
//!
//! All of it is declared at each start and changes nothing that is there already. What the broker itself must judge
//! (types of exchanges, meaning of arguments, conflicts with what the store holds) it judges when it declares, and can
//! name the line by `declared_at`.

use super::argument::Arguments;
use super::section::Section;
use super::table::settings;
use crate::vocabulary::{DestinationType, QueueType};

/// The vhost that is meant where none is named.
pub(super) const DEFAULT_VHOST: &str = "/";

settings! {
    /// One of `[[vhosts]]`.
    Vhost, declared_at {
        /// Its name. Required.
        name: String = String::new(), required_name();
        /// A line about it, shown by the management API.
        description: Option<String> = None, perhaps_any_text();
        /// What operators file it under. Where it is not set they stay as they are.
        tags: Option<Vec<String>> = None, perhaps_texts();
        /// Connections to it at once; -1 is no limit. Where it is not set it stays as it is.
        max_connections: Option<i64> = None, perhaps_whole(-1..);
        /// Queues in it; -1 is no limit. Where it is not set it stays as it is.
        max_queues: Option<i64> = None, perhaps_whole(-1..);
        /// Type of a queue declared here without `x-queue-type`. Where it is not set, the `default_queue_type` of the whole broker.
        default_queue_type: Option<QueueType> = None, perhaps_choice(QueueType::NAMES);
        /// Whether its messages are copied to `amq.rabbitmq.trace`. Where it is not set it stays as it is.
        tracing: Option<bool> = None, perhaps_boolean();
    }
}

impl Vhost {
    pub(super) fn built_in() -> Vhost {
        Vhost {
            name: DEFAULT_VHOST.to_owned(),
            description: Some("Default virtual host".to_owned()),
            ..Vhost::default()
        }
    }
}

settings! {
    /// One of `[[exchanges]]`.
    Exchange, declared_at {
        /// The vhost it is in.
        vhost: String = DEFAULT_VHOST.to_owned(), name();
        /// Its name; `amq.` is not for use at its beginning. Required.
        name: String = String::new(), declared_name();
        /// `direct`, `fanout`, `topic`, `headers` or another that the broker knows. Required.
        exchange_type as "type": String = String::new(), exchange_type();
        /// Whether it outlives a restart.
        durable: bool = true, optional_boolean();
        /// Whether it goes with its last binding.
        auto_delete: bool = false, optional_boolean();
        /// Whether only other exchanges may publish to it.
        internal: bool = false, optional_boolean();
        /// Optional arguments, such as `alternate-exchange`.
        arguments: Arguments = Arguments::new(), arguments();
    }
}

impl Section<'_> {
    /// A type of exchange, which has to be there.
    fn exchange_type(&mut self, key: &'static str) -> Option<String> {
        if !self.has(key) {
            self.report_missing(key, "a type of exchange, such as \"direct\" or \"topic\"");
        }
        self.name(key)
    }
}

settings! {
    /// One of `[[queues]]`.
    Queue, declared_at {
        /// The vhost it is in.
        vhost: String = DEFAULT_VHOST.to_owned(), name();
        /// Its name; `amq.` is not for use at its beginning. Required.
        name: String = String::new(), declared_name();
        /// Whether it outlives a restart.
        durable: bool = true, optional_boolean();
        /// Whether it goes with its last consumer.
        auto_delete: bool = false, optional_boolean();
        /// Optional arguments, such as `x-message-ttl`.
        arguments: Arguments = Arguments::new(), arguments();
    }
}

settings! {
    /// One of `[[bindings]]`.
    Binding, declared_at {
        /// The vhost of both ends.
        vhost: String = DEFAULT_VHOST.to_owned(), name();
        /// The exchange that messages come from: one of `[[exchanges]]`, or predeclared, such as `amq.topic`. Required.
        source: String = String::new(), required_name();
        /// The queue or exchange that they go to: one of `[[queues]]`, of `[[exchanges]]`, or a predeclared exchange. Required.
        destination: String = String::new(), required_name();
        /// Which of the two `destination` names.
        destination_type: DestinationType = DestinationType::Queue, choice(DestinationType::NAMES);
        /// What the exchange compares; its meaning is the exchange type's. At most 255 bytes.
        routing_key: String = String::new(), short_text();
        /// Optional arguments, such as `x-match`.
        arguments: Arguments = Arguments::new(), arguments();
    }
}
