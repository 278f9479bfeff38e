//! What is in force: a policy and an operator policy made one, and the arguments of a queue or exchange made one with that.

use super::Policy;
use crate::broker::queue::{DeadLetterStrategy, Overflow, QueueDefinition, QueueSettings, QueueType, age_ms};
use crate::message::{FieldTable, Name, Value};
use std::sync::Arc;

/// The policies that apply to one queue or exchange.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The policy of the highest priority that matches.
    pub policy: Option<Arc<Policy>>,
    /// The operator policy of the highest priority that matches.
    pub operator_policy: Option<Arc<Policy>>,
}

impl Applied {
    /// What both set together: of a limit that both set the lower one counts, of another key the operator's.
    pub fn definition(&self) -> FieldTable {
        let (policy, operator) = match (&self.policy, &self.operator_policy) {
            (None, None) => return FieldTable::default(),
            (Some(one), None) | (None, Some(one)) => return one.definition.clone(),
            (Some(policy), Some(operator)) => (&policy.definition, &operator.definition),
        };
        let mut merged = policy.clone();
        for (key, theirs) in operator.iter() {
            let value =
                match policy.field(&key.to_string()).and_then(Value::as_integer).zip(theirs.as_integer()) {
                    Some((own, theirs)) if key == "delivery-limit" => {
                        Value::I64(least_delivery_limit(own, theirs))
                    }
                    Some((own, theirs)) if key != "queue-version" => Value::I64(own.min(theirs)),
                    _ => theirs.clone(),
                };
            merged.insert(key.clone(), value);
        }
        merged.sort();
        merged
    }

    /// Whether these are the same policies, unchanged.
    pub(in crate::broker) fn is(&self, other: &Applied) -> bool {
        fn same(a: &Option<Arc<Policy>>, b: &Option<Arc<Policy>>) -> bool {
            match (a, b) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (a, b) => a.is_none() && b.is_none(),
            }
        }
        same(&self.policy, &other.policy) && same(&self.operator_policy, &other.operator_policy)
    }
}

/// A negative limit is none.
fn least_delivery_limit(a: i64, b: i64) -> i64 {
    if a < 0 || b < 0 { a.max(b) } else { a.min(b) }
}

/// A queue's settings in effect: of each limit the lower one of argument and policy; else the argument, where there is one. Only of the
/// overflow rule of a quorum queue the policy's, as in RabbitMQ.
pub(in crate::broker) fn settings(queue: &QueueDefinition, policy: &FieldTable) -> QueueSettings {
    let mut settings = queue.declared.clone();
    if policy.is_empty() {
        return settings;
    }
    let count = |key: &str| policy.field(key).and_then(Value::as_integer).and_then(|n| u64::try_from(n).ok());
    let text = |key: &str| policy.field(key).and_then(Value::as_str);
    if queue.queue_type == QueueType::Stream {
        // Of a stream's limits the policy's count, and of its other settings none can be changed.
        settings.max_length_bytes = count("max-length-bytes").or(settings.max_length_bytes);
        settings.max_age_ms = text("max-age").and_then(age_ms).or(settings.max_age_ms);
        let age = |key: &str| text(key).and_then(age_ms);
        settings.publisher_expires_ms = age("stream-publisher-expires").or(settings.publisher_expires_ms);
        settings.offset_expires_ms = age("stream-offset-expires").or(settings.offset_expires_ms);
        return settings;
    }
    let is_declared = |argument: &str| queue.arguments.field(argument).is_some();
    settings.message_ttl_ms = least(settings.message_ttl_ms, count("message-ttl"));
    settings.expires_ms = least(settings.expires_ms, count("expires"));
    settings.max_length = least(settings.max_length, count("max-length"));
    settings.max_length_bytes = least(settings.max_length_bytes, count("max-length-bytes"));
    settings.consumer_timeout_ms = least_timeout(settings.consumer_timeout_ms, count("consumer-timeout"));
    let delivery_limit = count("delivery-limit").map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    settings.delivery_limit = least(settings.delivery_limit, delivery_limit);
    if let Some(overflow) = text("overflow").and_then(Overflow::named)
        && (queue.queue_type == QueueType::Quorum || !is_declared("x-overflow"))
    {
        settings.overflow = overflow;
    }
    if settings.dead_letter_exchange.is_none() {
        settings.dead_letter_exchange = text("dead-letter-exchange").map(Into::into);
    }
    if settings.dead_letter_routing_key.is_none() {
        settings.dead_letter_routing_key = text("dead-letter-routing-key").map(Into::into);
    }
    if let Some(strategy) = text("dead-letter-strategy").and_then(DeadLetterStrategy::named)
        && !is_declared("x-dead-letter-strategy")
    {
        settings.dead_letter_strategy = strategy;
    }
    settings
}

/// Where an exchange's unroutable messages go: its argument counts before the policy.
pub(in crate::broker) fn alternate_exchange(declared: Option<Name>, policy: &FieldTable) -> Option<Name> {
    let by_policy = || policy.field("alternate-exchange").and_then(Value::as_str).map(Into::into);
    declared.or_else(by_policy)
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The lower time; 0, which is none, only where no other is set.
fn least_timeout(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    let set = |timeout: Option<u64>| timeout.filter(|ms| *ms > 0);
    least(set(a), set(b)).or(a).or(b)
}
