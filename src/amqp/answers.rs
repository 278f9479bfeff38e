//! Answers that wait until the journal is durable: publisher confirms, and tx.commit-ok.
//!
//! A session enters them when its turn ends, and gives those that are due whenever it sends. While it has nothing to send, the
//! committer writes them to the socket itself, unless very many wait for the same commit. It is the first to know, and waking the
//! session takes more time than one frame does; and while it writes, the next commit gathers.
//!
//! The writer of the socket holds it until all it has is written, so that frames stay whole. Nothing is locked while the committer
//! writes: a session that finds it there goes on when it is woken.

#[cfg(test)]
mod tests;

use super::frame::put_raw_method;
use crate::broker::delivery::Outbox;
use crate::broker::observe::connections::{LiveConnection, Progress};
use crate::broker::turn::{DurableWaiter, StoreError};
use crate::message::{ChannelNumber, Lsn};
use crate::session::{DirectWrite, Transmit};
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The answers of one connection that wait for the journal; see the module.
pub(super) struct Answers {
    outbox: Arc<Outbox>,
    live: OnceLock<Arc<LiveConnection>>,
    store_failed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Where the committer can write, if it can.
    socket: Option<Arc<dyn DirectWrite>>,
    holder: Holder,
    /// In the order of records, those of a channel also in their own.
    waiting: VecDeque<Waiting>,
    /// Those of `waiting` that are being answered; empty between calls.
    due: Vec<Waiting>,
    /// What the committer encoded and the socket did not take.
    unsent: Transmit,
    told: Told,
}

/// Which of the two may write to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// The first to come.
    Nobody,
    /// The session, and for as long as it does not say that it has sent everything.
    Session,
    /// The committer is about to write, or does.
    Committer {
        /// The session wants to be woken when it is done.
        session_waits: bool,
    },
}

#[derive(Debug)]
struct Waiting {
    channel: ChannelNumber,
    lsn: Lsn,
    answer: Answer,
}

/// What is sent to the client when a record is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// basic.ack.
    Confirm(Publishes),
    /// tx.commit-ok.
    CommitOk,
    /// What is said on the channel behind a tx.commit-ok, as frames.
    Behind(Bytes),
}

/// Publishes of a channel, by the numbers of their confirms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Publishes {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Those that basic.nack has refused, in order.
    pub(super) nacked: Vec<u64>,
}

impl Publishes {
    /// The delivery tag of the basic.ack that confirms them, and whether it confirms several; none if all were refused. A publish
    /// that was refused is no longer counted by the client, so the tag has to be one that it still waits for.
    fn ack(&self) -> Option<(u64, bool)> {
        let mut acked = (self.first..=self.last).rev().filter(|tag| self.nacked.binary_search(tag).is_err());
        let tag = acked.next()?;
        Some((tag, acked.next().is_some()))
    }
}

/// What was answered since the session last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Up to which publish channels have been confirmed.
    pub(super) confirmed: Vec<(ChannelNumber, u64)>,
    /// What the committer wrote, and how often.
    pub(super) sent_bytes: u64,
    pub(super) sent_count: u64,
}

impl Answers {
    /// Answers of a session that is woken through `outbox`; the committer writes to `socket`, or wakes the session if there is none.
    pub(super) fn new(outbox: Arc<Outbox>, socket: Option<Arc<dyn DirectWrite>>) -> Answers {
        let state = State {
            socket,
            holder: Holder::Session,
            waiting: VecDeque::new(),
            due: Vec::new(),
            unsent: Transmit::default(),
            told: Told::default(),
        };
        Answers {
            outbox,
            live: OnceLock::new(),
            store_failed: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// The connection is in the broker's list, where the committer enters what it does.
    pub(super) fn enter_progress_in(&self, live: Arc<LiveConnection>) {
        // A connection is opened once.
        let _ = self.live.set(live);
    }

    /// Whether the store has failed, so that what waits never becomes durable.
    pub(super) fn store_failed(&self) -> bool {
        self.store_failed.load(Ordering::Acquire)
    }

    /// Something waits for that record. If the session has something to send (`has_unsent`), that goes before. The session has to
    /// look at the watermark after this: the record may be durable already.
    pub(super) fn add(&self, channel: ChannelNumber, lsn: Lsn, answer: Answer, has_unsent: bool) {
        let mut state = self.state.lock();
        if has_unsent {
            state.take_socket();
        }
        // What waits for no record of its own waits for one of an earlier turn.
        let at = state.waiting.partition_point(|other| other.lsn <= lsn);
        state.waiting.insert(at, Waiting { channel, lsn, answer });
    }

    /// The last record that something of a channel waits for.
    pub(super) fn last_of(&self, channel: ChannelNumber) -> Option<Lsn> {
        let state = self.state.lock();
        state.waiting.iter().rev().find(|waiting| waiting.channel == channel).map(|waiting| waiting.lsn)
    }

    /// The session sends: what the committer could not, then `replies`, then what is due. False when the committer is writing: the
    /// session is woken as soon as it is done.
    pub(super) fn begin(
        &self,
        durable: Lsn,
        replies: &mut Transmit,
        out: &mut Transmit,
        told: &mut Told,
    ) -> bool {
        let mut state = self.state.lock();
        if !state.take_socket() {
            return false;
        }
        out.append(&mut state.unsent);
        out.append(replies);
        state.answer(durable, out, None);
        std::mem::swap(told, &mut state.told);
        true
    }

    /// The session has looked; `is_silent` when all it had to say is with the socket. Returns whether anything waits; if not, the
    /// session keeps the socket, and need not call [`Answers::begin`] before it adds something.
    pub(super) fn finish(&self, is_silent: bool) -> bool {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            return false;
        }
        if is_silent {
            state.holder = Holder::Nobody;
        }
        true
    }

    /// A channel is about to end: what is due of its answers goes behind the session's replies. Returns the last publish that this
    /// confirms.
    pub(super) fn answer_channel(
        &self,
        channel: ChannelNumber,
        durable: Lsn,
        replies: &mut Transmit,
    ) -> Option<u64> {
        let mut state = self.state.lock();
        // What the committer is writing goes before what the session replies.
        state.take_socket();
        let is_due = |waiting: &Waiting| waiting.channel == channel && waiting.lsn <= durable;
        let (due, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut state.waiting).into_iter().partition(is_due);
        state.waiting = waiting;
        state.due.extend(due);
        state.answer_due(replies, None);
        let confirmed = state.told.confirmed.iter().find(|(number, _)| *number == channel);
        confirmed.map(|(_, last)| *last)
    }

    /// A channel has ended: what it waits for is not answered.
    pub(super) fn forget(&self, channel: ChannelNumber) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| waiting.channel != channel);
        state.told.confirmed.retain(|(number, _)| *number != channel);
    }

    /// The connection has ended: nothing is answered, and the socket is released.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.take_socket();
        state.waiting.clear();
        state.socket = None;
    }

    /// Writes what is due, if the session is not writing. False when the session has to be woken.
    fn answer_now(&self, durable: Lsn) -> bool {
        let mut state = self.state.lock();
        if state.waiting.front().is_none_or(|first| first.lsn > durable) {
            // The session has answered, or has not entered yet what it will look for.
            return true;
        }
        let (Holder::Nobody, Some(socket)) = (state.holder, state.socket.clone()) else { return false };
        state.holder = Holder::Committer { session_waits: false };
        let mut out = std::mem::take(&mut state.unsent);
        {
            let mut progress = self.live.get().map(|live| live.progress());
            state.answer(durable, &mut out, progress.as_deref_mut());
            if let Some(progress) = progress.as_mut().filter(|_| !out.is_empty()) {
                progress.sent_bytes += out.len() as u64;
                progress.sent_count += 1;
            }
        }
        state.told.sent_bytes += out.len() as u64;
        state.told.sent_count += u64::from(!out.is_empty());
        drop(state);
        if !out.is_empty() {
            let written = socket.write_now(out.chunk());
            out.advance(written);
        }
        let mut state = self.state.lock();
        state.unsent = out;
        let is_done = state.holder == (Holder::Committer { session_waits: false }) && state.unsent.is_empty();
        state.holder = if is_done { Holder::Nobody } else { Holder::Session };
        is_done
    }
}

impl State {
    /// The session holds the socket, or is noted to wait for it.
    fn take_socket(&mut self) -> bool {
        if let Holder::Committer { session_waits } = &mut self.holder {
            *session_waits = true;
            return false;
        }
        self.holder = Holder::Session;
        true
    }

    /// Encodes what is due, with as few acks as can be.
    fn answer(&mut self, durable: Lsn, out: &mut Transmit, progress: Option<&mut Progress>) {
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.lsn <= durable) {
            self.due.push(waiting);
        }
        self.answer_due(out, progress);
    }

    fn answer_due(&mut self, out: &mut Transmit, mut progress: Option<&mut Progress>) {
        self.due.sort_by_key(|waiting| waiting.channel);
        let mut due = std::mem::take(&mut self.due);
        let mut answers = due.drain(..).peekable();
        while let Some(Waiting { channel, answer, .. }) = answers.next() {
            let mut publishes = match answer {
                Answer::Confirm(publishes) => publishes,
                Answer::CommitOk => {
                    put_commit_ok(out, channel);
                    continue;
                }
                Answer::Behind(frames) => {
                    out.put_shared(frames);
                    continue;
                }
            };
            while let Some(Waiting { answer: Answer::Confirm(more), .. }) =
                answers.next_if(|next| next.channel == channel && matches!(next.answer, Answer::Confirm(_)))
            {
                publishes.last = more.last;
                publishes.nacked.extend(more.nacked);
            }
            if let Some((tag, multiple)) = publishes.ack() {
                put_ack(out, channel, tag, multiple);
            }
            if let Some(progress) = &mut progress {
                progress.confirmed(channel, publishes.last + 1 - publishes.first);
            }
            self.told.confirm(channel, publishes.last);
        }
        drop(answers);
        self.due = due;
    }
}

impl Told {
    fn confirm(&mut self, channel: ChannelNumber, last: u64) {
        match self.confirmed.iter_mut().find(|(number, _)| *number == channel) {
            Some((_, up_to)) => *up_to = last,
            None => self.confirmed.push((channel, last)),
        }
    }
}

impl DurableWaiter for Answers {
    fn durable(&self, lsn: Lsn, is_hurried: bool) {
        if is_hurried || !self.answer_now(lsn) {
            self.outbox.wake();
        }
    }

    fn failed(&self, _: &StoreError) {
        self.store_failed.store(true, Ordering::Release);
        self.outbox.wake();
    }
}

fn put_ack(out: &mut Transmit, channel: ChannelNumber, tag: u64, multiple: bool) {
    const ACK: (u16, u16) = (60, 80);
    put_raw_method(out, channel, ACK, [&tag.to_be_bytes(), &[u8::from(multiple)]]);
}

fn put_commit_ok(out: &mut Transmit, channel: ChannelNumber) {
    const COMMIT_OK: (u16, u16) = (90, 21);
    put_raw_method(out, channel, COMMIT_OK, []);
}
