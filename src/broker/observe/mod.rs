//! What can be seen of a running broker: counters and rates, lengths over time, connections, messages that are browsed, losses, and
//! the events and the trace that are published as messages.

pub mod browse;
pub mod connections;
pub mod events;
pub mod lengths;
pub mod losses;
pub mod stats;
pub mod trace;
