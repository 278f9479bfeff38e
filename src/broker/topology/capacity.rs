//! Whether one more queue, exchange or binding fits: what the configuration allows, and what the vhost's own limits do; and how
//! long names may be.

use super::vhost_settings::{VhostSettings, reached};
use crate::broker::error::{BrokerError, Resource, ResourceKind};
use crate::broker::exchange::ExchangeDefinition;
use crate::broker::queue::{QueueDeclaration, QueueHandle};
use crate::broker::{BrokerLimits, VirtualHost};
use crate::message::{FieldTable, Name};

/// How many there are already.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Counts {
    pub(in crate::broker) in_vhost: usize,
    pub(in crate::broker) in_all: usize,
}

/// Refuses one more queue where there are as many as there may be.
pub(in crate::broker) fn check_queue(
    limits: &BrokerLimits,
    settings: &VhostSettings,
    (vhost, name): (&Name, &str),
    counts: Counts,
) -> Result<(), BrokerError> {
    let what = || format!("queue '{name}'");
    if let Some(max) = reached(settings.limits.max_queues, counts.in_vhost) {
        let max = usize::try_from(max).unwrap_or_default();
        return Err(BrokerError::LimitReached { what: what(), limit: "queue", vhost: vhost.clone(), max });
    }
    check_vhost(limits.queues_per_vhost_max, counts.in_vhost, "queue", vhost, what)?;
    check_all(limits.queues_max, counts.in_all, "queue", what)
}

/// Refuses one more exchange where there are as many as there may be.
pub(in crate::broker) fn check_exchange(
    limits: &BrokerLimits,
    (vhost, name): (&Name, &str),
    counts: Counts,
) -> Result<(), BrokerError> {
    let what = || format!("exchange '{name}'");
    check_vhost(limits.exchanges_per_vhost_max, counts.in_vhost, "exchange", vhost, what)?;
    check_all(limits.exchanges_max, counts.in_all, "exchange", what)
}

/// Refuses one more binding of an exchange that has as many as it may have.
pub(in crate::broker) fn check_binding(
    limits: &BrokerLimits,
    (vhost, source): (&Name, &str),
    of_exchange: usize,
) -> Result<(), BrokerError> {
    let what = || format!("binding from exchange '{source}'");
    check_vhost(limits.bindings_per_exchange_max, of_exchange, "binding", vhost, what)
}

/// Refuses a table of arguments that is larger than one may be, with the setting that says so.
pub(in crate::broker) fn check_arguments(
    limits: &BrokerLimits,
    of: impl FnOnce() -> String,
    arguments: &FieldTable,
) -> Result<(), BrokerError> {
    let checked = limits.arguments.check(arguments);
    checked.map_err(|excess| BrokerError::ArgumentsTooLarge { of: of(), excess })
}

pub(in crate::broker) fn check_exchange_arguments(
    limits: &BrokerLimits,
    definition: &ExchangeDefinition,
) -> Result<(), BrokerError> {
    check_arguments(limits, || definition.resource().to_string(), &definition.arguments.decode())
}

pub(in crate::broker) fn check_queue_arguments(
    limits: &BrokerLimits,
    vhost: &Name,
    declaration: &QueueDeclaration,
) -> Result<(), BrokerError> {
    let of = || Resource::queue(vhost, &declaration.name).to_string();
    check_arguments(limits, of, &declaration.arguments)
}

impl VirtualHost {
    /// Checks how large the arguments of a consumer are.
    ///
    /// # Errors
    /// When they are larger than they may be, with the setting that says so.
    pub fn check_consumer_arguments(
        &self,
        queue: &QueueHandle,
        arguments: &FieldTable,
    ) -> Result<(), BrokerError> {
        let of = || format!("a consumer of {}", queue.definition().resource());
        check_arguments(&self.shared().limits, of, arguments)
    }
}

fn check_vhost(
    max: usize,
    count: usize,
    limit: &'static str,
    vhost: &Name,
    what: impl Fn() -> String,
) -> Result<(), BrokerError> {
    if max == 0 || count < max {
        return Ok(());
    }
    Err(BrokerError::LimitReached { what: what(), limit, vhost: vhost.clone(), max })
}

fn check_all(
    max: usize,
    count: usize,
    limit: &'static str,
    what: impl Fn() -> String,
) -> Result<(), BrokerError> {
    if max == 0 || count < max {
        return Ok(());
    }
    Err(BrokerError::BrokerLimitReached { what: what(), limit, max })
}

/// The longest name that a method of AMQP can hold.
const NAME_BYTES_MAX: usize = 255;

/// Refuses a name that no client could say. Over AMQP there is none.
pub(in crate::broker) fn check_length(kind: ResourceKind, name: &str) -> Result<(), BrokerError> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(BrokerError::NameTooLong { kind, bytes: name.len(), max: NAME_BYTES_MAX })
}
