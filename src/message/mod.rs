//! The vocabulary every layer shares: a message, its properties, field tables, and the numbers that name things.
//!
//! Nothing here knows a socket, a queue or a store. A [`Message`] never changes once it is made: what the broker adds
//! (a dead-letter history, say) makes a new one.

mod ids;
mod properties;
mod reader;
mod table;

pub use ids::{ChannelNumber, ConnectionId, ConsumerId, DeliveryTag, Lsn, Millis, Name, Position, QueueId};
pub use properties::{Properties, PropertyScan};
pub use reader::{DecodeError, Reader};
pub use table::{FieldTable, ShortStr, Value};

use bytes::{Bytes, BytesMut};

/// A published message: where it was published to, its properties and its body.
///
/// All of it lies in one allocation, `exchange ‖ routing key ‖ properties ‖ body`, so that a message of any size costs one
/// allocation and one copy on its way in. Properties stay the client's own bytes (property flags and list, 0-9-1
/// section 4.2.6.1): what the broker needs of them is scanned once and kept beside.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    content: Bytes,
    expiration_ms: Option<u64>,
    properties_bytes: u32,
    exchange_bytes: u8,
    routing_key_bytes: u8,
    priority: Option<u8>,
    persistent: bool,
    has_copies: bool,
    has_blind_copies: bool,
    dead_lettered: bool,
}

impl Message {
    /// Makes a message of its parts. `properties` are property flags and list as they stand in a content header.
    ///
    /// # Errors
    /// When `properties` are not what the specification says they are.
    pub fn new(
        exchange: &str,
        routing_key: &[u8],
        properties: &[u8],
        body: &[u8],
    ) -> Result<Message, DecodeError> {
        let scan = PropertyScan::of(properties, usize::MAX)?;
        let mut buffer = MessageBuffer::new(exchange.as_bytes(), routing_key, properties, &scan, body.len());
        buffer.extend_body(body);
        Ok(buffer.finish())
    }

    /// The exchange that the message was published to; empty for the default exchange.
    pub fn exchange(&self) -> &[u8] {
        &self.content[..self.exchange_bytes as usize]
    }

    /// The routing key that the message was published with.
    pub fn routing_key(&self) -> &[u8] {
        let start = self.exchange_bytes as usize;
        &self.content[start..start + self.routing_key_bytes as usize]
    }

    /// Property flags and list, as in a content header.
    pub fn properties(&self) -> &[u8] {
        &self.content[self.properties_start()..self.body_start()]
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.content[self.body_start()..]
    }

    /// A slice of the body that shares the message's memory. `range` counts from the start of the body.
    pub fn body_slice(&self, range: std::ops::Range<usize>) -> Bytes {
        let start = self.body_start();
        self.content.slice(start + range.start..start + range.end)
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.content.len() - self.body_start()
    }

    /// Bytes of all of it: names, properties and body.
    pub fn size_bytes(&self) -> usize {
        self.content.len()
    }

    /// Everything the message holds, for a store: see [`Message::from_stored`].
    pub fn stored(&self) -> (&[u8], StoredShape) {
        let shape = StoredShape {
            exchange_bytes: self.exchange_bytes,
            routing_key_bytes: self.routing_key_bytes,
            properties_bytes: self.properties_bytes,
            dead_lettered: self.dead_lettered,
        };
        (&self.content, shape)
    }

    /// Makes a message of what [`Message::stored`] gave.
    ///
    /// # Errors
    /// When the content is shorter than its shape says or its properties can't be read.
    pub fn from_stored(content: Bytes, shape: StoredShape) -> Result<Message, DecodeError> {
        let start = shape.exchange_bytes as usize + shape.routing_key_bytes as usize;
        let properties =
            content.get(start..start + shape.properties_bytes as usize).ok_or(DecodeError::Truncated)?;
        let scan = PropertyScan::of(properties, usize::MAX)?;
        Ok(Message::with_scan(content.clone(), shape, &scan))
    }

    /// Whether the message asked for delivery mode 2.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The message's priority, if it carries one.
    pub fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// Per-message TTL in milliseconds, if the message carries an expiration.
    pub fn expiration_ms(&self) -> Option<u64> {
        self.expiration_ms
    }

    /// The decoded properties.
    pub fn decode_properties(&self) -> Properties {
        Properties::decode(self.properties()).expect("properties were scanned when the message was made")
    }

    /// The message's headers, decoded; `None` when it carries none.
    pub fn headers(&self) -> Option<FieldTable> {
        let scan =
            PropertyScan::of(self.properties(), usize::MAX).expect("properties were scanned when made");
        scan.headers
            .map(|bytes| FieldTable::decode(bytes, usize::MAX).expect("headers were scanned when made"))
    }

    /// Whether it has CC or BCC headers, that is more than one routing key.
    pub fn has_copies(&self) -> bool {
        self.has_copies
    }

    /// Whether it has a BCC header, which consumers don't get to see.
    pub fn has_blind_copies(&self) -> bool {
        self.has_blind_copies
    }

    /// Whether this broker has dead-lettered the message: only then is its x-death header history and not a client's word.
    pub fn is_dead_lettered(&self) -> bool {
        self.dead_lettered
    }

    /// The same body with another envelope and other properties.
    pub fn rewritten(&self, exchange: &str, routing_key: &[u8], properties: &Properties) -> Message {
        let mut encoded = Vec::with_capacity(self.properties_bytes as usize + 64);
        properties.encode(&mut encoded);
        let message = Message::new(exchange, routing_key, &encoded, self.body());
        let message = message.expect("properties that were just encoded are sound");
        Message { dead_lettered: self.dead_lettered, ..message }
    }

    /// The same message, marked as dead-lettered by this broker.
    pub fn into_dead_letter(self) -> Message {
        Message { dead_lettered: true, ..self }
    }

    fn with_scan(content: Bytes, shape: StoredShape, scan: &PropertyScan<'_>) -> Message {
        Message {
            content,
            expiration_ms: scan.expiration_ms(),
            properties_bytes: shape.properties_bytes,
            exchange_bytes: shape.exchange_bytes,
            routing_key_bytes: shape.routing_key_bytes,
            priority: scan.priority,
            persistent: scan.delivery_mode == Some(2),
            has_copies: scan.has_copies,
            has_blind_copies: scan.has_blind_copies,
            dead_lettered: shape.dead_lettered,
        }
    }

    fn properties_start(&self) -> usize {
        self.exchange_bytes as usize + self.routing_key_bytes as usize
    }

    fn body_start(&self) -> usize {
        self.properties_start() + self.properties_bytes as usize
    }
}

/// The lengths that cut a stored message's content into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredShape {
    /// Bytes of the exchange's name.
    pub exchange_bytes: u8,
    /// Bytes of the routing key.
    pub routing_key_bytes: u8,
    /// Bytes of the property flags and list.
    pub properties_bytes: u32,
    /// See [`Message::is_dead_lettered`].
    pub dead_lettered: bool,
}

/// A message whose body is still arriving.
#[derive(Debug)]
pub struct MessageBuffer {
    content: BytesMut,
    /// The message but for its content.
    message: Message,
}

/// How much is reserved for a body before any of it has arrived: a header may promise what never comes.
const RESERVE_BYTES_MAX: usize = 1 << 20;

impl MessageBuffer {
    /// Starts a message; `scan` is that of its properties, `body_bytes` is what its content header promises. Names are
    /// short strings, 255 bytes at most.
    pub fn new(
        exchange: &[u8],
        routing_key: &[u8],
        properties: &[u8],
        scan: &PropertyScan<'_>,
        body_bytes: usize,
    ) -> MessageBuffer {
        let envelope_bytes = exchange.len() + routing_key.len() + properties.len();
        let mut content = BytesMut::with_capacity(envelope_bytes + body_bytes.min(RESERVE_BYTES_MAX));
        content.extend_from_slice(exchange);
        content.extend_from_slice(routing_key);
        content.extend_from_slice(properties);
        let shape = StoredShape {
            exchange_bytes: u8::try_from(exchange.len()).expect("an exchange's name is a short string"),
            routing_key_bytes: u8::try_from(routing_key.len()).expect("a routing key is a short string"),
            properties_bytes: u32::try_from(properties.len()).expect("properties come in one frame"),
            dead_lettered: false,
        };
        MessageBuffer { content, message: Message::with_scan(Bytes::new(), shape, scan) }
    }

    /// Adds what one body frame brought.
    pub fn extend_body(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
    }

    /// The whole message.
    pub fn finish(self) -> Message {
        Message { content: self.content.freeze(), ..self.message }
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
        assert_eq!(Message::from_stored(Bytes::copy_from_slice(content), shape).unwrap(), message);
    }
}
