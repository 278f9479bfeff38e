//! A queue's arguments: which there are for its type, what they may be, and when two declarations mean the same queue.

use super::{DeadLetterStrategy, Overflow, QueueSettings, QueueType, age_ms};
use crate::broker::error::{ArgumentFault, BrokerError, Difference, Resource};
use crate::message::{FieldTable, Value};

/// Ten years in milliseconds: RabbitMQ's limit for times.
const TIME_MAX_MS: i64 = 315_360_000_000;

/// What fits a short string.
const SHORT_STR_BYTES_MAX: usize = 255;

/// The arguments that are compared when a queue is declared again, by type, in this order. Others are ignored.
fn known(queue_type: QueueType) -> &'static [&'static str] {
    match queue_type {
        QueueType::Classic => &[
            "x-expires",
            "x-message-ttl",
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-priority",
            "x-overflow",
            "x-queue-mode",
            "x-queue-version",
            "x-single-active-consumer",
            "x-queue-type",
            "x-queue-master-locator",
            "x-queue-leader-locator",
            "x-consumer-timeout",
        ],
        QueueType::Quorum => &[
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-dead-letter-strategy",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-in-memory-length",
            "x-max-in-memory-bytes",
            "x-overflow",
            "x-single-active-consumer",
            "x-queue-type",
            "x-quorum-initial-group-size",
            "x-delivery-limit",
            "x-message-ttl",
            "x-queue-leader-locator",
            "x-consumer-timeout",
        ],
        QueueType::Stream => &[
            "x-max-length-bytes",
            "x-queue-type",
            "x-max-age",
            "x-stream-max-segment-size-bytes",
            "x-stream-filter-size-bytes",
            "x-stream-publisher-expires",
            "x-stream-offset-expires",
            "x-initial-cluster-size",
            "x-queue-leader-locator",
        ],
    }
}

/// What a queue's arguments say.
pub(super) struct Recognised {
    pub(super) max_priority: Option<u8>,
    pub(super) single_active_consumer: bool,
    /// Of a stream: see [`super::QueueDefinition::segment_bytes`].
    pub(super) segment_bytes: Option<u64>,
    /// What policies can change.
    pub(super) settings: QueueSettings,
}

/// Arguments that belong to some type of queue, and so are refused on another.
const OF_SOME_TYPE: &[&str] = &[
    "x-message-ttl",
    "x-expires",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-overflow",
    "x-single-active-consumer",
    "x-consumer-timeout",
    "x-max-priority",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-dead-letter-strategy",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-queue-leader-locator",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-publisher-expires",
    "x-stream-offset-expires",
    "x-initial-cluster-size",
];

/// Arguments that are ages.
const AGES: [&str; 3] = ["x-max-age", "x-stream-publisher-expires", "x-stream-offset-expires"];

/// The largest segment of a stream, in bytes.
const SEGMENT_BYTES_MAX: u64 = 3_000_000_000;

/// The filter of a chunk, in bytes.
const FILTER_BYTES: std::ops::RangeInclusive<i64> = 16..=255;

/// Reads the type of queue that is asked for.
fn queue_type(arguments: &FieldTable, resource: &Resource) -> Result<QueueType, BrokerError> {
    let Some(value) = arguments.field("x-queue-type") else { return Ok(QueueType::Classic) };
    match value.as_str() {
        Some("classic") => Ok(QueueType::Classic),
        Some("quorum") => Ok(QueueType::Quorum),
        Some("stream") => Ok(QueueType::Stream),
        Some(other) => Err(invalid("x-queue-type", resource, ArgumentFault::UnknownWord(other.to_owned()))),
        None => Err(invalid("x-queue-type", resource, ArgumentFault::WrongType(value.type_name()))),
    }
}

/// Reads the type, and the arguments that a queue of it recognises, in the order in which RabbitMQ looks at them, since only
/// the first fault is reported.
pub(super) fn recognised(
    arguments: &FieldTable,
    resource: &Resource,
    priority_max: u8,
) -> Result<(QueueType, Recognised), BrokerError> {
    let dead_letter_exchange = exchange(arguments, "x-dead-letter-exchange", resource)?;
    let queue_type = queue_type(arguments, resource)?;
    let read = ArgumentReader { arguments, resource, known: known(queue_type) };
    let mut settings = QueueSettings {
        expires_ms: read.time("x-expires", 1)?,
        message_ttl_ms: read.time("x-message-ttl", 0)?,
        dead_letter_routing_key: read.short_text("x-dead-letter-routing-key")?.map(|key| key.as_str().into()),
        ..QueueSettings::default()
    };
    if settings.dead_letter_routing_key.is_some() && dead_letter_exchange.is_none() {
        return Err(invalid("x-dead-letter-routing-key", resource, ArgumentFault::NoDeadLetterExchange));
    }
    settings = QueueSettings {
        dead_letter_exchange: dead_letter_exchange.map(Into::into),
        dead_letter_strategy: read.dead_letter_strategy()?,
        max_length: read.count("x-max-length")?,
        max_length_bytes: read.count("x-max-length-bytes")?,
        ..settings
    };
    // Accepted for what they mean elsewhere.
    for accepted in ["x-max-in-memory-length", "x-max-in-memory-bytes"] {
        read.count(accepted)?;
    }
    let max_priority = read.max_priority(queue_type, priority_max)?;
    settings.overflow = read.overflow()?;
    read.mode_and_version()?;
    let single_active_consumer = read.flag("x-single-active-consumer")?;
    read.positive("x-quorum-initial-group-size")?;
    read.positive("x-initial-cluster-size")?;
    read.one_of("x-queue-leader-locator", locators(queue_type))?;
    settings.max_age_ms = read.age("x-max-age")?;
    settings.publisher_expires_ms = read.age("x-stream-publisher-expires")?;
    settings.offset_expires_ms = read.age("x-stream-offset-expires")?;
    let segment_bytes = read.count("x-stream-max-segment-size-bytes")?;
    read.integer("x-stream-filter-size-bytes")?;
    settings.delivery_limit = read.delivery_limit()?;
    settings.consumer_timeout_ms = read.count("x-consumer-timeout")?;
    read.nothing_of_other_types(queue_type)?;
    let segment_bytes = segment_bytes.filter(|bytes| *bytes > 0);
    Ok((queue_type, Recognised { max_priority, single_active_consumer, segment_bytes, settings }))
}

/// What x-queue-leader-locator may say. Of a stream RabbitMQ takes older words, too.
fn locators(queue_type: QueueType) -> &'static [&'static str] {
    match queue_type {
        QueueType::Classic | QueueType::Quorum => &["client-local", "balanced"],
        QueueType::Stream => &["client-local", "balanced", "least-leaders", "random", "min-masters"],
    }
}

/// What RabbitMQ looks at last when a stream is declared.
pub(super) fn check_stream_sizes(arguments: &FieldTable, resource: &Resource) -> Result<(), BrokerError> {
    let number = |name: &str| arguments.field(name).and_then(Value::as_integer);
    let segment = number("x-stream-max-segment-size-bytes").and_then(|bytes| u64::try_from(bytes).ok());
    if segment.is_some_and(|bytes| bytes > SEGMENT_BYTES_MAX) {
        let fault = ArgumentFault::AboveMax(SEGMENT_BYTES_MAX);
        return Err(invalid("x-stream-max-segment-size-bytes", resource, fault));
    }
    if let Some(bytes) = number("x-stream-filter-size-bytes").filter(|bytes| !FILTER_BYTES.contains(bytes)) {
        let fault = ArgumentFault::UnknownNumber(u64::try_from(bytes).unwrap_or(0));
        return Err(invalid("x-stream-filter-size-bytes", resource, fault));
    }
    Ok(())
}

/// Checks that a redeclaration's arguments mean the same queue.
pub(super) fn check_equivalent(
    queue_type: QueueType,
    current: &FieldTable,
    received: &FieldTable,
    resource: &Resource,
) -> Result<(), BrokerError> {
    for name in known(queue_type) {
        let (old, new) = (in_equal_form(name, current), in_equal_form(name, received));
        let (old, new) = (old.as_ref(), new.as_ref());
        let same = match (old, new) {
            (None, None) => true,
            (Some(old), Some(new)) => same_value(old, new),
            (Some(value), None) | (None, Some(value)) => {
                *name == "x-queue-type" && value.as_str() == Some("classic")
            }
        };
        if !same {
            // A queue without a type is a classic one, and called so.
            let classic = Value::from("classic");
            let is_type = *name == "x-queue-type";
            let named = |value: Option<_>| if is_type { value.or(Some(&classic)) } else { value };
            return Err(inequivalent(name, named(old), named(new), resource));
        }
    }
    Ok(())
}

/// A value as it is compared and printed: an age in milliseconds.
fn in_equal_form(name: &str, arguments: &FieldTable) -> Option<Value> {
    let value = arguments.field(name)?;
    let age_ms = value.as_str().filter(|_| AGES.contains(&name)).and_then(age_ms);
    Some(age_ms.map_or_else(|| value.clone(), |ms| Value::from(ms.to_string().as_str())))
}

/// The error for one argument that differs.
pub(crate) fn inequivalent(
    name: &str,
    current: Option<&Value>,
    received: Option<&Value>,
    resource: &Resource,
) -> BrokerError {
    let difference = Box::new(Difference { current: current.cloned(), received: received.cloned() });
    BrokerError::Inequivalent { argument: name.to_owned(), resource: resource.clone(), difference }
}

/// Whether two values are equal to RabbitMQ: integers by number, whatever their width.
pub(crate) fn same_value(a: &Value, b: &Value) -> bool {
    match (a.as_integer(), b.as_integer()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn invalid(argument: &str, resource: &Resource, fault: ArgumentFault) -> BrokerError {
    BrokerError::InvalidArgument { argument: argument.to_owned(), resource: resource.clone(), fault }
}

/// Where dead letters go. RabbitMQ refuses this one with another error, and looks at it before anything else.
fn exchange(
    arguments: &FieldTable,
    name: &'static str,
    resource: &Resource,
) -> Result<Option<String>, BrokerError> {
    let Some(value) = arguments.field(name) else { return Ok(None) };
    match value.as_str() {
        Some(text) => fitting(name, text.to_owned(), resource).map(Some),
        None => Err(BrokerError::ArgumentNoName {
            argument: name,
            resource: resource.clone(),
            given: value.type_name(),
        }),
    }
}

/// The text, if it fits a short string, since messages will bear it.
fn fitting(name: &str, text: String, resource: &Resource) -> Result<String, BrokerError> {
    if text.len() > SHORT_STR_BYTES_MAX {
        let fault = ArgumentFault::TooLong { bytes: text.len(), max: SHORT_STR_BYTES_MAX };
        return Err(invalid(name, resource, fault));
    }
    Ok(text)
}

struct ArgumentReader<'a> {
    arguments: &'a FieldTable,
    resource: &'a Resource,
    known: &'static [&'static str],
}

impl ArgumentReader<'_> {
    /// An argument, but for one that the type does not know: that one is reported last.
    fn field(&self, name: &str) -> Option<&Value> {
        if self.known.contains(&name) { self.arguments.field(name) } else { None }
    }

    fn nothing_of_other_types(&self, queue_type: QueueType) -> Result<(), BrokerError> {
        for (name, _) in self.arguments.iter() {
            let name = name.to_string();
            if OF_SOME_TYPE.contains(&name.as_str()) && !self.known.contains(&name.as_str()) {
                return Err(BrokerError::ArgumentOfOtherType {
                    argument: name,
                    resource: self.resource.clone(),
                    queue_type,
                });
            }
        }
        Ok(())
    }

    /// Where a classic queue keeps its messages, and in which format: only checked.
    fn mode_and_version(&self) -> Result<(), BrokerError> {
        if let Some(mode) = self.text("x-queue-mode")?.filter(|mode| mode != "default" && mode != "lazy") {
            return Err(invalid("x-queue-mode", self.resource, ArgumentFault::UnknownWord(mode)));
        }
        if let Some(version) = self.count("x-queue-version")?.filter(|version| !matches!(version, 1 | 2)) {
            return Err(invalid("x-queue-version", self.resource, ArgumentFault::UnknownNumber(version)));
        }
        Ok(())
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, BrokerError> {
        let Some(value) = self.field(name) else { return Ok(None) };
        match value.as_integer() {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(name, self.resource, ArgumentFault::NoInteger(value.type_name()))),
        }
    }

    fn count(&self, name: &str) -> Result<Option<u64>, BrokerError> {
        match self.integer(name)? {
            None => Ok(None),
            Some(number) => match u64::try_from(number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(invalid(name, self.resource, ArgumentFault::Negative(number))),
            },
        }
    }

    fn positive(&self, name: &str) -> Result<Option<u64>, BrokerError> {
        match self.count(name)? {
            Some(0) => Err(invalid(name, self.resource, ArgumentFault::Zero)),
            count => Ok(count),
        }
    }

    fn short_text(&self, name: &str) -> Result<Option<String>, BrokerError> {
        self.text(name)?.map(|text| fitting(name, text, self.resource)).transpose()
    }

    fn time(&self, name: &str, least: i64) -> Result<Option<u64>, BrokerError> {
        match self.integer(name)? {
            Some(number) if number > TIME_MAX_MS => {
                Err(invalid(name, self.resource, ArgumentFault::TooLarge(number)))
            }
            Some(0) if least > 0 => Err(invalid(name, self.resource, ArgumentFault::Zero)),
            _ => self.count(name),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, BrokerError> {
        let Some(value) = self.field(name) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(invalid(name, self.resource, ArgumentFault::WrongType(value.type_name()))),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, BrokerError> {
        match self.field(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(invalid(name, self.resource, ArgumentFault::WrongType(value.type_name()))),
        }
    }

    fn age(&self, name: &str) -> Result<Option<u64>, BrokerError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match age_ms(&text) {
            Some(age_ms) => Ok(Some(age_ms)),
            None => Err(invalid(name, self.resource, ArgumentFault::UnknownWord(text))),
        }
    }

    fn one_of(&self, name: &str, allowed: &[&str]) -> Result<Option<String>, BrokerError> {
        match self.text(name)? {
            Some(text) if !allowed.contains(&text.as_str()) => {
                Err(invalid(name, self.resource, ArgumentFault::UnknownWord(text)))
            }
            text => Ok(text),
        }
    }

    fn overflow(&self) -> Result<Overflow, BrokerError> {
        let text = self.one_of("x-overflow", &Overflow::NAMES)?;
        Ok(text.as_deref().and_then(Overflow::named).unwrap_or_default())
    }

    fn max_priority(&self, queue_type: QueueType, max: u8) -> Result<Option<u8>, BrokerError> {
        if queue_type == QueueType::Quorum {
            return Ok(Some(super::definition::QUORUM_PRIORITY_MAX));
        }
        let Some(number) = self.count("x-max-priority")? else { return Ok(None) };
        match u8::try_from(number) {
            Ok(priority) if priority <= max => Ok(Some(priority)),
            _ => Err(invalid("x-max-priority", self.resource, ArgumentFault::AboveMax(number))),
        }
    }

    fn dead_letter_strategy(&self) -> Result<DeadLetterStrategy, BrokerError> {
        let names = &DeadLetterStrategy::NAMES;
        let text = self.one_of("x-dead-letter-strategy", names)?;
        Ok(text.as_deref().and_then(DeadLetterStrategy::named).unwrap_or_default())
    }

    fn delivery_limit(&self) -> Result<Option<u32>, BrokerError> {
        // A negative limit is none.
        Ok(self.integer("x-delivery-limit")?.and_then(|limit| u32::try_from(limit).ok()))
    }
}
