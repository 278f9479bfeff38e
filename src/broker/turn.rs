//! A turn: one pass of a session, or of the timer, through the core. It carries the time, what the journal has to hear of,
//! and what has to be done when no queue is locked.

use super::delivery::Outbox;
use super::observe::stats::MessageSizes;
use super::queue::{DeadLetter, Discard, PageRequest, QueueDefinition, Stream};
use crate::message::{Lsn, Millis, Name, Position, QueueId};
use crate::steps;
use crate::store::Journal;

pub use crate::store::{Changes, DurableWaiter, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a queue wants done elsewhere. It is done after the queue's lock is released, see [`super::VirtualHost::apply_effects`].
#[derive(Debug)]
pub enum Effect {
    /// A message is dead-lettered: it goes to the dead-letter exchange, or is dropped.
    DeadLetter(DeadLetter),
    /// Dead letters of the vhost that wait for the timer go on.
    SendLetters,
    /// The queue has had its time: it expired, or its last consumer left.
    Delete {
        /// The name of the queue that is to be deleted.
        name: Name,
        /// Its id, since another queue may bear the name by then.
        id: QueueId,
    },
    /// The queue wants messages back that have left memory.
    PageIn {
        /// The queue that wants them.
        queue: Arc<QueueDefinition>,
        /// Which messages.
        wanted: PageRequest,
    },
    /// The queue wants messages back that are on their way to a dead-letter exchange.
    ReadDeadLetters {
        /// The queue that they leave.
        queue: Arc<QueueDefinition>,
        /// The priority of their lane.
        priority: u8,
        /// The first one wanted.
        from: Position,
        /// How many bytes of them.
        bytes_max: usize,
    },
    /// Messages have left their queue that nobody has been given: purged ones, and those of a queue that is gone.
    Discard(Box<Discard>),
    /// The queue wants to be looked at.
    WakeAt {
        /// The name of the queue that is to be looked at.
        name: Name,
        /// At what time.
        at: Millis,
    },
}

/// How many steps a turn may take, of some ten nanoseconds each, before others have theirs: half a millisecond or so, more where memory is cold.
pub(super) const TURN_STEPS: usize = 50_000;

/// What it takes to put a message into a queue and give it to a consumer, in steps.
pub const DELIVERY_STEPS: usize = 10;

/// How long a session holds back before it looks again.
const MOMENT_NS: u64 = 1_000_000;

/// What goes along with the calls of one turn; see the module.
#[derive(Default)]
pub struct Turn {
    /// The time of the whole turn.
    pub now: Millis,
    /// The changes for the journal.
    pub changes: Changes,
    /// What has to be done when no lock is held.
    pub effects: Vec<Effect>,
    /// Consumers or the store can't keep up with what this turn publishes: how long its session should pause, in nanoseconds.
    pub hold_back_ns: u64,
    /// What is called when the turn's changes are durable.
    pub waiter: Option<Arc<dyn DurableWaiter>>,
    /// How large the messages were that were published.
    pub sizes: MessageSizes,
    /// See [`Turn::spend`].
    spent: usize,
    appended: Option<Lsn>,
    /// Streams that the turn has changed what they remember of.
    tracked: Vec<Arc<Stream>>,
    /// Publishers of streams that the turn has changed what is remembered of.
    publishers: BTreeMap<(QueueId, Arc<str>), Arc<Stream>>,
    wakes: Vec<Arc<Outbox>>,
}

/// Changes that become one record later, see [`Turn::exchange`].
#[derive(Debug, Default)]
pub struct AsideChanges {
    changes: Changes,
    tracked: Vec<Arc<Stream>>,
    publishers: BTreeMap<(QueueId, Arc<str>), Arc<Stream>>,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("now", &self.now).field("effects", &self.effects).finish_non_exhaustive()
    }
}

impl Turn {
    /// A turn at that time.
    pub fn at(now: Millis) -> Turn {
        Turn { now, ..Turn::default() }
    }

    /// The next turn begins.
    pub fn begin(&mut self, now: Millis) {
        self.now = now;
        self.spent = 0;
        self.appended = None;
    }

    /// Counts work whose length a client decides, in steps of some ten nanoseconds.
    #[inline]
    pub fn spend(&mut self, steps: usize) {
        steps::count(steps);
        self.spent += steps;
    }

    /// Something has taken all of the turn's time, and has counted that itself.
    pub(super) fn use_up(&mut self) {
        self.spent = self.spent.max(TURN_STEPS);
    }

    /// Whether it has taken so long that what is left of something should be done in the next one.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.spent >= steps::at_once(TURN_STEPS)
    }

    /// Whether it has taken so long that no more of the input should be handled in it.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.spent >= TURN_STEPS
    }

    /// Hands what has changed so far to the journal, and returns the record that it will be in, if there was anything.
    pub fn append_to(&mut self, journal: &Journal) -> Option<Lsn> {
        if self.changes.is_empty() {
            return None;
        }
        let lsn = journal.append(&mut self.changes, self.waiter.clone());
        self.appended = Some(lsn);
        for stream in self.tracked.drain(..) {
            stream.note_tracked(lsn);
        }
        while let Some(((_, name), stream)) = self.publishers.pop_first() {
            stream.note_published(&name);
        }
        if journal.is_behind() {
            self.hold_back();
        }
        Some(lsn)
    }

    /// A stream has changed what it remembers of its consumers.
    pub(super) fn track(&mut self, stream: &Arc<Stream>) {
        self.tracked.push(stream.clone());
    }

    /// A stream has changed what it remembers of a publisher.
    pub(super) fn track_publisher(&mut self, stream: &Arc<Stream>, name: &Arc<str>) {
        self.track(stream);
        self.publishers.insert((stream.id(), name.clone()), stream.clone());
    }

    /// Whether this turn has changed what that stream remembers of a publisher, and has not been handed to the journal since.
    pub(super) fn has_tracked(&self, stream: QueueId, name: &Arc<str>) -> bool {
        !self.publishers.is_empty() && self.publishers.contains_key(&(stream, name.clone()))
    }

    /// What is changed from now on is put aside with what `aside` has, until this is called again.
    pub fn exchange(&mut self, aside: &mut AsideChanges) {
        std::mem::swap(&mut self.changes, &mut aside.changes);
        std::mem::swap(&mut self.tracked, &mut aside.tracked);
        std::mem::swap(&mut self.publishers, &mut aside.publishers);
    }

    /// The record that was last handed to the journal in this turn, if one was: what is put into queues now is in it, or in one before.
    pub fn appended(&self) -> Option<Lsn> {
        self.appended
    }

    /// Consumers or the store can't keep up: the turn's session should pause for a moment.
    pub fn hold_back(&mut self) {
        self.hold_back_ns += MOMENT_NS;
    }

    /// Has a session woken when the turn ends: once, however much it was given.
    pub fn wake(&mut self, outbox: &Arc<Outbox>) {
        self.wakes.push(outbox.clone());
    }

    /// Wakes the sessions that the turn gave something to.
    pub fn wake_all(&mut self) {
        for outbox in self.wakes.drain(..) {
            outbox.wake();
        }
    }
}
