//! A queue under policies: what is in force of them, and what a change of that does to the messages that are there.

use super::Queue;
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::policy::{self, Applied};
use crate::broker::queue::QueueSettings;
use crate::broker::turn::Turn;
use crate::steps;
use std::sync::Arc;

/// Messages that are given another time to expire at between two looks at what the turn has taken.
const EXPIRED_ANEW_AT_ONCE: usize = 1024;

/// What it takes to give a message another time to expire at, in steps.
const EXPIRE_ANEW_STEPS: usize = 4;

impl Queue {
    /// What is in force of arguments and policies.
    pub(in crate::broker::queue) fn settings(&self) -> &Arc<QueueSettings> {
        &self.settings
    }

    /// The policies that apply.
    pub(in crate::broker::queue) fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Follows these policies from now on, and no others. What they change counts for messages that are there already. False when
    /// it followed just these.
    pub(in crate::broker::queue) fn apply(&mut self, applied: Applied, turn: &mut Turn) -> bool {
        if applied.is(&self.applied) || self.closed {
            return false;
        }
        let settings = policy::settings(&self.definition, &applied.definition());
        self.applied = applied;
        let before = std::mem::replace(&mut self.settings, Arc::new(settings));
        if before.message_ttl_ms != self.settings.message_ttl_ms {
            self.ready.expire_anew();
            self.go_on_expiring_anew(turn);
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
        true
    }

    /// Gives messages that were there before the time to live changed another time to expire at, for as long as the turn lasts.
    pub(super) fn go_on_expiring_anew(&mut self, turn: &mut Turn) {
        while self.ready.is_expiring_anew() && !turn.is_spent() {
            let settings = self.settings.clone();
            let expires_at = |entry: &Entry| settings.expires_at(&entry.message, entry.enqueued_at);
            let count = self.ready.go_on_expiring_anew(steps::at_once(EXPIRED_ANEW_AT_ONCE), expires_at);
            turn.spend(EXPIRE_ANEW_STEPS * count);
        }
        if self.ready.is_expiring_anew() {
            self.is_behind = true;
        }
    }
}
