//! Publishers, and what they publish.

use super::Common;
use super::input::Next;
use super::open::Open;
use crate::broker::access::permissions::Access;
use crate::broker::queue::{PublisherCounts, QueueHandle, StreamPublisher};
use crate::message::{ConsumerId, LinkId, Message, sub_batch};
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, FrameWriter, Malformed, key};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What publishes to a stream, under a number of its own.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) id: ConsumerId,
    pub(super) stream: Arc<QueueHandle>,
    /// The name under which its publishing ids are remembered.
    pub(super) reference: Option<Arc<str>>,
    pub(super) counts: Arc<PublisherCounts>,
}

/// The longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 255;

/// Publishers have the links behind those of subscriptions.
const FIRST_LINK: u32 = 256;

/// The least bytes that an entry takes in a frame: its publishing id, and a length.
const ENTRY_BYTES_MIN: usize = 12;

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
        let counts = Arc::<PublisherCounts>::default();
        let publisher = StreamPublisher {
            connection: common.id,
            link: LinkId(FIRST_LINK + u32::from(number)),
            reference: reference.clone(),
            number,
            counts: counts.clone(),
            outbox: common.outbox.clone(),
        };
        if !stream.add_publisher(id, publisher) {
            return Err(Code::StreamDoesNotExist);
        }
        self.publishers.insert(number, Publisher { id, stream, reference, counts });
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
        let (reference, stream) = (fields.text()?, fields.text()?);
        // A reference that is not known has the sequence 0.
        let (code, sequence) = match self.stream(stream, Access::Read, common) {
            Ok(stream) => (Code::Ok, stream.publisher_sequence(reference).unwrap_or(0)),
            Err(code) => (code, 0),
        };
        let mut answer = FrameWriter::response(key::QUERY_PUBLISHER_SEQUENCE, correlation);
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
        let count = fields.count(ENTRY_BYTES_MIN)?;
        let Some(publisher) = self.publishers.get(&number) else {
            let ids = publishing_ids(version, count, fields)?;
            put_errors(number, &ids, Code::PublisherDoesNotExist, common);
            return Ok(Next::GoOn);
        };
        let name = publisher.stream.definition().name.clone();
        let mut entries = Entries::new(&name, count, common.protocol.settings.unpacked_bytes_max);
        let mut errored = Vec::new();
        for done in 0..count {
            let behind = fields;
            if entries.read(version, &mut fields)?.is_none() {
                // What comes behind it in the frame is refused with it.
                errored = publishing_ids(version, count - done, behind)?;
                break;
            }
        }
        let Entries { mut ids, messages, .. } = entries;
        if !errored.is_empty() {
            publisher.counts.errored.fetch_add(errored.len() as u64, Ordering::Relaxed);
            put_errors(number, &errored, Code::PreconditionFailed, common);
        }
        publisher.counts.published.fetch_add(messages.len() as u64, Ordering::Relaxed);
        common.turn.spend(ENTRY_STEPS * messages.len());
        self.stats.publish += messages.len() as u64;
        self.stats.routed += messages.len() as u64;
        messages.iter().for_each(|(_, message)| common.turn.sizes.count(message.body_bytes()));
        let (stream, reference) = (publisher.stream.clone(), publisher.reference.clone());
        let published =
            self.vhost.publish_to_stream(&stream, reference.as_deref(), messages, &mut common.turn);
        // What was there already may have been published by another connection just now.
        let before = (published.dropped > 0).then(|| common.protocol.broker.journal().last_appended());
        self.waiting.note(published.record.max(before));
        if !published.refused.is_empty() {
            let refused = published.refused.len() as u64;
            publisher.counts.errored.fetch_add(refused, Ordering::Relaxed);
            put_errors(number, &published.refused, Code::PreconditionFailed, common);
            let refused: HashSet<u64> = published.refused.into_iter().collect();
            ids.retain(|id| !refused.contains(id));
        }
        self.waiting.confirm(number, ids);
        Ok(Next::GoOn)
    }
}

/// The entries of a frame, as messages of a stream.
struct Entries<'a> {
    stream: &'a str,
    /// Of each entry; a sub-batch is one.
    ids: Vec<u64>,
    messages: Vec<(u64, Message)>,
    /// Bytes that sub-batches may still have when they are unpacked.
    unpacked_left: usize,
}

/// The bit of its first byte that says that an entry is a sub-batch.
const SUB_BATCH: u8 = 0x80;

/// Cuts the next entry off. Where it is a sub-batch that comes with its compression, and how many messages and bytes it announces.
fn cut<'a>(version: u16, fields: &mut Fields<'a>) -> Result<Cut<'a>, Malformed> {
    let id = fields.u64()?;
    let filter_value = if version >= 2 { fields.perhaps_text()? } else { None };
    // The second version has no sub-batches.
    if version >= 2 || fields.first()? & SUB_BATCH == 0 {
        return Ok(Cut { id, filter_value, sub_batch: None, data: fields.bytes()? });
    }
    let codec = (fields.u8()? & !SUB_BATCH) >> 4;
    let sub_batch = Some((codec, fields.u16()?, fields.u32()?));
    Ok(Cut { id, filter_value, sub_batch, data: fields.bytes()? })
}

struct Cut<'a> {
    id: u64,
    filter_value: Option<&'a str>,
    sub_batch: Option<(u8, u16, u32)>,
    data: &'a [u8],
}

fn publishing_ids(version: u16, count: usize, mut fields: Fields<'_>) -> Result<Vec<u64>, Malformed> {
    (0..count).map(|_| cut(version, &mut fields).map(|cut| cut.id)).collect()
}

impl<'a> Entries<'a> {
    fn new(stream: &'a str, count: usize, unpacked_max: usize) -> Entries<'a> {
        let (ids, messages) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Entries { stream, ids, messages, unpacked_left: unpacked_max }
    }

    /// Reads the next one; `None` when it is a sub-batch that can't be unpacked.
    fn read(&mut self, version: u16, fields: &mut Fields<'_>) -> Result<Option<()>, Malformed> {
        let Cut { id, filter_value, sub_batch, data } = cut(version, fields)?;
        match sub_batch {
            None => {
                let filter_value = filter_value.map(str::as_bytes);
                self.messages.push((id, Message::of_amqp10(self.stream, filter_value, data)));
            }
            Some((codec, records, bytes)) => {
                let Some(left) = self.unpacked_left.checked_sub(bytes as usize) else { return Ok(None) };
                self.unpacked_left = left;
                let data = Bytes::copy_from_slice(data);
                match sub_batch::unpack(codec, records, bytes, &data) {
                    Ok(entries) => self.messages.extend(
                        entries.iter().map(|entry| (id, Message::of_amqp10(self.stream, None, entry))),
                    ),
                    Err(error) => {
                        tracing::debug!("a sub-batch for stream '{}' is refused: {error}", self.stream);
                        return Ok(None);
                    }
                }
            }
        }
        self.ids.push(id);
        Ok(Some(()))
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
