//! What a run does: the options, checked, and who publishes and consumes where.

use super::sizes::Sizes;
use super::target::Target;
use amq_protocol::types::FieldTable;
use std::path::PathBuf;
use std::time::Duration;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) target: Target,
    /// Where messages are published and consumed over STOMP, as `host:port`; `None` for AMQP.
    pub(super) stomp: Option<String>,
    pub(super) producers: usize,
    pub(super) consumers: usize,
    pub(super) queues: Vec<String>,
    /// Whether the queues are made for the run, and go with it.
    pub(super) own_queues: bool,
    pub(super) queue_arguments: FieldTable,
    /// Of the consumers.
    pub(super) consumer_arguments: FieldTable,
    /// Whether the queues are streams, from which nothing is taken by being consumed.
    pub(super) streams: bool,
    /// Empty for the default exchange.
    pub(super) exchange: String,
    /// Of which type it is, if it is made for the run, and goes with it.
    pub(super) own_exchange: Option<String>,
    /// Those that were asked for; see [`Plan::routing_keys`].
    pub(super) keys: Vec<String>,
    pub(super) binding_keys: Vec<String>,
    pub(super) sizes: Sizes,
    pub(super) persistent: bool,
    pub(super) durable: bool,
    /// How many messages of a producer may be unconfirmed; `None` without confirms.
    pub(super) confirm: Option<usize>,
    pub(super) mandatory: bool,
    /// Of each consumer; 0 is no limit.
    pub(super) prefetch: u16,
    /// After how many deliveries a consumer acknowledges; `None` where the broker takes them as acknowledged.
    pub(super) ack_every: Option<u64>,
    /// Messages a second of each producer.
    pub(super) rate: Option<f64>,
    pub(super) time: Option<Duration>,
    /// Messages of each producer.
    pub(super) count: Option<u64>,
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) chart: Option<PathBuf>,
}

impl Plan {
    /// The routing keys that a producer takes in turn: those asked for, or the names of its queues.
    pub(super) fn routing_keys(&self, producer: usize) -> Vec<String> {
        if !self.keys.is_empty() {
            return self.keys.clone();
        }
        let queues = share(&self.queues, producer, self.producers);
        if queues.is_empty() { vec![String::new()] } else { queues.into_iter().map(str::to_owned).collect() }
    }

    pub(super) fn queues_of_consumer(&self, consumer: usize) -> Vec<&str> {
        share(&self.queues, consumer, self.consumers)
    }

    /// Whether the run goes over STOMP alone. Exchanges, bindings and what queues are made with go over AMQP.
    pub(super) fn needs_stomp_alone(&self) -> bool {
        self.stomp.is_some() && self.exchange.is_empty() && self.queue_arguments.inner().is_empty()
    }

    /// Where the load goes, as `host:port`.
    pub(super) fn address(&self) -> &str {
        self.stomp.as_deref().unwrap_or(&self.target.address)
    }

    /// Every binding of the run, as queue and key. What is there already on both sides stays as it is.
    pub(super) fn bindings(&self) -> Vec<(&str, &str)> {
        let is_theirs = !self.own_queues && self.own_exchange.is_none();
        if self.exchange.is_empty() || is_theirs {
            return Vec::new();
        }
        let keys = if self.binding_keys.is_empty() { &self.keys } else { &self.binding_keys };
        let queues = self.queues.iter().map(String::as_str);
        match keys.as_slice() {
            [] => queues.map(|queue| (queue, queue)).collect(),
            keys => queues.flat_map(|queue| keys.iter().map(move |key| (queue, key.as_str()))).collect(),
        }
    }

    /// The load in words, for people.
    pub(super) fn describe(&self) -> String {
        let mut parts = vec![
            counted(self.producers, "producer"),
            counted(self.consumers, "consumer"),
            counted(self.queues.len(), if self.streams { "stream" } else { "queue" }),
            format!("{} bytes", self.sizes),
        ];
        if self.stomp.is_some() {
            parts.push("over STOMP".to_owned());
        }
        if self.durable {
            parts.push("durable".to_owned());
        }
        if self.persistent {
            parts.push("persistent".to_owned());
        }
        if !self.exchange.is_empty() {
            parts.push(match &self.own_exchange {
                Some(kind) => format!("{kind} exchange"),
                None => format!("exchange {}", self.exchange),
            });
        }
        if let Some(window) = self.confirm {
            parts.push(format!("at most {window} unconfirmed"));
        }
        match self.ack_every {
            _ if self.consumers == 0 => {}
            None => parts.push("automatic acks".to_owned()),
            Some(1) => parts.push(format!("prefetch {}", self.prefetch)),
            Some(every) => parts.push(format!("prefetch {}, an ack every {every}", self.prefetch)),
        }
        if let Some(rate) = self.rate {
            parts.push(format!("{rate} messages a second of each"));
        }
        parts.join(", ")
    }
}

/// `1 queue`, `2 queues`.
fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// The queues of one of several workers: all queues are spread over all workers, and where there are fewer queues than workers,
/// they share.
fn share(queues: &[String], number: usize, workers: usize) -> Vec<&str> {
    match queues.len() {
        0 => Vec::new(),
        count if count <= workers => vec![queues[number % count].as_str()],
        _ => queues.iter().skip(number).step_by(workers).map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_spread_over_workers() {
        let queues: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        assert_eq!(share(&queues, 0, 2), ["a", "c", "e"]);
        assert_eq!(share(&queues, 1, 2), ["b", "d"]);
        assert_eq!(share(&queues[..2], 2, 3), ["a"]);
        assert_eq!(share(&queues, 4, 5), ["e"]);
        assert!(share(&[], 0, 1).is_empty());
    }
}
