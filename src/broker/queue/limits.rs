//! A queue's limits: length, bytes, age, and its own time to live.

use super::{DeathReason, Overflow, Queue};
use crate::broker::delivery::Entry;
use crate::broker::turn::{Effect, Turn};
use crate::message::{Message, Millis};

/// How long a dead letter that may not get lost waits before it is tried again.
const DEAD_LETTER_RETRY_MS: u64 = 1000;

impl Queue {
    pub(super) fn has_limits(&self) -> bool {
        let settings = &self.settings;
        settings.max_length.is_some() || settings.max_length_bytes.is_some()
    }

    /// Whether the overflow rule refuses one more message. Messages without a waiting consumer count, so a queue of length 0
    /// refuses everything.
    pub(super) fn would_refuse(&self, message: &Message) -> bool {
        self.settings.overflow != Overflow::DropHead
            && self.has_limits()
            && self.is_over(1, message.body_bytes() as u64)
    }

    fn is_over(&self, more_messages: u64, more_bytes: u64) -> bool {
        let settings = &self.settings;
        settings.max_length.is_some_and(|max| self.ready.len() as u64 + more_messages > max)
            || settings.max_length_bytes.is_some_and(|max| self.ready.bytes() + more_bytes > max)
    }

    /// Refuses a published message.
    pub(super) fn refuse(&mut self, entry: Entry, turn: &mut Turn) {
        if self.settings.overflow == Overflow::RejectPublishDlx {
            self.bury(entry, DeathReason::MaxLength, turn);
        } else {
            self.drop_entry(&entry, turn);
        }
    }

    /// Makes room at the head. With priorities that is the head of the highest one, as in RabbitMQ.
    pub(super) fn drop_head(&mut self, turn: &mut Turn) {
        if self.settings.overflow != Overflow::DropHead || !self.has_limits() {
            return;
        }
        while self.is_over(0, 0) {
            let Some(entry) = self.ready.pop_front() else {
                self.ask_for_page(turn);
                return;
            };
            self.bury(entry, DeathReason::MaxLength, turn);
        }
    }

    /// Drops or dead-letters what has expired at the front.
    pub(super) fn drop_expired(&mut self, turn: &mut Turn) {
        while let Some(entry) = self.ready.pop_expired(turn.now) {
            self.bury(entry, DeathReason::Expired, turn);
        }
    }

    /// When x-expires deletes the queue, if it is not used until then.
    pub(super) fn unused_until(&self) -> Option<Millis> {
        let expires_ms = self.settings.expires_ms?;
        self.consumers.is_empty().then(|| self.last_used.saturating_add(expires_ms))
    }

    /// Asks to be looked at when the next thing is due, unless it has asked for an earlier time already.
    pub(super) fn ask_for_wake(&mut self, turn: &mut Turn) {
        let retry_at = (!self.held.is_empty()).then_some(turn.now + DEAD_LETTER_RETRY_MS);
        let next = [self.ready.next_expiry(), self.unused_until(), retry_at, self.dying.next_at()]
            .into_iter()
            .flatten()
            .min();
        let Some(at) = next else { return };
        if !self.closed && self.wake_at.is_none_or(|asked| at < asked) {
            self.wake_at = Some(at);
            turn.effects.push(Effect::WakeAt { name: self.definition.name.clone(), at });
        }
    }
}
