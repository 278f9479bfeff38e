//! Headers of SEND as properties of a message and back, and headers of SUBSCRIBE as arguments: the one place that knows both.

use super::error::StompError;
use super::frame::{HeadWriter, Headers};
use crate::message::{FieldTable, Properties, ShortStr, Value};
use std::borrow::Cow;

/// Headers of MESSAGE that are the broker's alone: a header of a message with such a name is not passed on.
const OF_THE_BROKER: [&[u8]; 7] =
    [b"subscription", b"destination", b"message-id", b"redelivered", b"ack", b"content-length", b"receipt"];

/// Property flags and list of a message without any, and of one with delivery-mode 2 alone (0-9-1 section 4.2.6.1).
const NONE: &[u8] = &[0, 0];
const PERSISTENT: &[u8] = &[0x10, 0, 2];

/// The properties of a message that was sent with these headers, encoded. `reply_to` is what stands for the header of that name.
///
/// # Errors
/// When a property has a value that it can't have.
pub(super) fn properties(
    headers: &Headers<'_>,
    reply_to: Option<&[u8]>,
) -> Result<Cow<'static, [u8]>, StompError> {
    if headers.names().all(|name| name == b"persistent" || is_of_the_frame(name)) {
        let is_persistent = headers.flag("persistent") == Some(true);
        return Ok(if is_persistent { PERSISTENT } else { NONE }.into());
    }
    let mut encoded = Vec::with_capacity(64);
    read_properties(headers, reply_to)?.encode(&mut encoded);
    Ok(encoded.into())
}

/// Whether a header of SEND is not the application's: where it goes, and what is said of the frame.
fn is_of_the_frame(name: &[u8]) -> bool {
    matches!(name, b"destination" | b"receipt" | b"transaction" | b"content-length")
}

fn read_properties(headers: &Headers<'_>, reply_to: Option<&[u8]>) -> Result<Properties, StompError> {
    let mut properties = Properties::default();
    let mut table = FieldTable::default();
    for (name, value) in headers.iter() {
        let Ok(known) = std::str::from_utf8(name) else {
            table.insert(key(name)?, Value::LongStr(value.to_vec()));
            continue;
        };
        let text = || short(known, value);
        match known {
            "content-type" => properties.content_type = Some(text()?),
            "content-encoding" => properties.content_encoding = Some(text()?),
            "priority" => properties.priority = Some(number(known, value)?),
            "correlation-id" => properties.correlation_id = Some(text()?),
            "reply-to" => properties.reply_to = Some(short(known, reply_to.unwrap_or(value))?),
            "expiration" => properties.expiration = Some(text()?),
            "amqp-message-id" => properties.message_id = Some(text()?),
            "timestamp" => properties.timestamp = Some(number(known, value)?),
            "type" => properties.kind = Some(text()?),
            "user-id" => properties.user_id = Some(text()?),
            "app-id" => properties.app_id = Some(text()?),
            "persistent" => {
                if headers.flag("persistent") == Some(true) {
                    properties.delivery_mode = Some(2);
                }
            }
            _ if is_of_the_frame(name) => {}
            _ => table.insert(key(name)?, Value::LongStr(value.to_vec())),
        }
    }
    if !table.is_empty() {
        properties.headers = Some(table);
    }
    Ok(properties)
}

fn short(name: &str, value: &[u8]) -> Result<ShortStr, StompError> {
    if value.len() > 255 {
        let body = format!("'{name}' has {} bytes; a property has 255 at most\n", value.len());
        return Err(StompError::new("Invalid header", body));
    }
    Ok(value.into())
}

/// The name of a header of an AMQP message.
fn key(name: &[u8]) -> Result<ShortStr, StompError> {
    if name.len() > 255 {
        let body = format!("the name of a header has {} bytes; it may have 255 at most\n", name.len());
        return Err(StompError::new("Invalid header", body));
    }
    Ok(name.into())
}

fn number<T: std::str::FromStr>(name: &str, value: &[u8]) -> Result<T, StompError> {
    let text = String::from_utf8_lossy(value);
    text.trim().parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        StompError::new("Invalid header", format!("'{name}' can't be '{shown}': it is a whole number\n"))
    })
}

/// Writes the properties and headers of a message, encoded as it carries them, as headers of MESSAGE.
pub(super) fn write_properties(encoded: &[u8], head: &mut HeadWriter<'_>) {
    if encoded == NONE {
        return;
    }
    // They were scanned when the message was made.
    let Ok(properties) = Properties::decode(encoded) else { return };
    let mut text = |name: &str, value: &Option<ShortStr>| {
        if let Some(value) = value {
            head.value(name, value.as_bytes());
        }
    };
    text("content-type", &properties.content_type);
    text("content-encoding", &properties.content_encoding);
    text("correlation-id", &properties.correlation_id);
    text("expiration", &properties.expiration);
    text("amqp-message-id", &properties.message_id);
    text("type", &properties.kind);
    text("user-id", &properties.user_id);
    text("app-id", &properties.app_id);
    if let Some(reply_to) = &properties.reply_to {
        let name = reply_to.as_bytes();
        if super::destination::is_destination(name) {
            head.value("reply-to", name);
        } else {
            head.value("reply-to", &[b"/reply-queue/", name].concat());
        }
    }
    if properties.delivery_mode == Some(2) {
        head.plain("persistent", b"true");
    }
    if let Some(priority) = properties.priority {
        head.number("priority", priority.into());
    }
    if let Some(timestamp) = properties.timestamp {
        head.number("timestamp", timestamp);
    }
    for (name, value) in properties.headers.iter().flat_map(FieldTable::iter) {
        if OF_THE_BROKER.contains(&name.as_bytes()) {
            continue;
        }
        if let Value::LongStr(text) = value {
            head.header(name.as_bytes(), text);
        } else if let Some(text) = simple(value) {
            head.header(name.as_bytes(), text.as_bytes());
        }
    }
}

/// A value that has a text; tables and arrays have none.
fn simple(value: &Value) -> Option<String> {
    Some(match value {
        Value::Bool(flag) => flag.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Decimal { scale: 0, value } => value.to_string(),
        Value::Decimal { scale, value } => {
            let scale = usize::from(*scale);
            let digits = format!("{value:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{whole}.{fraction}")
        }
        integer => integer.as_integer()?.to_string(),
    })
}

/// Headers of SUBSCRIBE, and of a SEND that declares a queue, that become arguments of the queue: texts, and numbers.
const TEXT_ARGUMENTS: [&str; 5] =
    ["x-dead-letter-exchange", "x-dead-letter-routing-key", "x-queue-type", "x-max-age", "x-overflow"];
const NUMBER_ARGUMENTS: [&str; 7] = [
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
];

/// Arguments of the queue that a frame declares.
///
/// # Errors
/// When one that is a number is none.
pub(super) fn queue_arguments(headers: &Headers<'_>) -> Result<FieldTable, StompError> {
    let mut arguments = FieldTable::default();
    for name in TEXT_ARGUMENTS {
        if let Some(value) = headers.get(name) {
            arguments.insert(name, Value::LongStr(value.trim_ascii().to_vec()));
        }
    }
    for name in NUMBER_ARGUMENTS {
        if let Some(value) = headers.get(name) {
            arguments.insert(name, Value::I64(number(name, value)?));
        }
    }
    Ok(arguments)
}

/// Arguments of the consumer that a SUBSCRIBE makes.
///
/// # Errors
/// When the priority is no number that fits.
pub(super) fn consumer_arguments(headers: &Headers<'_>) -> Result<FieldTable, StompError> {
    let mut arguments = FieldTable::default();
    if let Some(value) = headers.get("x-stream-offset") {
        arguments.insert("x-stream-offset", stream_offset(value)?);
    }
    if let Some(value) = headers.get("x-stream-filter") {
        let filters = value.split(|byte| *byte == b',').map(|filter| Value::LongStr(filter.to_vec()));
        arguments.insert("x-stream-filter", Value::Array(filters.collect()));
    }
    if let Some(name) = headers.get("x-stream-consumer-name") {
        arguments.insert("x-stream-consumer-name", Value::LongStr(name.to_vec()));
    }
    for name in ["x-stream-match-unfiltered", "x-single-active-consumer"] {
        if let Some(flag) = headers.flag(name) {
            arguments.insert(name, Value::Bool(flag));
        }
    }
    if let Some(value) = headers.get("x-priority") {
        arguments.insert("x-priority", Value::I32(number("x-priority", value)?));
    }
    Ok(arguments)
}

fn stream_offset(value: &[u8]) -> Result<Value, StompError> {
    let name = "x-stream-offset";
    if let Some(offset) = value.strip_prefix(b"offset=") {
        return Ok(Value::I64(number(name, offset)?));
    }
    match value.strip_prefix(b"timestamp=") {
        Some(timestamp) => Ok(Value::Timestamp(number(name, timestamp)?)),
        None => Ok(Value::LongStr(value.to_vec())),
    }
}

/// How many deliveries a subscription may have that are not acknowledged; 0 is no limit.
///
/// # Errors
/// When it is no number.
pub(super) fn prefetch_count(headers: &Headers<'_>) -> Result<u32, StompError> {
    headers.get("prefetch-count").map_or(Ok(0), |value| number("prefetch-count", value))
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::*;

    fn read(head: &str) -> Result<Properties, StompError> {
        read_properties(&Frame::read(head.as_bytes(), b"").unwrap().headers, None)
    }

    fn written(properties: &Properties) -> String {
        let (mut encoded, mut out) = (Vec::new(), Vec::new());
        properties.encode(&mut encoded);
        let mut head = HeadWriter::new("MESSAGE", &mut out);
        write_properties(&encoded, &mut head);
        head.end();
        String::from_utf8(out).unwrap()
    }

    const EVERY_PROPERTY: &str = "content-type:text/plain\ncontent-encoding:gzip\ncorrelation-id:c\nexpiration:1000\n\
        amqp-message-id:m\ntype:t\nuser-id:guest\napp-id:a\nreply-to:/queue/r\npersistent:true\npriority:7\ntimestamp:12345\n\
        colour:blue\n";

    #[test]
    fn every_property_comes_back_as_it_was_sent() {
        let head = format!(
            "SEND\ndestination:/queue/q\nreceipt:1\ntransaction:t\ncontent-length:0\n{EVERY_PROPERTY}\n"
        );
        let properties = read(&head).unwrap();
        assert_eq!((properties.delivery_mode, properties.priority), (Some(2), Some(7)));
        assert_eq!(properties.headers.as_ref().unwrap().count(), 1);
        assert_eq!(written(&properties), format!("MESSAGE\n{EVERY_PROPERTY}\n"));
    }

    #[test]
    fn messages_without_headers_of_the_application_have_the_same_properties_at_less_cost() {
        let rows: [(&str, &[u8]); 4] = [
            ("", NONE),
            ("receipt:1\ncontent-length:0\ntransaction:t\n", NONE),
            ("persistent:true\npersistent:false\n", PERSISTENT),
            ("persistent:false\npersistent:true\n", NONE),
        ];
        for (head, expected) in rows {
            let head = format!("SEND\ndestination:/queue/a\n{head}\n");
            let frame = Frame::read(head.as_bytes(), b"").unwrap();
            assert_eq!(properties(&frame.headers, None).unwrap(), expected, "{head}");
            let mut encoded = Vec::new();
            read(&head).unwrap().encode(&mut encoded);
            assert_eq!(encoded, expected, "{head}");
        }
    }

    #[test]
    fn values_that_a_property_cannot_have_are_refused() {
        let long = "x".repeat(256);
        for head in [
            "priority:high".to_owned(),
            "priority:256".to_owned(),
            "timestamp:-1".to_owned(),
            format!("type:{long}"),
            format!("{long}:1"),
        ] {
            let error = read(&format!("SEND\n{head}\n\n")).unwrap_err();
            assert_eq!(error.message, "Invalid header", "{head}");
        }
    }

    #[test]
    fn headers_of_other_clients_are_shown_as_text() {
        let mut table = FieldTable::default();
        table.insert("b", Value::Bool(true));
        table.insert("i", Value::I8(-3));
        table.insert("l", Value::U32(7));
        table.insert("f", Value::F64(1.5));
        table.insert("d", Value::Decimal { scale: 2, value: 5 });
        table.insert("t", Value::Timestamp(9));
        table.insert("n", Value::Void);
        table.insert("a", Value::Array(vec![]));
        table.insert("x:y", Value::LongStr(b"1\n2".to_vec()));
        table.insert("subscription", Value::LongStr(b"not yours".to_vec()));
        let properties = Properties {
            headers: Some(table),
            reply_to: Some("amq.gen-1".into()),
            delivery_mode: Some(1),
            ..Properties::default()
        };
        let expected = "MESSAGE\nreply-to:/reply-queue/amq.gen-1\nb:true\ni:-3\nl:7\nf:1.5\nd:0.05\nt:9\nx\\cy:1\\n2\n\n";
        assert_eq!(written(&properties), expected);
    }

    #[test]
    fn headers_of_a_subscription_become_arguments() {
        let head = b"SUBSCRIBE\nx-message-ttl: 5 \nx-queue-type:quorum\nx-overflow:reject-publish\nx-priority:-1\n\
            x-stream-offset:offset=3\nx-stream-filter:a,b\nx-stream-match-unfiltered:true\nprefetch-count:10\n\n";
        let frame = Frame::read(head, b"").unwrap();
        let queue = queue_arguments(&frame.headers).unwrap();
        assert_eq!(queue.field("x-message-ttl"), Some(&Value::I64(5)));
        assert_eq!(queue.field("x-queue-type").and_then(Value::as_str), Some("quorum"));
        assert_eq!(queue.count(), 3);
        let consumer = consumer_arguments(&frame.headers).unwrap();
        assert_eq!(consumer.field("x-priority"), Some(&Value::I32(-1)));
        assert_eq!(consumer.field("x-stream-offset"), Some(&Value::I64(3)));
        // With the two filters.
        assert_eq!(consumer.count(), 6);
        assert_eq!(prefetch_count(&frame.headers), Ok(10));
    }
}
