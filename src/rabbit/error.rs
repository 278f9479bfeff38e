//! What clients and applications read when the core refuses something: RabbitMQ's texts, which programs compare.

use super::modules::module;
use super::term::term;
use crate::broker::BrokerError;
use crate::broker::error::{ArgumentFault, Difference, NotAllowed, StreamRefusal};
use crate::broker::exchange::Refusal;
use crate::message::Value;
use std::error::Error;
use std::fmt::{Display, Formatter, Result};

impl Error for BrokerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BrokerError::Pattern(error) => Some(error),
            _ => None,
        }
    }
}

impl Display for BrokerError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            BrokerError::NotFound(resource) => write!(f, "no {resource}"),
            BrokerError::Inequivalent { .. }
            | BrokerError::InvalidArgument { .. }
            | BrokerError::ArgumentOfOtherType { .. }
            | BrokerError::ArgumentNoName { .. }
            | BrokerError::ArgumentsTooLarge { .. }
            | BrokerError::InvalidProperty { .. }
            | BrokerError::Refused(_)
            | BrokerError::NameTooLong { .. } => declaration(self, f),
            BrokerError::LimitReached { .. }
            | BrokerError::VhostLimitReached { .. }
            | BrokerError::BrokerLimitReached { .. } => limit(self, f),
            BrokerError::Locked(resource) => write!(
                f,
                "cannot obtain exclusive access to locked {resource}. It could be originally declared on another connection or \
                 the exclusive property value does not match that of the original declaration."
            ),
            BrokerError::GetFromSingleActive(resource) => write!(
                f,
                "cannot obtain access to locked {resource}. basic.get operations are not supported by quorum queues with single \
                 active consumer"
            ),
            BrokerError::OfStream(refusal, resource) => match refusal {
                StreamRefusal::Get => write!(f, "basic.get not supported by stream queues {resource}"),
                StreamRefusal::Purge => write!(f, "queue.purge not supported by stream queues {resource}"),
                StreamRefusal::NoPrefetchCount => {
                    write!(f, "consumer prefetch count is not set for stream {resource}")
                }
                StreamRefusal::NoAcknowledgement => {
                    write!(f, "automatic acknowledgement not supported by stream {resource}")
                }
            },
            BrokerError::ExclusiveUse(resource) => write!(f, "{resource} in exclusive use"),
            BrokerError::InUse(resource) => write!(f, "{resource} in use"),
            BrokerError::AlreadyThere(resource) => write!(f, "{resource} already exists"),
            BrokerError::NotEmpty(resource) => write!(f, "{resource} not empty"),
            BrokerError::ReservedName { kind, name } => {
                write!(f, "{kind} name '{name}' contains reserved prefix 'amq.*'")
            }
            BrokerError::DefaultExchange => f.write_str("operation not permitted on the default exchange"),
            BrokerError::SystemExchange(resource) => write!(f, "deletion of system {resource} not allowed"),
            BrokerError::InternalExchange(resource) => write!(f, "cannot publish to internal {resource}"),
            BrokerError::UnknownExchangeType(kind) => {
                let which = if kind.is_empty() { "invalid" } else { "unknown" };
                write!(f, "{which} exchange type '{kind}'")
            }
            BrokerError::NotAllowed(why) => why.fmt(f),
            BrokerError::NoSuchUser(name) => write!(f, "user '{name}' does not exist"),
            BrokerError::NoSuchVhost(name) => write!(f, "vhost '{name}' does not exist"),
            BrokerError::Pattern(error) => {
                write!(f, "{:?} is no regular expression: {}", error.pattern, error.reason)
            }
            BrokerError::Precondition(text) | BrokerError::Store(text) => f.write_str(text),
            BrokerError::ValidationFailed(faults) => write!(f, "Validation failed\n\n{faults}\n"),
            BrokerError::PolicyUndecided { undecided, kind } => {
                write!(f, "Validation failed\n\n{undecided} ({kind})\n")
            }
            BrokerError::AccessRefused { access, resource, user } => {
                write!(f, "{access} access to {resource} refused for user '{user}'")
            }
            BrokerError::TopicRefused { access, topic, exchange, vhost, user } => write!(
                f,
                "{access} access to topic '{topic}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'"
            ),
        }
    }
}

/// What is wrong with a declaration.
fn declaration(error: &BrokerError, f: &mut Formatter<'_>) -> Result {
    match error {
        BrokerError::Inequivalent { argument, resource, difference } => {
            write!(f, "inequivalent arg '{argument}' for {resource}: {difference}")
        }
        // RabbitMQ names no queue here.
        BrokerError::InvalidArgument { argument, fault: ArgumentFault::AboveMax(_), .. }
            if argument == "x-stream-max-segment-size-bytes" =>
        {
            write!(f, "Exceeded max value for {argument}")
        }
        BrokerError::InvalidArgument { argument, fault: ArgumentFault::UnknownNumber(_), .. }
            if argument == "x-stream-filter-size-bytes" =>
        {
            write!(f, "Invalid value for {argument}")
        }
        BrokerError::InvalidArgument { argument, resource, fault } => {
            write!(f, "invalid arg '{argument}' for {resource}: ")?;
            argument_fault(argument, fault, f)
        }
        BrokerError::ArgumentOfOtherType { argument, resource, queue_type } => {
            write!(f, "invalid arg '{argument}' for {resource} of queue type {}", module(*queue_type))
        }
        BrokerError::ArgumentNoName { argument, resource, given } => {
            write!(f, "invalid type '{given}' for arg '{argument}' in {resource}")
        }
        BrokerError::ArgumentsTooLarge { of, excess } => write!(f, "the arguments of {of} have {excess}"),
        BrokerError::InvalidProperty { property, resource } => {
            write!(f, "invalid property '{property}' for {resource}")
        }
        BrokerError::Refused(refusal) => refusal.fmt(f),
        BrokerError::NameTooLong { kind, bytes, max } => {
            writeln!(f, "{kind} should be less than {max} bytes, actually was {bytes}")
        }
        _ => Ok(()),
    }
}

/// What there are enough of.
fn limit(error: &BrokerError, f: &mut Formatter<'_>) -> Result {
    match error {
        BrokerError::LimitReached { what, limit, vhost, max } => {
            write!(f, "cannot declare {what}: {limit} limit in vhost '{vhost}' ({max}) is reached")
        }
        BrokerError::VhostLimitReached { name, max } => {
            write!(f, "cannot create vhost '{name}': vhost limit of {max} is reached")
        }
        BrokerError::BrokerLimitReached { what, limit, max } => {
            write!(f, "cannot declare {what}: {limit} limit in cluster ({max}) is reached")
        }
        _ => Ok(()),
    }
}

/// RabbitMQ prints reasons as Erlang's terms: `{value_negative,-1}`.
fn argument_fault(argument: &str, fault: &ArgumentFault, f: &mut Formatter<'_>) -> Result {
    match fault {
        ArgumentFault::NoInteger(given) => write!(f, "\"expected integer, got {given}\""),
        ArgumentFault::WrongType(given) => write!(f, "{{unacceptable_type,{given}}}"),
        ArgumentFault::Negative(number) => write!(f, "{{value_negative,{number}}}"),
        ArgumentFault::Zero => f.write_str("{value_zero,0}"),
        ArgumentFault::TooLarge(number) => write!(f, "{{value_too_large,{number}}}"),
        ArgumentFault::AboveMax(number) => write!(f, "{{max_value_exceeded,{number}}}"),
        ArgumentFault::UnknownNumber(number) => {
            write!(f, "\"unsupported {} '{number}'\"", what_it_says(argument))
        }
        ArgumentFault::UnknownWord(word) => match argument {
            "x-overflow" => f.write_str("invalid_overflow"),
            "x-dead-letter-strategy" => f.write_str("invalid_dlx_strategy"),
            "x-queue-leader-locator" => f.write_str("invalid_queue_locator_arg"),
            "x-max-age" => f.write_str("invalid_max_age"),
            _ => write!(f, "\"unsupported {} '{word}'\"", what_it_says(argument)),
        },
        ArgumentFault::TooLong { bytes, max } => write!(f, "\"{bytes} bytes where {max} are the most\""),
        ArgumentFault::UnknownValue(value) => {
            write!(f, "{{invalid_stream_offset_arg,{{{},{}}}}}", value.type_name(), term(value))
        }
        ArgumentFault::Missing => {
            f.write_str("\"it is needed here; a consumer tag of the client's own serves as well\"")
        }
        ArgumentFault::NoDeadLetterExchange => f.write_str("routing_key_but_no_dlx_defined"),
    }
}

/// `queue mode`, of `x-queue-mode`.
fn what_it_says(argument: &str) -> String {
    argument.trim_start_matches("x-").replace('-', " ")
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (&self.received, &self.current) {
            (Some(received), Some(current)) => {
                write!(f, "received '{}' but current is '{}'", printed(received), printed(current))
            }
            (None, Some(current)) => write!(
                f,
                "received none but current is the value '{}' of type '{}'",
                printed(current),
                current.type_name()
            ),
            (Some(received), None) => write!(
                f,
                "received the value '{}' of type '{}' but current is none",
                printed(received),
                received.type_name()
            ),
            (None, None) => f.write_str("received none but current is none"),
        }
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::LongStr(bytes) | Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => term(other),
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Refusal::Because(text) => f.write_str(text),
            Refusal::Value { fault, value, wanted } => write!(f, "{fault}{}{wanted}", term(value)),
        }
    }
}

impl Display for NotAllowed {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            NotAllowed::Vhost { vhost, user } => {
                write!(f, "access to vhost '{vhost}' refused for user '{user}'")
            }
            NotAllowed::VhostConnections { vhost, user, limit } => write!(
                f,
                "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
            ),
            NotAllowed::UserConnections { user, limit } => {
                write!(f, "connection refused for user '{user}': user connection limit ({limit}) is reached")
            }
            NotAllowed::VhostGone(vhost) => write!(f, "vhost {vhost} not found"),
            NotAllowed::UserGone(user) => write!(f, "user '{user}' is deleted"),
            NotAllowed::Channels(max) => write!(
                f,
                "number of channels opened on the broker has reached the maximum allowed limit of ({max})"
            ),
            NotAllowed::UserChannels { user, limit } => write!(
                f,
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of {limit}"
            ),
        }
    }
}
