//! Subscriptions: where each begins, its credit, and which one of a name is the active one.

use super::Common;
use super::input::Next;
use super::open::{Asked, Open};
use crate::broker::access::permissions::Access;
use crate::broker::delivery::LinkCredit;
use crate::broker::queue::{Credit, NewConsumer, QueueHandle, StreamFilter, StreamOffset, Subscription};
use crate::message::{ConsumerId, EncodedTable, FieldTable, LinkId, Value};
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, FrameWriter, Malformed, key};
use std::sync::Arc;

/// What reads a stream, under a number of its own.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: ConsumerId,
    pub(super) stream: Arc<QueueHandle>,
    link: LinkId,
    is_single_active: bool,
    is_active: bool,
    /// Chunks that it has granted credit for, and that were sent; they wrap.
    granted: u32,
    pub(super) sent: u32,
}

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;

impl Subscriber {
    /// It is gone, and so is what waits for it.
    pub(super) fn end(self, common: &mut Common) {
        self.stream.cancel(self.id, &mut common.turn);
        common.outbox.take_link(self.link);
    }

    fn credit(&self) -> Credit {
        Credit::Absolute {
            delivery_count: self.sent,
            credit: self.granted.wrapping_sub(self.sent),
            drain: false,
        }
    }
}

impl Open {
    pub(super) fn subscribe(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let (number, stream) = (fields.u8()?, fields.text()?);
        let offset = offset(&mut fields)?.ok_or(Malformed)?;
        let credit = fields.u16()?;
        let properties = if fields.is_empty() { Vec::new() } else { fields.map()? };
        let done = self.add_subscriber((number, stream), offset, credit, &properties, common);
        self.answer_with(key::SUBSCRIBE, correlation, done, common);
        Ok(())
    }

    fn add_subscriber(
        &mut self,
        (number, stream): (u8, &str),
        offset: StreamOffset,
        credit: u16,
        properties: &[(&str, &str)],
        common: &mut Common,
    ) -> Result<(), Code> {
        let stream = self.stream(stream, Access::Read, common)?;
        if self.subscribers.contains_key(&number) {
            return Err(Code::SubscriptionIdExists);
        }
        let property =
            |name: &str| properties.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
        let name = property("name").filter(|name| !name.is_empty());
        let single_active = property("single-active-consumer") == Some("true");
        if name.is_some_and(|name| name.len() > NAME_BYTES_MAX) || (single_active && name.is_none()) {
            return Err(Code::PreconditionFailed);
        }
        let filters = properties.iter().filter(|(given, _)| given.starts_with("filter."));
        let filters = filters.map(|(_, value)| value.as_bytes().to_vec());
        let subscription = Subscription {
            offset,
            filter: StreamFilter::new(filters, property("match-unfiltered") == Some("true")),
            name: name.map(Into::into),
            single_active,
            partition: property("super-stream").and_then(|of| self.partition(of, &stream)),
        };
        let id = common.protocol.broker.next_consumer_id();
        let subscriber = Subscriber {
            id,
            stream: stream.clone(),
            link: LinkId(u32::from(number)),
            is_single_active: single_active,
            is_active: !single_active,
            granted: credit.into(),
            sent: 0,
        };
        let new = NewConsumer {
            id,
            tag: name.map_or_else(|| format!("stream.subid-{number}"), str::to_owned).into(),
            link: subscriber.link,
            channel: 0,
            connection: common.id,
            arguments: arguments(properties),
            outbox: common.outbox.clone(),
            no_ack: true,
            exclusive: false,
            priority: 0,
            credit: subscriber.credit(),
            link_credit: Arc::new(LinkCredit::default()),
        };
        stream.subscribe(new, subscription, &mut common.turn).map_err(|error| Code::from(&error))?;
        self.subscribers.insert(number, subscriber);
        Ok(())
    }

    pub(super) fn unsubscribe(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let number = fields.u8()?;
        let gone = self.subscribers.remove(&number).ok_or(Code::SubscriptionIdDoesNotExist);
        self.asked.retain(|_, asked| asked.subscription != number);
        let done = gone.map(|subscriber| subscriber.end(common));
        self.answer_with(key::UNSUBSCRIBE, correlation, done, common);
        Ok(())
    }

    /// More credit. Answered with an error only.
    pub(super) fn credit(&mut self, mut fields: Fields<'_>, common: &mut Common) -> Result<Next, Malformed> {
        let (number, credit) = (fields.u8()?, fields.u16()?);
        let refusal = match self.subscribers.get_mut(&number) {
            None => Some(Code::SubscriptionIdDoesNotExist),
            Some(subscriber) => {
                subscriber.granted = subscriber.granted.wrapping_add(credit.into());
                let (stream, id, credit) = (subscriber.stream.clone(), subscriber.id, subscriber.credit());
                let is_waiting = subscriber.is_single_active && !subscriber.is_active;
                stream.grant(id, credit, &mut common.turn);
                is_waiting.then_some(Code::PreconditionFailed)
            }
        };
        if let Some(code) = refusal {
            let mut answer = FrameWriter::new(key::CREDIT | key::RESPONSE, 1);
            answer.u16(code.number()).u8(number).put(&mut common.out);
        }
        Ok(Next::GoOn)
    }

    /// A subscription is the active one of its name from now on, or no longer: its client is asked where it begins.
    pub(super) fn ask_to_update(&mut self, id: ConsumerId, active: bool, common: &mut Common) {
        let request_timeout_ms = common.protocol.settings.request_timeout_ms;
        let found = self.subscribers.iter_mut().find(|(_, subscriber)| subscriber.id == id);
        let Some((number, subscriber)) = found else { return };
        subscriber.is_active = active;
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        let until = common.turn.now + request_timeout_ms;
        self.asked.insert(correlation, Asked { subscription: *number, active, until });
        let mut request = FrameWriter::new(key::CONSUMER_UPDATE, 1);
        request.u32(correlation).u8(*number).u8(active.into()).put(&mut common.out);
    }

    /// The client says where a subscription begins that was told to be active.
    pub(super) fn consumer_updated(
        &mut self,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<Next, Malformed> {
        let (correlation, code) = (fields.u32()?, fields.u16()?);
        let Some(asked) = self.asked.remove(&correlation) else { return Ok(Next::GoOn) };
        if code != Code::Ok.number() {
            return Ok(Next::HangUp(format!("the client has refused a consumer update with code {code}")));
        }
        let offset = if fields.is_empty() { None } else { offset(&mut fields)? };
        if let Some(subscriber) = self.subscribers.get(&asked.subscription) {
            match asked.active {
                true => subscriber.stream.place_subscriber(subscriber.id, offset, &mut common.turn),
                false => subscriber.stream.stepped_down(subscriber.id, &mut common.turn),
            }
        }
        Ok(Next::GoOn)
    }

    /// A stream is gone: whatever publishes to it and reads it on this connection, too.
    pub(super) fn stream_gone(&mut self, id: ConsumerId, common: &mut Common) {
        let of_publisher = self.publishers.values().find(|publisher| publisher.id == id);
        let of_subscriber = self.subscribers.values().find(|subscriber| subscriber.id == id);
        let stream = of_publisher.map(|one| &one.stream).or(of_subscriber.map(|one| &one.stream)).cloned();
        let Some(stream) = stream else { return };
        self.publishers.retain(|_, publisher| !Arc::ptr_eq(&publisher.stream, &stream));
        for (_, subscriber) in
            self.subscribers.extract_if(.., |_, subscriber| Arc::ptr_eq(&subscriber.stream, &stream))
        {
            common.outbox.take_link(subscriber.link);
        }
        let subscribers = &self.subscribers;
        self.asked.retain(|_, asked| subscribers.contains_key(&asked.subscription));
        let mut update = FrameWriter::new(key::METADATA_UPDATE, 1);
        update.u16(Code::StreamNotAvailable.number()).text(&stream.definition().name);
        if self.waiting.is_empty() {
            update.put(&mut common.out);
        } else {
            // The answer to the client that has deleted it comes first.
            self.waiting.say(update.finish());
        }
    }
}

/// Reads where to begin; `None` is nothing said.
pub(super) fn offset(fields: &mut Fields<'_>) -> Result<Option<StreamOffset>, Malformed> {
    Ok(Some(match fields.u16()? {
        0 => return Ok(None),
        1 => StreamOffset::First,
        2 => StreamOffset::Last,
        3 => StreamOffset::Next,
        4 => StreamOffset::Offset(fields.u64()?),
        5 => StreamOffset::At(u64::try_from(fields.i64()?).unwrap_or(0)),
        _ => return Err(Malformed),
    }))
}

/// A subscription's properties as the arguments of a consumer.
fn arguments(properties: &[(&str, &str)]) -> EncodedTable {
    let table: FieldTable = properties.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
    (&table).into()
}
