//! Publishing and fetching messages over HTTP, for trying things out.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use super::{exchanges, json, queues};
use crate::api::{self, Fault, Fetched, Form, Get, Publish, Published, Table};
use crate::broker::VirtualHost;
use crate::broker::access::permissions::Access;
use crate::broker::delivery::Entry;
use crate::broker::error::{BrokerError, Resource};
use crate::broker::observe::stats::MessageStats;
use crate::broker::observe::trace::{Delivered, Party};
use crate::broker::queue::{Got, Persistent, QueueHandle};
use crate::message::{DecodeError, Message, Properties, PropertyScan, ShortStr};
use crate::store::{DurableWaiter, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

pub(super) const ROUTES: &[Route] = &[
    Route::post(
        "/api/exchanges/{vhost}/{name}/publish",
        Needs::UseVhost,
        publish,
        "Publishes a message, and says whether it was routed",
    )
    .takes::<api::Publish>()
    .answers::<api::Published>()
    .with_large_body(),
    Route::post(
        "/api/queues/{vhost}/{name}/get",
        Needs::UseVhost,
        get,
        "Fetches messages, and puts them back or not",
    )
    .takes::<api::Get>()
    .answers::<Vec<api::Fetched>>(),
];

/// The most messages that one request fetches, and bytes of bodies after which it fetches no more.
const GET_MESSAGES_MAX: i64 = 10_000;
const GET_BYTES_MAX: usize = 64 << 20;

/// How long a persistent message may take to be on the disk.
const DURABLE_PATIENCE: Duration = Duration::from_secs(30);

/// Signals when a record is durable.
pub(super) struct Durable(Receiver<bool>);

/// A waiter for a turn, and the receiver of its signal when the turn's changes are durable.
pub(super) fn durable() -> (Arc<dyn DurableWaiter>, Durable) {
    let (tell, told) = sync_channel(1);
    (Arc::new(DurableSignal(tell)), Durable(told))
}

/// Passes on that a record is durable, or never will be.
struct DurableSignal(SyncSender<bool>);

impl DurableWaiter for DurableSignal {
    fn durable(&self, _: crate::message::Lsn, _: bool) {
        // Full: it was signalled before.
        let _ = self.0.try_send(true);
    }

    fn failed(&self, _: &StoreError) {
        let _ = self.0.try_send(false);
    }
}

fn publish(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let name = exchanges::exchange_name(request.parameter("name"));
    let wanted: Publish = request
        .body_with(&["routing_key", "properties", "payload", "payload_encoding"])
        .map_err(|error| match error == ApiError::bad_value("not_string", "payload") {
            true => ApiError::bad_request("payload_not_string"),
            false => error,
        })?;
    let resource = Resource::exchange(vhost.name(), name);
    request.check_access(Access::Write, &resource)?;
    let exchange = vhost.existing_exchange(name).map_err(ApiError::of_method)?;
    if exchange.definition().internal {
        return Err(ApiError::of_method(BrokerError::InternalExchange(resource)));
    }
    let message = message(request, name, &wanted)?;
    request.check_topic(Access::Write, &exchange, message.routing_key())?;
    let route = vhost.route(&exchange, &message);
    if vhost.is_traced() {
        request.in_turn(|turn| {
            vhost.trace_publish(party(request), &message, &route, turn);
            vhost.apply_effects(turn);
        });
    }
    let mut stats = MessageStats { publish: 1, routed: route.count(1), ..MessageStats::default() };
    if route.is_empty() {
        stats.return_unroutable = 1;
    } else {
        stats.confirm = 1;
        let (waiter, durable) = durable();
        let mut refused = Vec::new();
        let record = request.in_turn(|turn| {
            turn.waiter = Some(waiter);
            let record = vhost.publish(&route, &mut vec![message], turn, &mut refused);
            turn.waiter = None;
            vhost.apply_effects(turn);
            record
        });
        if record.is_some() {
            durable.wait()?;
        }
        if !refused.is_empty() {
            return Err(ApiError::bad_request("rejected Unable to publish message. Check queue limits."));
        }
    }
    request.broker().connections().count_without_connection(vhost.name(), &stats);
    Answer::of(&Published { routed: !route.is_empty() })
}

impl Durable {
    /// Waits until the changes are durable.
    pub(super) fn wait(&self) -> Result<(), ApiError> {
        match self.0.recv_timeout(DURABLE_PATIENCE) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ApiError::Internal("the store failed, the message may be lost".to_owned())),
            Err(_) => Err(ApiError::Internal("the message could not be made durable in time".to_owned())),
        }
    }
}

/// The message that is wanted.
fn message(request: &Request, exchange: &str, wanted: &Publish) -> Result<Message, ApiError> {
    let payload = wanted.payload.as_str();
    let body = match wanted.payload_encoding.as_str() {
        "string" => payload.as_bytes().to_vec(),
        "base64" => STANDARD.decode(payload).map_err(|_| ApiError::bad_value("not_base64", payload))?,
        other => return Err(ApiError::bad_value("unsupported_encoding", other)),
    };
    let max = request.settings().message_bytes_max;
    if body.len() as u64 > max {
        let text = format!("message size {} is larger than configured max size {max}", body.len());
        return Err(ApiError::of_method(BrokerError::Precondition(text)));
    }
    let depth_max = request.settings().field_table_depth_max;
    let properties = properties(&wanted.properties, depth_max)?;
    check(request, &properties)?;
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let unsound = |error: DecodeError| ApiError::bad_request(error.to_string());
    PropertyScan::of(&encoded, depth_max.saturating_add(1)).map_err(unsound)?;
    let routing_key = short(&wanted.routing_key)?;
    Message::new(exchange, routing_key.as_bytes(), &encoded, &body).map_err(unsound)
}

/// Looks at the properties that a publisher's are looked at.
fn check(request: &Request, properties: &Properties) -> Result<(), ApiError> {
    let refuse = |text: String| Err(ApiError::of_method(BrokerError::Precondition(text)));
    if let Some(expiration) = &properties.expiration
        && expiration.to_string().parse::<u64>().is_err()
    {
        return refuse(format!("invalid expiration '{expiration}': no_integer"));
    }
    if let Some(user_id) = &properties.user_id
        && *user_id != *request.user.name
        && !request.user.has_tag("impersonator")
    {
        let user = &request.user.name;
        return refuse(format!("user_id property set to '{user_id}' but authenticated user was '{user}'"));
    }
    Ok(())
}

fn short(text: &str) -> Result<ShortStr, ApiError> {
    if text.len() > 255 {
        return Err(ApiError::bad_value("not_shortstr", text));
    }
    Ok(text.into())
}

fn properties(sent: &Table, depth_max: usize) -> Result<Properties, ApiError> {
    let sent: api::Properties =
        api::read(&sent.clone().into(), Form::Plain).map_err(|fault| match fault {
            Fault::NotInteger(field, _) => ApiError::bad_value("not_int", field),
            other => other.into(),
        })?;
    let text = |text: Option<String>| text.as_deref().map(short).transpose();
    Ok(Properties {
        content_type: text(sent.content_type)?,
        content_encoding: text(sent.content_encoding)?,
        headers: sent.headers.map(|headers| json::table_from_json(&headers, depth_max)).transpose()?,
        delivery_mode: sent.delivery_mode,
        priority: sent.priority,
        correlation_id: text(sent.correlation_id)?,
        reply_to: text(sent.reply_to)?,
        expiration: text(sent.expiration)?,
        message_id: text(sent.message_id)?,
        timestamp: sent.timestamp,
        kind: text(sent.kind)?,
        user_id: text(sent.user_id)?,
        app_id: text(sent.app_id)?,
        cluster_id: text(sent.cluster_id)?,
    })
}

/// A message's properties; only those that it has.
pub fn shown_properties(properties: &Properties) -> api::Properties {
    let text = |text: &Option<ShortStr>| text.as_ref().map(|text| json::text_of(text.as_bytes()));
    api::Properties {
        kind: text(&properties.kind),
        message_id: text(&properties.message_id),
        correlation_id: text(&properties.correlation_id),
        reply_to: text(&properties.reply_to),
        expiration: text(&properties.expiration),
        user_id: text(&properties.user_id),
        app_id: text(&properties.app_id),
        cluster_id: text(&properties.cluster_id),
        content_type: text(&properties.content_type),
        content_encoding: text(&properties.content_encoding),
        timestamp: properties.timestamp,
        priority: properties.priority,
        delivery_mode: properties.delivery_mode,
        headers: properties.headers.as_ref().map(json::table),
    }
}

/// What becomes of messages that were fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Ack,
    Requeue,
    Reject,
}

fn get(request: &Request) -> Result<Answer, ApiError> {
    let wanted: Get = request.body_with(&["ackmode", "count", "encoding"])?;
    let then = match wanted.ackmode.as_str() {
        "ack_requeue_false" => Then::Ack,
        "ack_requeue_true" | "reject_requeue_true" => Then::Requeue,
        "reject_requeue_false" => Then::Reject,
        other => return Err(ApiError::bad_value("unknown_ackmode", other)),
    };
    let encoding = Encoding {
        always_base64: match wanted.encoding.as_str() {
            "auto" => false,
            "base64" => true,
            _ => return Err(ApiError::bad_request("Unsupported encoding. Please use auto or base64.")),
        },
        truncate: wanted.truncate.and_then(|bytes| usize::try_from(bytes).ok()),
    };
    let count = wanted.count.clamp(0, GET_MESSAGES_MAX);
    let (vhost, queue) = queues::find_to_use(request, Access::Read).map_err(|error| match error {
        ApiError::NotFound => not_there(request),
        other => other,
    })?;
    queue.check_get().map_err(ApiError::of_method)?;
    let fetched = request.in_turn(|turn| {
        let mut fetched = Vec::new();
        let mut bytes = 0;
        while fetched.len() < usize::try_from(count).unwrap_or(0) && bytes < GET_BYTES_MAX {
            match vhost.get(&queue, false, turn) {
                Got::Message { entry, left } => {
                    bytes += entry.message.size_bytes();
                    if vhost.is_traced() {
                        trace_fetched(request, &vhost, &queue, &entry, turn);
                    }
                    fetched.push((*entry, left));
                }
                Got::Empty => break,
                // No event loop waits for this thread.
                Got::NotInMemory | Got::NotYet => turn.begin(turn.now),
            }
        }
        let entries: Vec<Entry> = fetched.iter().map(|(entry, _)| entry.clone()).collect();
        settle(&vhost, &queue, entries, then, turn);
        fetched
    });
    count_fetched(request, &vhost, fetched.len(), then);
    let shown = fetched.iter().map(|(entry, left)| encoding.show(&entry.message, entry.redelivered, *left));
    Answer::of(&shown.collect::<Vec<_>>())
}

/// Who publishes or fetches: RabbitMQ makes a connection for the request, and one channel of it.
fn party(request: &Request) -> Party<'_> {
    Party { connection: HTTP, channel: 1, user: &request.user.name }
}

/// What the firehose has for the connection's name.
const HTTP: &str = "HTTP";

fn trace_fetched(
    request: &Request,
    vhost: &VirtualHost,
    queue: &QueueHandle,
    entry: &Entry,
    turn: &mut crate::broker::Turn,
) {
    let message = &entry.message;
    let delivered = Delivered {
        queue: queue.definition().name.as_bytes(),
        message,
        properties: message.properties(),
        redelivered: entry.redelivered,
    };
    vhost.trace_delivery(party(request), delivered, turn);
}

/// What the method of AMQP says.
fn not_there(request: &Request) -> ApiError {
    let (vhost, queue) = (request.parameter("vhost"), request.parameter("name"));
    ApiError::NotThere(format!("NOT_FOUND - no queue '{queue}' in vhost '{vhost}'"))
}

fn settle(
    vhost: &VirtualHost,
    queue: &QueueHandle,
    entries: Vec<Entry>,
    then: Then,
    turn: &mut crate::broker::Turn,
) {
    match then {
        Then::Requeue => queue.requeue(None, entries, Vec::new(), false, turn),
        Then::Reject => queue.reject(None, entries, Vec::new(), turn),
        Then::Ack => {
            let bytes = entries.iter().map(|entry| entry.message.body_bytes() as u64).sum();
            for entry in entries.iter().filter(|entry| entry.journaled) {
                turn.changes.settle(queue.definition().id, entry.position);
            }
            let persistent = entries.iter().map(Persistent::of).sum();
            queue.settle(None, entries.len(), bytes, persistent, turn);
        }
    }
    vhost.apply_effects(turn);
}

fn count_fetched(request: &Request, vhost: &VirtualHost, count: usize, then: Then) {
    let count = count as u64;
    let ack = if then == Then::Ack { count } else { 0 };
    let get_empty = u64::from(count == 0);
    let stats = MessageStats { get: count, ack, get_empty, ..MessageStats::default() };
    request.broker().connections().count_without_connection(vhost.name(), &stats);
}

/// How bodies are written.
pub(super) struct Encoding {
    /// Even where they are text.
    pub(super) always_base64: bool,
    /// Only this many bytes of them.
    pub(super) truncate: Option<usize>,
}

impl Encoding {
    fn show(&self, message: &Message, redelivered: bool, left: usize) -> Fetched {
        let (payload, payload_encoding) = self.payload(message.body());
        Fetched {
            payload_bytes: message.body_bytes(),
            redelivered,
            exchange: json::text_of(message.exchange()),
            routing_key: json::text_of(message.routing_key()),
            message_count: left,
            properties: shown_properties(&message.decode_properties()),
            payload,
            payload_encoding,
        }
    }

    /// A body, and how it is written.
    pub(super) fn payload(&self, body: &[u8]) -> (String, String) {
        let bytes = &body[..self.truncate.unwrap_or(usize::MAX).min(body.len())];
        match std::str::from_utf8(bytes) {
            Ok(text) if !self.always_base64 => (text.to_owned(), "string".to_owned()),
            _ => (STANDARD.encode(bytes), "base64".to_owned()),
        }
    }
}
