//! What is declared, and how it is kept: vhosts, exchanges, queues and bindings, and the parameters and users that operators set.

pub mod administration;
pub(in crate::broker) mod capacity;
mod declare;
pub mod definitions;
mod existing;
pub mod parameters;
pub mod rehearsal;
pub mod super_streams;
pub(in crate::broker) mod unreadable;
pub mod vhost_settings;

pub(in crate::broker) use declare::Topology;
pub(crate) use declare::{RESERVED_PREFIX, without_line_ends};
