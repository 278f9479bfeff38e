//! basic.deliver: from the outbox to the wire (0-9-1 section 1.8.3.9).

use super::timeouts::AckDeadline;
use super::{Channel, Context};
use crate::amqp::frame::{ContentMethod, fill_short_str, put_method, short_str_bytes};
use crate::broker::Turn;
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::queue::QueueHandle;
use crate::client::{Unacked, properties_of_entry, properties_to_send};
use crate::message::{ChannelNumber, ConsumerId, Message, Millis};
use crate::session::{Pieces, Transmit};
use amq_protocol::protocol::{AMQPClass, basic};
use std::collections::VecDeque;
use std::sync::Arc;

const DELIVER: (u16, u16) = (60, 60);

/// Deliveries that were put on the wire, to be reported to their queue.
#[derive(Debug)]
pub(in crate::amqp) struct Sent {
    pub(in crate::amqp) queue: Arc<QueueHandle>,
    pub(in crate::amqp) consumer: ConsumerId,
    pub(in crate::amqp) messages: u32,
    pub(in crate::amqp) bytes: usize,
    /// How long the consumer itself says that it may take to acknowledge.
    timeout_ms: Option<u64>,
    /// Whether the channel has credit again that the queue's consumers wait for.
    resumes: bool,
}

impl Sent {
    /// Reports them to the queue, and notes by when they have to be acknowledged.
    pub(in crate::amqp) fn tell(self, default_timeout_ms: u64, deadline: &mut AckDeadline, turn: &mut Turn) {
        let Sent { queue, consumer, messages, bytes, timeout_ms, resumes } = self;
        if resumes {
            return queue.resume(consumer, turn);
        }
        let by_queue = queue.sent(consumer, messages, bytes, turn);
        if messages > 0 {
            deadline.note(turn.now, timeout_ms.or(by_queue).unwrap_or(default_timeout_ms));
        }
    }
}

/// What a channel puts on the wire, and what has to be done about it afterwards.
pub(in crate::amqp) struct Wire<'a> {
    pub(in crate::amqp) now: Millis,
    pub(in crate::amqp) cancel_notify: bool,
    pub(in crate::amqp) frame_max: usize,
    pub(in crate::amqp) out: &'a mut Transmit,
    pub(in crate::amqp) sent: &'a mut Vec<Sent>,
    pub(in crate::amqp) ack_deadline: &'a mut AckDeadline,
}

impl Channel {
    /// Sends one thing from the outbox. What was sent is counted in the wire's `sent`.
    pub(in crate::amqp) fn send(&mut self, outgoing: Outgoing, wire: &mut Wire<'_>) {
        match outgoing {
            Outgoing::Deliver { consumer, entry, .. } => self.basic_deliver(consumer, entry, wire),
            Outgoing::TimeoutChanged { .. } => wire.ack_deadline.look_at(wire.now),
            // Channels have no credit that can be drained, and no consumers that take chunks.
            Outgoing::Drained { .. }
            | Outgoing::Chunk { .. }
            | Outgoing::Activated { .. }
            | Outgoing::Resolved { .. } => {}
            Outgoing::CreditFreed { .. } => {
                while let Some(consumer) = self.credit.next_waiting() {
                    let Some(queue) = self.consumers.get(&consumer).map(|consumer| consumer.queue.clone())
                    else {
                        continue;
                    };
                    let sent =
                        Sent { queue, consumer, messages: 0, bytes: 0, timeout_ms: None, resumes: true };
                    wire.sent.push(sent);
                }
            }
            Outgoing::Cancelled { consumer, .. } => {
                let Some(consumer) = self.remove_consumer(consumer) else { return };
                if wire.cancel_notify && !self.closing {
                    let cancel = basic::Cancel { consumer_tag: (*consumer.tag).into(), nowait: true };
                    put_method(wire.out, self.number, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
                }
            }
            Outgoing::Reply { consumer, message, .. } => {
                let Some(reply_to) = self.reply_to.as_ref().filter(|reply_to| reply_to.id == consumer) else {
                    return;
                };
                let consumer_tag = reply_to.consumer_tag.clone();
                let deliver = Deliver {
                    channel: self.number,
                    consumer_tag: &consumer_tag,
                    delivery_tag: self.next_tag().0,
                    redelivered: false,
                };
                deliver.put(&message, &properties_to_send(&message, None), wire.frame_max, wire.out);
            }
        }
    }

    fn basic_deliver(&mut self, id: ConsumerId, entry: Entry, wire: &mut Wire<'_>) {
        let tag = self.next_tag();
        let consumer = self.consumers.get(&id).expect("a consumer is kept while deliveries for it wait");
        let deliver = Deliver {
            channel: self.number,
            consumer_tag: &consumer.tag,
            delivery_tag: tag.0,
            redelivered: entry.redelivered,
        };
        let properties = properties_of_entry(&entry, &consumer.queue);
        deliver.put(&entry.message, &properties, wire.frame_max, wire.out);
        let bytes = entry.message.size_bytes();
        match wire.sent.last_mut() {
            Some(last) if last.consumer == id => {
                last.messages += 1;
                last.bytes += bytes;
            }
            _ => {
                // What need not be acknowledged has no deadline.
                let timeout_ms = if consumer.no_ack { Some(0) } else { consumer.timeout_ms };
                let queue = consumer.queue.clone();
                self.tally.turn_to_queue(&queue.definition().name, &self.stats);
                wire.sent.push(Sent { queue, consumer: id, messages: 1, bytes, timeout_ms, resumes: false });
            }
        }
        self.stats.redeliver += u64::from(entry.redelivered);
        if consumer.no_ack {
            self.stats.deliver_no_ack += 1;
        } else {
            self.stats.deliver += 1;
            let (queue, delivered_at) = (consumer.queue.clone(), wire.now);
            self.unacked.push(Unacked { tag, consumer: Some(id), queue, entry, delivered_at });
        }
    }

    /// Sends all that waits for this channel now, before something else is said on it.
    pub(super) fn send_waiting(&mut self, context: &mut Context<'_>) {
        let waiting = context.outbox.take_link(self.number.into());
        self.send_all(waiting, context);
    }

    /// Sends things that were taken from the outbox.
    pub(super) fn send_all(&mut self, waiting: VecDeque<Outgoing>, context: &mut Context<'_>) {
        if context.vhost.is_traced()
            && let Some(live) = context.broker().connections().find(context.connection)
        {
            for outgoing in &waiting {
                self.trace_outgoing(outgoing, &live, context.vhost, context.turn);
            }
        }
        let mut sent = Vec::new();
        let mut wire = Wire {
            now: context.turn.now,
            cancel_notify: true,
            frame_max: context.frame_max,
            out: context.out,
            sent: &mut sent,
            ack_deadline: context.ack_deadline,
        };
        for outgoing in waiting {
            self.send(outgoing, &mut wire);
        }
        for sent in sent {
            sent.tell(context.settings().consumer_timeout_ms, context.ack_deadline, context.turn);
        }
    }

    /// Takes back what waits for this channel, since it is closing: as if it had been delivered and not acknowledged.
    pub(super) fn take_back_waiting(&mut self, context: &Context<'_>) -> Vec<Unacked> {
        let mut waiting = Vec::new();
        for outgoing in context.outbox.take_link(self.number.into()) {
            let Outgoing::Deliver { consumer: id, entry, .. } = outgoing else { continue };
            let consumer = self.consumers.get(&id).expect("a consumer is kept while deliveries for it wait");
            if !consumer.no_ack {
                let queue = consumer.queue.clone();
                waiting.push(Unacked::unsent(id, queue, entry));
            }
        }
        waiting
    }
}

/// What basic.deliver says of a message.
struct Deliver<'a> {
    channel: ChannelNumber,
    consumer_tag: &'a str,
    delivery_tag: u64,
    redelivered: bool,
}

impl Deliver<'_> {
    /// Appends it with the message, whose properties these are or stand in for.
    fn put(&self, message: &Message, properties: &[u8], frame_max: usize, out: &mut Transmit) {
        let tag = self.consumer_tag.as_bytes();
        let argument_bytes = short_str_bytes(tag) + NUMBER_BYTES + envelope_bytes(message);
        let method =
            ContentMethod { channel: self.channel, ids: DELIVER, argument_bytes, message, properties };
        method.put(out, frame_max, |arguments| {
            fill_short_str(arguments, tag);
            fill_number(arguments, self.delivery_tag, self.redelivered);
            fill_envelope(arguments, message);
        });
    }
}

/// Bytes of a delivery tag, and of the one that says whether the message is redelivered.
pub(super) const NUMBER_BYTES: usize = 9;

/// Puts the delivery tag, and whether the message is redelivered.
#[inline(always)]
pub(super) fn fill_number(arguments: &mut Pieces<'_>, delivery_tag: u64, redelivered: bool) {
    arguments.put_array(delivery_tag.to_be_bytes());
    arguments.put_array([u8::from(redelivered)]);
}

/// Bytes of a message's exchange and routing key.
pub(super) fn envelope_bytes(message: &Message) -> usize {
    short_str_bytes(message.exchange()) + short_str_bytes(short_key(message.routing_key()))
}

/// Puts the exchange and the routing key.
#[inline(always)]
pub(super) fn fill_envelope(arguments: &mut Pieces<'_>, message: &Message) {
    fill_short_str(arguments, message.exchange());
    fill_short_str(arguments, short_key(message.routing_key()));
}

/// A routing key as a short string has it: of a longer one, which came with another protocol, as much as fits without cutting a
/// character.
#[inline(always)]
fn short_key(key: &[u8]) -> &[u8] {
    if key.len() <= SHORT_STR_BYTES_MAX { key } else { cut(key) }
}

const SHORT_STR_BYTES_MAX: usize = 255;

/// The bytes that an encoded character has at most.
const CHARACTER_BYTES_MAX: usize = 4;

#[cold]
fn cut(key: &[u8]) -> &[u8] {
    let is_start = |at: &usize| key[*at] & 0xC0 != 0x80;
    let ends = (SHORT_STR_BYTES_MAX + 1 - CHARACTER_BYTES_MAX..=SHORT_STR_BYTES_MAX).rev();
    // What is no UTF-8 has no characters to keep whole.
    let end = ends.into_iter().find(is_start).unwrap_or(SHORT_STR_BYTES_MAX);
    &key[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_too_long_is_cut_between_characters() {
        assert_eq!(short_key(&[b'k'; 255]), [b'k'; 255]);
        assert_eq!(short_key(&[b'k'; 256]), [b'k'; 255]);
        for (character, whole) in [("é", 254), ("€", 255), ("🐇", 252)] {
            let key = character.repeat(200);
            let cut = short_key(key.as_bytes());
            assert_eq!((cut.len(), std::str::from_utf8(cut).is_ok()), (whole, true), "{character}");
        }
        assert_eq!(short_key(&[0x80; 300]).len(), 255, "not text");
    }
}
