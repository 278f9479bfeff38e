//! The consumers of a client that has ended, where they are more than a turn has time for.

use super::unacked::Unacked;
use crate::broker::Turn;
use crate::broker::delivery::{Outbox, Outgoing};
use crate::broker::queue::QueueHandle;
use crate::message::{ConsumerId, LinkId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What it takes to end a consumer, in steps.
pub(crate) const CANCEL_STEPS: usize = 100;

/// A consumer as far as its end needs to know it.
#[derive(Debug)]
pub(crate) struct EndingConsumer {
    /// The queue that it consumes from.
    pub(crate) queue: Arc<QueueHandle>,
    /// Whether what it was given comes back.
    pub(crate) acknowledges: bool,
}

/// The consumers of a channel, or of a session, that has ended. What they are given until they have ended too comes back.
#[derive(Debug)]
pub(crate) struct EndingConsumers {
    /// Where they are addressed in their session.
    pub(crate) links: Vec<LinkId>,
    /// Where their deliveries go.
    pub(crate) outbox: Arc<Outbox>,
    /// All of them, also those that have ended: deliveries of theirs may wait.
    pub(crate) consumers: BTreeMap<ConsumerId, EndingConsumer>,
    /// Those that have yet to end.
    pub(crate) left: Vec<ConsumerId>,
}

impl EndingConsumers {
    /// Ends more of them, until the turn is over. True when all have ended.
    pub(super) fn go_on(&mut self, turn: &mut Turn) -> bool {
        while !turn.is_over()
            && let Some(id) = self.left.pop()
        {
            turn.spend(CANCEL_STEPS);
            if let Some(consumer) = self.consumers.get(&id) {
                consumer.queue.cancel(id, turn);
            }
        }
        self.left.is_empty()
    }

    /// Takes back what they were given and not sent: as if it had been delivered and not acknowledged.
    pub(super) fn take_back(&self) -> VecDeque<Unacked> {
        let mut waiting = VecDeque::new();
        for outgoing in self.links.iter().flat_map(|link| self.outbox.take_link(*link)) {
            if let Outgoing::Deliver { consumer: id, entry, .. } = outgoing
                && let Some(consumer) = self.consumers.get(&id).filter(|consumer| consumer.acknowledges)
            {
                waiting.push_back(Unacked::unsent(id, consumer.queue.clone(), entry));
            }
        }
        waiting
    }
}
