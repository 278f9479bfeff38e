//! The events of a channel's consumers. The fields are those of RabbitMQ's event exchange.

use super::{Channel, Consumer, Context};
use crate::broker::Broker;
use crate::broker::delivery::Outgoing;
use crate::broker::observe::connections::LiveConnection;
use crate::broker::observe::events::{By, Headers, number, text};
use crate::message::{ConnectionId, FieldTable, Name, Value};
use crate::rabbit::term;

impl Channel {
    /// A consumer has come.
    pub(super) fn tell_consumer_created(
        &self,
        consumer: &Consumer,
        exclusive: bool,
        of_consumer: &FieldTable,
        context: &Context<'_>,
    ) {
        let by = By::User(context.user.name.clone());
        context.broker().tell("consumer.created", by, || {
            let mut fields = self.which(consumer, context.broker(), context.connection);
            fields.extend([
                ("ack_required", Value::Bool(!consumer.no_ack)),
                ("arguments", term::arguments(of_consumer)),
                ("exclusive", Value::Bool(exclusive)),
                ("prefetch_count", number(self.prefetch_count)),
            ]);
            fields
        });
    }

    /// A consumer has ended with its channel, or was cancelled.
    pub(super) fn tell_consumer_deleted(&self, consumer: &Consumer, context: &Context<'_>) {
        self.tell_deleted(consumer, context.broker(), context.connection, &context.user.name);
    }

    /// What is about to be sent, if it is that the queue of a consumer is gone.
    pub(in crate::amqp) fn tell_cancelled(
        &self,
        outgoing: &Outgoing,
        broker: &Broker,
        live: &LiveConnection,
    ) {
        if let Outgoing::Cancelled { consumer, .. } = outgoing
            && let Some(consumer) = self.consumers.get(consumer)
        {
            self.tell_deleted(consumer, broker, live.facts().id, &live.facts().user);
        }
    }

    fn tell_deleted(&self, consumer: &Consumer, broker: &Broker, connection: ConnectionId, user: &Name) {
        let by = By::User(user.clone());
        broker.tell("consumer.deleted", by, || self.which(consumer, broker, connection));
    }

    fn which(&self, consumer: &Consumer, broker: &Broker, connection: ConnectionId) -> Headers {
        let queue = consumer.queue.definition();
        vec![
            ("channel", broker.pid(connection, self.number)),
            ("consumer_tag", text(&consumer.tag)),
            ("queue", text(&queue.name)),
            ("vhost", text(&queue.vhost)),
        ]
    }
}
