//! A queue's limits: length, bytes, age, and its own time to live.

use super::Queue;
use super::dead_letter::dead_letter;
use crate::broker::delivery::Entry;
use crate::broker::queue::{DeathReason, Overflow};
use crate::broker::turn::{Effect, Turn};
use crate::message::{Message, Millis};

/// Messages that are dropped however long the turn has taken: more than come with one publish, so that a queue that is too long
/// gets shorter.
const AT_LEAST: usize = 2;

/// How long a dead letter that may not get lost waits before it is tried again.
const DEAD_LETTER_RETRY_MS: u64 = 1000;

impl Queue {
    pub(super) fn has_limits(&self) -> bool {
        let settings = &self.settings;
        settings.max_length.is_some() || settings.max_length_bytes.is_some()
    }

    /// Whether the overflow rule refuses one more message. Messages without a waiting consumer count, so a queue of length 0
    /// refuses everything.
    pub(in crate::broker::queue) fn would_refuse(&self, message: &Message) -> bool {
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
            self.dead_letter(entry, DeathReason::MaxLength, turn);
        } else {
            self.drop_entry(&entry, turn);
        }
    }

    /// Makes room at the head. With priorities that is the head of the highest one, as in RabbitMQ.
    pub(super) fn drop_head(&mut self, turn: &mut Turn) {
        if self.settings.overflow != Overflow::DropHead || !self.has_limits() {
            return;
        }
        let mut at_least = AT_LEAST;
        while self.is_over(0, 0) && self.has_time_for_one(&mut at_least, turn) {
            let Some(entry) = self.ready.pop_front() else {
                self.ask_for_page(turn);
                return;
            };
            self.dead_letter(entry, DeathReason::MaxLength, turn);
        }
    }

    /// Drops or dead-letters what has expired at the front.
    pub(super) fn drop_expired(&mut self, turn: &mut Turn) {
        let mut at_least = AT_LEAST;
        while self.ready.next_expiry().is_some_and(|at| at <= turn.now)
            && self.has_time_for_one(&mut at_least, turn)
            && let Some(entry) = self.ready.pop_expired(turn.now)
        {
            self.dead_letter(entry, DeathReason::Expired, turn);
        }
    }

    /// Whether one more may be dropped in this turn. If not, the queue asks to be looked at again at once.
    fn has_time_for_one(&mut self, at_least: &mut usize, turn: &Turn) -> bool {
        if turn.is_spent() && *at_least == 0 {
            self.is_behind = true;
            return false;
        }
        *at_least = at_least.saturating_sub(1);
        true
    }

    /// Whether the next message has expired, and has to wait for a turn that has time to drop it.
    pub(super) fn has_no_time_for_front(&self, turn: &Turn) -> bool {
        turn.is_spent() && self.ready.is_front_expired(turn.now)
    }

    /// Tries dead letters again that had nowhere to go.
    pub(super) fn retry_held(&mut self, turn: &mut Turn) {
        if self.retrying == 0 {
            self.retrying = self.held.len();
        }
        let mut at_least = 1;
        while self.retrying > 0
            && self.has_time_for_one(&mut at_least, turn)
            && let Some((entry, reason)) = self.held.pop_front()
        {
            self.retrying -= 1;
            dead_letter(&self.definition, &self.settings, entry, reason, turn);
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
        let at_once = self.is_behind.then_some(turn.now);
        let next =
            [at_once, self.ready.next_expiry(), self.unused_until(), retry_at, self.dead_lettering.next_at()]
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
