//! Publishers, and what they publish.

use super::Common;
use super::input::Next;
use super::open::Open;
use crate::broker::access::permissions::Access;
use crate::broker::queue::{QueueHandle, StreamPublisher};
use crate::broker::routing::Route;
use crate::message::{ConsumerId, LinkId, Message};
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, FrameWriter, Malformed, key};
use std::sync::Arc;

/// What publishes to a stream, under a number of its own.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) id: ConsumerId,
    pub(super) stream: Arc<QueueHandle>,
    /// The name under which its publishing ids are remembered.
    pub(super) reference: Option<Arc<str>>,
    route: Arc<Route>,
}

/// The longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 255;

/// Publishers have the links behind those of subscriptions.
const FIRST_LINK: u32 = 256;

/// What it takes to put an entry into a stream, in steps.
const ENTRY_STEPS: usize = 3;

impl Publisher {
    /// It is gone.
    pub(super) fn end(self) {
        self.stream.remove_publisher(self.id);
    }
}

impl Open {
    pub(super) fn declare_publisher(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let (number, reference, stream) = (fields.u8()?, fields.text()?, fields.text()?);
        let done = self.add_publisher(number, reference, stream, common);
        self.answer_with(key::DECLARE_PUBLISHER, correlation, done, common);
        Ok(())
    }

    fn add_publisher(
        &mut self,
        number: u8,
        reference: &str,
        stream: &str,
        common: &mut Common,
    ) -> Result<(), Code> {
        let is_blocked = common.protocol.broker.alarms().reason().is_some();
        if is_blocked || reference.len() > REFERENCE_BYTES_MAX || self.publishers.contains_key(&number) {
            return Err(Code::PreconditionFailed);
        }
        let reference: Option<Arc<str>> = Some(reference).filter(|name| !name.is_empty()).map(Into::into);
        let is_same = |other: &Publisher| {
            reference.is_some() && other.reference == reference && *other.stream.definition().name == *stream
        };
        if self.publishers.values().any(is_same) {
            return Err(Code::PreconditionFailed);
        }
        let stream = self.stream(stream, Access::Write, common)?;
        let id = common.protocol.broker.next_consumer_id();
        let publisher = StreamPublisher {
            connection: common.id,
            link: LinkId(FIRST_LINK + u32::from(number)),
            reference: reference.clone(),
            outbox: common.outbox.clone(),
        };
        if !stream.add_publisher(id, publisher) {
            return Err(Code::StreamDoesNotExist);
        }
        let route = Arc::new(Route { queues: vec![stream.clone()], ..Route::default() });
        self.publishers.insert(number, Publisher { id, stream, reference, route });
        Ok(())
    }

    pub(super) fn delete_publisher(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let gone = self.publishers.remove(&fields.u8()?).map(Publisher::end);
        self.answer_with(key::DELETE_PUBLISHER, correlation, gone.ok_or(Code::PublisherDoesNotExist), common);
        Ok(())
    }

    pub(super) fn query_publisher_sequence(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let (_reference, stream) = (fields.text()?, fields.text()?);
        let found = self.stream(stream, Access::Read, common);
        let mut answer = FrameWriter::response(key::QUERY_PUBLISHER_SEQUENCE, correlation);
        let (code, sequence) = match found {
            Ok(_) => (Code::Ok, 0),
            Err(code) => (code, 0),
        };
        answer.u16(code.number()).u64(sequence).put(&mut common.out);
        Ok(())
    }

    pub(super) fn publish(
        &mut self,
        version: u16,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<Next, Malformed> {
        let number = fields.u8()?;
        let count = fields.count(12)?;
        let publisher = self.publishers.get(&number);
        let name = publisher.map(|publisher| publisher.stream.definition().name.clone());
        let mut ids = Vec::with_capacity(count);
        let mut messages = Vec::with_capacity(if name.is_some() { count } else { 0 });
        for _ in 0..count {
            ids.push(fields.u64()?);
            if version >= 2 {
                fields.perhaps_text()?;
            }
            let entry = fields.bytes()?;
            if let Some(name) = &name {
                messages.push(Message::new("", name.as_bytes(), &[0, 0], entry).map_err(|_| Malformed)?);
            }
        }
        let Some(publisher) = publisher else {
            put_errors(number, &ids, Code::PublisherDoesNotExist, common);
            return Ok(Next::GoOn);
        };
        common.turn.spend(ENTRY_STEPS * count);
        self.stats.publish += count as u64;
        self.stats.routed += count as u64;
        messages.iter().for_each(|message| common.turn.sizes.count(message.body_bytes()));
        let route = publisher.route.clone();
        let mut refused = Vec::new();
        let record = self.vhost.publish(&route, &mut messages, &mut common.turn, &mut refused);
        self.waiting.note(record);
        self.waiting.confirm(number, ids);
        Ok(Next::GoOn)
    }
}

/// Says that none of these is published.
fn put_errors(publisher: u8, ids: &[u64], code: Code, common: &mut Common) {
    let mut frame = FrameWriter::new(key::PUBLISH_ERROR, 1);
    frame.u8(publisher).count(ids.len());
    for id in ids {
        frame.u64(*id).u16(code.number());
    }
    frame.put(&mut common.out);
}
