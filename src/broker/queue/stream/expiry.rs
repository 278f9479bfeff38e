//! Names that nobody uses any more are forgotten, so that those who choose a new one at each start don't fill a stream's notes.

use super::{State, Stream};
use crate::broker::turn::Turn;
use crate::message::{Millis, NEVER};
use crate::store::stream::TrackingChange;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a name is remembered where nothing else is said: a week, as in Kafka.
const EXPIRES_MS: u64 = 7 * 86_400_000;

/// Names are looked through no more often.
const LOOK_EVERY_MS: u64 = 1000;

impl State {
    fn publisher_expires_ms(&self) -> u64 {
        self.settings.publisher_expires_ms.unwrap_or(EXPIRES_MS)
    }

    fn offset_expires_ms(&self) -> u64 {
        self.settings.offset_expires_ms.unwrap_or(EXPIRES_MS)
    }

    /// No name is forgotten earlier than that after it was used.
    pub(super) fn shortest_expiry_ms(&self) -> u64 {
        self.publisher_expires_ms().min(self.offset_expires_ms())
    }

    /// The changes that forget what has expired, and when the next of the others may.
    fn expired(&self, now: Millis) -> (Vec<TrackingChange>, Millis) {
        let (publishers, offsets) = (self.publisher_expires_ms(), self.offset_expires_ms());
        let used: BTreeSet<&str> = self.readers.iter().filter_map(|reader| reader.name()).collect();
        let (mut changes, mut next) = (Vec::new(), NEVER);
        for (name, sequence) in self.tracking.publishers() {
            match sequence.at.saturating_add(publishers) {
                at if at <= now && !self.tracking.is_staged(name) => {
                    changes.push(TrackingChange::PublisherForgotten(name.clone()));
                }
                at => next = next.min(at),
            }
        }
        for (name, committed) in self.tracking.all() {
            match committed.at.saturating_add(offsets) {
                // While a consumer is there that has nothing to acknowledge, its name is in use.
                _ if used.contains(&**name) => next = next.min(now.saturating_add(offsets)),
                at if at <= now => changes.push(TrackingChange::Forgotten(name.clone())),
                at => next = next.min(at),
            }
        }
        (changes, next.max(now + LOOK_EVERY_MS))
    }
}

impl Stream {
    /// Forgets the names that nobody has used for as long as they are remembered.
    pub(super) fn forget_expired(self: &Arc<Self>, turn: &mut Turn) {
        let mut state = self.state.lock();
        if state.names_due > turn.now {
            return;
        }
        let (changes, next) = state.expired(turn.now);
        for change in changes {
            state.tracking.change(change, turn);
            turn.track(self);
            self.look_soon(&mut state, turn.now);
        }
        state.names_due = next;
    }
}
