//! What the core refuses, in its own terms. Each edge maps it once to its protocol's codes.
//!
//! The texts are RabbitMQ's: clients and applications compare them.

use crate::message::Name;
use crate::pattern::PatternError;
use std::fmt;

/// A queue or an exchange, as error texts name it: `queue 'q' in vhost '/'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Whether it is a queue or an exchange.
    pub kind: ResourceKind,
    /// Its name, empty for the default exchange.
    pub name: Name,
    /// The vhost it is in.
    pub vhost: Name,
}

/// What kind of thing a [`Resource`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

impl Resource {
    /// A queue of that name, for an error's text.
    pub fn queue(vhost: &Name, name: &str) -> Resource {
        Resource { kind: ResourceKind::Queue, name: name.into(), vhost: vhost.clone() }
    }

    /// An exchange of that name, for an error's text.
    pub fn exchange(vhost: &Name, name: &str) -> Resource {
        Resource { kind: ResourceKind::Exchange, name: name.into(), vhost: vhost.clone() }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResourceKind::Queue => "queue",
            ResourceKind::Exchange => "exchange",
        })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' in vhost '{}'", self.kind, self.name, self.vhost)
    }
}

/// Why the core did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// A queue or exchange is not there.
    #[error("no {0}")]
    NotFound(Resource),
    /// A redeclaration differs from what exists.
    #[error("inequivalent arg '{argument}' for {resource}: {difference}")]
    Inequivalent {
        /// The property or argument that differs.
        argument: String,
        /// The queue or exchange that was declared again.
        resource: Resource,
        /// Both values, in words.
        difference: String,
    },
    /// An argument of a declaration can't be used.
    #[error("invalid arg '{argument}' for {resource}: {reason}")]
    InvalidArgument {
        /// The argument's name.
        argument: String,
        /// The queue or exchange that was declared.
        resource: Resource,
        /// Why not, as RabbitMQ prints it.
        reason: String,
    },
    /// An argument that this type of queue does not have.
    #[error("invalid arg '{argument}' for {resource} of queue type {module}")]
    ArgumentOfOtherType {
        /// The argument's name.
        argument: String,
        /// The queue or exchange that was declared.
        resource: Resource,
        /// RabbitMQ's module for the type.
        module: &'static str,
    },
    /// A property that this type of queue can't have.
    #[error("invalid property '{property}' for {resource}")]
    InvalidProperty {
        /// The property that the type can't have.
        property: &'static str,
        /// The queue or exchange that was declared.
        resource: Resource,
    },
    /// An exclusive queue of another connection.
    #[error(
        "cannot obtain exclusive access to locked {0}. It could be originally declared on another connection or the \
         exclusive property value does not match that of the original declaration."
    )]
    Locked(Resource),
    /// basic.get from a quorum queue with a single active consumer.
    #[error(
        "cannot obtain access to locked {0}. basic.get operations are not supported by quorum queues with single active \
         consumer"
    )]
    GetFromSingleActive(Resource),
    /// A consumer wants the queue for itself, or another one has it.
    #[error("{0} in exclusive use")]
    ExclusiveUse(Resource),
    /// Deletion with if-unused.
    #[error("{0} in use")]
    InUse(Resource),
    /// Deletion with if-empty.
    #[error("{0} not empty")]
    NotEmpty(Resource),
    /// A name that only the broker gives.
    #[error("{kind} name '{name}' contains reserved prefix 'amq.*'")]
    ReservedName {
        /// What was to be declared.
        kind: ResourceKind,
        /// Its name.
        name: Name,
    },
    /// Something that is not done to the default exchange.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// Deletion of an exchange that every vhost has.
    #[error("deletion of system {0} not allowed")]
    SystemExchange(Resource),
    /// A client published to an internal exchange.
    #[error("cannot publish to internal {0}")]
    InternalExchange(Resource),
    /// No such type is registered.
    #[error("{which} exchange type '{0}'", which = unknown_or_invalid(.0))]
    UnknownExchangeType(String),
    /// A vhost or an exchange has as many of these as it may have.
    #[error("cannot declare {what}: {limit} limit in vhost '{vhost}' ({max}) is reached")]
    LimitReached {
        /// What was to be declared, such as `queue 'q'`.
        what: String,
        /// What is limited, such as `queues`.
        limit: &'static str,
        /// The vhost.
        vhost: Name,
        /// How many there may be.
        max: usize,
    },
    /// The broker has as many vhosts as it may have.
    #[error("cannot create vhost '{name}': vhost limit of {max} is reached")]
    VhostLimitReached {
        /// The vhost that was to be made.
        name: Name,
        /// How many there may be.
        max: usize,
    },
    /// The broker has as many queues or exchanges, in all its vhosts together, as it may have.
    #[error("cannot declare {what}: {limit} limit in cluster ({max}) is reached")]
    BrokerLimitReached {
        /// What was to be declared, such as `queue 'q'`.
        what: String,
        /// What is limited, such as `vhosts`.
        limit: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A limit refuses one more connection or channel, or the vhost may not be opened at all.
    #[error("{0}")]
    NotAllowed(String),
    /// A user that is not there.
    #[error("user '{0}' does not exist")]
    NoSuchUser(Name),
    /// A vhost that is not there, or is being deleted.
    #[error("vhost '{0}' does not exist")]
    NoSuchVhost(Name),
    /// A permission's pattern is none.
    #[error("{pattern:?} is no regular expression: {reason}", pattern = .0.pattern, reason = .0.reason)]
    Pattern(#[from] PatternError),
    /// Anything else about a request that can't be: the text says what.
    #[error("{0}")]
    Precondition(String),
    /// A policy or a parameter can't be so: every fault in a line, in RabbitMQ's words.
    #[error("Validation failed\n\n{0}\n")]
    ValidationFailed(String),
    /// Permissions do not allow it.
    #[error("{0}")]
    AccessRefused(String),
    /// What RabbitMQ does not do either.
    #[error("{0}")]
    NotImplemented(String),
    /// The store failed; nothing durable can be changed any more.
    #[error("{0}")]
    Store(String),
}

/// What RabbitMQ calls a type of exchange that there is not.
fn unknown_or_invalid(kind: &str) -> &'static str {
    if kind.is_empty() { "invalid" } else { "unknown" }
}
