//! A channel: takes frames of its number, acts on the broker, and writes replies. One file for each class of methods.
//!
//! Publishes that come one behind the other are gathered over one pass of the input and handed to the queues together, and so are
//! acknowledgements, see [`Channel::flush`]; whatever else is said, on this channel or another, finds done what came before it.

mod basic;
mod confirm;
mod content;
mod context;
mod deliver;
mod events;
mod exchange;
mod publish;
mod queue;
mod settle;
mod timeouts;
mod trace;
mod tx;
mod unacked;
mod underway;

pub(super) use content::ContentAssembler;
pub use content::ContentLimits;
pub(super) use context::Context;
pub(super) use deliver::{Sent, Wire};
pub(super) use timeouts::AckDeadline;

use super::answers::Answer;
use super::error::{AmqpError, ReplyCode};
use super::frame::{self, Frame, put_method};
use super::method::{self, Method};
use crate::broker::delivery::LinkCredit;
use crate::broker::observe::connections::{ChannelFacts, Tally};
use crate::broker::observe::stats::MessageStats;
use crate::broker::queue::QueueHandle;
use crate::client::{
    CANCEL_STEPS, Confirms, EndingConsumer, EndingConsumers, Returning, Transaction, UnackedList,
};
use crate::message::{ChannelNumber, ConsumerId, Lsn, Millis, Name, Reader};
use crate::session::Transmit;
use amq_protocol::protocol::{AMQPClass, access, channel};
use bytes::Buf;
use publish::PublishBatch;
use settle::Settlements;
use std::collections::BTreeMap;
use std::sync::Arc;
use underway::Underway;

/// A consumer of this channel. It is kept after its end, until the deliveries it was given have been sent or taken back.
#[derive(Debug)]
struct Consumer {
    tag: Arc<str>,
    queue: Arc<QueueHandle>,
    no_ack: bool,
    /// How long it may take to acknowledge, in milliseconds, if its arguments say so; 0 is no limit.
    timeout_ms: Option<u64>,
}

/// A direct reply-to consumer.
#[derive(Debug)]
struct ReplyTo {
    id: ConsumerId,
    consumer_tag: Arc<str>,
    /// What the address has behind `amq.rabbitmq.reply-to.`: two parts with a dot between them, as RabbitMQ's have.
    token: String,
}

/// How publishes are answered.
#[derive(Debug)]
enum Mode {
    Plain,
    Confirm(Confirms),
    Tx(Box<Transaction>),
}

/// An open channel; see the module.
#[derive(Debug)]
pub(super) struct Channel {
    number: ChannelNumber,
    content: ContentAssembler,
    mode: Mode,
    next_delivery_tag: u64,
    unacked: UnackedList,
    consumers: BTreeMap<ConsumerId, Consumer>,
    consumer_tags: BTreeMap<Arc<str>, ConsumerId>,
    /// Consumers with lower ids have ended, since the channel does.
    ended_below: u64,
    reply_to: Option<ReplyTo>,
    prefetch_count: u16,
    credit: Arc<LinkCredit>,
    /// What an empty queue name stands for.
    last_queue: Option<Name>,
    /// This turn's commits and what was replied behind them, with the records that have to be durable before.
    commits: Vec<(Lsn, Answer)>,
    publishes: PublishBatch,
    /// What takes longer than a turn may; what comes behind it waits.
    underway: Option<Box<Underway>>,
    settlements: Settlements,
    stats: MessageStats,
    /// What is counted apart of these.
    tally: Tally,
    /// An error has been sent; everything but its answer is dropped.
    closing: bool,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// The channel goes on.
    Open,
    /// The channel is closed and its number free.
    Closed,
    /// The channel is closed, and its client hears of that when what it committed is durable.
    ClosedBehind,
    /// There is more to do for it than others would wait for: [`Channel::go_on`] comes before the next frame.
    Busy,
}

impl Channel {
    pub(super) fn new(number: ChannelNumber) -> Channel {
        Channel {
            number,
            content: ContentAssembler::default(),
            mode: Mode::Plain,
            next_delivery_tag: 1,
            unacked: UnackedList::default(),
            consumers: BTreeMap::new(),
            consumer_tags: BTreeMap::new(),
            ended_below: 0,
            reply_to: None,
            prefetch_count: 0,
            credit: Arc::default(),
            last_queue: None,
            commits: Vec::new(),
            publishes: PublishBatch::default(),
            underway: None,
            settlements: Settlements::default(),
            stats: MessageStats::default(),
            tally: Tally::default(),
            closing: false,
        }
    }

    /// How the channel stands, for those who look.
    pub(super) fn facts(&self, now: Millis) -> ChannelFacts {
        let (uncommitted, acks_uncommitted) = match &self.mode {
            Mode::Tx(transaction) => transaction.counts(),
            _ => (0, 0),
        };
        ChannelFacts {
            confirm: matches!(self.mode, Mode::Confirm(_)),
            transactional: matches!(self.mode, Mode::Tx(_)),
            consumers: self.consumers.len() as u64,
            prefetch_count: self.prefetch_count.into(),
            global_prefetch_count: self.credit.limit().into(),
            unacked: self.unacked.len() as u64,
            unconfirmed: match &self.mode {
                Mode::Confirm(confirms) => confirms.unconfirmed(),
                _ => 0,
            },
            uncommitted,
            acks_uncommitted,
            stats: self.stats,
            active_at: now,
        }
    }

    /// What is counted apart on it.
    pub(super) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Takes one frame. An error that is not hard closes the channel here; a hard one is the connection's.
    pub(super) fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        context: &mut Context<'_>,
    ) -> Result<Handled, AmqpError> {
        if self.closing {
            return self.handle_closing(frame, context);
        }
        let result = match frame.kind {
            frame::METHOD => self.handle_method(frame.payload, context),
            frame::HEADER => self.handle_content_header(frame.payload, context).map(|()| self.progress()),
            frame::BODY => self.handle_content_body(frame.payload, context).map(|()| self.progress()),
            _ => Err(AmqpError::new(
                ReplyCode::UnexpectedFrame,
                format!("unexpected frame of type {}", frame.kind),
            )),
        };
        result.or_else(|error| {
            let method = match frame.kind {
                frame::METHOD => method::ids(frame.payload),
                _ => method::PUBLISH,
            };
            self.fail_at(method, error, context)
        })
    }

    /// An error closes the channel, unless it is the connection's.
    fn fail_at(
        &mut self,
        method: (u16, u16),
        error: AmqpError,
        context: &mut Context<'_>,
    ) -> Result<Handled, AmqpError> {
        let error = AmqpError { method: error.method.or(Some(method)), ..error };
        if error.hard {
            return Err(error);
        }
        Ok(self.go_on_ending(Some(error), context))
    }

    fn add_consumer(&mut self, id: ConsumerId, consumer: Consumer) {
        self.consumer_tags.insert(consumer.tag.clone(), id);
        self.consumers.insert(id, consumer);
    }

    fn remove_consumer(&mut self, id: ConsumerId) -> Option<Consumer> {
        let consumer = self.consumers.remove(&id)?;
        self.consumer_tags.remove(&consumer.tag);
        Some(consumer)
    }

    /// The message that is arriving.
    pub(super) fn content(&mut self) -> &mut ContentAssembler {
        &mut self.content
    }

    /// After an error only the answer to it counts. The number is not free until then.
    fn handle_closing(&self, frame: &Frame<'_>, context: &mut Context<'_>) -> Result<Handled, AmqpError> {
        const OPEN: (u16, u16) = (20, 10);
        const CLOSE: (u16, u16) = (20, 40);
        const CLOSE_OK: (u16, u16) = (20, 41);
        match (frame.kind, method::ids(frame.payload)) {
            (frame::METHOD, CLOSE_OK) => return Ok(Handled::Closed),
            (frame::METHOD, OPEN) => return Err(AmqpError { method: Some(OPEN), ..second_open() }),
            // Both ends closed at once: each answers the other.
            (frame::METHOD, CLOSE) => {
                let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                put_method(context.out, self.number, AMQPClass::Channel(ok));
            }
            _ => {}
        }
        Ok(Handled::Open)
    }

    fn fail(&mut self, error: &AmqpError, context: &mut Context<'_>) {
        tracing::info!("channel {} of connection {}: {error}", self.number, context.connection);
        // What one of them were given from now on had no channel.
        for (id, consumer) in self.consumers.range(ConsumerId(self.ended_below)..) {
            consumer.queue.cancel(*id, context.turn);
            self.tell_consumer_deleted(consumer, context);
        }
        self.ended_below = u64::MAX;
        let returning = self.release(context);
        context.leave(returning);
        context.vhost.apply_effects(context.turn);
        let (class_id, method_id) = error.method.unwrap_or_default();
        let close = channel::Close {
            reply_code: error.code.number(),
            reply_text: error.reply_text().as_str().into(),
            class_id,
            method_id,
        };
        put_method(context.out, self.number, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
        context.answers.forget(self.number.into());
        self.closing = true;
    }

    fn handle_method(&mut self, payload: &[u8], context: &mut Context<'_>) -> Result<Handled, AmqpError> {
        self.content.check_method()?;
        // The two that come in great numbers are read by hand.
        match method::ids(payload) {
            method::PUBLISH => {
                self.content.publish(&payload[4..])?;
                return Ok(Handled::Open);
            }
            method::ACK => {
                self.basic_ack(&payload[4..], context)?;
                return Ok(self.progress());
            }
            _ => {}
        }
        self.flush(context);
        let depth_max = context.settings().content.field_table_depth_max;
        let Method { class, table } =
            method::decode(payload, depth_max).map_err(|fault| fault.error(payload))?;
        match class {
            AMQPClass::Channel(method) => return self.handle_channel(&method, context),
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                let ok = access::AMQPMethod::RequestOk(access::RequestOk {});
                self.reply(AMQPClass::Access(ok), context);
            }
            AMQPClass::Exchange(method) => self.handle_exchange(method, table, context)?,
            AMQPClass::Queue(method) => self.handle_queue(method, table, context)?,
            AMQPClass::Basic(method) => self.handle_basic(method, payload, &table, context)?,
            AMQPClass::Confirm(method) => self.handle_confirm(&method, context)?,
            AMQPClass::Tx(method) => self.handle_tx(&method, context)?,
            AMQPClass::Access(_) | AMQPClass::Connection(_) => return Err(unimplemented()),
        }
        Ok(self.progress())
    }

    fn handle_channel(
        &mut self,
        method: &channel::AMQPMethod,
        context: &mut Context<'_>,
    ) -> Result<Handled, AmqpError> {
        match method {
            channel::AMQPMethod::Open(_) => Err(second_open()),
            channel::AMQPMethod::Flow(flow) if flow.active => {
                let ok = channel::AMQPMethod::FlowOk(channel::FlowOk { active: true });
                self.reply(AMQPClass::Channel(ok), context);
                Ok(Handled::Open)
            }
            channel::AMQPMethod::Flow(_) => Err(AmqpError::new(ReplyCode::NotImplemented, "active=false")),
            channel::AMQPMethod::Close(_) => Ok(self.go_on_ending(None, context)),
            _ => Err(unimplemented()),
        }
    }

    fn reply(&mut self, method: AMQPClass, context: &mut Context<'_>) {
        let number = self.number;
        self.say(context, |out| put_method(out, number, method));
    }

    /// Says something in the order of what was asked: behind a tx.commit-ok that still waits, if there is one.
    fn say(&mut self, context: &mut Context<'_>, put: impl FnOnce(&mut Transmit)) {
        let Some(record) = self.record_before_reply(context) else { return put(context.out) };
        let mut reply = Transmit::default();
        put(&mut reply);
        self.commits.push((record, Answer::Behind(reply.copy_to_bytes(reply.remaining()))));
    }

    /// The record that a reply has to wait for, since what comes before it on the channel does.
    fn record_before_reply(&self, context: &Context<'_>) -> Option<Lsn> {
        let Mode::Tx(_) = self.mode else { return None };
        let of_turn = self.commits.last().map(|(record, _)| *record);
        let before = of_turn.or_else(|| context.answers.last_of(self.number.into()))?;
        // The reply may be about a change that is not durable either.
        Some(context.waiting.ticket().map_or(before, |ticket| before.max(ticket.record())))
    }

    /// Hands what was gathered to the queues. Called before any other method is handled, before another channel is spoken to and
    /// at the end of a turn.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) {
        self.flush_publishes(context);
        self.flush_settlements(context);
        context.vhost.apply_effects(context.turn);
    }

    /// Ends consumers, until all have or the turn is over; what they were given before is still there. True when all have. A connection
    /// does that on all channels before it gives anything back, or one of them would get what another one gives.
    pub(super) fn end_consumers(&mut self, context: &mut Context<'_>) -> bool {
        self.content = ContentAssembler::default();
        self.flush(context);
        let mut left = self.consumers.range(ConsumerId(self.ended_below)..);
        while !context.turn.is_over()
            && let Some((id, consumer)) = left.next()
        {
            context.turn.spend(CANCEL_STEPS);
            consumer.queue.cancel(*id, context.turn);
            self.tell_consumer_deleted(consumer, context);
            self.ended_below = id.0 + 1;
        }
        left.next().is_none()
    }

    /// Gives everything back: consumers end, a transaction is rolled back, and what is returned has to be gone on with: deliveries
    /// return to their queues.
    pub(super) fn release(&mut self, context: &mut Context<'_>) -> Returning {
        self.end_consumers(context);
        self.confirm_done(context);
        if let Some(reply_to) = self.reply_to.take() {
            context.broker().remove_reply_consumer(&reply_to.token);
        }
        if let Mode::Tx(transaction) = &mut self.mode {
            let settled = transaction.roll_back();
            self.unacked.put_back(settled);
        }
        let settled = self.leave_underway(context);
        self.consumer_tags.clear();
        let mut left = Vec::new();
        for (id, consumer) in self.consumers.range(ConsumerId(self.ended_below)..) {
            self.tell_consumer_deleted(consumer, context);
            left.push(*id);
        }
        let waiting = if left.is_empty() { self.take_back_waiting(context) } else { Vec::new() };
        let consumers = std::mem::take(&mut self.consumers);
        let returning = Returning::new(std::mem::take(&mut self.unacked), settled, waiting);
        if left.is_empty() {
            return returning;
        }
        let consumers = consumers.into_iter().map(|(id, consumer)| {
            (id, EndingConsumer { queue: consumer.queue, acknowledges: !consumer.no_ack })
        });
        let (links, outbox) = (vec![self.number.into()], context.outbox.clone());
        returning.after(EndingConsumers { links, outbox, consumers: consumers.collect(), left })
    }
}

fn unimplemented() -> AmqpError {
    AmqpError::new(ReplyCode::CommandInvalid, "unimplemented method")
}

fn second_open() -> AmqpError {
    AmqpError::new(ReplyCode::ChannelError, "second 'channel.open' seen")
}

/// Reads the arguments of a method that is decoded by hand.
fn read<'a, T>(
    arguments: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, crate::message::DecodeError>,
) -> Result<T, AmqpError> {
    read(&mut Reader::new(arguments))
        .map_err(|error| AmqpError::new(ReplyCode::SyntaxError, error.to_string()))
}
