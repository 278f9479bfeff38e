//! Answers that wait until the journal is durable: publisher confirms, the end of a commit, receipts. Any protocol can have them; it
//! says with an [`Answer`] what they are and how they are encoded.
//!
//! A session enters them when its turn ends, and gives those that are due whenever it sends. While it has nothing to send, the
//! committer writes them to the socket itself, unless very many wait for the same commit. It is the first to know, and waking the
//! session takes more time than one frame does; and while it writes, the next commit gathers.
//!
//! The writer of the socket holds it until all it has is written, so that frames stay whole. Nothing is locked while the committer
//! writes: a session that finds it there goes on when it is woken.
//!
//! # How a session uses it
//!
//! 1. It makes one [`Answers`], of the outbox that wakes it and of the socket that it was opened with
//!    ([`crate::protocol::Accepted::socket`]).
//! 2. Before something whose answer waits is given to the broker, `turn.waiter` is set to the answers; `VirtualHost::publish` and
//!    `Turn::append_to` return the record that it waits for. [`super::Confirms`] numbers publishes and keeps the last of their
//!    records; what a queue refused is known by its index at once, when `publish` returns, and waits for nothing.
//! 3. When the turn ends, [`Answers::add`] enters an answer with that record; with none, [`Lsn`] 0: it still comes behind earlier
//!    ones. What the session has to send at that time (`has_unsent`) goes first.
//! 4. `poll_transmit` looks at [`Answers::store_failed`], then, if anything was added, asks [`Answers::begin`] with the journal's
//!    watermark. When that is false the committer is writing, and the session sends nothing until it is woken. Everything that the
//!    session sends is put behind what `begin` has put there. At its end [`Answers::finish`] says whether anything waits.
//! 5. [`Answered`] says what was confirmed and sent since the session last looked: it is for statistics, the client has it already.
//! 6. A link that ends is forgotten; what of it is due can be had before ([`Answers::answer_link`]). When the connection ends, so
//!    do the answers.

#[cfg(test)]
mod tests;

use crate::broker::delivery::Outbox;
use crate::broker::observe::connections::{LiveConnection, Progress};
use crate::broker::turn::{DurableWaiter, StoreError};
use crate::message::{LinkId, Lsn, PublishId};
use crate::session::{DirectWrite, Transmit};
use bytes::Buf;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The answers of one connection that wait for the journal; see the module.
pub(crate) struct Answers<A> {
    outbox: Arc<Outbox>,
    live: OnceLock<Arc<LiveConnection>>,
    store_failed: AtomicBool,
    state: Mutex<State<A>>,
}

struct State<A> {
    /// Where the committer can write, if it can.
    socket: Option<Arc<dyn DirectWrite>>,
    holder: Holder,
    /// In the order of records, those of a link also in their own.
    waiting: VecDeque<Waiting<A>>,
    /// Those of `waiting` that are being answered; empty between calls.
    due: Vec<Waiting<A>>,
    /// What the committer encoded and the socket did not take.
    unsent: Transmit,
    answered: Answered,
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
struct Waiting<A> {
    link: LinkId,
    lsn: Lsn,
    answer: A,
}

/// What a protocol says when a record is durable. Known to the compiler where it is used, so that no call is in between.
pub(crate) trait Answer: Send + Sized + 'static {
    /// Whether one answer can say what this one and the next on its link say, which is due at the same time.
    fn joins(&self, next: &Self) -> bool;

    /// Takes in the next one, which it [joins](Answer::joins).
    fn join(&mut self, next: Self);

    /// The last publish that it confirms, if it confirms any: all up to that one have been answered.
    fn confirms(&self) -> Option<PublishId>;

    /// The committer is about to send it without the session: what it confirms is counted where others look.
    fn count(&self, link: LinkId, progress: &mut Progress);

    /// Encodes it.
    fn put(self, link: LinkId, out: &mut Transmit);
}

/// What was answered since the session last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Up to which publish links have been confirmed.
    pub(crate) confirmed: Vec<(LinkId, PublishId)>,
    /// What the committer wrote, and how often.
    pub(crate) sent_bytes: u64,
    pub(crate) sent_count: u64,
}

impl<A: Answer> Answers<A> {
    /// Answers of a session that is woken through `outbox`; the committer writes to `socket`, or wakes the session if there is none.
    pub(crate) fn new(outbox: Arc<Outbox>, socket: Option<Arc<dyn DirectWrite>>) -> Answers<A> {
        let state = State {
            socket,
            holder: Holder::Session,
            waiting: VecDeque::new(),
            due: Vec::new(),
            unsent: Transmit::default(),
            answered: Answered::default(),
        };
        Answers {
            outbox,
            live: OnceLock::new(),
            store_failed: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// The connection is in the broker's list, where the committer enters what it does.
    pub(crate) fn enter_progress_in(&self, live: Arc<LiveConnection>) {
        // A connection is opened once.
        let _ = self.live.set(live);
    }

    /// Whether the store has failed, so that what waits never becomes durable.
    pub(crate) fn store_failed(&self) -> bool {
        self.store_failed.load(Ordering::Acquire)
    }

    /// Something waits for that record. If the session has something to send (`has_unsent`), that goes before. The session has to
    /// look at the watermark after this: the record may be durable already.
    pub(crate) fn add(&self, link: LinkId, lsn: Lsn, answer: A, has_unsent: bool) {
        let mut state = self.state.lock();
        if has_unsent {
            state.take_socket();
        }
        // What waits for no record of its own waits for one of an earlier turn.
        let at = state.waiting.partition_point(|other| other.lsn <= lsn);
        state.waiting.insert(at, Waiting { link, lsn, answer });
    }

    /// The last record that something of a link waits for.
    pub(crate) fn last_of(&self, link: LinkId) -> Option<Lsn> {
        let state = self.state.lock();
        state.waiting.iter().rev().find(|waiting| waiting.link == link).map(|waiting| waiting.lsn)
    }

    /// The session sends: what the committer could not, then `replies`, then what is due. False when the committer is writing: the
    /// session is woken as soon as it is done.
    pub(crate) fn begin(
        &self,
        durable: Lsn,
        replies: &mut Transmit,
        out: &mut Transmit,
        answered: &mut Answered,
    ) -> bool {
        let mut state = self.state.lock();
        if !state.take_socket() {
            return false;
        }
        out.append(&mut state.unsent);
        out.append(replies);
        state.answer(durable, out, None);
        std::mem::swap(answered, &mut state.answered);
        true
    }

    /// The session has looked; `is_silent` when all it had to say is with the socket. Returns whether anything waits; if not, the
    /// session keeps the socket, and need not call [`Answers::begin`] before it adds something.
    pub(crate) fn finish(&self, is_silent: bool) -> bool {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            return false;
        }
        if is_silent {
            state.holder = Holder::Nobody;
        }
        true
    }

    /// A link is about to end: what is due of its answers goes behind the session's replies. Returns the last publish that this
    /// confirms.
    pub(crate) fn answer_link(
        &self,
        link: LinkId,
        durable: Lsn,
        replies: &mut Transmit,
    ) -> Option<PublishId> {
        let mut state = self.state.lock();
        // What the committer is writing goes before what the session replies.
        state.take_socket();
        let is_due = |waiting: &Waiting<A>| waiting.link == link && waiting.lsn <= durable;
        let (due, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut state.waiting).into_iter().partition(is_due);
        state.waiting = waiting;
        state.due.extend(due);
        state.answer_due(replies, None);
        let confirmed = state.answered.confirmed.iter().find(|(other, _)| *other == link);
        confirmed.map(|(_, last)| *last)
    }

    /// A link has ended: what it waits for is not answered.
    pub(crate) fn forget(&self, link: LinkId) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| waiting.link != link);
        state.answered.confirmed.retain(|(other, _)| *other != link);
    }

    /// The connection has ended: nothing is answered, and the socket is released.
    pub(crate) fn end(&self) {
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
        state.answered.sent_bytes += out.len() as u64;
        state.answered.sent_count += u64::from(!out.is_empty());
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

impl<A: Answer> State<A> {
    /// The session holds the socket, or is noted to wait for it.
    fn take_socket(&mut self) -> bool {
        if let Holder::Committer { session_waits } = &mut self.holder {
            *session_waits = true;
            return false;
        }
        self.holder = Holder::Session;
        true
    }

    /// Encodes what is due, with as few answers as can be.
    fn answer(&mut self, durable: Lsn, out: &mut Transmit, progress: Option<&mut Progress>) {
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.lsn <= durable) {
            self.due.push(waiting);
        }
        self.answer_due(out, progress);
    }

    fn answer_due(&mut self, out: &mut Transmit, mut progress: Option<&mut Progress>) {
        self.due.sort_by_key(|waiting| waiting.link);
        let mut due = std::mem::take(&mut self.due);
        let mut answers = due.drain(..).peekable();
        while let Some(Waiting { link, mut answer, .. }) = answers.next() {
            while let Some(next) = answers.next_if(|next| next.link == link && answer.joins(&next.answer)) {
                answer.join(next.answer);
            }
            if let Some(progress) = &mut progress {
                answer.count(link, progress);
            }
            if let Some(last) = answer.confirms() {
                self.answered.confirm(link, last);
            }
            answer.put(link, out);
        }
        drop(answers);
        self.due = due;
    }
}

impl Answered {
    fn confirm(&mut self, link: LinkId, last: PublishId) {
        match self.confirmed.iter_mut().find(|(other, _)| *other == link) {
            Some((_, up_to)) => *up_to = last,
            None => self.confirmed.push((link, last)),
        }
    }
}

impl<A: Answer> DurableWaiter for Answers<A> {
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
