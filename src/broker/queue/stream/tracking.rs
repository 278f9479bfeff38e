//! What a stream remembers of those who use it by name: up to where consumers have acknowledged, and publishers have published.
//!
//! A change is written into the turn that makes it, as a message of a hidden queue beside the stream's: so it is durable together with
//! all else that the turn changes, and a transaction's acknowledgements and publishes are one. The streams' thread writes all of it
//! into a file of the stream's now and then, after which the journal forgets the changes.

use crate::broker::turn::Turn;
use crate::message::{FORMAT_AMQP_091, Lsn, Millis, Position, QueueId, StoredShape};
use crate::store::stream::{CommittedOffset, PublisherSequence, TrackingChange, TrackingNotes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The hidden queue that the changes are messages of. Its number is that of the stream with a bit that no queue's has: queues are
/// counted from each start on, and not that far.
pub(in crate::broker) fn tracking_queue(stream: QueueId) -> QueueId {
    QueueId(stream.0 | 1 << 31)
}

/// The shape of a change as a message: a body alone.
const SHAPE: StoredShape = StoredShape {
    format: FORMAT_AMQP_091,
    exchange_bytes: 0,
    routing_key_bytes: 0,
    properties_bytes: 0,
    dead_lettered: false,
};

/// What a stream remembers of consumers and publishers, see the module.
#[derive(Debug)]
pub(super) struct Tracking {
    notes: TrackingNotes,
    queue: QueueId,
    /// The position of the last change.
    last: u64,
    /// Changes up to this one are in the file.
    written: u64,
    /// The number of the file's last writing.
    writing: u64,
    /// Changes of turns that have not been handed to the journal yet.
    unappended: u32,
    /// Publishers that such turns have changed.
    staged: BTreeSet<Arc<str>>,
    /// The record that the last of the others is in.
    appended: Lsn,
}

/// What is to be written into the file.
pub(super) struct Writing {
    pub(super) notes: TrackingNotes,
    pub(super) number: u64,
    last: u64,
}

impl Tracking {
    /// What the file has of a stream, and the number of its writing.
    pub(super) fn new(stream: QueueId, (notes, writing): (TrackingNotes, u64)) -> Tracking {
        let queue = tracking_queue(stream);
        Tracking {
            notes,
            queue,
            last: 0,
            written: 0,
            writing,
            unappended: 0,
            staged: BTreeSet::new(),
            appended: Lsn(0),
        }
    }

    /// Takes over a change that the journal had at the start. False when it can't be read.
    pub(super) fn restore(&mut self, position: Position, change: &[u8]) -> bool {
        self.last = self.last.max(position.0);
        self.notes.apply_encoded(change)
    }

    /// Positions up to that one were used.
    pub(super) fn skip_to(&mut self, highest: Position) {
        self.last = self.last.max(highest.0);
    }

    pub(super) fn queue(&self) -> QueueId {
        self.queue
    }

    /// Up to where that name has acknowledged.
    pub(super) fn committed(&self, name: &str) -> Option<CommittedOffset> {
        self.notes.committed.get(name).copied()
    }

    /// All names.
    pub(super) fn all(&self) -> &BTreeMap<String, CommittedOffset> {
        &self.notes.committed
    }

    /// How far that publisher has got.
    pub(super) fn publisher(&self, name: &str) -> Option<PublisherSequence> {
        self.notes.publishers.get(name).copied()
    }

    /// All publishers.
    pub(super) fn publishers(&self) -> &BTreeMap<String, PublisherSequence> {
        &self.notes.publishers
    }

    /// A turn has changed how far a publisher has got, and has not been handed to the journal.
    pub(super) fn stage(&mut self, name: &Arc<str>) {
        self.staged.insert(name.clone());
    }

    /// It has been.
    pub(super) fn unstage(&mut self, name: &str) {
        self.staged.remove(name);
    }

    /// Whether it still has to be.
    pub(super) fn is_staged(&self, name: &str) -> bool {
        self.staged.contains(name)
    }

    /// Makes a change. [`Tracking::note_appended`] has to follow when the turn has been handed to the journal.
    pub(super) fn change(&mut self, change: TrackingChange, turn: &mut Turn) {
        let mut encoded = Vec::new();
        change.encode(&mut encoded);
        self.last += 1;
        turn.changes.enqueue((&encoded, SHAPE), turn.now, &[(self.queue, Position(self.last), 0)]);
        self.notes.apply(change);
        self.unappended += 1;
    }

    /// A name has acknowledged up to an offset.
    pub(super) fn commit(&mut self, name: &str, offset: u64, turn: &mut Turn) {
        let at: Millis = turn.now;
        self.change(TrackingChange::Committed(name.to_owned(), CommittedOffset { offset, at }), turn);
    }

    /// A turn that made a change has been handed to the journal, in that record.
    pub(super) fn note_appended(&mut self, lsn: Lsn) {
        self.unappended = self.unappended.saturating_sub(1);
        self.appended = self.appended.max(lsn);
    }

    /// Whether there are changes that the file does not have.
    pub(super) fn is_unwritten(&self) -> bool {
        self.written < self.last
    }

    /// What to write into the file, if all of it is durable: what a crash takes back must not stay there.
    pub(super) fn to_write(&self, durable: Lsn) -> Option<Writing> {
        let is_durable = self.unappended == 0 && self.appended <= durable;
        (is_durable && self.is_unwritten()).then(|| Writing {
            notes: self.notes.clone(),
            number: self.writing + 1,
            last: self.last,
        })
    }

    /// It was written: the journal may forget the changes that are in it.
    pub(super) fn note_written(&mut self, writing: &Writing, turn: &mut Turn) {
        turn.changes.settle_range(self.queue, Position(self.written + 1), Position(writing.last));
        (self.written, self.writing) = (writing.last, writing.number);
    }
}
