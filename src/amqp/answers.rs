//! Answers that wait until the journal is durable: publisher confirms, and tx.commit-ok.
//!
//! A session enters them when its turn ends, and gives those that are due whenever it sends. While it has nothing to send, the
//! committer writes them to the socket itself, unless very many wait for the same commit. It is the first to know, and waking the
//! session takes more time than one frame does; and while it writes, the next commit gathers.
//!
//! Who writes to the socket holds it until all it has is written, so that frames stay whole. Nothing is locked while the committer
//! writes: a session that finds it there goes on when it is woken.

use super::frame::put_raw_method;
use crate::broker::connections::{LiveConnection, Progress};
use crate::broker::delivery::Outbox;
use crate::broker::turn::{DurableWaiter, StoreError};
use crate::message::{ChannelNumber, Lsn};
use crate::session::{DirectWrite, Transmit};
use bytes::Buf;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// See the module. A connection has one.
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

/// Who may write to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Who comes first.
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

/// What the client is told when a record is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// basic.ack.
    Confirm(Publishes),
    /// tx.commit-ok.
    CommitOk,
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

    /// A channel has ended: what it waits for is not answered.
    pub(super) fn forget(&self, channel: ChannelNumber) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| waiting.channel != channel);
        state.told.confirmed.retain(|(number, _)| *number != channel);
    }

    /// The connection has ended: nothing is answered, and the socket is let go.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.take_socket();
        state.waiting.clear();
        state.socket = None;
    }

    /// Writes what is due, if nobody else is writing. False when the session has to be woken.
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
    fn answer(&mut self, durable: Lsn, out: &mut Transmit, mut progress: Option<&mut Progress>) {
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.lsn <= durable) {
            self.due.push(waiting);
        }
        self.due.sort_by_key(|waiting| waiting.channel);
        let mut due = std::mem::take(&mut self.due);
        let mut answers = due.drain(..).peekable();
        while let Some(Waiting { channel, answer, .. }) = answers.next() {
            let Answer::Confirm(mut publishes) = answer else {
                put_commit_ok(out, channel);
                continue;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Weak;
    use std::sync::atomic::AtomicUsize;

    /// Takes so many bytes, and lets the session try to send in the midst of it.
    #[derive(Default)]
    struct Socket {
        takes: AtomicUsize,
        written: Mutex<Vec<u8>>,
        session: Mutex<Weak<Answers>>,
    }

    impl DirectWrite for Socket {
        fn write_now(&self, bytes: &[u8]) -> usize {
            let takes = self.takes.load(Ordering::Relaxed).min(bytes.len());
            self.written.lock().extend_from_slice(&bytes[..takes]);
            if let Some(answers) = self.session.lock().upgrade() {
                let (mut replies, mut out) = (Transmit::default(), Transmit::default());
                replies.put(b"reply");
                assert!(!answers.begin(Lsn(9), &mut replies, &mut out, &mut Told::default()));
                assert_eq!((replies.len(), out.len()), (5, 0));
            }
            takes
        }
    }

    struct Fixture {
        answers: Arc<Answers>,
        socket: Arc<Socket>,
        wakes: Arc<AtomicUsize>,
    }

    impl Fixture {
        fn new() -> Fixture {
            let wakes = Arc::new(AtomicUsize::new(0));
            let counter = wakes.clone();
            let outbox = Arc::new(Outbox::new(Box::new(move || {
                counter.fetch_add(1, Ordering::Relaxed);
            })));
            let socket = Arc::new(Socket { takes: AtomicUsize::new(usize::MAX), ..Socket::default() });
            let answers = Arc::new(Answers::new(outbox, Some(socket.clone())));
            Fixture { answers, socket, wakes }
        }

        /// A turn that publishes, after which nothing is left to send.
        fn publish(&self, channel: ChannelNumber, tags: std::ops::RangeInclusive<u64>, lsn: u64) {
            self.answers.add(channel, Lsn(lsn), confirm(tags, &[]), false);
            self.send(0);
            assert!(self.answers.finish(true));
        }

        /// What the session sends.
        fn send(&self, durable: u64) -> (Vec<u8>, Told) {
            let (mut out, mut told) = (Transmit::default(), Told::default());
            assert!(self.answers.begin(Lsn(durable), &mut Transmit::default(), &mut out, &mut told));
            (out.chunk().to_vec(), told)
        }

        fn written(&self) -> Vec<u8> {
            std::mem::take(&mut self.socket.written.lock())
        }

        fn wakes(&self) -> usize {
            self.wakes.swap(0, Ordering::Relaxed)
        }
    }

    fn confirm(tags: std::ops::RangeInclusive<u64>, nacked: &[u64]) -> Answer {
        Answer::Confirm(Publishes { first: *tags.start(), last: *tags.end(), nacked: nacked.to_vec() })
    }

    fn ack(channel: u8, tag: u8, multiple: u8) -> Vec<u8> {
        vec![1, 0, channel, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, tag, multiple, 0xCE]
    }

    #[test]
    fn each_channel_gets_one_ack_for_all_that_is_durable() {
        let Fixture { answers, .. } = Fixture::new();
        let acks = |durable| {
            let mut out = Transmit::default();
            assert!(answers.begin(Lsn(durable), &mut Transmit::default(), &mut out, &mut Told::default()));
            out.chunk().to_vec()
        };
        for (channel, tags, lsn) in [(1, 1..=3, 1), (2, 1..=1, 1), (1, 4..=4, 1), (1, 5..=6, 2)] {
            answers.add(channel, Lsn(lsn), confirm(tags, &[]), false);
        }
        assert!(acks(0).is_empty());
        assert_eq!(acks(1), [ack(1, 4, 1), ack(2, 1, 0)].concat());
        assert!(acks(1).is_empty());
        // What waits for no record is confirmed at once, and so on a channel where nothing else waits.
        answers.add(2, Lsn(0), confirm(2..=2, &[]), false);
        assert_eq!(acks(1), ack(2, 2, 0));
        assert_eq!(acks(9), ack(1, 6, 1));
    }

    #[test]
    fn what_was_nacked_is_not_acked() {
        let Fixture { answers, .. } = Fixture::new();
        for (tags, nacked, acked) in [
            (1..=3, &[2, 3][..], Some(ack(1, 1, 0))),
            (4..=5, &[4, 5], None),
            (6..=8, &[7], Some(ack(1, 8, 1))),
        ] {
            answers.add(1, Lsn(1), confirm(tags.clone(), nacked), false);
            let (mut out, mut told) = (Transmit::default(), Told::default());
            assert!(answers.begin(Lsn(1), &mut Transmit::default(), &mut out, &mut told));
            assert_eq!(out.chunk(), acked.unwrap_or_default());
            assert_eq!(told.confirmed, [(1, *tags.end())]);
        }
    }

    #[test]
    fn a_silent_session_is_not_woken() {
        let fixture = Fixture::new();
        fixture.publish(1, 1..=2, 5);
        fixture.publish(2, 1..=1, 6);
        fixture.answers.durable(Lsn(4), false);
        assert_eq!((fixture.written(), fixture.wakes()), (vec![], 0));
        fixture.answers.durable(Lsn(5), false);
        fixture.answers.durable(Lsn(7), false);
        assert_eq!(fixture.written(), [ack(1, 2, 1), ack(2, 1, 0)].concat());
        assert_eq!(fixture.wakes(), 0);
        let (sent, told) = fixture.send(7);
        assert!(sent.is_empty());
        assert_eq!(told, Told { confirmed: vec![(1, 2), (2, 1)], sent_bytes: 42, sent_count: 2 });
        assert!(!fixture.answers.finish(true), "nothing waits");
    }

    #[test]
    fn a_session_that_has_something_to_send_answers_itself() {
        let fixture = Fixture::new();
        fixture.publish(1, 1..=1, 5);
        // A message comes back before the publish behind it is confirmed.
        fixture.answers.add(1, Lsn(6), confirm(2..=3, &[]), true);
        fixture.answers.durable(Lsn(6), false);
        assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
        assert_eq!(fixture.send(6).0, ack(1, 3, 1));
        // Nor is its socket written to while the peer has not taken everything.
        fixture.answers.add(1, Lsn(7), confirm(4..=4, &[]), false);
        assert!(fixture.answers.finish(false));
        fixture.answers.durable(Lsn(7), false);
        assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
    }

    #[test]
    fn a_committer_in_a_hurry_only_wakes_the_session() {
        let fixture = Fixture::new();
        fixture.publish(1, 1..=1, 5);
        fixture.answers.durable(Lsn(5), true);
        assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
        assert_eq!(fixture.send(5).0, ack(1, 1, 0));
    }

    #[test]
    fn what_the_socket_does_not_take_goes_first() {
        for takes in [0, 8] {
            let fixture = Fixture::new();
            fixture.socket.takes.store(takes, Ordering::Relaxed);
            fixture.publish(1, 1..=1, 5);
            fixture.publish(1, 2..=2, 6);
            fixture.answers.durable(Lsn(5), false);
            assert_eq!((fixture.written(), fixture.wakes()), (ack(1, 1, 0)[..takes].to_vec(), 1));
            fixture.answers.durable(Lsn(6), false);
            assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
            let mut replies = Transmit::default();
            replies.put(b"reply");
            let mut out = Transmit::default();
            assert!(fixture.answers.begin(Lsn(6), &mut replies, &mut out, &mut Told::default()));
            let rest = &ack(1, 1, 0)[takes..];
            assert_eq!(out.chunk(), [rest, &b"reply"[..], &ack(1, 2, 0)].concat());
        }
    }

    #[test]
    fn a_session_waits_for_the_committer_to_write_and_is_woken_then() {
        let fixture = Fixture::new();
        fixture.publish(1, 1..=1, 5);
        *fixture.socket.session.lock() = Arc::downgrade(&fixture.answers);
        fixture.answers.durable(Lsn(5), false);
        assert_eq!((fixture.written(), fixture.wakes()), (ack(1, 1, 0), 1));
        assert!(fixture.send(5).0.is_empty());
    }

    #[test]
    fn what_has_ended_is_not_answered() {
        let fixture = Fixture::new();
        fixture.publish(1, 1..=1, 5);
        fixture.publish(2, 1..=1, 5);
        fixture.answers.forget(1);
        fixture.answers.durable(Lsn(5), false);
        assert_eq!(fixture.written(), ack(2, 1, 0));
        fixture.publish(2, 2..=2, 6);
        fixture.answers.end();
        fixture.answers.durable(Lsn(6), false);
        assert!(fixture.written().is_empty());
        assert_eq!(Arc::strong_count(&fixture.socket), 1, "the socket is let go");
    }

    #[test]
    fn commits_are_answered_in_order() {
        let fixture = Fixture::new();
        fixture.answers.add(3, Lsn(1), Answer::CommitOk, false);
        fixture.answers.add(3, Lsn(2), Answer::CommitOk, false);
        fixture.send(0);
        assert!(fixture.answers.finish(true));
        let commit_ok = [1, 0, 3, 0, 0, 0, 4, 0, 90, 0, 21, 0xCE];
        fixture.answers.durable(Lsn(1), false);
        assert_eq!(fixture.written(), commit_ok);
        fixture.answers.durable(Lsn(2), false);
        assert_eq!((fixture.written(), fixture.wakes()), (commit_ok.to_vec(), 0));
    }

    #[test]
    fn a_store_that_fails_wakes_the_session() {
        let fixture = Fixture::new();
        assert!(!fixture.answers.store_failed());
        fixture.answers.failed(&StoreError::Failed("full".to_owned()));
        assert!(fixture.answers.store_failed() && fixture.wakes() == 1);
    }
}
