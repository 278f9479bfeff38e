//! A message of AMQP 0-9-1 as one of 1.0, the way version 4 of RabbitMQ writes it.

use super::types::{LIST, MAP, Open, Writer};
use super::{DEPTH_MAX, QUEUES, TYPE_OF_VALUES, annotation, section, to_091};
use crate::message::properties::{PropertyScan, RawProperties};
use crate::message::{FORMAT_AMQP_091, FieldTable, Message, Value};

/// Appends a message as an entry of the stream protocol. One that came as such an entry is that again, byte for byte.
///
/// Of one of 0-9-1 is left out what 1.0 has no place for: the cluster id, a BCC header, and tables and arrays in headers whose
/// names don't begin with `x-`.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    if message.format() != FORMAT_AMQP_091 {
        out.extend_from_slice(message.body());
        return;
    }
    let properties = RawProperties::of(message.properties());
    let headers = properties.headers.map(|bytes| {
        FieldTable::decode(bytes, usize::MAX).expect("headers were scanned when the message was made")
    });
    let headers = headers.unwrap_or_default();
    let mut writer = Writer(out);
    write_header(&mut writer, &properties);
    write_annotations(&mut writer, message, &properties, &headers);
    write_properties(&mut writer, &properties);
    write_application_properties(&mut writer, &headers);
    let body = message.body();
    if properties.kind == Some(TYPE_OF_VALUES.as_bytes()) && to_091::is_body(body) {
        writer.0.extend_from_slice(body);
    } else {
        writer.section(section::DATA);
        writer.binary(body);
    }
}

fn write_header(writer: &mut Writer<'_>, properties: &RawProperties<'_>) {
    writer.section(section::HEADER);
    let mut list = writer.open(LIST);
    writer.flag(properties.delivery_mode == Some(2));
    match properties.priority {
        Some(priority) => writer.fixed(0x50, &[priority]),
        None => writer.null(),
    }
    let scan = PropertyScan { expiration: properties.expiration, ..PropertyScan::default() };
    match scan.expiration_ms() {
        Some(ms) => writer.uint(u32::try_from(ms).unwrap_or(u32::MAX)),
        None => writer.null(),
    }
    // Nobody has acquired it before, and no delivery has failed.
    writer.flag(true);
    writer.uint(0);
    list.add(5);
    writer.close(list);
}

fn write_annotations(
    writer: &mut Writer<'_>,
    message: &Message,
    properties: &RawProperties<'_>,
    headers: &FieldTable,
) {
    writer.section(section::MESSAGE_ANNOTATIONS);
    let mut map = writer.open(MAP);
    for (name, text) in
        [(annotation::ROUTING_KEY, message.routing_key()), (annotation::EXCHANGE, message.exchange())]
    {
        writer.symbol(name.as_bytes());
        writer.text(text);
        map.add(2);
    }
    let copies = headers.field("CC").filter(|value| matches!(value, Value::Array(_)));
    if let Some(copies) = copies {
        writer.symbol(annotation::COPIES.as_bytes());
        write_value(writer, copies, DEPTH_MAX);
        map.add(2);
    }
    for (name, value) in headers.iter() {
        if is_annotation(name.as_bytes()) && !is_ours(name.as_bytes(), copies.is_some()) {
            writer.symbol(name.as_bytes());
            write_value(writer, value, DEPTH_MAX);
            map.add(2);
        }
    }
    if let Some(kind) = properties.kind {
        writer.symbol(annotation::TYPE.as_bytes());
        writer.text(kind);
        map.add(2);
    }
    writer.close(map);
}

fn is_annotation(name: &[u8]) -> bool {
    name.starts_with(b"x-")
}

/// Whether an annotation of that name would be taken for what the broker says.
fn is_ours(name: &[u8], has_copies: bool) -> bool {
    name == annotation::ROUTING_KEY.as_bytes()
        || name == annotation::EXCHANGE.as_bytes()
        || name == annotation::COPIES.as_bytes() && has_copies
        || name.starts_with(annotation::BASIC.as_bytes())
}

fn write_properties(writer: &mut Writer<'_>, properties: &RawProperties<'_>) {
    let start = writer.0.len();
    writer.section(section::PROPERTIES);
    let mut list = Fields { list: writer.open(LIST), nulls: 0, written: 0 };
    list.field(writer, properties.message_id, write_id);
    list.field(writer, properties.user_id, |writer, user| writer.binary(user));
    // To whom, and about what.
    list.nulls += 2;
    list.field(writer, properties.reply_to, write_address);
    list.field(writer, properties.correlation_id, write_id);
    list.field(writer, properties.content_type, |writer, text| writer.symbol(text));
    list.field(writer, properties.content_encoding, |writer, text| writer.symbol(text));
    // When it expires.
    list.nulls += 1;
    list.field(writer, properties.timestamp, |writer, seconds| writer.time(seconds));
    list.field(writer, properties.app_id, |writer, text| writer.text(text));
    if list.written == 0 {
        writer.0.truncate(start);
    } else {
        writer.close(list.list);
    }
}

/// A list of fields that may be absent; behind the last one that is there, none is written.
struct Fields {
    list: Open,
    nulls: u32,
    written: u32,
}

impl Fields {
    fn field<T>(
        &mut self,
        writer: &mut Writer<'_>,
        value: Option<T>,
        write: impl FnOnce(&mut Writer<'_>, T),
    ) {
        let Some(value) = value else {
            self.nulls += 1;
            return;
        };
        for _ in 0..self.nulls {
            writer.null();
        }
        self.list.add(self.nulls + 1);
        self.nulls = 0;
        self.written += 1;
        write(writer, value);
    }
}

fn write_id(writer: &mut Writer<'_>, id: &[u8]) {
    match uuid(id) {
        Some(uuid) => writer.fixed(0x98, &uuid),
        None => writer.text_or_binary(id),
    }
}

/// The UUID of a text such as `urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6`.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits = text.strip_prefix(b"urn:uuid:")?;
    if digits.len() != 36 || [8, 13, 18, 23].iter().any(|at| digits[*at] != b'-') {
        return None;
    }
    let mut uuid = [0; 16];
    let mut nibbles = digits.iter().filter(|digit| **digit != b'-');
    for byte in &mut uuid {
        let mut nibble = || char::from(*nibbles.next()?).to_digit(16);
        *byte = (nibble()? << 4 | nibble()?) as u8;
    }
    // What is written in capitals would come back otherwise.
    (nibbles.next().is_none() && !digits.iter().any(u8::is_ascii_uppercase)).then_some(uuid)
}

/// A queue's name as an address: percent-encoded.
fn write_address(writer: &mut Writer<'_>, queue: &[u8]) {
    let mut address = Vec::with_capacity(QUEUES.len() + queue.len());
    address.extend_from_slice(QUEUES.as_bytes());
    for byte in queue {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            address.push(*byte);
        } else {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
            address.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    writer.text(&address);
}

fn write_application_properties(writer: &mut Writer<'_>, headers: &FieldTable) {
    let start = writer.0.len();
    writer.section(section::APPLICATION_PROPERTIES);
    let mut map = writer.open(MAP);
    let mut is_empty = true;
    for (name, value) in headers.iter() {
        let is_simple = !matches!(value, Value::Table(_) | Value::Array(_));
        if is_simple && !is_annotation(name.as_bytes()) && name != "CC" && name != "BCC" {
            writer.text(name.as_bytes());
            write_value(writer, value, 0);
            map.add(2);
            is_empty = false;
        }
    }
    if is_empty {
        writer.0.truncate(start);
    } else {
        writer.close(map);
    }
}

/// Writes a header's value. What is nested deeper is written as null.
fn write_value(writer: &mut Writer<'_>, value: &Value, depth_max: usize) {
    match value {
        Value::Bool(flag) => writer.fixed(0x56, &[u8::from(*flag)]),
        Value::I8(n) => writer.fixed(0x51, &n.to_be_bytes()),
        Value::U8(n) => writer.fixed(0x50, &[*n]),
        Value::I16(n) => writer.fixed(0x61, &n.to_be_bytes()),
        Value::U16(n) => writer.fixed(0x60, &n.to_be_bytes()),
        Value::I32(n) => writer.int(*n),
        Value::U32(n) => writer.uint(*n),
        Value::I64(n) => writer.long(*n),
        Value::F32(n) => writer.fixed(0x72, &n.to_be_bytes()),
        Value::F64(n) => writer.fixed(0x82, &n.to_be_bytes()),
        Value::Decimal { scale, value } => {
            let number = f64::from(*value) / 10f64.powi(i32::from(*scale));
            writer.fixed(0x82, &number.to_be_bytes());
        }
        Value::LongStr(bytes) => writer.text_or_binary(bytes),
        Value::Bytes(bytes) => writer.binary(bytes),
        Value::Timestamp(seconds) => writer.time(*seconds),
        Value::Void => writer.null(),
        Value::Array(_) | Value::Table(_) if depth_max == 0 => writer.null(),
        Value::Array(values) => {
            let mut list = writer.open(LIST);
            for value in values {
                write_value(writer, value, depth_max - 1);
                list.add(1);
            }
            writer.close(list);
        }
        Value::Table(table) => {
            let mut map = writer.open(MAP);
            for (name, value) in table.iter() {
                writer.symbol(name.as_bytes());
                write_value(writer, value, depth_max - 1);
                map.add(2);
            }
            writer.close(map);
        }
    }
}
