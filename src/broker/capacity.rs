//! Whether one more queue, exchange or binding fits: what the configuration allows, and what the vhost's own limits do; and how
//! long names may be.

use super::BrokerLimits;
use super::error::BrokerError;
use super::vhost_settings::{VhostSettings, reached};
use crate::message::Name;

/// How many there are already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) in_vhost: usize,
    pub(super) in_all: usize,
}

/// Refuses one more queue where there are as many as there may be.
pub(super) fn check_queue(
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
pub(super) fn check_exchange(
    limits: &BrokerLimits,
    (vhost, name): (&Name, &str),
    counts: Counts,
) -> Result<(), BrokerError> {
    let what = || format!("exchange '{name}'");
    check_vhost(limits.exchanges_per_vhost_max, counts.in_vhost, "exchange", vhost, what)?;
    check_all(limits.exchanges_max, counts.in_all, "exchange", what)
}

/// Refuses one more binding of an exchange that has as many as it may have.
pub(super) fn check_binding(
    limits: &BrokerLimits,
    (vhost, source): (&Name, &str),
    of_exchange: usize,
) -> Result<(), BrokerError> {
    let what = || format!("binding from exchange '{source}'");
    check_vhost(limits.bindings_per_exchange_max, of_exchange, "binding", vhost, what)
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
pub(super) fn check_length(what: &str, name: &str) -> Result<(), BrokerError> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let text = format!("{what} should be less than {NAME_BYTES_MAX} bytes, actually was {}\n", name.len());
    Err(BrokerError::Precondition(text))
}
