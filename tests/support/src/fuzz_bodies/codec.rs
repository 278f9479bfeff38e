//! Bytes that are decoded: tables, properties, what the store holds.

use bytes::Bytes;
use leveret::broker::topology::definitions::Definition;
use leveret::message::amqp10::{self, EntryError};
use leveret::message::sub_batch;
use leveret::message::{FieldTable, Message, Properties, PropertyScan, StoredShape};

/// The first byte says how deep the table of the others may be nested. Checking and decoding agree, and what was decoded is
/// encoded and decoded to the same again.
pub(super) fn field_table(data: &[u8]) {
    let Some((depth_max, table)) = data.split_first() else { return };
    let depth_max = usize::from(*depth_max % 80);
    let checked = FieldTable::check(table, depth_max);
    match FieldTable::decode(table, depth_max) {
        Err(error) => assert_eq!(checked, Err(error)),
        Ok(decoded) => {
            assert_eq!(checked, Ok(()));
            let mut encoded = Vec::new();
            decoded.encode(&mut encoded);
            let mut again = Vec::new();
            FieldTable::decode(&encoded, depth_max).unwrap().encode(&mut again);
            assert_eq!(encoded, again);
        }
    }
}

/// Property flags and list. What the scan lets pass can be decoded, and made a message of.
pub(super) fn properties(data: &[u8]) {
    let scan = PropertyScan::of(data, 64);
    let decoded = Properties::decode(data);
    let Ok(scan) = scan else { return };
    let decoded = decoded.expect("what passed the scan can be decoded");
    assert_eq!(scan.headers.is_some(), decoded.headers.is_some());
    assert_eq!((scan.priority, scan.delivery_mode), (decoded.priority, decoded.delivery_mode));
    let message = Message::new("x", b"key", data, b"body").unwrap();
    assert_eq!((message.body(), message.properties()), (&b"body"[..], data));
    let mut encoded = Vec::new();
    message.decode_properties().encode(&mut encoded);
    let rewritten = message.rewritten("y", b"other", &decoded);
    assert_eq!(rewritten.properties(), encoded);
    assert_eq!(rewritten.has_copies(), message.has_copies());
}

/// An entry of the stream protocol, or, behind a first byte that is odd, the properties of a message of AMQP 0-9-1. What can be made
/// a message of 0-9-1 of can be written as an entry and read again; so can all properties.
pub(super) fn amqp10(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let message = if kind & 1 == 0 {
        amqp10::to_091(&Message::of_amqp10("s", Some(b"filter"), rest)).ok()
    } else {
        Message::new("x", b"key", rest, b"body").ok()
    };
    let Some(message) = message else { return };
    let mut entry = Vec::new();
    amqp10::encode(&message, &mut entry);
    match amqp10::to_091(&Message::of_amqp10("s", None, &entry)) {
        Ok(again) => {
            // What is no UTF-8 in a routing key is replaced.
            let names = |message: &Message| {
                [message.exchange(), message.routing_key()]
                    .map(|name| String::from_utf8_lossy(name).into_owned())
            };
            assert_eq!((names(&again), again.body()), (names(&message), message.body()));
        }
        Err(error) => assert_eq!(error, EntryError::TooMany),
    }
}

/// What a damaged store may hold: a definition, and a message.
pub(super) fn stored(data: &[u8]) {
    let Some((&[kind, exchange, key, properties], rest)) = data.split_first_chunk::<4>() else { return };
    // A definition that can be read is written and read to the same again.
    if let Ok(Some(definition)) = Definition::decode(&[kind], rest) {
        let again = Definition::decode(&definition.key(), &definition.encode()).unwrap().unwrap();
        assert_eq!((again.key(), again.encode()), (definition.key(), definition.encode()));
    }
    let shape = StoredShape {
        format: (kind >> 1) & 1,
        exchange_bytes: exchange,
        routing_key_bytes: key.into(),
        properties_bytes: properties.into(),
        dead_lettered: kind & 1 != 0,
    };
    if let Ok(message) = Message::from_stored(Bytes::copy_from_slice(rest), shape) {
        assert_eq!(message.stored(), (rest, shape));
        message.decode_properties();
        message.headers();
        drop(amqp10::to_091(&message));
    }
}

/// A sub-batch as a publisher of the stream protocol sends it: compression, messages, bytes, data. What comes out of it is what it
/// announces.
pub(super) fn sub_batch(data: &[u8]) {
    let Some((&[codec, high, low, bytes, more], rest)) = data.split_first_chunk::<5>() else { return };
    let records = u16::from_be_bytes([high, low]);
    let uncompressed = u32::from(u16::from_be_bytes([bytes, more]));
    let Ok(entries) = sub_batch::unpack(codec % 6, records, uncompressed, &Bytes::copy_from_slice(rest))
    else {
        return;
    };
    assert_eq!(entries.len(), usize::from(records));
    let content: usize = entries.iter().map(Bytes::len).sum();
    assert_eq!(content + 4 * entries.len(), uncompressed as usize);
}
