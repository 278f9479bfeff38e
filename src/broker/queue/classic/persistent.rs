//! How many of a queue's messages are persistent, and what their bodies are: what RabbitMQ shows as `messages_persistent` and
//! `message_bytes_persistent`. They are counted where the messages are, so that those that leave memory stay counted.

use crate::broker::delivery::Entry;
use std::iter::Sum;
use std::ops::{AddAssign, SubAssign};

/// Those of some messages that are persistent; see [`Entry::persistent`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persistent {
    /// How many there are.
    pub messages: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
}

impl Persistent {
    /// What an entry adds: itself if it is persistent, otherwise nothing.
    #[inline]
    pub fn of(entry: &Entry) -> Persistent {
        match entry.persistent {
            true => Persistent { messages: 1, body_bytes: entry.message.body_bytes() as u64 },
            false => Persistent::default(),
        }
    }

    /// What `part` of `whole` messages have of it, if all are alike.
    pub(super) fn share(self, part: u64, whole: u64) -> Persistent {
        let share = |of: u64| (u128::from(of) * u128::from(part) / u128::from(whole.max(1))) as u64;
        Persistent { messages: share(self.messages), body_bytes: share(self.body_bytes) }
    }

    /// As much of it as there is of `of`.
    pub(super) fn at_most(self, of: Persistent) -> Persistent {
        Persistent {
            messages: self.messages.min(of.messages),
            body_bytes: self.body_bytes.min(of.body_bytes),
        }
    }
}

impl AddAssign for Persistent {
    #[inline]
    fn add_assign(&mut self, more: Persistent) {
        self.messages += more.messages;
        self.body_bytes += more.body_bytes;
    }
}

impl SubAssign for Persistent {
    #[inline]
    fn sub_assign(&mut self, less: Persistent) {
        self.messages = self.messages.saturating_sub(less.messages);
        self.body_bytes = self.body_bytes.saturating_sub(less.body_bytes);
    }
}

impl Sum for Persistent {
    fn sum<I: Iterator<Item = Persistent>>(all: I) -> Persistent {
        all.fold(Persistent::default(), |mut sum, next| {
            sum += next;
            sum
        })
    }
}
