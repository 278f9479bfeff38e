//! What is said when it is durable: that a publish is confirmed, that a stream was made.

use crate::broker::delivery::Outbox;
use crate::message::Lsn;
use crate::session::Transmit;
use crate::store::Journal;
use crate::stream_protocol::frame::{FrameWriter, key};
use std::collections::VecDeque;
use std::sync::Arc;

/// Something to say.
#[derive(Debug)]
enum Saying {
    /// That frame.
    Frame(Vec<u8>),
    /// That publishes are confirmed.
    Confirm { publisher: u8, ids: Vec<u64> },
}

/// What waits for the journal, in order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The last record that something is in which the connection has done.
    last: Lsn,
    /// What is said of this turn: it waits for its last record.
    of_turn: Vec<Saying>,
    all: VecDeque<(Lsn, Saying)>,
    /// Publishes that are not confirmed.
    unconfirmed: usize,
    /// Answers that wait.
    frames: usize,
    /// The last record that the journal calls the session for.
    awaited: Lsn,
}

/// Publishes that are confirmed in one frame at most.
const CONFIRMED_AT_ONCE: usize = 8192;

impl Waiting {
    /// What the connection has done is in that record, or in none.
    pub(super) fn note(&mut self, record: Option<Lsn>) {
        self.last = self.last.max(record.unwrap_or_default());
    }

    /// That frame is to be sent when all is durable that was done before.
    pub(super) fn say(&mut self, frame: Vec<u8>) {
        self.frames += 1;
        self.of_turn.push(Saying::Frame(frame));
    }

    /// Publishes are to be confirmed when all is durable that was done before.
    pub(super) fn confirm(&mut self, publisher: u8, ids: Vec<u64>) {
        if ids.is_empty() {
            return;
        }
        self.unconfirmed += ids.len();
        if let Some(Saying::Confirm { publisher: last, ids: before }) = self.of_turn.last_mut()
            && *last == publisher
        {
            before.extend(ids);
            return;
        }
        self.of_turn.push(Saying::Confirm { publisher, ids });
    }

    /// Publishes that are not confirmed, and answers that wait.
    pub(super) fn len(&self) -> usize {
        self.unconfirmed + self.frames
    }

    /// The turn is over, and all its records are noted: has the session woken when they are durable.
    pub(super) fn wait(&mut self, journal: &Arc<Journal>, outbox: &Arc<Outbox>) {
        let last = self.last;
        self.all.extend(self.of_turn.drain(..).map(|saying| (last, saying)));
        if let Some((last, _)) = self.all.back()
            && *last > self.awaited
            && *last > journal.durable()
        {
            self.awaited = *last;
            journal.await_record(*last, outbox.clone());
        }
    }

    /// Whether something waits.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Puts what may be said now into `out`, and says how many publishes that confirms; `confirmed` hears of which publisher how many.
    pub(super) fn put(
        &mut self,
        durable: Lsn,
        out: &mut Transmit,
        mut confirmed: impl FnMut(u8, usize),
    ) -> usize {
        let before = self.unconfirmed;
        while let Some((_, saying)) = self.all.pop_front_if(|(record, _)| *record <= durable) {
            match saying {
                Saying::Frame(frame) => {
                    self.frames -= 1;
                    out.put(&frame);
                }
                Saying::Confirm { publisher, mut ids } => {
                    self.unconfirmed -= ids.len();
                    // What follows for the same publisher goes with it.
                    while ids.len() < CONFIRMED_AT_ONCE
                        && let Some((record, Saying::Confirm { publisher: other, ids: more })) =
                            self.all.front_mut()
                        && *record <= durable
                        && *other == publisher
                    {
                        self.unconfirmed -= more.len();
                        ids.append(more);
                        self.all.pop_front();
                    }
                    confirmed(publisher, ids.len());
                    put_confirm(publisher, &ids, out);
                }
            }
        }
        before - self.unconfirmed
    }
}

fn put_confirm(publisher: u8, ids: &[u64], out: &mut Transmit) {
    let mut frame = FrameWriter::new(key::PUBLISH_CONFIRM, 1);
    frame.u8(publisher).count(ids.len());
    for id in ids {
        frame.u64(*id);
    }
    frame.put(out);
}
