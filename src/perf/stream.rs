//! Reading a stream over AMQP 0-9-1, for `leveret ctl stream read`, and where a consumer of a stream begins.

use super::Failure;
use super::client::{Client, check_closed};
use super::target::{Target, TlsFiles};
use super::wire::{BODY, Frame, HEADER, METHOD, put_frame};
use amq_protocol::types::{AMQPValue, FieldTable};
use leveret::message::{Properties, Reader, Value};
use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// How many messages may be on their way.
const PREFETCH: u16 = 1000;

/// After how many of them more are asked for.
const ACK_EVERY: u32 = 250;

/// How long nothing may come before what is there has been read.
const QUIET: Duration = Duration::from_secs(2);

/// The header that says where a message is in its stream.
const OFFSET: &str = "x-stream-offset";

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The broker: an amqp URL.
    pub(crate) url: String,
    /// The vhost, if it is not the URL's.
    pub(crate) vhost: Option<String>,
    pub(crate) stream: String,
    /// Where it begins: see [`begin`].
    pub(crate) from: String,
    /// Only messages with one of these filter values; all where there are none.
    pub(crate) filters: Vec<String>,
    /// After how many messages it ends.
    pub(crate) limit: u64,
    /// The offset behind the last message that is to be read; `None` goes on with what is published meanwhile.
    pub(crate) end: Option<u64>,
}

/// A message that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub(crate) offset: u64,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// Without the header that says the offset.
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
}

/// Where a consumer begins: `first`, `last`, `next`, an offset, an interval such as `2h`, or a time such as `2026-12-01T10:00:00Z`.
pub(super) fn begin(text: &str) -> Result<AMQPValue, Failure> {
    if let Ok(offset) = text.parse::<u32>().map(i64::from).or_else(|_| text.parse::<i64>()) {
        return Ok(AMQPValue::LongLongInt(offset));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(AMQPValue::Timestamp(u64::try_from(time.as_second()).unwrap_or(0)));
    }
    let is_interval = || {
        let digits = text.strip_suffix(['s', 'm', 'h', 'D', 'M', 'Y']);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if ["first", "last", "next"].contains(&text) || is_interval() {
        return Ok(AMQPValue::LongString(text.into()));
    }
    Err(Failure::Typed(format!(
        "'{text}' is no place in a stream: say first, last, next, an offset, an interval such as 2h or 7D, or a time such as \
         2026-12-01T10:00:00Z"
    )))
}

/// The arguments of a consumer that begins there.
pub(super) fn consumer_arguments(from: &str, filters: &[String]) -> Result<FieldTable, Failure> {
    let mut arguments = FieldTable::default();
    arguments.insert(OFFSET.into(), begin(from)?);
    if !filters.is_empty() {
        let filters = filters.iter().map(|filter| AMQPValue::LongString(filter.as_str().into()));
        arguments.insert("x-stream-filter".into(), AMQPValue::FieldArray(filters.collect::<Vec<_>>().into()));
    }
    Ok(arguments)
}

/// Reads a stream, and hands over each message in the order of offsets, until all that is wanted was read or Ctrl-C is pressed.
///
/// # Errors
/// When the broker can't be reached or refuses, or what `each` does with a message fails.
pub(crate) fn read(
    reading: &Reading,
    each: &mut dyn FnMut(Read) -> Result<(), io::Error>,
) -> Result<(), Failure> {
    let mut target = Target::parse(&reading.url, TlsFiles::default())?;
    if let Some(vhost) = &reading.vhost {
        target.vhost.clone_from(vhost);
    }
    let arguments = consumer_arguments(&reading.from, &reading.filters)?;
    let output = |error| Failure::Output { what: "the output".to_owned(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(output)?;
    let mut each = |read| each(read).map_err(output);
    runtime.block_on(async {
        tokio::select! {
            ended = follow(reading, &target, arguments, &mut each) => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn follow(
    reading: &Reading,
    target: &Target,
    arguments: FieldTable,
    each: &mut dyn FnMut(Read) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut client = Client::open(target).await?;
    client.set_prefetch(PREFETCH).await?;
    client.put_consume(&reading.stream, false, arguments);
    let (mut parts, mut left, mut unacked) = (Parts::default(), reading.limit, 0);
    let mut quiet_at = Instant::now() + QUIET;
    while left > 0 {
        let until = reading.end.is_some().then_some(quiet_at);
        client.wire.move_bytes(until).await?;
        let mut last_tag = None;
        while left > 0
            && let Some(frame) = client.wire.input.frame()?
        {
            let Some((tag, read)) = parts.take(&frame)? else { continue };
            if reading.end.is_some_and(|end| read.offset >= end) {
                left = 0;
                break;
            }
            left -= 1;
            let is_last = reading.end.is_some_and(|end| read.offset + 1 >= end);
            each(read)?;
            (last_tag, unacked) = (Some(tag), unacked + 1);
            if is_last {
                left = 0;
            }
        }
        if let Some(tag) = last_tag {
            quiet_at = Instant::now() + QUIET;
            if unacked >= ACK_EVERY {
                // With all before it.
                let ack: [&[u8]; 3] = [&[0, 60, 0, 80], &tag.to_be_bytes(), &[1]];
                put_frame(&mut client.wire.output, METHOD, 1, &ack);
                unacked = 0;
            }
        } else if reading.end.is_some() && Instant::now() >= quiet_at {
            break;
        }
    }
    client.close().await;
    Ok(())
}

/// A message whose frames are coming.
#[derive(Debug, Default)]
struct Parts {
    tag: u64,
    read: Read,
    body_bytes: u64,
}

impl Parts {
    /// Takes a frame; returns the message that it completes, with its delivery tag.
    fn take(&mut self, frame: &Frame<'_>) -> Result<Option<(u64, Read)>, Failure> {
        let half = || Failure::Lost("the broker sent half a message".to_owned());
        match frame.kind {
            METHOD if frame.method() == (60, 60) => {
                let mut reader = Reader::new(frame.arguments());
                let mut text = || reader.short_str().map(|text| String::from_utf8_lossy(text).into_owned());
                text().map_err(|_| half())?;
                self.tag = reader.u64().map_err(|_| half())?;
                reader.u8().map_err(|_| half())?;
                let mut text = || reader.short_str().map(|text| String::from_utf8_lossy(text).into_owned());
                let exchange = text().map_err(|_| half())?;
                self.read = Read { exchange, routing_key: text().map_err(|_| half())?, ..Read::default() };
                return Ok(None);
            }
            METHOD if frame.method() == (60, 30) => {
                return Err(Failure::Lost(
                    "the broker cancelled the consumer: is the stream gone?".to_owned(),
                ));
            }
            METHOD => return check_closed(frame).map(|()| None),
            HEADER => {
                let size = frame.payload.get(4..).and_then(|rest| rest.first_chunk()).ok_or_else(half)?;
                self.body_bytes = u64::from_be_bytes(*size);
                let properties = frame.payload.get(12..).ok_or_else(half)?;
                self.read.properties = Properties::decode(properties).map_err(|_| half())?;
                let headers = self.read.properties.headers.as_mut();
                let offset = headers.and_then(|headers| headers.remove(OFFSET));
                let offset = offset.as_ref().and_then(Value::as_integer);
                let no_offset = || Failure::Lost("messages have no offset: is it a stream?".to_owned());
                self.read.offset = offset.and_then(|offset| offset.try_into().ok()).ok_or_else(no_offset)?;
                self.read.properties.headers.take_if(|headers| headers.is_empty());
            }
            BODY => self.read.body.extend_from_slice(frame.payload),
            _ => return Ok(None),
        }
        let is_whole = self.read.body.len() as u64 >= self.body_bytes;
        Ok(is_whole.then(|| (self.tag, std::mem::take(&mut self.read))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_in_all_their_forms() {
        let text = |text: &str| AMQPValue::LongString(text.into());
        assert_eq!(begin("first").unwrap(), text("first"));
        assert_eq!(begin("2h").unwrap(), text("2h"));
        assert_eq!(begin("12").unwrap(), AMQPValue::LongLongInt(12));
        assert_eq!(begin("2026-12-01T10:00:00Z").unwrap(), AMQPValue::Timestamp(1_796_119_200));
        for wrong in ["First", "2x", "h", "", "yesterday"] {
            let problem = begin(wrong).unwrap_err().to_string();
            assert!(
                problem.starts_with(&format!("'{wrong}' is no place in a stream: say first")),
                "{problem}"
            );
        }
    }
}
