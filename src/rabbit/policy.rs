//! What a policy may say. The words of refusals are RabbitMQ's, for tools show them; values stand in them as Erlang prints
//! what came as JSON.

use super::term::json_term;
use super::unsupported;
use crate::broker::BrokerError;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};
use crate::broker::queue::{DeadLetterStrategy, Overflow};
use crate::message::{FieldTable, Value};
use crate::pattern::Pattern;

/// What a key's value has to be.
#[derive(Clone, Copy)]
enum Kind {
    /// A whole number that is not negative.
    Count,
    /// A whole number above zero.
    Positive,
    /// One from here to there.
    Between(i64, i64),
    /// Any whole number, also a negative one.
    Whole,
    /// A text that fits a short string: messages will bear it.
    ShortText,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A number and its unit: `7D`.
    Age,
}

const LOCATORS: &[&str] = &["client-local", "balanced"];
const MASTER_LOCATORS: &[&str] = &["min-masters", "client-local", "random"];

/// The keys of policies, by name, with what RabbitMQ calls the value.
const KEYS: &[(&str, Kind, &str)] = &[
    ("alternate-exchange", Kind::ShortText, "alternate exchange name"),
    ("consumer-timeout", Kind::Count, "consumer timeout"),
    ("dead-letter-exchange", Kind::ShortText, "dead letter exchange name"),
    ("dead-letter-routing-key", Kind::ShortText, "dead letter routing key"),
    ("dead-letter-strategy", Kind::OneOf(&DeadLetterStrategy::NAMES), "dead letter strategy"),
    ("delivery-limit", Kind::Whole, "delivery limit"),
    ("expires", Kind::Positive, "queue expiry"),
    ("federation-upstream", Kind::ShortText, "federation upstream name"),
    ("federation-upstream-pattern", Kind::ShortText, "federation upstream pattern name"),
    ("federation-upstream-set", Kind::ShortText, "federation upstream set name"),
    ("initial-cluster-size", Kind::Count, "cluster size"),
    ("max-age", Kind::Age, "max age"),
    ("max-in-memory-bytes", Kind::Count, "maximum memory in bytes"),
    ("max-in-memory-length", Kind::Count, "maximum memory in bytes"),
    ("max-length", Kind::Count, "maximum length"),
    ("max-length-bytes", Kind::Count, "maximum length in bytes"),
    ("message-ttl", Kind::Count, "message TTL"),
    ("overflow", Kind::OneOf(&Overflow::NAMES), "overflow value"),
    ("queue-leader-locator", Kind::OneOf(LOCATORS), "queue leader locator value"),
    ("queue-mode", Kind::OneOf(&["default", "lazy"]), "queue-mode value"),
    ("queue-version", Kind::Between(1, 2), "queue-version value"),
    ("stream-filter-size-bytes", Kind::Between(16, 255), "stream filter size"),
    ("stream-max-segment-size-bytes", Kind::Between(0, 3_000_000_000), "segment size"),
    ("stream-offset-expires", Kind::Age, "expiry of offsets"),
    ("stream-publisher-expires", Kind::Age, "expiry of publishers"),
    ("target-group-size", Kind::Positive, "target group size"),
];

/// What a policy may set.
pub fn setting_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, ..)| *name)
}

/// The keys of operator policies.
const OPERATOR_KEYS: &[&str] = &[
    "delayed-retry-max",
    "delayed-retry-min",
    "delayed-retry-type",
    "delivery-limit",
    "expires",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "max-length",
    "max-length-bytes",
    "message-ttl",
    "overflow",
    "queue-version",
    "target-group-size",
];

/// Keys that name other brokers. They are taken, so that definitions with them can be imported, and nothing is fetched.
const UPSTREAMS: &[&str] = &["federation-upstream", "federation-upstream-pattern", "federation-upstream-set"];

/// Reads a policy from the fields `pattern`, `definition`, `priority` and `apply-to`, of which the last two may be missing. Others are
/// passed over.
///
/// # Errors
/// [`BrokerError::ValidationFailed`], with all that is wrong, each in a line.
pub fn parse(kind: PolicyKind, name: &str, fields: &FieldTable) -> Result<Policy, BrokerError> {
    let definition = fields.field("definition").unwrap_or(&Value::Void);
    let pattern = fields.field("pattern").unwrap_or(&Value::Void);
    let checks = [
        check_definition(kind, definition),
        fields.field("apply-to").map_or(Ok(()), check_apply_to),
        check_pattern(pattern),
        fields.field("priority").map_or(Ok(()), check_priority),
    ];
    let faults: Vec<String> = checks.into_iter().filter_map(Result::err).collect();
    match Policy::read(name, fields) {
        Some(policy) if faults.is_empty() => Ok(policy),
        _ => Err(BrokerError::ValidationFailed(faults.join("\n"))),
    }
}

fn check_priority(value: &Value) -> Result<(), String> {
    match value {
        Value::F64(_) => Ok(()),
        value if value.as_integer().is_some() => Ok(()),
        value => Err(format!("priority should be a number, actually was {}", json_term(value))),
    }
}

fn check_pattern(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else {
        return Err(format!("pattern should be a binary but was {}", json_term(value)));
    };
    Pattern::new(text)
        .map(|_| ())
        .map_err(|error| format!("pattern should be regular expression but is invalid: {error}"))
}

fn check_apply_to(value: &Value) -> Result<(), String> {
    value.as_str().and_then(ApplyTo::named).map(|_| ()).ok_or_else(|| {
        let printed = value.as_str().map_or_else(|| json_term(value), str::to_owned);
        let words: Vec<_> = ApplyTo::NAMES.iter().map(|(name, _)| format!("'{name}'")).collect();
        let (last, others) = words.split_last().expect("there are several");
        format!("apply-to '{printed}' unrecognised; should be {} or {last}", others.join(", "))
    })
}

fn check_definition(kind: PolicyKind, value: &Value) -> Result<(), String> {
    let Value::Table(definition) = value else {
        return Err(format!("definition must be a dictionary: {}", json_term(value)));
    };
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let mut definition = definition.clone();
    // The first fault is reported, by key.
    definition.sort();
    let mut unknown = Vec::new();
    check_mirrors(&definition)?;
    if kind == PolicyKind::Policy {
        check_upstreams(&definition)?;
    }
    for (key, value) in definition.iter() {
        let key = key.to_string();
        let known = kind == PolicyKind::Policy || OPERATOR_KEYS.contains(&key.as_str());
        match KEYS.iter().find(|(name, ..)| *name == key).filter(|_| known) {
            Some((_, kind, what)) if !is_valid(*kind, value) => {
                return Err(format!("{} is not a valid {what}", json_term(value)));
            }
            Some(_) => {}
            None if known && key == "queue-master-locator" => {
                if !is_valid(Kind::OneOf(MASTER_LOCATORS), value) {
                    return Err(format!("{} invalid queue-master-locator value", json_term(value)));
                }
            }
            // As RabbitMQ 3.13 exports them, of operator policies too.
            None if is_of_mirrors(&key) || known && unsupported::is_policy_key(&key) => {}
            None => {
                unknown.push(format!("{{{},{}}}", json_term(&Value::from(key.as_str())), json_term(value)))
            }
        }
    }
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(format!("[{}] are not recognised policy settings", unknown.join(",")))
    }
}

fn is_valid(kind: Kind, value: &Value) -> bool {
    let number = value.as_integer();
    let text = value.as_str();
    match kind {
        Kind::Count => number.is_some_and(|number| number >= 0),
        Kind::Positive => number.is_some_and(|number| number > 0),
        Kind::Between(low, high) => number.is_some_and(|number| (low..=high).contains(&number)),
        Kind::Whole => number.is_some(),
        Kind::ShortText => text.is_some_and(|text| text.len() <= 255),
        Kind::OneOf(words) => text.is_some_and(|text| words.contains(&text)),
        Kind::Age => text.is_some_and(|text| {
            let number = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        }),
    }
}

/// Keys of mirrored classic queues: they are taken as RabbitMQ takes them, and there is nothing to mirror to.
fn is_of_mirrors(key: &str) -> bool {
    matches!(
        key,
        "ha-mode"
            | "ha-params"
            | "ha-sync-mode"
            | "ha-sync-batch-size"
            | "ha-promote-on-shutdown"
            | "ha-promote-on-failure"
    )
}

fn check_mirrors(definition: &FieldTable) -> Result<(), String> {
    let Some(mode) = definition.field("ha-mode") else {
        return match definition.iter().any(|(key, _)| is_of_mirrors(&key.to_string())) {
            true => {
                Err("ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown"
                    .to_owned())
            }
            false => Ok(()),
        };
    };
    let params = definition.field("ha-params");
    let given = || params.map_or_else(|| "none".to_owned(), json_term);
    match (mode.as_str(), params) {
        (Some("all"), None) | (Some("nodes"), Some(Value::Array(_))) => {}
        (Some("exactly"), Some(count)) if count.as_integer().is_some_and(|count| count > 0) => {}
        (Some("all"), Some(_)) => return Err("ha-mode=\"all\" does not take parameters".to_owned()),
        (Some("nodes"), _) => return Err(format!("ha-mode=\"nodes\" takes a list, {} given", given())),
        (Some("exactly"), _) => {
            return Err(format!("ha-mode=\"exactly\" takes an integer, {} given", given()));
        }
        _ => return Err(format!("{} is not a valid ha-mode value", json_term(mode))),
    }
    let batch = definition.field("ha-sync-batch-size");
    if let Some(size) = batch.filter(|size| size.as_integer().is_none_or(|size| size <= 0)) {
        return Err(format!("ha-sync-batch-size takes an integer greater than 0, {} given", json_term(size)));
    }
    let choices = [
        ("ha-sync-mode", ["manual", "automatic"]),
        ("ha-promote-on-shutdown", ["always", "when-synced"]),
        ("ha-promote-on-failure", ["always", "when-synced"]),
    ];
    for (key, words) in choices {
        if let Some(value) = definition.field(key)
            && !value.as_str().is_some_and(|word| words.contains(&word))
        {
            let [one, other] = words;
            return Err(format!("{key} must be \"{one}\" or \"{other}\", got {}", json_term(value)));
        }
    }
    Ok(())
}

fn check_upstreams(definition: &FieldTable) -> Result<(), String> {
    let set = UPSTREAMS.iter().filter(|key| definition.field(key).is_some()).count();
    if set > 1 {
        let text = "cannot specify federation-upstream, federation-upstream-set or federation-upstream-pattern together";
        return Err(text.to_owned());
    }
    match definition.field("federation-upstream-pattern").and_then(Value::as_str) {
        Some(text) => Pattern::new(text).map(|_| ()).map_err(|error| {
            format!("could not compile pattern {text} to a regular expression. Error: {error}")
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
