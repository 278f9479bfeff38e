//! What RabbitMQ or its plugins have and Leveret does not (yet): the one list of it. Imports, policies, declarations and
//! `leveret check` report by it what they leave out, or keep without effect, so that nothing is dropped silently.
//!
//! What makes no difference on one node (where a leader is, how large a cluster, how messages lie on the disk) is not in it.

use crate::broker::policy::Policy;
use crate::broker::queue::QueueType;
use crate::message::FieldTable;
use std::sync::atomic::{AtomicU64, Ordering};

const FEDERATION: &str = "there is no federation yet";
const SHOVEL: &str = "there are no shovels yet";
const MIRRORS: &str = "queues are not mirrored";
const DELAYED_RETRY: &str = "there are no delayed retries yet, so messages return at once";
const DEDUPLICATION: &str = "duplicates are not looked for";
const SHARDING: &str = "exchanges are not sharded";
const MQTT: &str = "MQTT is not spoken";
const SELECTORS: &str = "there are no JMS selectors";

/// Keys of policies, each with why it has no effect. They are taken as RabbitMQ takes them, kept, and exported again.
const POLICY_KEYS: &[(&str, &str)] = &[
    ("delayed-retry-max", DELAYED_RETRY),
    ("delayed-retry-min", DELAYED_RETRY),
    ("delayed-retry-type", DELAYED_RETRY),
    ("federation-upstream", FEDERATION),
    ("federation-upstream-pattern", FEDERATION),
    ("federation-upstream-set", FEDERATION),
    ("ha-mode", MIRRORS),
    ("message-deduplication", DEDUPLICATION),
    ("routing-key", SHARDING),
    ("selector-field-max-bytes", SELECTORS),
    ("selector-fields", SELECTORS),
    ("shards-per-node", SHARDING),
];

/// Keys that a policy may have and that neither do anything here nor would be missed.
const IMMATERIAL_POLICY_KEYS: &[&str] = &["consumer-disconnected-timeout", "member-placement-tag"];

/// Arguments of queues and exchanges, in the order of their bits in [`Reported`].
const ARGUMENTS: &[(&str, &str)] = &[
    ("x-cache-persistence", DEDUPLICATION),
    ("x-cache-size", DEDUPLICATION),
    ("x-cache-ttl", DEDUPLICATION),
    ("x-delayed-retry-max", DELAYED_RETRY),
    ("x-delayed-retry-min", DELAYED_RETRY),
    ("x-delayed-retry-type", DELAYED_RETRY),
    ("x-ha-nodes", MIRRORS),
    ("x-ha-policy", MIRRORS),
    ("x-message-deduplication", DEDUPLICATION),
];

/// Types of exchange, each with what it is of.
const EXCHANGE_TYPES: &[(&str, &str)] = &[
    ("x-delayed-message", "the plugin for delayed messages"),
    ("x-federation-upstream", "federation"),
    ("x-jms-topic", "the plugin for JMS"),
    ("x-local-random", "RabbitMQ 4"),
    ("x-message-deduplication", "the plugin against duplicates"),
    ("x-recent-history", "the plugin for recent history"),
];

/// Exchanges that RabbitMQ makes by itself, of which it exports the first.
const OWN_EXCHANGES: [&str; 2] = ["amq.rabbitmq.log", "amq.rabbitmq.event"];

/// Components of runtime parameters that are kept although nothing acts on them.
const COMPONENTS: &[(&str, &str)] =
    &[("federation-upstream", FEDERATION), ("federation-upstream-set", FEDERATION), ("shovel", SHOVEL)];

/// Global parameters, of which any may be set, that something in RabbitMQ acts on.
const GLOBAL_PARAMETERS: &[(&str, &str)] = &[
    ("federation_local_username", FEDERATION),
    ("mqtt_default_vhosts", MQTT),
    ("mqtt_port_to_vhost_mapping", MQTT),
];

fn reason(list: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    list.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

fn without_effect(name: &str, why: &str) -> String {
    format!("{name:?} has no effect: {why}")
}

/// A sentence for each reason, with all that has it.
fn by_reason(found: impl Iterator<Item = (String, &'static str)>) -> Vec<String> {
    let mut reasons: Vec<(&'static str, Vec<String>)> = Vec::new();
    for (name, why) in found {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let sentence = |(why, names): (&str, Vec<String>)| match names.as_slice() {
        [name] => without_effect(name, why),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("{} have no effect: {why}", names.join(", "))
        }
    };
    reasons.into_iter().map(sentence).collect()
}

/// Whether a policy may have the key although it has no effect here.
pub(super) fn is_policy_key(key: &str) -> bool {
    reason(POLICY_KEYS, key).is_some() || IMMATERIAL_POLICY_KEYS.contains(&key)
}

/// What of a policy has no effect, a sentence each.
pub fn in_policy(policy: &Policy) -> Vec<String> {
    in_policy_definition(&policy.definition)
}

/// The same of a policy's definition alone.
pub fn in_policy_definition(definition: &FieldTable) -> Vec<String> {
    let keys = definition.iter().map(|(key, _)| key.to_string());
    by_reason(keys.filter_map(|key| reason(POLICY_KEYS, &key).map(|why| (key, why))))
}

/// What of a queue's or an exchange's arguments has no effect, a sentence each.
pub fn in_arguments(arguments: &FieldTable) -> Vec<String> {
    by_reason(known(arguments).map(|at| (ARGUMENTS[at].0.to_owned(), ARGUMENTS[at].1)))
}

/// Where those arguments stand in the list.
fn known(arguments: &FieldTable) -> impl Iterator<Item = usize> {
    arguments.iter().filter_map(|(name, _)| {
        let name = name.to_string();
        ARGUMENTS.iter().position(|(known, _)| *known == name)
    })
}

/// Why there are no queues of that type; `None` for a type that there is.
pub fn queue_type(name: &str) -> Option<String> {
    match QueueType::named(name) {
        Some(_) => None,
        None => Some(format!("there are no queues of type {name:?}")),
    }
}

/// Why there are no exchanges of that type, where it is one of RabbitMQ's, or looks like one of a plugin.
pub fn exchange_type(name: &str) -> Option<String> {
    match reason(EXCHANGE_TYPES, name) {
        Some(of) => Some(format!("its type {name:?}, of {of}, is not there yet")),
        None if name.starts_with("x-") => {
            Some(format!("its type {name:?} is not there; it seems to be a plugin's"))
        }
        None => None,
    }
}

/// Whether an exchange is one that RabbitMQ makes by itself, so that it is missed only where something is bound to it.
pub fn is_own_exchange(name: &str) -> bool {
    OWN_EXCHANGES.contains(&name)
}

/// Why nothing acts on parameters of a component that they can be kept for.
pub fn component(name: &str) -> Option<&'static str> {
    reason(COMPONENTS, name)
}

/// Why nothing acts on a global parameter.
pub fn global_parameter(name: &str) -> Option<&'static str> {
    reason(GLOBAL_PARAMETERS, name)
}

/// Which arguments were logged already: each once, since clients declare the same again at each start.
#[derive(Debug, Default)]
pub(super) struct Reported(AtomicU64);

impl Reported {
    /// Logs what of a new queue's or exchange's arguments has no effect, unless that was logged before.
    pub(super) fn report(&self, arguments: &FieldTable, what: impl Fn() -> String) {
        for at in known(arguments).filter(|at| self.is_news(*at)) {
            let (name, why) = ARGUMENTS[at];
            tracing::warn!("{} is declared with {}; this is logged once", what(), without_effect(name, why));
        }
    }

    fn is_news(&self, at: usize) -> bool {
        let bit = 1 << at;
        self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::exchange::ExchangeTypes;
    use crate::message::Value;

    #[test]
    fn what_is_listed_is_not_there() {
        let types = ExchangeTypes::standard();
        assert!(EXCHANGE_TYPES.iter().all(|(name, _)| !types.contains(name)));
        assert!(ARGUMENTS.len() <= 64, "each has a bit");
        assert_eq!(queue_type("quorum"), None);
        assert_eq!(queue_type("stream"), None);
        assert_eq!(queue_type("jms").as_deref(), Some("there are no queues of type \"jms\""));
        assert!(exchange_type("x-of-somebody").is_some() && exchange_type("drect").is_none());
    }

    #[test]
    fn what_has_one_reason_is_told_together() {
        let arguments = ["x-cache-size", "x-ha-policy", "x-max-length", "x-cache-ttl"];
        let arguments: FieldTable = arguments.into_iter().map(|name| (name, Value::I64(1))).collect();
        assert_eq!(
            in_arguments(&arguments),
            [
                "\"x-cache-size\", \"x-cache-ttl\" have no effect: duplicates are not looked for",
                "\"x-ha-policy\" has no effect: queues are not mirrored"
            ]
        );
    }

    #[test]
    fn an_argument_is_told_of_once() {
        let reported = Reported::default();
        let arguments: FieldTable =
            [("x-delayed-retry-min", Value::I64(5)), ("x-max-length", Value::I64(1))].into_iter().collect();
        let news = || known(&arguments).filter(|at| reported.is_news(*at)).count();
        assert_eq!((news(), news()), (1, 0));
        assert_eq!(
            in_arguments(&arguments),
            [
                "\"x-delayed-retry-min\" has no effect: there are no delayed retries yet, so messages return at once"
            ]
        );
    }
}
