//! Definitions of the store that can't be read, or not be restored, when the broker is opened: it opens without them and reports them as
//! lost. They stay in the store, for a version that can read them; what is declared anew takes their place.

use super::definitions::{QUEUE, described, kind_name};
use crate::broker::error::BrokerError;
use crate::broker::observe::losses::Losses;
use crate::message::Millis;
use crate::store::LossNote;
use bytes::Bytes;
use std::collections::BTreeMap;

/// How many there are of each kind; see the module.
#[derive(Debug, Default)]
pub(in crate::broker) struct Unreadable {
    counts: BTreeMap<u8, u64>,
}

impl Unreadable {
    /// One more, under that key.
    pub(in crate::broker) fn note(&mut self, key: &[u8], why: &BrokerError) {
        tracing::error!(
            "{} can't be restored: {why}. The broker goes on without; what is stored of it stays, and declaring it anew replaces it",
            described(key)
        );
        *self.counts.entry(key.first().copied().unwrap_or_default()).or_default() += 1;
    }

    /// Whether anything is missing that others may need: what seems to belong to nothing is kept then.
    pub(in crate::broker) fn is_any(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Whether messages without a queue may be those of one that could not be read.
    pub(in crate::broker) fn is_any_queue(&self) -> bool {
        self.counts.contains_key(&QUEUE)
    }

    /// Reports them, with how many there are of their kind.
    pub(in crate::broker) fn report(&self, stored: &[(Bytes, Bytes)], losses: &Losses, at: Millis) {
        for (&kind, &lost) in &self.counts {
            let of = stored.iter().filter(|(key, _)| key.first() == Some(&kind)).count() as u64;
            losses.add(LossNote { at, what: kind_name(kind).to_owned(), lost, of: Some(of) });
        }
    }
}
