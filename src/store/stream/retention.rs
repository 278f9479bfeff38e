//! What goes: the oldest segments, when all together are too long or their last entries too old.
//!
//! RabbitMQ's rules: the newest segment stays; of those before it the newest ones stay as long as they fit the bytes; one whose last
//! entry is too old goes. RabbitMQ looks when a segment is sealed, so what nothing is published to keeps its age; here a segment is
//! sealed when its first entry is older than a part of the age, and what is due goes when it is due.

use super::{FileKind, StreamLog};
use crate::message::{Millis, NEVER};
use std::io;

/// How long the entries of a stream are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of all segments but the newest.
    pub bytes: Option<u64>,
    /// How old the last entry of a segment may be, in milliseconds.
    pub age_ms: Option<u64>,
}

/// A segment is sealed when its first entry has this part of the age that is kept, or this much time.
const SEALED_PART: u64 = 4;
const SEALED_MS: u64 = 3_600_000;

impl Retention {
    fn sealed_after_ms(&self) -> Option<u64> {
        self.age_ms.map(|age_ms| (age_ms / SEALED_PART).min(SEALED_MS))
    }
}

impl StreamLog {
    /// When something is next due by age.
    pub fn due_at(&self, retention: Retention) -> Millis {
        let Some((age_ms, sealed_after_ms)) = retention.age_ms.zip(retention.sealed_after_ms()) else {
            return NEVER;
        };
        let newest = self.segments.back().filter(|newest| !newest.is_empty());
        let sealing = newest.map(|newest| newest.first_at.saturating_add(sealed_after_ms));
        let oldest = self.segments.front().filter(|oldest| self.segments.len() > 1 && !oldest.is_empty());
        let removal = oldest.map(|oldest| oldest.extent.last_at.saturating_add(age_ms));
        sealing.into_iter().chain(removal).min().unwrap_or(NEVER)
    }

    /// Removes what is not kept any more; returns how many entries that were.
    ///
    /// # Errors
    /// When the system refuses; what was removed before that is gone.
    pub fn retain(&mut self, retention: Retention, now: Millis) -> io::Result<u64> {
        if let Some(sealed_after_ms) = retention.sealed_after_ms()
            && let Some(newest) = self.segments.back().filter(|newest| !newest.is_empty())
            && newest.first_at.saturating_add(sealed_after_ms) <= now
        {
            self.seal()?;
        }
        let mut removed = 0;
        while let Some(oldest) = self.segments.front().copied().filter(|_| self.segments.len() > 1) {
            let sealed_bytes: u64 =
                self.segments.iter().rev().skip(1).map(|segment| segment.extent.bytes).sum();
            let is_too_long = retention.bytes.is_some_and(|bytes| sealed_bytes > bytes);
            let is_too_old =
                retention.age_ms.is_some_and(|ms| oldest.extent.last_at.saturating_add(ms) <= now);
            if !is_too_long && !is_too_old && !oldest.is_empty() {
                break;
            }
            // Without its segment an index is nothing; the other way round it would be read.
            self.files.remove(self.stream, (oldest.first, FileKind::Segment))?;
            self.files.remove(self.stream, (oldest.first, FileKind::Index))?;
            removed += oldest.extent.entries;
            self.segments.pop_front();
        }
        Ok(removed)
    }
}
