//! The properties that messages are sent with: their own, with what their queue adds and without what is the broker's alone.

use crate::broker::delivery::Entry;
use crate::broker::queue::{QueueHandle, QueueType};
use crate::message::{Message, Value};
use std::borrow::Cow;

/// The properties that an entry of a queue is sent with.
pub(crate) fn properties_of_entry<'a>(entry: &'a Entry, queue: &QueueHandle) -> Cow<'a, [u8]> {
    let added = match queue.definition().queue_type {
        QueueType::Quorum if entry.delivery_count > 0 => {
            Some(("x-delivery-count", i64::from(entry.delivery_count)))
        }
        QueueType::Stream => Some(("x-stream-offset", i64::try_from(entry.offset()).unwrap_or(i64::MAX))),
        QueueType::Classic | QueueType::Quorum => None,
    };
    properties_to_send(&entry.message, added)
}

/// A message's own properties, but for what the broker adds or keeps to itself.
pub(crate) fn properties_to_send<'a>(message: &'a Message, added: Option<(&str, i64)>) -> Cow<'a, [u8]> {
    if added.is_none() && !message.has_blind_copies() {
        return Cow::Borrowed(message.properties());
    }
    let mut properties = message.decode_properties();
    let mut headers = properties.headers.take().unwrap_or_default();
    headers.remove("BCC");
    if let Some((name, number)) = added {
        headers.insert(name, Value::I64(number));
    }
    properties.headers = Some(headers);
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    Cow::Owned(encoded)
}
