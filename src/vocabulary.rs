//! Words that several layers use: each is one type, which configuration, store and broker share.

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
}

impl QueueType {
    /// All of them, each with its name.
    pub const NAMES: &[(&'static str, QueueType)] =
        &[("classic", QueueType::Classic), ("quorum", QueueType::Quorum)];

    /// The type as arguments name it.
    pub fn name(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<QueueType> {
        QueueType::NAMES.iter().find(|(other, _)| *other == name).map(|(_, queue_type)| *queue_type)
    }
}
