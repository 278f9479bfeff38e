//! Deliveries that a client does not acknowledge in time. Their consumer is cancelled and gives back all it holds; a client
//! that does not know consumer_cancel_notify, or fetched the message by basic.get, loses the channel, as in RabbitMQ.
//!
//! The time is the consumer's own, or else what its queue has of argument and policy, or else the broker's. It is looked at
//! when the first deadline comes, not for each delivery.

use super::{Channel, Context};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::put_method;
use crate::broker::delivery::Outgoing;
use crate::broker::error::{ArgumentFault, BrokerError, Resource};
use crate::broker::outcome::Outcome;
use crate::broker::queue::QueueHandle;
use crate::client::Unacked;
use crate::message::{ConsumerId, FieldTable, Millis, QueueId};
use amq_protocol::protocol::{AMQPClass, basic};
use std::collections::{BTreeMap, VecDeque};

/// When a connection has to look at its deliveries again: at the first deadline of one of them, or before.
#[derive(Debug, Default)]
pub(in crate::amqp) struct AckDeadline(Option<Millis>);

impl AckDeadline {
    /// Something was delivered that has to be acknowledged in that time; 0 is no limit.
    pub(in crate::amqp) fn note(&mut self, delivered_at: Millis, timeout_ms: u64) {
        if timeout_ms > 0 {
            let at = delivered_at.saturating_add(timeout_ms);
            self.0 = Some(self.0.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Something has changed: all deliveries have to be looked at.
    pub(in crate::amqp) fn look_at(&mut self, now: Millis) {
        self.0 = Some(self.0.map_or(now, |earlier| earlier.min(now)));
    }

    /// When, if ever.
    pub(in crate::amqp) fn at(&self) -> Option<Millis> {
        self.0
    }

    /// True once the time has come; what is still to come has to be noted again.
    pub(in crate::amqp) fn take_due(&mut self, now: Millis) -> bool {
        self.0.take_if(|at| *at <= now).is_some()
    }
}

/// The consumer argument x-consumer-timeout: milliseconds, 0 for as long as it takes.
pub(super) fn consumer_timeout_ms(
    arguments: &FieldTable,
    resource: &Resource,
) -> Result<Option<u64>, AmqpError> {
    let Some(value) = arguments.field("x-consumer-timeout") else { return Ok(None) };
    let fault = match value.as_integer() {
        Some(number) => match u64::try_from(number) {
            Ok(timeout_ms) => return Ok(Some(timeout_ms)),
            Err(_) => ArgumentFault::Negative(number),
        },
        None => ArgumentFault::NoInteger(value.type_name()),
    };
    let (argument, resource) = ("x-consumer-timeout".to_owned(), resource.clone());
    Err(BrokerError::InvalidArgument { argument, resource, fault }.into())
}

impl Channel {
    /// Looks at what is unacknowledged for too long, and notes the next deadline of what is not.
    pub(in crate::amqp) fn check_timeouts(&mut self, cancel_notify: bool, context: &mut Context<'_>) {
        if self.closing {
            return;
        }
        for (consumer, timeout_ms) in self.overdue(context) {
            match consumer.filter(|id| cancel_notify && self.consumers.contains_key(id)) {
                Some(id) => self.cancel_overdue(id, timeout_ms, context),
                None => return self.fail(&self.overdue_error(timeout_ms), context),
            }
        }
    }

    /// The consumers that have not acknowledged in time, each with its timeout.
    fn overdue(&self, context: &mut Context<'_>) -> BTreeMap<Option<ConsumerId>, u64> {
        let mut timeouts: BTreeMap<(QueueId, Option<ConsumerId>), u64> = BTreeMap::new();
        let mut overdue = BTreeMap::new();
        for (queue, consumer, delivered_at) in self.unacked.iter() {
            let key = (queue.definition().id, consumer);
            let timeout_ms =
                *timeouts.entry(key).or_insert_with(|| self.timeout_ms(queue, consumer, context));
            if timeout_ms > 0 && delivered_at.saturating_add(timeout_ms) <= context.turn.now {
                overdue.insert(consumer, timeout_ms);
            } else {
                context.ack_deadline.note(delivered_at, timeout_ms);
            }
        }
        overdue
    }

    fn timeout_ms(&self, queue: &QueueHandle, consumer: Option<ConsumerId>, context: &Context<'_>) -> u64 {
        let consumer = consumer.and_then(|id| self.consumers.get(&id));
        let own = consumer.and_then(|consumer| consumer.timeout_ms);
        own.or_else(|| queue.consumer_timeout_ms()).unwrap_or(context.settings().consumer_timeout_ms)
    }

    /// Cancels a consumer. What it holds goes back to the queue, and what it acknowledges too late is passed over.
    fn cancel_overdue(&mut self, id: ConsumerId, timeout_ms: u64, context: &mut Context<'_>) {
        let Some((tag, queue)) = self.consumers.get(&id).map(|c| (c.tag.clone(), c.queue.clone())) else {
            return;
        };
        tracing::warn!(
            "connection {}: consumer '{tag}' on channel {} has not acknowledged a delivery of {} within {timeout_ms} ms \
             and is cancelled; what it holds goes back to the queue",
            context.connection,
            self.number,
            queue.definition().resource()
        );
        queue.cancel(id, context.turn);
        let mut back = self.unacked.take_of(id);
        let mut of_others = VecDeque::new();
        for outgoing in context.outbox.take_link(self.number.into()) {
            match outgoing {
                Outgoing::Deliver { consumer, entry, .. } if consumer == id => {
                    back.here.push(Unacked::unsent(id, queue.clone(), entry));
                }
                other => of_others.push_back(other),
            }
        }
        self.send_all(of_others, context);
        self.carry_out(back, Outcome::Release, context);
        if let Some(consumer) = self.remove_consumer(id) {
            self.tell_consumer_deleted(&consumer, context);
        }
        let cancel = basic::Cancel { consumer_tag: (*tag).into(), nowait: true };
        put_method(context.out, self.number, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
        context.vhost.apply_effects(context.turn);
    }

    fn overdue_error(&self, timeout_ms: u64) -> AmqpError {
        let text = format!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {timeout_ms} ms. This timeout value can \
             be configured, see consumers doc guide to learn more",
            self.number
        );
        AmqpError::new(ReplyCode::PreconditionFailed, text).without_method()
    }
}
