//! Words that several layers use: each is one type, which configuration, store and broker share.

use std::fmt;

/// What "durable" means: what a confirm promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// `fsync`: on the disk itself; survives the loss of power.
    #[default]
    Fsync,
    /// `write`: handed to the operating system; survives the end of the process, not of the machine.
    Write,
    /// `none`: somewhere in memory; survives an orderly stop only.
    None,
}

/// A type of queue, as `x-queue-type` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueType {
    /// `classic`: RabbitMQ's default.
    Classic,
    /// `quorum`: on one node, a durable queue that counts deliveries.
    Quorum,
    /// `stream`: keeps what it is given, and is read from any offset on.
    Stream,
}

impl QueueType {
    /// All of them, each with its name.
    pub const NAMES: &[(&'static str, QueueType)] =
        &[("classic", QueueType::Classic), ("quorum", QueueType::Quorum), ("stream", QueueType::Stream)];

    /// The type as arguments name it.
    pub fn name(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
            QueueType::Stream => "stream",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<QueueType> {
        QueueType::NAMES.iter().find(|(other, _)| *other == name).map(|(_, queue_type)| *queue_type)
    }
}

/// How a password is digested; what is harder to guess from is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashingAlgorithm {
    /// MD5, which old exports have.
    Md5,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
    /// Argon2id (RFC 9106), which RabbitMQ does not know.
    Argon2id,
}

impl HashingAlgorithm {
    /// All of them; the first is the default.
    pub const ALL: [HashingAlgorithm; 4] = [
        HashingAlgorithm::Sha256,
        HashingAlgorithm::Sha512,
        HashingAlgorithm::Md5,
        HashingAlgorithm::Argon2id,
    ];

    /// RabbitMQ's name for it, or ours where it has none.
    pub fn name(self) -> &'static str {
        match self {
            HashingAlgorithm::Sha256 => "rabbit_password_hashing_sha256",
            HashingAlgorithm::Sha512 => "rabbit_password_hashing_sha512",
            HashingAlgorithm::Md5 => "rabbit_password_hashing_md5",
            HashingAlgorithm::Argon2id => "leveret_password_hashing_argon2id",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<HashingAlgorithm> {
        HashingAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationType {
    /// `queue`
    Queue,
    /// `exchange`
    Exchange,
}

impl DestinationType {
    /// Both, each with its name.
    pub const NAMES: &[(&'static str, DestinationType)] =
        &[("queue", DestinationType::Queue), ("exchange", DestinationType::Exchange)];

    /// The type as RabbitMQ names it.
    pub fn name(self) -> &'static str {
        match self {
            DestinationType::Queue => "queue",
            DestinationType::Exchange => "exchange",
        }
    }
}

/// What is done to a queue or an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Make it, delete it.
    Configure,
    /// Publish to an exchange, bind a queue.
    Write,
    /// Consume from and purge a queue, bind to an exchange.
    Read,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Configure => "configure",
            Access::Write => "write",
            Access::Read => "read",
        })
    }
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyTo {
    /// `all`: queues and exchanges.
    All,
    /// `exchanges`, of all types.
    Exchanges,
    /// Queues of all types.
    Queues,
    /// `classic_queues`.
    ClassicQueues,
    /// `quorum_queues`.
    QuorumQueues,
    /// `streams`.
    Streams,
}

impl ApplyTo {
    /// All of them, each with its word.
    pub const NAMES: &[(&'static str, ApplyTo)] = &[
        ("queues", ApplyTo::Queues),
        ("classic_queues", ApplyTo::ClassicQueues),
        ("quorum_queues", ApplyTo::QuorumQueues),
        ("streams", ApplyTo::Streams),
        ("exchanges", ApplyTo::Exchanges),
        ("all", ApplyTo::All),
    ];

    /// The word as policies have it.
    pub fn name(self) -> &'static str {
        ApplyTo::NAMES.iter().find(|(_, word)| *word == self).map_or("all", |(name, _)| *name)
    }

    /// What the word stands for.
    pub fn named(name: &str) -> Option<ApplyTo> {
        ApplyTo::NAMES.iter().find(|(word, _)| *word == name).map(|(_, found)| *found)
    }
}
