//! The naive model: every message that was sent, what was promised about it, and what clients said of it. [`super::survey`]
//! holds what a broker has after a crash against it.
//!
//! The model's time is a count of what was sent. The journal keeps what it is told in order, so once something is known to be
//! durable, everything that was in the journal before it is durable too: an acknowledgement that was heard before a
//! publish was sent which is confirmed by now, say.

use super::topology::{LINES, Target, place_of};
use std::collections::BTreeMap;

/// Things that happen together or not at all: one publish, or a transaction.
#[derive(Clone, Debug)]
pub struct Group {
    /// The broker has confirmed it.
    pub promised: bool,
    pub stamp: u64,
    /// The channel it was sent on.
    pub source: u32,
    pub is_transaction: bool,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub source: u32,
    /// What it was published with; `None` once it was seen after a crash.
    pub group: Option<u64>,
    pub priority: u64,
    /// By line.
    pub copies: BTreeMap<usize, Copy>,
}

/// A message in one line.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    pub ended: Option<End>,
    /// The transaction that moves it on.
    pub moved_by: Option<u64>,
    /// The place in the line where it is known to have come.
    pub seen_at: usize,
    /// It is with a consumer.
    pub is_out: bool,
    /// When it was delivered, at each place of the line.
    pub delivered: [Option<u64>; 2],
}

/// It was acknowledged or purged.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// When the broker was known to have heard of it.
    pub heard: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Model {
    stamp: u64,
    /// What was heard before that is durable.
    pub durable_stamp: u64,
    pub groups: BTreeMap<u64, Group>,
    pub messages: BTreeMap<u64, Message>,
    last_group: u64,
    last_message: u64,
    /// Whether all happens on one thread, so that more can be said: the order among channels, and what was heard.
    pub is_exact: bool,
    pub counts: Counts,
}

/// What happened, to show that the test did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub published: u64,
    pub promised: u64,
    pub delivered: u64,
    pub ended: u64,
    pub moved: u64,
    pub surveyed: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.published += other.published;
        self.promised += other.promised;
        self.delivered += other.delivered;
        self.ended += other.ended;
        self.moved += other.moved;
        self.surveyed += other.surveyed;
    }
}

impl Model {
    pub fn new(is_exact: bool) -> Model {
        Model { is_exact, ..Model::default() }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Time passes: whatever is sent now comes after all that came or was sent so far.
    pub fn tick(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    pub fn group(&mut self, source: u32, is_transaction: bool) -> u64 {
        let stamp = self.tick();
        self.last_group += 1;
        self.groups.insert(self.last_group, Group { promised: false, stamp, source, is_transaction });
        self.last_group
    }

    pub fn publish(&mut self, group: u64, target: &Target, priority: u64) -> u64 {
        let source = self.groups[&group].source;
        let copies = target.lines.iter().map(|line| (*line, Copy::default())).collect();
        self.last_message += 1;
        self.messages.insert(self.last_message, Message { source, group: Some(group), priority, copies });
        self.counts.published += 1;
        self.last_message
    }

    pub fn promise(&mut self, group: u64) {
        let group = self.groups.get_mut(&group).unwrap();
        assert!(!group.promised, "confirmed twice");
        group.promised = true;
        self.durable_stamp = self.durable_stamp.max(group.stamp);
        self.counts.promised += 1;
    }

    fn copy(&mut self, queue: &str, id: u64) -> (&mut Copy, usize) {
        let (line, place) = place_of(queue);
        let copy = self.messages.get_mut(&id).and_then(|message| message.copies.get_mut(&line));
        match copy {
            Some(copy) => (copy, place),
            None => panic!("message {id} is in {queue}, but was done with, or never published there"),
        }
    }

    pub fn delivered(&mut self, queue: &str, id: u64) {
        let stamp = self.tick();
        self.counts.delivered += 1;
        let (copy, place) = self.copy(queue, id);
        assert!(copy.ended.is_none(), "message {id} of {queue} is delivered after it was acknowledged");
        assert!(!copy.is_out, "message {id} of {queue} is delivered twice");
        assert!(place >= copy.seen_at, "message {id} of {queue} is delivered after it has moved on");
        copy.is_out = true;
        copy.seen_at = place;
        copy.delivered[place] = Some(stamp);
    }

    /// It was acknowledged; [`Model::heard`] tells when the broker is known to have heard of it.
    pub fn acknowledged(&mut self, queue: &str, id: u64) {
        let stamp = self.tick();
        let heard = self.is_exact.then_some(stamp);
        self.counts.ended += 1;
        let (copy, _) = self.copy(queue, id);
        copy.is_out = false;
        copy.ended = Some(End { heard });
    }

    pub fn heard(&mut self, queue: &str, ids: &[u64]) {
        let stamp = self.tick();
        for id in ids {
            if let Some(end) = &mut self.copy(queue, *id).0.ended {
                end.heard = Some(stamp);
            }
        }
    }

    pub fn requeued(&mut self, queue: &str, id: u64) {
        self.copy(queue, id).0.is_out = false;
    }

    /// It was rejected, and moves on.
    pub fn rejected(&mut self, queue: &str, id: u64) {
        let (copy, place) = self.copy(queue, id);
        copy.is_out = false;
        copy.seen_at = place + 1;
        self.counts.moved += 1;
    }

    /// A transaction moves it on.
    pub fn moved(&mut self, queue: &str, id: u64, group: u64) {
        let (copy, place) = self.copy(queue, id);
        copy.is_out = false;
        copy.seen_at = place + 1;
        copy.moved_by = Some(group);
        self.counts.moved += 1;
    }

    /// The queue of this line was purged of all that is ready.
    pub fn purged(&mut self, line: usize) {
        assert_eq!(LINES[line].queues.len(), 1);
        for message in self.messages.values_mut() {
            if let Some(copy) = message.copies.get_mut(&line) {
                // What was under way may have come later, so it can't be said when it was heard.
                copy.ended = Some(End { heard: None });
            }
        }
    }
}
