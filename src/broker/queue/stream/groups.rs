//! Consumers by name: how far each has got, whether it is there or not, and setting where it goes on.

use super::{State, Stream, StreamOffset};
use crate::broker::error::BrokerError;
use crate::broker::turn::Turn;
use crate::message::Millis;
use crate::store::stream::{NAME_BYTES_MAX, TrackingChange};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most names that a stream remembers of consumers, and of publishers: each is written whenever one of them has changed.
pub(super) const NAMES_MAX: usize = 10_000;

/// Those who consume a stream under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamGroup {
    /// Name that its consumers give in `x-stream-consumer-name`.
    pub name: String,
    /// The last offset that it has acknowledged, with all before it; `None` when it has none yet.
    pub committed: Option<u64>,
    /// When it acknowledged that one.
    pub committed_at: Option<Millis>,
    /// How many entries follow that one, or are there when there is none.
    pub lag: u64,
    /// How many entries it has not had that are not kept any more.
    pub trimmed: u64,
    /// When the first of those that follow was published; `None` when none does, or that has to be read from the disk first.
    pub unread_at: Option<Millis>,
    /// How many consumers of that name there are.
    pub members: u64,
}

impl Stream {
    /// All names that are remembered or in use.
    pub(in crate::broker::queue) fn groups(self: &Arc<Self>) -> Vec<StreamGroup> {
        let mut state = self.state.lock();
        self.look_at_journal(&mut state);
        let next = state.tail.readable();
        let first = state.kept.first.min(state.tail.first());
        let mut groups: BTreeMap<String, StreamGroup> = BTreeMap::new();
        for (name, committed) in state.tracking.all() {
            let group = groups.entry(name.clone()).or_default();
            group.committed = Some(committed.offset);
            group.committed_at = Some(committed.at);
        }
        for reader in state.readers.iter() {
            if let Some(name) = reader.name() {
                groups.entry(name.to_owned()).or_default().members += 1;
            }
        }
        let with_lag = |(name, group): (String, StreamGroup)| {
            let from = group.committed.map_or(first, |committed| (committed + 1).max(first));
            let trimmed = group.committed.map_or(0, |committed| first.saturating_sub(committed + 1));
            StreamGroup { name, lag: next.saturating_sub(from), trimmed, ..group }
        };
        let mut groups: Vec<StreamGroup> = groups.into_iter().map(with_lag).collect();
        let State { unread, tail, .. } = &mut *state;
        for group in groups.iter_mut().filter(|group| group.lag > 0) {
            group.unread_at = unread.time_of(next - group.lag, tail);
        }
        if unread.is_any_wanted() {
            self.streams.ring(self);
        }
        groups
    }

    /// Lets a name go on at an offset. With a time it does when the streams' thread has found what was published then.
    ///
    /// # Errors
    /// When a consumer of that name is there, or the name is too long.
    pub(in crate::broker::queue) fn reset(
        self: &Arc<Self>,
        name: &str,
        to: StreamOffset,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        let mut state = self.state.lock();
        self.check_unused(state.readers.iter().any(|reader| reader.name() == Some(name)), name)?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let text = format!("a consumer's name has 1 to {NAME_BYTES_MAX} bytes");
            return Err(BrokerError::Precondition(text));
        }
        self.check_names(&state, name)?;
        self.look_at_journal(&mut state);
        let next = match to {
            StreamOffset::First => state.kept.first.min(state.tail.first()),
            StreamOffset::Last => state.tail.last_chunk().unwrap_or(state.tail.readable()),
            StreamOffset::Next => state.tail.readable(),
            StreamOffset::Offset(offset) => offset,
            StreamOffset::At(time) => {
                state.resets.push((name.to_owned(), time));
                drop(state);
                self.streams.ring(self);
                return Ok(());
            }
        };
        self.set_next(&mut state, name, next, turn);
        Ok(())
    }

    /// Forgets a name. False when it was not known.
    ///
    /// # Errors
    /// When a consumer of that name is there.
    pub(in crate::broker::queue) fn forget(
        self: &Arc<Self>,
        name: &str,
        turn: &mut Turn,
    ) -> Result<bool, BrokerError> {
        let mut state = self.state.lock();
        self.check_unused(state.readers.iter().any(|reader| reader.name() == Some(name)), name)?;
        if state.tracking.committed(name).is_none() {
            return Ok(false);
        }
        state.tracking.change(TrackingChange::Forgotten(name.to_owned()), turn);
        turn.track(self);
        self.look_soon(&mut state, turn.now);
        Ok(true)
    }

    /// The next entry that a name gets is the one at that offset.
    pub(super) fn set_next(self: &Arc<Self>, state: &mut State, name: &str, next: u64, turn: &mut Turn) {
        match next.checked_sub(1) {
            Some(offset) => state.tracking.commit(name, offset, turn),
            None => state.tracking.change(TrackingChange::Forgotten(name.to_owned()), turn),
        }
        turn.track(self);
        self.look_soon(state, turn.now);
    }

    /// Checks that one more name may be remembered.
    pub(super) fn check_names(&self, state: &State, name: &str) -> Result<(), BrokerError> {
        let is_known = state.tracking.committed(name).is_some();
        if is_known || state.tracking.all().len() < NAMES_MAX {
            return Ok(());
        }
        Err(BrokerError::LimitReached {
            what: format!("consumer '{name}' of {}", self.definition.resource()),
            limit: "consumer name",
            vhost: self.definition.vhost.clone(),
            max: NAMES_MAX,
        })
    }

    fn check_unused(&self, is_used: bool, name: &str) -> Result<(), BrokerError> {
        match is_used {
            false => Ok(()),
            true => {
                let text = format!(
                    "the consumer '{name}' of {} is connected; cancel it before its offset is set",
                    self.definition.resource()
                );
                Err(BrokerError::Precondition(text))
            }
        }
    }
}
