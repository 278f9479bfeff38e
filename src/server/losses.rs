//! What was lost of a data directory: kept in it until it is acknowledged, and said in the log.

use crate::broker::Broker;
use crate::broker::observe::losses::in_words;
use crate::config::{Config, Engine};
use crate::store;

/// Has the broker tell of what earlier starts found as well, and keeps what this one did.
pub(super) fn take_over(broker: &Broker, config: &Config) -> std::io::Result<()> {
    if config.store.engine == Engine::Memory {
        return Ok(());
    }
    let new = broker.losses().list();
    let earlier = store::read_losses(&config.data_dir)?;
    let directory = config.data_dir.clone();
    broker.losses().add_earlier(earlier, Box::new(move || store::keep_losses(&directory, &[])));
    for note in &new {
        tracing::error!("in the data directory {}: {}", config.data_dir.display(), in_words(note));
    }
    if new.is_empty() {
        let count = broker.losses().count();
        if count > 0 {
            tracing::warn!(
                "{count} losses of earlier starts are not acknowledged: `leveret ctl losses` shows them"
            );
        }
        return Ok(());
    }
    if let Err(error) = store::keep_losses(&config.data_dir, &broker.losses().list()) {
        tracing::error!("what is lost is told until the broker stops, since it can't be kept: {error}");
    }
    Ok(())
}
