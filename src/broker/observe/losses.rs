//! What was lost of what the store kept, reported until an operator has acknowledged it. Where that is kept is its owner's matter.

use crate::broker::error::BrokerError;
use crate::broker::topology::definitions::kind_name;
use crate::message::Millis;
use crate::store::{Loss, LossNote};
use parking_lot::Mutex;
use std::io;
use std::sync::OnceLock;

/// What is called when a loss is acknowledged: it forgets what is kept of it.
type Forget = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// The losses that are not acknowledged; see the module.
#[derive(Default)]
pub struct Losses {
    notes: Mutex<Vec<LossNote>>,
    forget: OnceLock<Forget>,
}

impl Losses {
    /// What a journal has found to be lost when it was opened.
    pub(in crate::broker) fn of(losses: &[Loss], now: Millis) -> Losses {
        Losses { notes: Mutex::new(notes_of(losses, now)), forget: OnceLock::new() }
    }

    /// One more.
    pub(in crate::broker) fn add(&self, note: LossNote) {
        self.notes.lock().push(note);
    }

    /// All that is not acknowledged, oldest first.
    pub fn list(&self) -> Vec<LossNote> {
        self.notes.lock().clone()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.notes.lock().len()
    }

    /// Adds what earlier starts have found, and says how what is kept of them all is forgotten. What both have found is there once.
    pub fn add_earlier(&self, mut earlier: Vec<LossNote>, forget: Forget) {
        let mut notes = self.notes.lock();
        // What can't be read is found at each start.
        let is_same = |one: &LossNote, other: &LossNote| {
            (&one.what, one.lost, one.of) == (&other.what, other.lost, other.of)
        };
        notes.retain(|note| !earlier.iter().any(|known| is_same(known, note)));
        earlier.append(&mut notes);
        *notes = earlier;
        // The server that opened the broker says it once.
        let _ = self.forget.set(forget);
    }

    /// An operator knows of them: they are not reported any more. Returns how many there were.
    ///
    /// # Errors
    /// When what is kept of them can't be forgotten: then they stay.
    pub fn acknowledge(&self) -> Result<usize, BrokerError> {
        let mut notes = self.notes.lock();
        if let Some(forget) = self.forget.get() {
            forget().map_err(|error| BrokerError::Store(format!("losses can't be acknowledged: {error}")))?;
        }
        Ok(std::mem::take(&mut *notes).len())
    }
}

impl std::fmt::Debug for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Losses").field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// Losses as an operator sees them: records of messages are added up.
fn notes_of(losses: &[Loss], at: Millis) -> Vec<LossNote> {
    let mut records = 0;
    let mut notes = Vec::new();
    for loss in losses {
        match loss {
            Loss::Damaged { .. } => records += 1,
            Loss::Missing { count, .. } => records += count,
            Loss::Definitions { kind, there_were, there_are } => notes.push(LossNote {
                at,
                what: kind_name(*kind).to_owned(),
                lost: there_were.saturating_sub(*there_are),
                of: Some(*there_were),
            }),
            Loss::AllDefinitions => {
                notes.push(LossNote { at, what: "definitions".to_owned(), lost: 0, of: None });
            }
        }
    }
    if records > 0 {
        notes.push(LossNote { at, what: "records".to_owned(), lost: records, of: None });
    }
    notes
}

/// A loss in a sentence.
pub fn in_words(note: &LossNote) -> String {
    let LossNote { what, lost, of, .. } = note;
    match (what.as_str(), lost, of) {
        ("records", lost, _) => format!(
            "at least {lost} records of messages are lost; messages that they acknowledged may come again"
        ),
        (what, 0, Some(of)) => {
            format!("all {of} {what} are there, and some of them as they were before their last change")
        }
        (what, lost, Some(of)) => format!("{lost} of {of} {what} are lost"),
        (what, ..) => format!("{what} are lost, and nothing says how many"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Lsn;

    #[test]
    fn losses_are_told_in_words_until_they_are_acknowledged() {
        let found = [
            Loss::Damaged { lsn: Lsn(3), bytes: 7, reason: String::new() },
            Loss::Definitions { kind: b'a', there_were: 7, there_are: 5 },
            Loss::Definitions { kind: b'3', there_were: 2, there_are: 2 },
            Loss::Missing { count: 4, below: Lsn(9) },
            Loss::AllDefinitions,
        ];
        let losses = Losses::of(&found, 5);
        let told: Vec<String> = losses.list().iter().map(in_words).collect();
        assert_eq!(
            told,
            [
                "2 of 7 users are lost",
                "all 2 queues are there, and some of them as they were before their last change",
                "definitions are lost, and nothing says how many",
                "at least 5 records of messages are lost; messages that they acknowledged may come again",
            ]
        );
        let earlier = LossNote { at: 1, what: "vhosts".to_owned(), lost: 1, of: Some(1) };
        losses.add_earlier(vec![earlier.clone()], Box::new(|| Ok(())));
        assert_eq!((losses.count(), &losses.list()[0]), (5, &earlier));
        assert_eq!(losses.acknowledge().unwrap(), 5);
        assert_eq!((losses.count(), losses.acknowledge().unwrap()), (0, 0));
    }

    #[test]
    fn what_can_not_be_forgotten_is_told_on() {
        let losses = Losses::of(&[Loss::AllDefinitions], 5);
        losses.add_earlier(Vec::new(), Box::new(|| Err(io::Error::other("read-only"))));
        assert!(losses.acknowledge().is_err());
        assert_eq!(losses.count(), 1);
    }
}
