//! What the core refuses, and why, as values. Each edge maps it once to its protocol's codes; what clients read of it is written by
//! `src/rabbit/error.rs` alone.

use crate::message::{Name, TableTooLarge, Value};
use crate::pattern::{PatternError, Undecided};
use crate::vocabulary::{Access, QueueType};
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
#[derive(Clone, Debug, PartialEq)]
pub enum BrokerError {
    /// A queue or exchange is not there.
    NotFound(Resource),
    /// Part of what is to be made is there already.
    AlreadyThere(Resource),
    /// A redeclaration differs from what exists.
    Inequivalent {
        /// The property or argument that differs.
        argument: String,
        /// The queue or exchange that was declared again.
        resource: Resource,
        /// Both values.
        difference: Box<Difference>,
    },
    /// An argument of a declaration can't be used.
    InvalidArgument {
        /// The argument's name.
        argument: String,
        /// The queue or exchange that was declared.
        resource: Resource,
        /// Why not.
        fault: ArgumentFault,
    },
    /// An argument that this type of queue does not have.
    ArgumentOfOtherType {
        /// The argument's name.
        argument: String,
        /// The queue or exchange that was declared.
        resource: Resource,
        /// The type.
        queue_type: QueueType,
    },
    /// An argument that has to name an exchange, and is no text.
    ArgumentNoName {
        /// The argument's name.
        argument: &'static str,
        /// The queue or exchange that was declared.
        resource: Resource,
        /// The type of the value that was given.
        given: &'static str,
    },
    /// All arguments together are larger than they may be.
    ArgumentsTooLarge {
        /// What has them.
        of: String,
        /// The limit that they exceed.
        excess: TableTooLarge,
    },
    /// A property that this type of queue can't have.
    InvalidProperty {
        /// The property that the type can't have.
        property: &'static str,
        /// The queue or exchange that was declared.
        resource: Resource,
    },
    /// An exchange's type refuses its arguments, or those of a binding.
    Refused(Refusal),
    /// An exclusive queue of another connection.
    Locked(Resource),
    /// basic.get from a quorum queue with a single active consumer.
    GetFromSingleActive(Resource),
    /// Something that is not done with a stream.
    OfStream(StreamRefusal, Resource),
    /// A consumer wants the queue for itself, or another one has it.
    ExclusiveUse(Resource),
    /// Deletion with if-unused.
    InUse(Resource),
    /// Deletion with if-empty.
    NotEmpty(Resource),
    /// A name that only the broker gives.
    ReservedName {
        /// What was to be declared.
        kind: ResourceKind,
        /// Its name.
        name: Name,
    },
    /// A name that no method of AMQP can hold.
    NameTooLong {
        /// What was to be declared.
        kind: ResourceKind,
        /// How long its name is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// Something that is not done to the default exchange.
    DefaultExchange,
    /// Deletion of an exchange that every vhost has.
    SystemExchange(Resource),
    /// A client published to an internal exchange.
    InternalExchange(Resource),
    /// No such type is registered.
    UnknownExchangeType(String),
    /// A vhost or an exchange has as many of these as it may have.
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
    VhostLimitReached {
        /// The vhost that was to be made.
        name: Name,
        /// How many there may be.
        max: usize,
    },
    /// The broker has as many queues or exchanges, in all its vhosts together, as it may have.
    BrokerLimitReached {
        /// What was to be declared, such as `queue 'q'`.
        what: String,
        /// What is limited, such as `vhosts`.
        limit: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A limit refuses one more connection or channel, or the vhost may not be opened at all.
    NotAllowed(NotAllowed),
    /// A user that is not there.
    NoSuchUser(Name),
    /// A vhost that is not there, or is being deleted.
    NoSuchVhost(Name),
    /// A permission's pattern is none.
    Pattern(PatternError),
    /// What an edge refuses in its own words.
    Precondition(String),
    /// A policy or a parameter can't be so: every fault in a line, by the edge that read it.
    ValidationFailed(String),
    /// A policy's pattern takes too many steps to decide on an object's name.
    PolicyUndecided {
        /// The pattern and the name.
        undecided: Undecided,
        /// What has the name.
        kind: ResourceKind,
    },
    /// Permissions do not allow it.
    AccessRefused {
        /// What was to be done.
        access: Access,
        /// To what.
        resource: Resource,
        /// By which user.
        user: Name,
    },
    /// Permissions do not allow this topic of an exchange.
    TopicRefused {
        /// What was to be done.
        access: Access,
        /// The topic.
        topic: String,
        /// The exchange.
        exchange: Name,
        /// Its vhost.
        vhost: Name,
        /// By which user.
        user: Name,
    },
    /// The store failed; nothing durable can be changed any more.
    Store(String),
}

impl From<PatternError> for BrokerError {
    fn from(error: PatternError) -> BrokerError {
        BrokerError::Pattern(error)
    }
}

/// What a property or an argument is, and what a redeclaration says it is; `None` is not given.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// By the declaration that came first.
    pub current: Option<Value>,
    /// By the one that came now.
    pub received: Option<Value>,
}

/// Why a type of exchange refuses an exchange's or a binding's arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// In the type's own words.
    Because(String),
    /// A value that it can't use.
    Value {
        /// What is wrong, before the value.
        fault: String,
        /// The value.
        value: Value,
        /// What was expected, behind it.
        wanted: &'static str,
    },
}

/// What is not done with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRefusal {
    /// basic.get: a stream is consumed.
    Get,
    /// queue.purge: what is in it goes by its retention.
    Purge,
    /// A consumer without a prefetch count.
    NoPrefetchCount,
    /// A consumer that does not acknowledge.
    NoAcknowledgement,
}

/// Why an argument can't be used.
#[derive(Clone, Debug, PartialEq)]
pub enum ArgumentFault {
    /// It is to be a whole number, and has this type.
    NoInteger(&'static str),
    /// Its type, which this is, is not the argument's.
    WrongType(&'static str),
    /// A number below zero.
    Negative(i64),
    /// Zero, where that means nothing.
    Zero,
    /// A time that is longer than any may be.
    TooLarge(i64),
    /// A number above the greatest that is configured.
    AboveMax(u64),
    /// A number that stands for nothing.
    UnknownNumber(u64),
    /// A word that stands for nothing.
    UnknownWord(String),
    /// A text with this many bytes, more than a message could bear.
    TooLong {
        /// Bytes of the text.
        bytes: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// A value that stands for nothing, of one of several types.
    UnknownValue(Value),
    /// It is not there, and another argument needs it.
    Missing,
    /// A routing key for dead letters, which have no exchange to go to.
    NoDeadLetterExchange,
}

/// Why a connection or a channel is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// The user has no permission in the vhost.
    Vhost {
        /// The vhost.
        vhost: Name,
        /// The user.
        user: Name,
    },
    /// The vhost has as many connections as it may have.
    VhostConnections {
        /// The vhost.
        vhost: Name,
        /// The user.
        user: Name,
        /// How many there may be.
        limit: i64,
    },
    /// The user has as many connections as they may have.
    UserConnections {
        /// The user.
        user: Name,
        /// How many there may be.
        limit: i64,
    },
    /// The vhost was deleted meanwhile.
    VhostGone(Name),
    /// The user was deleted meanwhile.
    UserGone(Name),
    /// The broker has as many channels as it may have.
    Channels(u64),
    /// The user has as many channels as they may have.
    UserChannels {
        /// The user.
        user: Name,
        /// How many there may be.
        limit: i64,
    },
}
