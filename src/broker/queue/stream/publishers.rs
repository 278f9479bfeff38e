//! Publishers by name: which of what they publish a stream has already. Each message of theirs has a publishing id, and a stream takes
//! it if that is above the highest one that it has taken under the name; so what is sent again is there once.
//!
//! How far a name has got is remembered in the record of the message itself, see `tracking.rs`. Until a turn has handed that to the
//! journal nobody else's turn can know whether it will be there after a crash, so what others publish under that name is refused.

use super::groups::NAMES_MAX;
use super::{State, Stream};
use crate::broker::error::BrokerError;
use crate::broker::turn::Turn;
use crate::message::{Message, Millis};
use crate::store::stream::{NAME_BYTES_MAX, PublisherSequence, TrackingChange};
use std::sync::Arc;

/// The header that names a publisher, as `x-stream-consumer-name` does a consumer.
const PUBLISHER_NAME: &str = "x-stream-publisher-name";
/// The header with the publishing id of a message.
const PUBLISHING_ID: &str = "x-stream-publishing-id";
/// The header with the epoch of a publisher: those of lower ones are refused from then on.
const PUBLISHER_EPOCH: &str = "x-stream-publisher-epoch";

/// What a message says of its publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// The publisher's name, under which publishing ids only grow.
    pub name: Arc<str>,
    /// The message's publishing id.
    pub id: u64,
    /// The publisher's epoch, if it has one.
    pub epoch: Option<u64>,
}

impl Sequenced {
    /// Reads the headers of a message; `None` when they name no publisher, and for dead letters, which others have published.
    ///
    /// # Errors
    /// When one of them can't be used.
    pub fn of(message: &Message) -> Result<Option<Sequenced>, BrokerError> {
        let Some(name) = message.header(PUBLISHER_NAME).filter(|_| !message.is_dead_lettered()) else {
            return Ok(None);
        };
        let number = |header: &str| match message.header(header) {
            None => Ok(None),
            Some(value) => {
                // STOMP has texts alone.
                let number = value.as_integer().or_else(|| value.as_str()?.parse().ok());
                let number = number.and_then(|number| u64::try_from(number).ok());
                number.map(Some).ok_or_else(|| unusable(header, "a whole number from 0 on"))
            }
        };
        let Some(name) = name.as_str().filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len())) else {
            return Err(unusable(PUBLISHER_NAME, "a text of 1 to 255 bytes"));
        };
        let id = number(PUBLISHING_ID)?.ok_or_else(|| {
            unusable(PUBLISHING_ID, &format!("there beside '{PUBLISHER_NAME}', a whole number from 0 on"))
        })?;
        Ok(Some(Sequenced { name: name.into(), id, epoch: number(PUBLISHER_EPOCH)? }))
    }
}

fn unusable(header: &str, wanted: &str) -> BrokerError {
    BrokerError::Precondition(format!("header '{header}' has to be {wanted}"))
}

/// What a stream says of a message of a publisher with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new.
    Take,
    /// The stream has it already.
    Duplicate,
    /// A later epoch has taken over the name, there are too many names, or another turn is publishing under it.
    Refuse,
}

impl Stream {
    /// Decides on messages in order, and remembers how far their publishers have got. The turn has to be handed to the journal next.
    pub(in crate::broker::queue) fn sequence<'a>(
        self: &Arc<Self>,
        messages: impl Iterator<Item = Option<&'a Sequenced>>,
        turn: &mut Turn,
    ) -> Vec<Verdict> {
        let mut state = self.state.lock();
        let mut seen: Vec<(&Sequenced, PublisherSequence)> = Vec::new();
        let mut verdicts = Vec::new();
        for sequenced in messages {
            let Some(sequenced) = sequenced else {
                verdicts.push(Verdict::Take);
                continue;
            };
            let before = seen.iter_mut().find(|(other, _)| other.name == sequenced.name);
            let known = match &before {
                Some((_, last)) => Some(Some(*last)),
                None => self.known(&state, sequenced, turn),
            };
            let judged = known.map(|known| judge(known, sequenced, turn.now));
            let (verdict, sequence) = match judged {
                None | Some((Verdict::Refuse, _)) => {
                    verdicts.push(Verdict::Refuse);
                    continue;
                }
                Some(judged) => judged,
            };
            verdicts.push(verdict);
            match before {
                Some((_, last)) => *last = sequence,
                None => seen.push((sequenced, sequence)),
            }
        }
        state.duplicates += count(&verdicts, Verdict::Duplicate);
        state.refused += count(&verdicts, Verdict::Refuse);
        // Also where all are there already: who sent them again waits for this record, which comes behind theirs.
        for (sequenced, sequence) in seen {
            let change = TrackingChange::Published(sequenced.name.to_string(), sequence);
            state.tracking.change(change, turn);
            state.tracking.stage(&sequenced.name);
            turn.track_publisher(self, &sequenced.name);
            self.look_soon(&mut state, turn.now);
        }
        verdicts
    }

    /// How far a publisher has got, as this turn may know it; `None` when it has to be refused.
    fn known(&self, state: &State, sequenced: &Sequenced, turn: &Turn) -> Option<Option<PublisherSequence>> {
        if state.tracking.is_staged(&sequenced.name) && !turn.has_tracked(self.definition.id, &sequenced.name)
        {
            return None;
        }
        let known = state.tracking.publisher(&sequenced.name);
        (known.is_some() || state.tracking.publishers().len() < NAMES_MAX).then_some(known)
    }

    /// Checks that a publisher may publish: that no later epoch has taken over its name, and that one more name may be remembered.
    ///
    /// # Errors
    /// When it may not.
    pub(in crate::broker::queue) fn check_publisher(
        &self,
        name: &str,
        epoch: Option<u64>,
    ) -> Result<(), BrokerError> {
        let state = self.state.lock();
        match state.tracking.publisher(name) {
            Some(known) if epoch.is_some_and(|epoch| epoch < known.epoch) => {
                Err(BrokerError::Precondition(format!(
                    "the publisher '{name}' of {} has been taken over in epoch {}; this one is of an earlier epoch",
                    self.definition.resource(),
                    known.epoch
                )))
            }
            None if state.tracking.publishers().len() >= NAMES_MAX => Err(BrokerError::LimitReached {
                what: format!("publisher '{name}' of {}", self.definition.resource()),
                limit: "publisher name",
                vhost: self.definition.vhost.clone(),
                max: NAMES_MAX,
            }),
            _ => Ok(()),
        }
    }

    /// The publishers that are remembered, by name.
    pub(in crate::broker::queue) fn publishers(&self) -> Vec<(String, PublisherSequence)> {
        let state = self.state.lock();
        state.tracking.publishers().iter().map(|(name, sequence)| (name.clone(), *sequence)).collect()
    }

    /// The highest publishing id that was taken of a publisher.
    pub(in crate::broker::queue) fn publisher_sequence(&self, name: &str) -> Option<u64> {
        self.state.lock().tracking.publisher(name).map(|sequence| sequence.id)
    }

    /// A turn that has changed how far that publisher has got has been handed to the journal.
    pub(in crate::broker) fn note_published(&self, name: &str) {
        self.state.lock().tracking.unstage(name);
    }
}

/// Whether that message is to be taken, and how far the publisher has got then.
fn judge(
    known: Option<PublisherSequence>,
    sequenced: &Sequenced,
    now: Millis,
) -> (Verdict, PublisherSequence) {
    let Sequenced { id, epoch, .. } = *sequenced;
    let Some(known) = known else {
        return (Verdict::Take, PublisherSequence { id, epoch: epoch.unwrap_or(0), at: now });
    };
    if epoch.is_some_and(|epoch| epoch < known.epoch) {
        return (Verdict::Refuse, known);
    }
    let epoch = known.epoch.max(epoch.unwrap_or(0));
    match id > known.id {
        true => (Verdict::Take, PublisherSequence { id, epoch, at: now }),
        false => (Verdict::Duplicate, PublisherSequence { epoch, at: now, ..known }),
    }
}

fn count(verdicts: &[Verdict], wanted: Verdict) -> u64 {
    verdicts.iter().filter(|verdict| **verdict == wanted).count() as u64
}
