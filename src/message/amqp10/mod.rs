//! Messages of AMQP 1.0, as those who speak the stream protocol publish and read them, and the two ways between them and messages of
//! AMQP 0-9-1.
//!
//! A message of 1.0 is a row of *sections*, each a described value: `0x00`, a descriptor that says which section it is, and a list, a map or
//! bytes. What a publisher of the stream protocol sends is kept as it came, and so is what a publisher of 0-9-1 sends: each is
//! converted only for those who read it at the other door, so that nothing is lost for those who read it at the same one. How fields
//! correspond is RabbitMQ's way: that of its version 4 is written, and that of version 3 is read, too.

mod from_091;
mod to_091;
mod types;

pub use from_091::encode;
pub use to_091::to_091;

/// Why an entry can't be read as a message of AMQP 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The bytes end before a value does.
    #[error("it ends before a value does")]
    Truncated,
    /// There are no sections.
    #[error("it is empty")]
    Empty,
    /// Something else than a section of a message.
    #[error("at byte {at} there is no section of a message")]
    NotASection {
        /// Bytes before it.
        at: usize,
    },
    /// A section that does not have the type that it has to have.
    #[error("the section {section:#04x} is not of its type")]
    WrongSection {
        /// The section's descriptor.
        section: u8,
    },
    /// A type that AMQP 1.0 does not have.
    #[error("there is no type {0:#04x}")]
    UnknownType(u8),
    /// A map with a key that has no value, or a list with fewer elements than it says.
    #[error("a list or map has not as many elements as it says")]
    WrongCount,
    /// Lists and maps nested deeper than is read.
    #[error("values are nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// More values than are read.
    #[error("it has more than {VALUES_MAX} values besides its body")]
    TooMany,
}

/// How deep lists and maps may be nested.
const DEPTH_MAX: usize = 32;

/// How many values the properties and annotations of a message may have. A value takes 80 bytes when it is decoded, and one byte or
/// none when it is encoded.
const VALUES_MAX: usize = 1 << 16;

/// Descriptors of sections (AMQP 1.0 section 3.2).
mod section {
    pub(super) const HEADER: u8 = 0x70;
    pub(super) const DELIVERY_ANNOTATIONS: u8 = 0x71;
    pub(super) const MESSAGE_ANNOTATIONS: u8 = 0x72;
    pub(super) const PROPERTIES: u8 = 0x73;
    pub(super) const APPLICATION_PROPERTIES: u8 = 0x74;
    pub(super) const DATA: u8 = 0x75;
    pub(super) const SEQUENCE: u8 = 0x76;
    pub(super) const VALUE: u8 = 0x77;
    pub(super) const FOOTER: u8 = 0x78;
}

/// What a message's `type` is whose body is no data, but values of AMQP 1.0 in their encoding.
const TYPE_OF_VALUES: &str = "amqp-1.0";

/// Annotations that say what 0-9-1 has and 1.0 does not; and those that version 3 of RabbitMQ wrote.
mod annotation {
    pub(super) const EXCHANGE: &str = "x-exchange";
    pub(super) const ROUTING_KEY: &str = "x-routing-key";
    pub(super) const COPIES: &str = "x-cc";
    pub(super) const TYPE: &str = "x-basic-type";
    pub(super) const PRIORITY: &str = "x-basic-priority";
    pub(super) const EXPIRATION: &str = "x-basic-expiration";
    pub(super) const DELIVERY_MODE: &str = "x-basic-delivery-mode";
    pub(super) const APP_ID: &str = "x-basic-app-id";
    pub(super) const DEATHS: &str = "x-death";
    pub(super) const BASIC: &str = "x-basic-";
}

/// Which way a name of queues is written in a reply address.
const QUEUES: &str = "/queues/";

#[cfg(test)]
mod tests;
