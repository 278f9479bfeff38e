//! A binding: the edge from an exchange to a queue or to another exchange.

use crate::message::{EncodedTable, Name, ShortStr};

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// To a queue, by name.
    Queue(Name),
    /// To another exchange, by name.
    Exchange(Name),
}

/// One binding. Two are the same when all of destination, key and arguments are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange that the binding starts from.
    pub source: Name,
    /// The queue or exchange that it leads to.
    pub destination: Destination,
    /// The binding key; what it means is up to the exchange's type.
    pub routing_key: ShortStr,
    /// Arguments, such as the headers to match.
    pub arguments: EncodedTable,
}
