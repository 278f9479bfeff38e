//! How many things a vhost may have, and how long their names may be.

use crate::broker::error::BrokerError;
use crate::broker::vhost::VirtualHost;
use crate::broker::vhost_settings::reached;

impl VirtualHost {
    pub(super) fn check_queue_limits(&self, name: &str) -> Result<(), BrokerError> {
        let count = self.queue_count();
        if let Some(max) = reached(self.settings().limits.max_queues, count) {
            let max = usize::try_from(max).unwrap_or_default();
            let what = format!("queue '{name}'");
            return Err(BrokerError::LimitReached { what, limit: "queue", vhost: self.name().clone(), max });
        }
        self.check_limit(self.shared().limits.queues_per_vhost_max, count, "queue", name)?;
        self.shared().check_queue_limit(name)
    }

    pub(super) fn check_limit(
        &self,
        max: usize,
        count: usize,
        limit: &'static str,
        name: &str,
    ) -> Result<(), BrokerError> {
        if max == 0 || count < max {
            return Ok(());
        }
        let what = match limit {
            "binding" => format!("binding from exchange '{name}'"),
            kind => format!("{kind} '{name}'"),
        };
        Err(BrokerError::LimitReached { what, limit, vhost: self.name().clone(), max })
    }
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
