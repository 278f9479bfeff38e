//! Class basic (0-9-1 section 1.8), but for publishing, acknowledging and delivering: qos, consume, cancel, get.

use super::deliver::{NUMBER_BYTES, envelope_bytes, fill_envelope, fill_number};
use super::queue::{REPLY_TO, saturating};
use super::timeouts::consumer_timeout_ms;
use super::underway::Underway;
use super::{Channel, Consumer, Context, ReplyTo, read, unimplemented};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::ContentMethod;
use crate::broker::access::permissions::Access;
use crate::broker::error::{ArgumentFault, BrokerError, Resource};
use crate::broker::queue::{ConsumeRequest, Credit, Got, NewConsumer, QueueHandle, QueueType};
use crate::broker::routing::ReplyConsumer;
use crate::client::{Unacked, properties_of_entry};
use crate::message::{DeliveryTag, FieldTable, Reader};
use amq_protocol::protocol::basic::AMQPMethod::{
    Ack, Cancel, CancelOk, Consume, ConsumeOk, Get, GetEmpty, Nack, Publish, Qos, QosOk, Recover,
    RecoverAsync, Reject,
};
use amq_protocol::protocol::{AMQPClass, basic};

/// basic.get-ok, which is written by hand: a routing key need not be UTF-8.
const GET_OK: (u16, u16) = (60, 71);

impl Channel {
    pub(super) fn handle_basic(
        &mut self,
        method: basic::AMQPMethod,
        payload: &[u8],
        arguments: &FieldTable,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        match method {
            Qos(qos) => {
                // The struct leaves out what RabbitMQ refuses: the first field behind the ids.
                let prefetch_size = read(&payload[4..], Reader::u32)?;
                self.basic_qos(&qos, prefetch_size, context)
            }
            Consume(consume) => self.basic_consume(&consume, arguments, context),
            Cancel(cancel) => {
                self.basic_cancel(&cancel, context);
                Ok(())
            }
            Get(get) => self.basic_get(&get, context),
            Nack(nack) => self.basic_nack(&nack, context),
            Reject(reject) => self.basic_reject(&reject, context),
            Recover(recover) => self.basic_recover(recover.requeue, true, context),
            RecoverAsync(recover) => self.basic_recover(recover.requeue, false, context),
            Publish(_) | Ack(_) => unreachable!("publish and ack are read by hand"),
            _ => Err(unimplemented()),
        }
    }

    fn basic_qos(
        &mut self,
        qos: &basic::Qos,
        prefetch_size: u32,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        if prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({prefetch_size})");
            return Err(AmqpError::new(ReplyCode::NotImplemented, text));
        }
        if qos.global {
            self.credit.set_limit(u32::from(qos.prefetch_count));
        } else {
            // For consumers that come; those that are there keep what they have. RabbitMQ lifts the channel's limit.
            self.prefetch_count = qos.prefetch_count;
            self.credit.set_limit(0);
        }
        self.resume_consumers(context);
        self.reply(AMQPClass::Basic(QosOk(basic::QosOk {})), context);
        Ok(())
    }

    fn basic_consume(
        &mut self,
        consume: &basic::Consume,
        arguments: &FieldTable,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        if consume.queue.as_str() == REPLY_TO {
            return self.consume_replies(consume, context);
        }
        let queue_name = self.queue_name(consume.queue.as_str())?;
        context.may_use_queue(Access::Read, &queue_name)?;
        let queue = context.vhost.accessible_queue(&queue_name, context.actor())?;
        self.check_consumer_tag(consume, context)?;
        let credit = self.credit_of_new_consumer(&queue);
        queue.check_consumer(&ConsumeRequest { arguments, no_ack: consume.no_ack, credit })?;
        context.vhost.check_consumer_arguments(&queue, arguments)?;
        let tag = self.consumer_tag(consume, context);
        let id = context.broker().next_consumer_id();
        let priority = consumer_priority(arguments, &queue.definition().resource())?;
        let timeout_ms = consumer_timeout_ms(arguments, &queue.definition().resource())?;
        // The reply is written before the queue gives anything to the consumer.
        let new = NewConsumer {
            id,
            tag: tag.as_str().into(),
            link: self.number.into(),
            channel: self.number,
            outbox: context.outbox.clone(),
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority,
            connection: context.connection,
            arguments: arguments.into(),
            credit,
            link_credit: self.credit.clone(),
        };
        queue.consume(new, context.turn)?;
        let consumer = Consumer { tag: tag.as_str().into(), queue, no_ack: consume.no_ack, timeout_ms };
        self.tell_consumer_created(&consumer, consume.exclusive, arguments, context);
        self.add_consumer(id, consumer);
        self.reply_consume_ok(consume, &tag, context);
        context.vhost.apply_effects(context.turn);
        Ok(())
    }

    /// How much a new consumer may be given. One of a stream needs a prefetch count, and takes the channel's for its own.
    fn credit_of_new_consumer(&self, queue: &QueueHandle) -> Credit {
        match self.prefetch_count {
            0 if queue.definition().queue_type == QueueType::Stream => Credit::Prefetch(self.credit.limit()),
            count => Credit::Prefetch(count.into()),
        }
    }

    fn check_consumer_tag(&self, consume: &basic::Consume, context: &Context<'_>) -> Result<(), AmqpError> {
        let tag = consume.consumer_tag.as_str();
        let is_of_replies = self.reply_to.as_ref().is_some_and(|reply_to| &*reply_to.consumer_tag == tag);
        if !tag.is_empty() && (is_of_replies || self.consumer_tags.contains_key(tag)) {
            let text = format!("attempt to reuse consumer tag '{tag}'");
            return Err(AmqpError::new(ReplyCode::NotAllowed, text));
        }
        let max = context.settings().consumers_per_channel_max as usize;
        if max > 0 && self.consumers.len() >= max {
            let text = format!("reached maximum ({max}) of consumers per channel");
            return Err(AmqpError::new(ReplyCode::NotAllowed, text));
        }
        Ok(())
    }

    fn consumer_tag(&self, consume: &basic::Consume, context: &mut Context<'_>) -> String {
        match consume.consumer_tag.as_str() {
            "" => context.names.name("amq.ctag-"),
            tag => tag.to_owned(),
        }
    }

    fn reply_consume_ok(&mut self, consume: &basic::Consume, tag: &str, context: &mut Context<'_>) {
        if !consume.nowait {
            let ok = ConsumeOk(basic::ConsumeOk { consumer_tag: tag.into() });
            self.reply(AMQPClass::Basic(ok), context);
        }
    }

    /// Consuming from the pseudo-queue makes this channel the receiver of direct replies.
    fn consume_replies(
        &mut self,
        consume: &basic::Consume,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let refuse = |text: &str| Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
        if !consume.no_ack {
            return refuse("reply consumer cannot acknowledge");
        }
        if self.reply_to.is_some() {
            return refuse("reply consumer already set");
        }
        self.check_consumer_tag(consume, context)?;
        let tag = self.consumer_tag(consume, context);
        // RabbitMQ's addresses have two parts, and tools cut them at the dot.
        let place = context.names.name("");
        let token = context.names.name(&format!("{place}."));
        let id = context.broker().next_consumer_id();
        let consumer =
            ReplyConsumer { outbox: context.outbox.clone(), link: self.number.into(), consumer: id };
        context.broker().add_reply_consumer(&token, consumer);
        self.reply_to = Some(ReplyTo { id, consumer_tag: tag.as_str().into(), token });
        self.reply_consume_ok(consume, &tag, context);
        Ok(())
    }

    fn basic_cancel(&mut self, cancel: &basic::Cancel, context: &mut Context<'_>) {
        let tag = cancel.consumer_tag.as_str();
        let consumer = self.consumer_tags.get(tag).and_then(|id| Some((*id, self.consumers.get(id)?)));
        if let Some((id, queue)) = consumer.map(|(id, consumer)| (id, consumer.queue.clone())) {
            queue.cancel(id, context.turn);
            context.vhost.apply_effects(context.turn);
            // What it was given before goes out before the answer.
            self.send_waiting(context);
            if let Some(consumer) = self.remove_consumer(id) {
                self.tell_consumer_deleted(&consumer, context);
            }
        } else if let Some(reply_to) = self.reply_to.take_if(|reply_to| &*reply_to.consumer_tag == tag) {
            context.broker().remove_reply_consumer(&reply_to.token);
        }
        if !cancel.nowait {
            let ok = CancelOk(basic::CancelOk { consumer_tag: tag.into() });
            self.reply(AMQPClass::Basic(ok), context);
        }
    }

    pub(super) fn basic_get(&mut self, get: &basic::Get, context: &mut Context<'_>) -> Result<(), AmqpError> {
        let name = self.queue_name(get.queue.as_str())?;
        context.may_use_queue(Access::Read, &name)?;
        let queue = context.vhost.accessible_queue(&name, context.actor())?;
        queue.check_get()?;
        self.tally.turn_to_queue(&queue.definition().name, &self.stats);
        let (entry, left) = match context.vhost.get(&queue, get.no_ack, context.turn) {
            Got::Message { entry, left } => (*entry, left),
            Got::NotYet => {
                self.goes_on_with(Underway::Getting(get.clone()));
                return Ok(());
            }
            Got::Empty | Got::NotInMemory => {
                self.stats.get_empty += 1;
                self.reply(AMQPClass::Basic(GetEmpty(basic::GetEmpty {})), context);
                return Ok(());
            }
        };
        if context.vhost.is_traced() {
            self.trace_got(&queue, &entry, context);
        }
        let tag = self.next_tag();
        let left = saturating(left).to_be_bytes();
        let method = ContentMethod {
            channel: self.number,
            ids: GET_OK,
            argument_bytes: NUMBER_BYTES + envelope_bytes(&entry.message) + left.len(),
            message: &entry.message,
            properties: &properties_of_entry(&entry, &queue),
        };
        let frame_max = context.frame_max;
        self.say(context, |out| {
            method.put(out, frame_max, |arguments| {
                fill_number(arguments, tag.0, entry.redelivered);
                fill_envelope(arguments, &entry.message);
                arguments.put_array(left);
            });
        });
        self.stats.redeliver += u64::from(entry.redelivered);
        if get.no_ack {
            self.stats.get_no_ack += 1;
        } else {
            self.stats.get += 1;
            let timeout_ms = queue.consumer_timeout_ms();
            let delivered_at = context.turn.now;
            context
                .ack_deadline
                .note(delivered_at, timeout_ms.unwrap_or(context.amqp.settings.consumer_timeout_ms));
            self.unacked.push(Unacked { tag, consumer: None, queue, entry, delivered_at });
            if context.broker().is_short_of_memory() {
                self.page_out_unacked(context.turn);
            }
        }
        Ok(())
    }

    pub(super) fn next_tag(&mut self) -> DeliveryTag {
        let tag = DeliveryTag(self.next_delivery_tag);
        self.next_delivery_tag += 1;
        tag
    }
}

/// The consumer argument x-priority: any whole number.
fn consumer_priority(arguments: &FieldTable, resource: &Resource) -> Result<i32, AmqpError> {
    let Some(value) = arguments.field("x-priority") else { return Ok(0) };
    match value.as_integer() {
        Some(priority) => {
            Ok(i32::try_from(priority).unwrap_or(if priority < 0 { i32::MIN } else { i32::MAX }))
        }
        None => {
            let fault = ArgumentFault::NoInteger(value.type_name());
            let (argument, resource) = ("x-priority".to_owned(), resource.clone());
            Err(BrokerError::InvalidArgument { argument, resource, fault }.into())
        }
    }
}
