//! The naive model that the journal is held against: every operation appended, in a list.

use bytes::Bytes;
use leveret::message::{Lsn, Position, QueueId, StoredShape};
use leveret::store::{Changes, RecoveredQueue, StoredMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) type Copy = (QueueId, Position);

#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) content: Arc<Vec<u8>>,
    pub(crate) enqueued_at: u64,
    pub(crate) priority: u8,
    pub(crate) transient: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Done {
    Enqueue(Vec<Copy>, Published),
    Settle(QueueId, Position, Position),
    Requeue(Copy, u32),
    Delivered(QueueId, u8, Position),
    Drop(QueueId),
}

pub(crate) const SHAPE: StoredShape = StoredShape {
    format: 0,
    exchange_bytes: 1,
    routing_key_bytes: 1,
    properties_bytes: 2,
    dead_lettered: false,
};

/// What a turn did, as the journal gets it and as the model notes it.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) changes: Changes,
    pub(crate) done: Vec<Done>,
}

impl Turn {
    pub(crate) fn enqueue(&mut self, targets: &[(QueueId, Position, u8)], published: Published) {
        let stored = (&published.content[..], SHAPE);
        match published.transient {
            true => self.changes.spill(stored, published.enqueued_at, targets),
            false => self.changes.enqueue(stored, published.enqueued_at, targets),
        }
        // The model keeps one entry for each priority.
        for target in targets {
            let published = Published { priority: target.2, ..published.clone() };
            self.done.push(Done::Enqueue(vec![(target.0, target.1)], published));
        }
    }

    pub(crate) fn settle(&mut self, queue: QueueId, first: Position, last: Position) {
        self.changes.settle_range(queue, first, last);
        self.done.push(Done::Settle(queue, first, last));
    }

    pub(crate) fn requeue(&mut self, copy: Copy, count: u32) {
        self.changes.requeue(copy.0, copy.1, count);
        self.done.push(Done::Requeue(copy, count));
    }

    pub(crate) fn delivered(&mut self, queue: QueueId, priority: u8, position: Position) {
        self.changes.delivered(queue, priority, position);
        self.done.push(Done::Delivered(queue, priority, position));
    }

    pub(crate) fn drop_queue(&mut self, queue: QueueId) {
        self.changes.drop_queue(queue);
        self.done.push(Done::Drop(queue));
    }
}

/// What is alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) live: BTreeMap<Copy, Published>,
    pub(crate) returned: BTreeMap<Copy, u32>,
    pub(crate) marks: BTreeMap<(QueueId, u8), Position>,
}

/// Everything appended, and what recovery left before it.
#[derive(Default)]
pub(crate) struct Model {
    base: View,
    appended: Vec<(Lsn, Vec<Done>)>,
}

impl Model {
    pub(crate) fn append(&mut self, lsn: Lsn, done: Vec<Done>) {
        self.appended.push((lsn, done));
    }

    pub(crate) fn view(&self) -> View {
        self.view_of(|_| true)
    }

    /// Forgets what was lost and what a restart does not keep.
    pub(crate) fn crash(&mut self, last: Lsn) {
        let mut view = self.view_of(|lsn| lsn <= last);
        view.live.retain(|_, published| !published.transient);
        let live = &view.live;
        view.returned.retain(|copy, _| live.contains_key(copy));
        view.marks.retain(|(queue, priority), mark| {
            live.range((*queue, Position(0))..=(*queue, *mark))
                .any(|(_, published)| published.priority == *priority)
        });
        *self = Model { base: view, appended: Vec::new() };
    }

    /// In any order: first what was enqueued, then what was said about it.
    fn view_of(&self, is_kept: impl Fn(Lsn) -> bool) -> View {
        let mut view = self.base.clone();
        let kept = || self.appended.iter().filter(|(lsn, _)| is_kept(*lsn)).flat_map(|(_, done)| done);
        for done in kept() {
            if let Done::Enqueue(copies, published) = done {
                view.live.extend(copies.iter().map(|copy| (*copy, published.clone())));
            }
        }
        for done in kept() {
            match done {
                Done::Enqueue(..) => {}
                Done::Settle(queue, first, last) => {
                    view.live.retain(|(of, at), _| of != queue || at < first || at > last);
                }
                Done::Requeue(copy, count) => {
                    let returned = view.returned.entry(*copy).or_default();
                    *returned = (*returned).max(*count);
                }
                Done::Delivered(queue, priority, position) => {
                    let mark = view.marks.entry((*queue, *priority)).or_default();
                    *mark = (*mark).max(*position);
                }
                Done::Drop(queue) => {
                    view.live.retain(|(of, _), _| of != queue);
                    view.marks.retain(|(of, _), _| of != queue);
                }
            }
        }
        let live = &view.live;
        view.returned.retain(|copy, _| live.contains_key(copy));
        view
    }
}

impl View {
    /// The messages of a queue and priority as a read gives them.
    pub(crate) fn expected(&self, queue: QueueId, priority: u8) -> Vec<StoredMessage> {
        let of_queue = self.live.range((queue, Position(0))..=(queue, Position(u64::MAX)));
        let of_priority = of_queue.filter(|(_, published)| published.priority == priority);
        let mark = self.marks.get(&(queue, priority));
        let read = of_priority.map(|(copy, published)| StoredMessage {
            position: copy.1,
            content: Bytes::copy_from_slice(&published.content),
            shape: SHAPE,
            enqueued_at: published.enqueued_at,
            delivery_count: self.returned.get(copy).copied().unwrap_or(0),
            redelivered: self.returned.contains_key(copy) || mark.is_some_and(|mark| copy.1 <= *mark),
            priority,
        });
        read.collect()
    }

    /// Compares with what recovery says.
    pub(crate) fn assert_recovered(&self, queues: &[RecoveredQueue], context: &str) {
        let mut live = BTreeMap::new();
        let mut bytes = BTreeMap::new();
        let mut returned = BTreeMap::new();
        let mut marks = BTreeMap::new();
        for queue in queues {
            for run in &queue.runs {
                *bytes.entry(queue.queue).or_insert(0) += run.body_bytes;
                for position in run.first.0..run.first.0 + u64::from(run.count) {
                    assert!(Position(position) <= queue.highest, "{context}: highest of {queue:?}");
                    live.insert((queue.queue, Position(position)), run.priority);
                }
            }
            for redelivery in &queue.redeliveries {
                returned.insert((queue.queue, redelivery.position), redelivery.delivery_count);
            }
            marks.extend(queue.delivered.iter().map(|(priority, at)| ((queue.queue, *priority), *at)));
        }
        let expected: BTreeMap<Copy, u8> =
            self.live.iter().map(|(copy, published)| (*copy, published.priority)).collect();
        let lost: BTreeSet<_> = expected.keys().filter(|copy| !live.contains_key(copy)).collect();
        let back: BTreeSet<_> = live.keys().filter(|copy| !expected.contains_key(copy)).collect();
        assert!(lost.is_empty() && back.is_empty(), "{context}: lost {lost:?}, came back {back:?}");
        assert_eq!(live, expected, "{context}: priorities");
        assert_eq!(returned, self.returned, "{context}: redeliveries");
        assert_eq!(marks, self.marks, "{context}: delivered");
        let mut expected = BTreeMap::new();
        for ((queue, _), published) in &self.live {
            *expected.entry(*queue).or_insert(0) += published.content.len() as u64 - 4;
        }
        assert_eq!(bytes, expected, "{context}: body bytes");
    }
}
