//! A queue under policies: what is in force of them, and what a change of that does to the messages that are there.

use super::Queue;
use crate::broker::delivery::Outgoing;
use crate::broker::policy::{self, Applied};
use crate::broker::queue::QueueSettings;
use crate::broker::turn::Turn;
use std::sync::Arc;

impl Queue {
    /// What is in force of arguments and policies.
    pub(in crate::broker::queue) fn settings(&self) -> &Arc<QueueSettings> {
        &self.settings
    }

    /// The policies that apply.
    pub(in crate::broker::queue) fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Follows these policies from now on, and no others. What they change counts for messages that are there already.
    pub(in crate::broker::queue) fn apply(&mut self, applied: Applied, turn: &mut Turn) {
        if applied.is(&self.applied) || self.closed {
            return;
        }
        let settings = policy::settings(&self.definition, &applied.definition());
        self.applied = applied;
        let before = std::mem::replace(&mut self.settings, Arc::new(settings));
        if before.message_ttl_ms != self.settings.message_ttl_ms {
            let settings = self.settings.clone();
            self.ready.expire_anew(|entry| settings.expires_at(&entry.message, entry.enqueued_at));
        }
        if before.expires_ms != self.settings.expires_ms {
            // Its declaration could not show that the queue would be missed.
            self.last_used = turn.now;
        }
        if before.consumer_timeout_ms != self.settings.consumer_timeout_ms {
            for (consumer, _) in self.consumers.iter() {
                consumer
                    .outbox
                    .open(consumer.link)
                    .push_back(Outgoing::TimeoutChanged { link: consumer.link });
                turn.wake(&consumer.outbox);
            }
        }
        self.drop_expired(turn);
        self.drop_head(turn);
        self.dispatch(turn);
    }
}
