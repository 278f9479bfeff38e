//! How a session is woken: by its bell, which its own task hears, or by another event loop that has it send at once.
//!
//! A message that comes alone to a broker that sleeps would wake two of its threads: the publisher's event loop, and the
//! consumer's. To wake a thread takes far longer than to send a message, most of all on another processor. So after a small turn an
//! event loop itself has those sessions send that the turn woke and whose loops sleep. Where there is more to do each session sends
//! on its own loop, and what is sent gathers meanwhile: where loops do not sleep, turns are large, or one wake-up brings several.

use crate::message::Millis;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::Notify;

/// A turn with so much input is no small one.
const SMALL_TURN_BYTES: usize = 4096;

/// For how many sessions a loop sends after a turn. More are served sooner by several threads.
const ATTENDED_MAX: usize = 4;

/// Whether an event loop sleeps.
#[derive(Debug, Default)]
pub(in crate::net) struct Sleep(AtomicBool);

impl Sleep {
    /// The loop falls asleep. Called on its thread, as is [`Sleep::end`].
    pub(in crate::net) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// It has been woken.
    pub(in crate::net) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
        THREAD.with(|thread| thread.was_quiet.set(thread.turns.replace(0) <= 1));
    }

    /// Whether it lasts: a guess, since it may end at any moment.
    fn lasts(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A session that another thread than its own can have send.
pub(in crate::net) trait SendNow: Send + Sync {
    /// Sends what waits for it. False when its own task has to go on.
    fn send_now(&self, now: Millis) -> bool;
}

/// What wakes one session; see the module.
pub(in crate::net) struct Bell {
    rung: Notify,
    /// That of the event loop which the session's task is on.
    sleep: Arc<Sleep>,
    session: OnceLock<Weak<dyn SendNow>>,
}

/// What a thread knows of its turn.
#[derive(Default)]
struct Thread {
    /// Turns of its sessions since its loop slept.
    turns: Cell<u32>,
    /// There was no more than one between the two sleeps before.
    was_quiet: Cell<bool>,
    /// Its turn is a small one.
    gathers: Cell<bool>,
    /// The sessions that the small turn woke.
    rung: RefCell<Vec<Arc<Bell>>>,
}

thread_local! {
    static THREAD: Thread = Thread::default();
}

impl Bell {
    /// The bell of a session whose task is on the event loop that sleeps then.
    pub(in crate::net) fn new(sleep: Arc<Sleep>) -> Bell {
        Bell { rung: Notify::new(), sleep, session: OnceLock::new() }
    }

    /// From now on others may have the session send.
    pub(in crate::net) fn admit(&self, session: Weak<dyn SendNow>) {
        // A session is admitted once, by its task.
        let _ = self.session.set(session);
    }

    /// Something waits for the session.
    pub(in crate::net) fn ring(self: &Arc<Bell>) {
        if self.session.get().is_none() || !THREAD.with(|thread| thread.gather(self)) {
            self.rung.notify_one();
        }
    }

    /// Waits until it rings.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }

    /// Has the session send, or wakes its task.
    fn attend(&self, now: Millis) {
        let session = self.session.get().filter(|_| self.sleep.lasts()).and_then(Weak::upgrade);
        if !session.is_some_and(|session| session.send_now(now)) {
            self.rung.notify_one();
        }
    }
}

impl Thread {
    /// Keeps a bell until the turn has ended. False when it has to ring now.
    fn gather(&self, bell: &Arc<Bell>) -> bool {
        let mut rung = self.rung.borrow_mut();
        let gathers = self.gathers.get() && rung.len() < ATTENDED_MAX;
        if gathers {
            rung.push(bell.clone());
        }
        gathers
    }

    fn end_turn(&self, each: impl Fn(&Bell)) {
        // What these sessions wake while they send is left to its own tasks.
        self.gathers.set(false);
        let mut rung = self.rung.take();
        rung.drain(..).for_each(|bell| each(&bell));
        self.rung.replace(rung);
    }
}

/// A turn after which those that it has woken send at once, as far as their loops sleep.
pub(super) struct SmallTurn(());

impl SmallTurn {
    /// Begins one on this thread, if a turn with so much input is one: a small turn where no other has come since the thread was
    /// woken, nor did the last time.
    pub(super) fn begin(input_bytes: usize) -> Option<SmallTurn> {
        THREAD.with(|thread| {
            let is_first = thread.turns.replace(thread.turns.get().saturating_add(1)) == 0;
            let is_small = is_first && thread.was_quiet.get() && input_bytes < SMALL_TURN_BYTES;
            thread.gathers.set(is_small);
            is_small.then_some(SmallTurn(()))
        })
    }

    /// Ends the turn: sends for the sessions that it woke, or wakes their loops.
    pub(super) fn end(self, now: Millis) {
        THREAD.with(|thread| thread.end_turn(|bell| bell.attend(now)));
    }
}

impl Drop for SmallTurn {
    /// A turn that panicked has woken its sessions too.
    fn drop(&mut self) {
        THREAD.with(|thread| thread.end_turn(|bell| bell.rung.notify_one()));
    }
}

/// Runs something as a small turn of an event loop.
#[cfg(test)]
pub(super) fn in_a_small_turn(turn: impl FnOnce()) {
    Sleep::default().end();
    let small = SmallTurn::begin(1).expect("it is one");
    turn();
    small.end(7);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Waker};

    /// Counts how often it was had to send.
    #[derive(Default)]
    struct Counting {
        sent: AtomicUsize,
        leaves_something: AtomicBool,
    }

    impl SendNow for Counting {
        fn send_now(&self, now: Millis) -> bool {
            assert_eq!(now, 7);
            self.sent.fetch_add(1, Ordering::Relaxed);
            !self.leaves_something.load(Ordering::Relaxed)
        }
    }

    /// A session, and the loop it is on.
    struct Rig {
        session: Arc<Counting>,
        sleep: Arc<Sleep>,
        bell: Arc<Bell>,
    }

    impl Rig {
        /// On a loop that sleeps.
        fn asleep() -> Rig {
            let (session, sleep) = (Arc::new(Counting::default()), Arc::new(Sleep::default()));
            sleep.begin();
            let bell = Arc::new(Bell::new(sleep.clone()));
            let others = Arc::downgrade(&session);
            bell.admit(others);
            Rig { session, sleep, bell }
        }

        /// How often it was had to send, and whether its bell has rung, since this was asked last.
        fn heard(&self) -> (usize, bool) {
            let rang = pin!(self.bell.rung()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
            (self.session.sent.swap(0, Ordering::Relaxed), rang)
        }
    }

    /// The loop of this thread wakes, and has a turn with so much input.
    fn turn(input_bytes: usize, what: impl FnOnce()) {
        Sleep::default().end();
        next_turn(input_bytes, what);
    }

    fn next_turn(input_bytes: usize, what: impl FnOnce()) {
        let small = SmallTurn::begin(input_bytes);
        what();
        if let Some(small) = small {
            small.end(7);
        }
    }

    #[test]
    fn a_session_whose_loop_sleeps_sends_after_a_small_turn() {
        let rig = Rig::asleep();
        turn(100, || {
            rig.bell.ring();
            assert_eq!(rig.heard(), (0, false), "the turn is not over");
        });
        assert_eq!(rig.heard(), (1, false));
        rig.session.leaves_something.store(true, Ordering::Relaxed);
        turn(100, || rig.bell.ring());
        assert_eq!(rig.heard(), (1, true), "its task goes on");
    }

    #[test]
    fn a_session_is_woken_where_there_is_more_to_do() {
        let rig = Rig::asleep();
        rig.bell.ring();
        assert_eq!(rig.heard(), (0, true), "outside of turns");
        turn(SMALL_TURN_BYTES, || rig.bell.ring());
        assert_eq!(rig.heard(), (0, true), "after a large turn");
        turn(100, || {});
        next_turn(100, || rig.bell.ring());
        assert_eq!(rig.heard(), (0, true), "after a second turn");
        turn(100, || rig.bell.ring());
        assert_eq!(rig.heard(), (0, true), "when there were two the last time");
        turn(100, || rig.bell.ring());
        assert_eq!(rig.heard(), (1, false), "when it is quiet again");
        rig.bell.ring();
        assert_eq!(rig.heard(), (0, true), "between turns");
        rig.sleep.0.store(false, Ordering::Relaxed);
        turn(100, || rig.bell.ring());
        assert_eq!(rig.heard(), (0, true), "on a loop that is awake");
    }

    #[test]
    fn many_sessions_are_woken() {
        let rigs: Vec<Rig> = (0..ATTENDED_MAX + 2).map(|_| Rig::asleep()).collect();
        turn(100, || rigs.iter().for_each(|rig| rig.bell.ring()));
        let (attended, woken) = rigs.split_at(ATTENDED_MAX);
        assert!(attended.iter().all(|rig| rig.heard() == (1, false)));
        assert!(woken.iter().all(|rig| rig.heard() == (0, true)));
    }

    #[test]
    fn a_turn_that_panics_leaves_nobody_waiting() {
        let rig = Rig::asleep();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            turn(100, || {
                rig.bell.ring();
                panic!("a turn that fails");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(rig.heard(), (0, true));
        rig.bell.ring();
        assert_eq!(rig.heard(), (0, true), "the turn is over");
    }

    #[test]
    fn a_session_that_is_gone_is_no_trouble() {
        let Rig { session, bell, .. } = Rig::asleep();
        drop(session);
        turn(100, || bell.ring());
    }
}
