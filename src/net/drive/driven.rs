//! A session behind a socket, as its task and other threads have it.

use super::bell::{Bell, SendNow, SmallTurn};
use crate::message::Millis;
use crate::session::{DirectWrite, Flow, Session, Transmit};
use bytes::{Buf, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A session behind a socket. Its task has it read and send; another thread may have it send in between, see [`super::bell`].
pub(in crate::net) struct Driven<S> {
    state: Mutex<State<S>>,
    pub(super) bell: Arc<Bell>,
    /// Where another thread writes.
    socket: Option<Arc<dyn DirectWrite>>,
}

/// What its task and others share of a session.
pub(super) struct State<S> {
    pub(super) session: S,
    /// What it gave to be sent.
    pub(super) out: Transmit,
    /// What the session said last.
    pub(super) flow: Flow,
    pub(super) last_written: Millis,
    /// When its task looks at it again at the latest.
    pub(super) looks_at: Option<Millis>,
    /// It has panicked on another thread.
    pub(super) failed: bool,
}

impl<S: Session> Driven<S> {
    /// A session that is woken by `bell`. Others write to `socket`, if they may.
    pub(in crate::net) fn new(
        session: S,
        bell: Arc<Bell>,
        socket: Option<Arc<dyn DirectWrite>>,
        now: Millis,
    ) -> Driven<S> {
        let state = State {
            session,
            out: Transmit::default(),
            flow: Flow::Paused,
            last_written: now,
            looks_at: None,
            failed: false,
        };
        Driven { state: Mutex::new(state), bell, socket }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock()
    }

    /// A turn. After a small one, those that it has woken send at once if they can.
    pub(super) fn handle_input(&self, input: &mut BytesMut, read: usize, now: Millis) -> bool {
        let small = SmallTurn::begin(read);
        let unhandled = self.lock().session.handle_input(input, now);
        if let Some(small) = small {
            small.end(now);
        }
        unhandled
    }
}

impl<S: Session> SendNow for Driven<S> {
    fn send_now(&self, now: Millis) -> bool {
        let (Some(mut state), Some(socket)) = (self.state.try_lock(), &self.socket) else { return false };
        let state = &mut *state;
        if state.failed || state.flow != Flow::Open || !state.out.is_empty() {
            return false;
        }
        // The turn that this comes after is another's, and is not to end with it.
        let sent = catch_unwind(AssertUnwindSafe(|| state.send_now(&**socket, now)));
        if sent.is_err() {
            tracing::error!("a session failed when another had it send, please report this");
            state.failed = true;
        }
        sent.unwrap_or(false)
    }
}

impl<S: Session> State<S> {
    fn send_now(&mut self, socket: &dyn DirectWrite, now: Millis) -> bool {
        self.last_written = now;
        // Asked a second time, as by its task, the session knows that all has been sent.
        for _ in 0..2 {
            self.flow = self.session.poll_transmit(&mut self.out, now);
            if self.flow != Flow::Open {
                return false;
            }
            if self.out.is_empty() {
                let is_seen_to = |at| self.looks_at.is_some_and(|looks_at| looks_at <= at);
                return self.session.poll_timeout().is_none_or(is_seen_to);
            }
            while !self.out.is_empty() {
                match socket.write_now(self.out.chunk()) {
                    0 => return false,
                    written => self.out.advance(written),
                }
            }
        }
        false
    }
}
