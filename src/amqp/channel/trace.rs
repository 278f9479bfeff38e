//! The firehose of what a channel publishes and is given, while its vhost is traced.

use super::{Channel, Context};
use crate::broker::Turn;
use crate::broker::VirtualHost;
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::observe::connections::LiveConnection;
use crate::broker::observe::trace::{Delivered, Party};
use crate::broker::queue::QueueHandle;
use crate::client::properties_of_entry;
use crate::message::Message;

impl Channel {
    /// Copies a message that has been routed.
    pub(super) fn trace_publish(&self, message: &Message, context: &mut Context<'_>) {
        let Some(live) = context.broker().connections().find(context.connection) else { return };
        context.vhost.trace_publish(self.party(&live), message, &self.publishes.route, context.turn);
    }

    /// Copies a message that basic.get has taken.
    pub(super) fn trace_got(&self, queue: &QueueHandle, entry: &Entry, context: &mut Context<'_>) {
        let Some(live) = context.broker().connections().find(context.connection) else { return };
        let properties = properties_of_entry(entry, queue);
        let delivered = delivered(queue, entry, &properties);
        context.vhost.trace_delivery(self.party(&live), delivered, context.turn);
    }

    /// Copies what is about to be sent, if it is a message.
    pub(in crate::amqp) fn trace_outgoing(
        &self,
        outgoing: &Outgoing,
        live: &LiveConnection,
        vhost: &VirtualHost,
        turn: &mut Turn,
    ) {
        match outgoing {
            Outgoing::Deliver { consumer, entry, .. } => {
                let Some(consumer) = self.consumers.get(consumer) else { return };
                let properties = properties_of_entry(entry, &consumer.queue);
                let delivered = delivered(&consumer.queue, entry, &properties);
                vhost.trace_delivery(self.party(live), delivered, turn);
            }
            Outgoing::Reply { message, .. } => {
                let (queue, properties) = (message.routing_key(), message.properties());
                let delivered = Delivered { queue, message, properties, redelivered: false };
                vhost.trace_delivery(self.party(live), delivered, turn);
            }
            Outgoing::Cancelled { .. }
            | Outgoing::CreditFreed { .. }
            | Outgoing::TimeoutChanged { .. }
            | Outgoing::Drained { .. }
            | Outgoing::Chunk { .. }
            | Outgoing::Activated { .. }
            | Outgoing::Resolved { .. } => {}
        }
    }

    fn party<'a>(&self, live: &'a LiveConnection) -> Party<'a> {
        let facts = live.facts();
        Party { connection: &facts.name, channel: self.number, user: &facts.user }
    }
}

fn delivered<'a>(queue: &'a QueueHandle, entry: &'a Entry, properties: &'a [u8]) -> Delivered<'a> {
    let (queue, message) = (queue.definition().name.as_bytes(), &entry.message);
    Delivered { queue, message, properties, redelivered: entry.redelivered }
}
