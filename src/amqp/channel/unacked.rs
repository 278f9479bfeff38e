//! What a channel shows of the deliveries that it has not heard of again.

use super::{Channel, Mode};
use crate::broker::Turn;
use crate::broker::memory::Holdings;
use crate::broker::observe::browse::UnackedMessage;
use crate::message::{Position, QueueId};

impl Channel {
    /// What the channel has unacknowledged of a queue, behind a position.
    pub(in crate::amqp) fn unacked_of(
        &self,
        queue: QueueId,
        after: Position,
    ) -> impl Iterator<Item = UnackedMessage> {
        self.unacked.of_queue(queue, after).map(|(seen, consumer, delivered_at)| {
            let consumer = consumer.and_then(|id| self.consumers.get(&id));
            let consumer_tag = consumer.map(|consumer| consumer.tag.clone());
            UnackedMessage { seen, channel: self.number, consumer_tag, delivered_at }
        })
    }

    /// Adds what the channel keeps in memory.
    pub(in crate::amqp) fn add_holdings(&self, holdings: &mut Holdings) {
        holdings.unacked_messages += self.unacked.len() as u64;
        holdings.unacked_bytes += self.unacked.bytes() as u64;
        holdings.arriving_bytes += self.content.arrived_bytes() as u64;
        if let Mode::Tx(transaction) = &self.mode {
            holdings.transaction_bytes += transaction.bytes() as u64;
        }
    }

    /// Releases the messages that wait for an acknowledgement from memory, see [`crate::client::UnackedList::spill`].
    pub(in crate::amqp) fn page_out_unacked(&mut self, turn: &mut Turn) -> bool {
        self.unacked.spill(turn)
    }
}
