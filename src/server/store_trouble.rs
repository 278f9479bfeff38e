//! What follows when the store fails, or is out of something.

use crate::broker::Broker;
use crate::broker::alarms::Alarm;
use crate::net::Shutdown;
use crate::store::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Begins the shutdown when the store has failed.
pub(super) fn on_failure(
    failed: Arc<AtomicBool>,
    shutdown: Shutdown,
) -> impl FnOnce(StoreError) + Send + 'static {
    move |error| {
        tracing::error!("{error}: nothing can be confirmed any more, the broker stops");
        failed.store(true, Ordering::Release);
        shutdown.begin();
    }
}

/// Raises and clears the alarm for a store that is out of room or descriptors.
pub(super) fn on_shortage(broker: Arc<Broker>) -> impl FnMut(Option<StoreError>) + Send + 'static {
    move |shortage| match shortage {
        Some(error) => {
            broker.raise_alarm(Alarm::Store);
            tracing::error!("{error}. Publishers are blocked and nothing is confirmed until that has passed");
        }
        None => {
            broker.clear_alarm(Alarm::Store);
            tracing::info!("the store can write again, publishers go on");
        }
    }
}
