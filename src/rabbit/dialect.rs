//! How a broker speaks that is to be taken for RabbitMQ.

use super::modules::module;
use super::term;
use super::unsupported::Reported;
use crate::broker::dialect::Dialect;
use crate::broker::error::Resource;
use crate::broker::queue::QueueType;
use crate::message::{FieldTable, Value};

/// RabbitMQ's words, and which of the arguments without effect were reported.
#[derive(Debug, Default)]
pub struct RabbitDialect {
    reported: Reported,
}

impl Dialect for RabbitDialect {
    fn arguments(&self, arguments: &FieldTable) -> Value {
        term::arguments(arguments)
    }

    fn queue_type(&self, queue_type: QueueType) -> Value {
        Value::from(module(queue_type))
    }

    fn declared(&self, resource: &Resource, arguments: &FieldTable) {
        self.reported.report(arguments, || resource.to_string());
    }
}
