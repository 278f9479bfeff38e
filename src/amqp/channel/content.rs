//! Puts method, content header and content bodies together into a message (0-9-1 section 2.3.5.2).

use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::method;
use crate::broker::memory::{Held, MemoryAccount, MemoryUse, count_much};
use crate::message::{DecodeError, Message, MessageBuffer, PropertyScan, Reader};
use bytes::BufMut;
use bytes::buf::Limit;
use std::sync::Arc;

/// RabbitMQ's bound on a message's body whatever is configured: 512 MiB.
const BODY_BYTES_MAX: u64 = 536_870_912;

/// The class of all content.
const CLASS_BASIC: u16 = 60;

/// A message that is whole, with what basic.publish said besides.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) message: Message,
    /// Messages with the same number were published to the same exchange with the same routing key, one after the other.
    pub(super) envelope: u64,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    /// Whether a property has to be looked at before the message may go on.
    pub(super) needs_check: bool,
}

/// Limits on what a client publishes.
#[derive(Clone, Copy, Debug)]
pub struct ContentLimits {
    /// Bytes of a message's body.
    pub message_bytes_max: u64,
    /// Levels of tables within headers.
    pub field_table_depth_max: usize,
}

/// A channel's place within a message.
#[derive(Debug, Default)]
pub(in crate::amqp) struct ContentAssembler {
    expect: Expect,
    /// Exchange and routing key, one behind the other, kept between messages: mostly the next one has the same. In one vector,
    /// since comparing with an empty one of its own takes 80 ns where memcmp reads under a mask, at an address without memory.
    names: Vec<u8>,
    exchange_bytes: usize,
    /// Counts how often they changed.
    envelope: u64,
    mandatory: bool,
    immediate: bool,
    needs_check: bool,
    /// What has come of a message that is not whole, in the account of memory.
    held: Option<Held>,
}

#[derive(Debug, Default)]
enum Expect {
    #[default]
    Method,
    Header,
    /// `left` bytes of body.
    Body {
        buffer: MessageBuffer,
        left: u64,
    },
    /// The body is too large: it is read and dropped, then refused.
    TooLarge {
        left: u64,
        body_bytes: u64,
    },
}

impl ContentAssembler {
    /// Starts with basic.publish. `arguments` are the method's, behind its ids.
    pub(super) fn publish(&mut self, arguments: &[u8]) -> Result<(), AmqpError> {
        let mut reader = Reader::new(arguments);
        let mut read = || Ok((reader.u16()?, reader.short_str()?, reader.short_str()?, reader.u8()?));
        let (_ticket, exchange, routing_key, bits) = read().map_err(malformed)?;
        let (last_exchange, last_routing_key) = self.names.split_at(self.exchange_bytes);
        if last_routing_key != routing_key || last_exchange != exchange {
            self.envelope += 1;
            self.names.clear();
            self.names.extend_from_slice(exchange);
            self.names.extend_from_slice(routing_key);
            self.exchange_bytes = exchange.len();
        }
        self.mandatory = bits & 1 != 0;
        self.immediate = bits & 2 != 0;
        self.expect = Expect::Header;
        Ok(())
    }

    /// Checks that a method may come now.
    pub(super) fn check_method(&self) -> Result<(), AmqpError> {
        match self.expect {
            Expect::Method => Ok(()),
            Expect::Header => Err(not_a_header()),
            Expect::Body { .. } | Expect::TooLarge { .. } => Err(not_a_body()),
        }
    }

    /// Takes a content header; a message without a body is whole then.
    ///
    /// Inlined, as [`ContentAssembler::body`]: each message has both.
    #[inline(always)]
    pub(super) fn header(
        &mut self,
        payload: &[u8],
        limits: ContentLimits,
    ) -> Result<Option<Published>, AmqpError> {
        match self.expect {
            Expect::Header => self.expect = Expect::Method,
            Expect::Method => return Err(not_a_method()),
            Expect::Body { .. } | Expect::TooLarge { .. } => return Err(not_a_body()),
        }
        let mut reader = Reader::new(payload);
        let mut read = || Ok((reader.u16()?, reader.u16()?, reader.u64()?));
        let (class, weight, body_bytes) = read().map_err(malformed)?;
        if weight != 0 {
            return Err(not_a_header());
        }
        if class != CLASS_BASIC {
            let text =
                format!("expected content header for class {CLASS_BASIC}, got one for class {class} instead");
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text));
        }
        if body_bytes > BODY_BYTES_MAX {
            let text =
                format!("content body size {body_bytes} exceeds maximum allowed size {BODY_BYTES_MAX}");
            return Err(AmqpError::new(ReplyCode::FrameError, text));
        }
        if body_bytes > limits.message_bytes_max {
            self.expect = Expect::TooLarge { left: body_bytes, body_bytes };
            return Ok(None);
        }
        let properties = reader.rest();
        let scan = PropertyScan::of(properties, limits.field_table_depth_max).map_err(malformed)?;
        self.needs_check = needs_check(&scan);
        let capacity = usize::try_from(body_bytes).expect("a body within its limit fits memory");
        let buffer = MessageBuffer::new(&self.names, self.exchange_bytes, properties, &scan, capacity);
        if body_bytes == 0 {
            return Ok(Some(self.published(buffer)));
        }
        self.expect = Expect::Body { buffer, left: body_bytes };
        Ok(None)
    }

    /// Takes a content body; the last one makes the message whole.
    #[inline(always)]
    pub(super) fn body(
        &mut self,
        payload: &[u8],
        limits: ContentLimits,
    ) -> Result<Option<Published>, AmqpError> {
        let arrived = payload.len() as u64;
        let left = match &mut self.expect {
            Expect::Body { left, .. } | Expect::TooLarge { left, .. } => left,
            Expect::Method => return Err(not_a_method()),
            Expect::Header => return Err(not_a_header()),
        };
        *left = left.checked_sub(arrived).ok_or_else(|| too_long(*left, arrived))?;
        let is_whole = *left == 0;
        if let Expect::Body { buffer, .. } = &mut self.expect {
            buffer.extend_body(payload);
        }
        if !is_whole {
            return Ok(None);
        }
        match std::mem::take(&mut self.expect) {
            Expect::TooLarge { body_bytes, .. } => Err(too_large(body_bytes, limits.message_bytes_max)),
            Expect::Body { buffer, .. } => Ok(Some(self.published(buffer))),
            Expect::Method | Expect::Header => Ok(None),
        }
    }

    /// What has come of a message that is not whole.
    pub(super) fn arrived_bytes(&self) -> usize {
        match &self.expect {
            Expect::Body { buffer, .. } => buffer.arrived_bytes(),
            _ => 0,
        }
    }

    /// Counts what has come of a message that is not whole.
    pub(in crate::amqp) fn count(&mut self, memory: &Arc<MemoryAccount>) {
        let bytes = self.arrived_bytes();
        count_much(&mut self.held, memory, MemoryUse::Arriving, bytes);
    }

    /// Whether a content body of that many bytes may come now, so that parts of it can be taken before all of it is there.
    pub(in crate::amqp) fn takes_parts_of(&self, bytes: usize) -> bool {
        matches!(self.expect, Expect::Body { left, .. } if bytes as u64 <= left)
    }

    /// Takes a part of a content body. [`ContentAssembler::body`] takes what is left of it, which may be nothing.
    pub(in crate::amqp) fn part_of_body(&mut self, part: &[u8]) {
        if let Expect::Body { buffer, .. } = &mut self.expect {
            buffer.extend_body(part);
            self.room_was_filled(part.len());
        }
    }

    /// Where the next `bytes` of a content body go.
    pub(in crate::amqp) fn room(&mut self, bytes: usize) -> Option<Limit<&mut Vec<u8>>> {
        let Expect::Body { buffer, .. } = &mut self.expect else { return None };
        Some(buffer.room().limit(bytes))
    }

    /// That number of bytes was put there.
    pub(in crate::amqp) fn room_was_filled(&mut self, bytes: usize) {
        if let Expect::Body { left, .. } = &mut self.expect {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// The last `bytes` that have come of the body.
    pub(in crate::amqp) fn last_of_body(&self, bytes: usize) -> &[u8] {
        match &self.expect {
            Expect::Body { buffer, .. } => buffer.last(bytes),
            _ => &[],
        }
    }

    #[inline]
    fn published(&self, buffer: MessageBuffer) -> Published {
        let ContentAssembler { envelope, mandatory, immediate, needs_check, .. } = *self;
        Published { message: buffer.finish(), envelope, mandatory, immediate, needs_check }
    }
}

fn needs_check(scan: &PropertyScan<'_>) -> bool {
    scan.user_id.is_some() || scan.expiration.is_some() || scan.has_copies || scan.reply_to.is_some()
}

fn not_a_method() -> AmqpError {
    unexpected("expected method frame, got non method frame instead").without_method()
}

fn not_a_header() -> AmqpError {
    unexpected("expected content header for class 60, got non content header frame instead")
}

fn not_a_body() -> AmqpError {
    unexpected("expected content body, got non content body frame instead")
}

fn unexpected(text: &str) -> AmqpError {
    AmqpError { method: Some(method::PUBLISH), ..AmqpError::new(ReplyCode::UnexpectedFrame, text) }
}

fn malformed(error: DecodeError) -> AmqpError {
    AmqpError::new(ReplyCode::FrameError, error.to_string())
}

fn too_long(left: u64, arrived: u64) -> AmqpError {
    AmqpError::new(
        ReplyCode::FrameError,
        format!("content body of {arrived} bytes where only {left} were left"),
    )
}

fn too_large(body_bytes: u64, max: u64) -> AmqpError {
    let text = if max >= BODY_BYTES_MAX {
        format!("message size {body_bytes} is larger than max size {BODY_BYTES_MAX}")
    } else {
        format!("message size {body_bytes} is larger than configured max size {max}")
    };
    AmqpError::new(ReplyCode::PreconditionFailed, text)
}
