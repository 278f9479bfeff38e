//! What the core leaves to those who speak for it: how events write values, and what is said of declarations.

use super::error::Resource;
use crate::message::{FieldTable, Value};
use crate::vocabulary::QueueType;
use std::fmt::Debug;

/// The words of a broker, set once with [`super::Broker::set_dialect`]. The core calls it while it holds locks, so nothing here
/// calls the core.
pub trait Dialect: Debug + Send + Sync {
    /// A table of arguments, as events have it.
    fn arguments(&self, arguments: &FieldTable) -> Value;

    /// A type of queue, as events have it.
    fn queue_type(&self, queue_type: QueueType) -> Value;

    /// A queue or an exchange was declared with these arguments.
    fn declared(&self, resource: &Resource, arguments: &FieldTable);
}

/// AMQP's own words.
#[derive(Debug)]
pub(super) struct Plain;

impl Dialect for Plain {
    fn arguments(&self, arguments: &FieldTable) -> Value {
        Value::Table(arguments.clone())
    }

    fn queue_type(&self, queue_type: QueueType) -> Value {
        Value::from(queue_type.name())
    }

    fn declared(&self, _resource: &Resource, _arguments: &FieldTable) {}
}
