//! The vocabulary every layer shares: a message, its properties, field tables, and the numbers that name things.
//!
//! Nothing here knows a socket, a queue or a store. A [`Message`] never changes once it is made: what the broker adds
//! (a dead-letter history, say) makes a new one.

pub mod amqp10;
mod encoded;
mod ids;
mod properties;
mod reader;
pub mod sub_batch;
mod table;

pub use encoded::{EncodedTable, TableLimits, TableTooLarge};
pub use ids::{
    ChannelNumber, ConnectionId, ConsumerId, DeliveryTag, LinkId, Lsn, Millis, NEVER, Name, Position,
    PublishId, QueueId,
};
pub use properties::{Properties, PropertyScan};
pub use reader::{DecodeError, Reader};
pub use table::{FieldTable, ShortStr, Value};

use bytes::Bytes;

/// A published message: where it was published to, its properties and its body.
///
/// All of it lies in one allocation, `exchange ‖ routing key ‖ properties ‖ body`, so that a message of any size costs one
/// allocation and one copy on its way in. Properties stay the client's own bytes (property flags and list, 0-9-1
/// section 4.2.6.1): what the broker needs of them is scanned once and kept beside.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    content: Bytes,
    head: Head,
}

/// What is known of a message's content: small, since messages are moved from queue to queue by value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Head {
    properties_bytes: u32,
    routing_key_bytes: u16,
    exchange_bytes: u8,
    flags: u8,
}

/// Messages are moved by value wherever they go.
const _: () = assert!(size_of::<Message>() <= 40, "a message costs each move more");

/// The format of a stored message whose properties and body are the content of AMQP 0-9-1.
pub const FORMAT_AMQP_091: u8 = 0;

/// The format of a stored message whose body is an encoded message of AMQP 1.0. Its properties are those of 0-9-1 still, with
/// nothing but the header x-stream-filter-value, if it has a filter value.
pub const FORMAT_AMQP_10: u8 = 1;

/// The header with which publishers of AMQP 0-9-1 say by what a consumer of a stream can filter.
pub const STREAM_FILTER_VALUE: &str = "x-stream-filter-value";

/// The longest routing key, in bytes. One of AMQP 0-9-1 has 255 at most; other protocols have names of up to this.
pub const ROUTING_KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Bits of [`Head::flags`]. One is free.
mod flag {
    pub(super) const PERSISTENT: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const EXPIRATION: u8 = 4;
    pub(super) const COPIES: u8 = 8;
    pub(super) const BLIND_COPIES: u8 = 16;
    pub(super) const DEAD_LETTERED: u8 = 32;
    pub(super) const AMQP_10: u8 = 64;
}

impl Head {
    fn new(shape: StoredShape, scan: &PropertyScan<'_>) -> Head {
        let flags = [
            (flag::PERSISTENT, scan.delivery_mode == Some(2)),
            (flag::PRIORITY, scan.priority.is_some()),
            (flag::EXPIRATION, scan.expiration.is_some()),
            (flag::COPIES, scan.has_copies),
            (flag::BLIND_COPIES, scan.has_blind_copies),
            (flag::DEAD_LETTERED, shape.dead_lettered),
            (flag::AMQP_10, shape.format == FORMAT_AMQP_10),
        ];
        Head {
            properties_bytes: shape.properties_bytes,
            exchange_bytes: shape.exchange_bytes,
            routing_key_bytes: shape.routing_key_bytes,
            flags: flags
                .into_iter()
                .fold(0, |flags, (flag, is_set)| if is_set { flags | flag } else { flags }),
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn properties_start(self) -> usize {
        usize::from(self.exchange_bytes) + usize::from(self.routing_key_bytes)
    }

    fn body_start(self) -> usize {
        self.properties_start() + self.properties_bytes as usize
    }
}

impl Message {
    /// Makes a message of its parts. `properties` are property flags and list as they stand in a content header.
    ///
    /// # Errors
    /// When `properties` are not what the specification says they are, or the routing key is longer than
    /// [`ROUTING_KEY_BYTES_MAX`].
    pub fn new(
        exchange: &str,
        routing_key: &[u8],
        properties: &[u8],
        body: &[u8],
    ) -> Result<Message, DecodeError> {
        let scan = PropertyScan::of(properties, usize::MAX)?;
        if routing_key.len() > ROUTING_KEY_BYTES_MAX {
            return Err(DecodeError::RoutingKeyTooLong(routing_key.len()));
        }
        let names = [exchange.as_bytes(), routing_key].concat();
        let mut buffer = MessageBuffer::new(&names, exchange.len(), properties, &scan, body.len());
        buffer.extend_body(body);
        Ok(buffer.finish())
    }

    /// Makes a message of an entry that was published to a stream over the stream protocol: an encoded message of AMQP 1.0, which
    /// nothing here looks into. `filter_value` is what consumers can filter by. `stream` is a queue's name.
    pub fn of_amqp10(stream: &str, filter_value: Option<&[u8]>, entry: &[u8]) -> Message {
        let mut properties = Vec::new();
        let headers = filter_value.map(|value| {
            let field = (STREAM_FILTER_VALUE, Value::LongStr(value.to_vec()));
            std::iter::once(field).collect()
        });
        Properties { headers, ..Properties::default() }.encode(&mut properties);
        let scan = PropertyScan::default();
        let mut buffer = MessageBuffer::new(stream.as_bytes(), 0, &properties, &scan, entry.len());
        buffer.head.flags |= flag::AMQP_10;
        buffer.extend_body(entry);
        buffer.finish()
    }

    /// What the properties and the body are: [`FORMAT_AMQP_091`] or [`FORMAT_AMQP_10`].
    #[inline]
    pub fn format(&self) -> u8 {
        if self.head.has(flag::AMQP_10) { FORMAT_AMQP_10 } else { FORMAT_AMQP_091 }
    }

    /// The exchange that the message was published to; empty for the default exchange.
    pub fn exchange(&self) -> &[u8] {
        &self.content[..usize::from(self.head.exchange_bytes)]
    }

    /// The routing key that the message was published with.
    #[inline]
    pub fn routing_key(&self) -> &[u8] {
        &self.content[usize::from(self.head.exchange_bytes)..self.head.properties_start()]
    }

    /// Property flags and list, as in a content header.
    pub fn properties(&self) -> &[u8] {
        &self.content[self.head.properties_start()..self.head.body_start()]
    }

    /// The body, as it was published.
    pub fn body(&self) -> &[u8] {
        &self.content[self.head.body_start()..]
    }

    /// A slice of the body that shares the message's memory. `range` counts from the start of the body.
    pub fn body_slice(&self, range: std::ops::Range<usize>) -> Bytes {
        let start = self.head.body_start();
        self.content.slice(start + range.start..start + range.end)
    }

    /// Bytes of the body.
    #[inline]
    pub fn body_bytes(&self) -> usize {
        self.content.len() - self.head.body_start()
    }

    /// Bytes of all of it: names, properties and body.
    pub fn size_bytes(&self) -> usize {
        self.content.len()
    }

    /// Everything the message holds, for a store: see [`Message::from_stored`].
    pub fn stored(&self) -> (&[u8], StoredShape) {
        let shape = StoredShape {
            format: self.format(),
            exchange_bytes: self.head.exchange_bytes,
            routing_key_bytes: self.head.routing_key_bytes,
            properties_bytes: self.head.properties_bytes,
            dead_lettered: self.is_dead_lettered(),
        };
        (&self.content, shape)
    }

    /// Makes a message of what [`Message::stored`] gave.
    ///
    /// # Errors
    /// When the content is shorter than its shape says, its properties can't be read, or its format is not known.
    pub fn from_stored(content: Bytes, shape: StoredShape) -> Result<Message, DecodeError> {
        if shape.format > FORMAT_AMQP_10 {
            return Err(DecodeError::UnknownFormat(shape.format));
        }
        let start = shape.exchange_bytes as usize + shape.routing_key_bytes as usize;
        let properties =
            content.get(start..start + shape.properties_bytes as usize).ok_or(DecodeError::Truncated)?;
        let scan = PropertyScan::of(properties, usize::MAX)?;
        let head = Head::new(shape, &scan);
        Ok(Message { content, head })
    }

    /// Whether the message asked for delivery mode 2.
    pub fn is_persistent(&self) -> bool {
        self.head.has(flag::PERSISTENT)
    }

    /// The message's priority, if it carries one. Read from the properties: only queues with priorities ask.
    pub fn priority(&self) -> Option<u8> {
        self.head.has(flag::PRIORITY).then(|| properties::priority(self.properties())).flatten()
    }

    /// Per-message TTL in milliseconds, if the message carries an expiration.
    pub fn expiration_ms(&self) -> Option<u64> {
        self.head.has(flag::EXPIRATION).then(|| self.scan().expiration_ms()).flatten()
    }

    /// Decodes the properties, which the client's bytes hold.
    pub fn decode_properties(&self) -> Properties {
        Properties::decode(self.properties()).expect("properties were scanned when the message was made")
    }

    /// The message's headers, decoded; `None` when it carries none.
    pub fn headers(&self) -> Option<FieldTable> {
        self.scan()
            .headers
            .map(|bytes| FieldTable::decode(bytes, usize::MAX).expect("headers were scanned when made"))
    }

    /// One of the message's headers, without decoding the others.
    pub fn header(&self, name: &str) -> Option<Value> {
        FieldTable::find(self.scan().headers?, name)
    }

    /// Whether it has CC or BCC headers, that is more than one routing key.
    pub fn has_copies(&self) -> bool {
        self.head.has(flag::COPIES)
    }

    /// Whether it has a BCC header, which consumers don't get to see.
    pub fn has_blind_copies(&self) -> bool {
        self.head.has(flag::BLIND_COPIES)
    }

    /// Whether this broker has dead-lettered the message: only then is its x-death header history and not a client's word.
    pub fn is_dead_lettered(&self) -> bool {
        self.head.has(flag::DEAD_LETTERED)
    }

    /// The same body with another envelope and other properties.
    pub fn rewritten(&self, exchange: &str, routing_key: &[u8], properties: &Properties) -> Message {
        let mut encoded = Vec::with_capacity(self.head.properties_bytes as usize + 64);
        properties.encode(&mut encoded);
        let message = Message::new(exchange, routing_key, &encoded, self.body());
        let mut message = message.expect("properties that were just encoded are sound");
        message.head.flags |= self.head.flags & flag::DEAD_LETTERED;
        message
    }

    /// The same message, marked as dead-lettered by this broker.
    pub fn into_dead_letter(mut self) -> Message {
        self.head.flags |= flag::DEAD_LETTERED;
        self
    }

    fn scan(&self) -> PropertyScan<'_> {
        PropertyScan::of(self.properties(), usize::MAX)
            .expect("properties were scanned when the message was made")
    }
}

/// The lengths that cut a stored message's content into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredShape {
    /// What the properties and the body are: [`FORMAT_AMQP_091`] or [`FORMAT_AMQP_10`].
    pub format: u8,
    /// Bytes of the exchange's name.
    pub exchange_bytes: u8,
    /// Bytes of the routing key.
    pub routing_key_bytes: u16,
    /// Bytes of the property flags and list.
    pub properties_bytes: u32,
    /// Whether it has been dead-lettered: [`Message::is_dead_lettered`].
    pub dead_lettered: bool,
}

impl StoredShape {
    /// Whether a message of this shape carries an expiration; `content` is what it was stored with.
    pub fn has_expiration(&self, content: &[u8]) -> bool {
        let start = usize::from(self.exchange_bytes) + usize::from(self.routing_key_bytes);
        content.get(start..).is_some_and(properties::have_expiration)
    }
}

/// A message whose body is still arriving.
#[derive(Debug)]
pub struct MessageBuffer {
    content: Vec<u8>,
    head: Head,
}

/// How much is reserved for a body before any of it has arrived: a header may promise what never comes.
const RESERVE_BYTES_MAX: usize = 1 << 20;

impl MessageBuffer {
    /// Starts a message; `scan` is that of its properties, `body_bytes` is what its content header promises. `names` are its
    /// exchange, of `exchange_bytes`, 255 at most, and its routing key, of [`ROUTING_KEY_BYTES_MAX`] at most.
    #[inline(always)]
    pub fn new(
        names: &[u8],
        exchange_bytes: usize,
        properties: &[u8],
        scan: &PropertyScan<'_>,
        body_bytes: usize,
    ) -> MessageBuffer {
        let envelope_bytes = names.len() + properties.len();
        let mut content = Vec::with_capacity(envelope_bytes + body_bytes.min(RESERVE_BYTES_MAX));
        content.extend_from_slice(names);
        content.extend_from_slice(properties);
        let routing_key_bytes = names.len() - exchange_bytes;
        let shape = StoredShape {
            format: FORMAT_AMQP_091,
            exchange_bytes: u8::try_from(exchange_bytes).expect("an exchange's name is a short string"),
            routing_key_bytes: u16::try_from(routing_key_bytes).expect("routing keys have a limit"),
            properties_bytes: u32::try_from(properties.len()).expect("properties come in one frame"),
            dead_lettered: false,
        };
        MessageBuffer { content, head: Head::new(shape, scan) }
    }

    /// Adds what one body frame brought.
    pub fn extend_body(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
    }

    /// Where more of the body goes that is read straight there.
    pub fn room(&mut self) -> &mut Vec<u8> {
        &mut self.content
    }

    /// The last `bytes` of what has come so far.
    pub fn last(&self, bytes: usize) -> &[u8] {
        &self.content[self.content.len().saturating_sub(bytes)..]
    }

    /// Bytes of names, properties and body that are here.
    pub fn arrived_bytes(&self) -> usize {
        self.content.len()
    }

    /// Ends the message; its body is complete.
    #[inline]
    pub fn finish(self) -> Message {
        Message { content: Bytes::from(self.content), head: self.head }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_went_in() {
        let properties = Properties {
            delivery_mode: Some(2),
            priority: Some(7),
            expiration: Some("250".into()),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let message = Message::new("orders", b"eu.new", &encoded, b"hello").unwrap();
        assert_eq!(message.exchange(), b"orders");
        assert_eq!(message.routing_key(), b"eu.new");
        assert_eq!(message.body(), b"hello");
        assert_eq!(message.decode_properties(), properties);
        assert!(message.is_persistent());
        assert_eq!((message.priority(), message.expiration_ms()), (Some(7), Some(250)));
        let (content, shape) = message.stored();
        assert!(shape.has_expiration(content));
        let content = Bytes::copy_from_slice(content);
        assert_eq!(Message::from_stored(content.clone(), shape).unwrap(), message);
        let newer = StoredShape { format: 2, ..shape };
        assert_eq!(Message::from_stored(content, newer), Err(DecodeError::UnknownFormat(2)));
    }

    #[test]
    fn a_routing_key_may_be_longer_than_a_short_string() {
        let key = vec![b'k'; ROUTING_KEY_BYTES_MAX];
        let message = Message::new("orders", &key, &[0, 0], b"hello").unwrap();
        assert_eq!((message.routing_key(), message.body()), (&key[..], &b"hello"[..]));
        let (content, shape) = message.stored();
        assert_eq!(Message::from_stored(Bytes::copy_from_slice(content), shape).unwrap(), message);
        let longer = Message::new("orders", &[&key[..], b"k"].concat(), &[0, 0], b"hello");
        assert_eq!(longer, Err(DecodeError::RoutingKeyTooLong(ROUTING_KEY_BYTES_MAX + 1)));
    }
}
