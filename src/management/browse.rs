//! Paging through the messages of a queue without touching them, which RabbitMQ can't: nothing is fetched, marked as
//! redelivered or counted.

use super::answer::{Answer, ApiError};
use super::json;
use super::messages::{Encoding, shown_properties};
use super::queues;
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, Browsed, Holder, Seen};
use crate::broker::access::permissions::Access;
use crate::broker::observe::browse::{Cursor, Inquiry, UnackedInquiry, UnackedMessage};
use crate::broker::observe::connections::LiveConnection;
use crate::broker::queue::{QueueHandle, SeenMessage};
use crate::message::{Message, Position};
use serde_json::Value;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

pub(super) const ROUTES: &[Route] = &[Route::get(
    "/api/queues/{vhost}/{name}/browse",
    Needs::UseVhost,
    browse,
    "Pages through the messages of a queue and touches none; count, after, state=ready or unacked, header=name or \
     name=value, body_limit, encoding=auto or base64",
).answers::<api::Browsed>()];

/// Messages on a page.
const COUNT_DEFAULT: usize = 50;
const COUNT_MAX: usize = 500;

/// Bytes of a body that are shown.
const BODY_LIMIT_DEFAULT: usize = 50_000;

/// Bytes of bodies after which a page ends.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// Messages that one request looks at, and how many it holds at once for that.
const SCANNED_MAX: usize = 100_000;
pub(super) const SCANNED_AT_ONCE: usize = 256;
pub(super) const SCANNED_BYTES: usize = 16 << 20;

/// How long a connection may take to say what it has unacknowledged.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a message's headers have to be like: all of these there, with these values where there are some.
#[derive(Debug, Default)]
pub(super) struct HeadersFilter(pub(super) Vec<(String, Option<Value>)>);

impl HeadersFilter {
    /// As the query has it: `header=name` and `header=name=value`, several times.
    fn of_query(request: &Request) -> HeadersFilter {
        let given = request.query.iter().filter(|(name, _)| name == "header").map(|(_, value)| value);
        let wanted = given.map(|text| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(Value::from(value))),
            None => (text.clone(), None),
        });
        HeadersFilter(wanted.collect())
    }

    /// Whether a message is wanted. A number is also wanted by its text.
    pub(super) fn wants(&self, message: &Message) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let headers = json::table_to_json(&message.headers().unwrap_or_default());
        self.0.iter().all(|(name, wanted)| match (headers.get(name), wanted) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(header), Some(wanted)) => {
                header == wanted
                    || (!header.is_string() && Some(header.to_string().as_str()) == wanted.as_str())
            }
        })
    }
}

fn browse(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, queue) = queues::find(request)?;
    let resource = queue.definition().resource();
    request.check_access(Access::Read, &resource)?;
    if queue.stream_state().is_some() {
        return Err(ApiError::bad_request(format!(
            "{resource} is a stream, which is not browsed but consumed, from any offset on: leveret ctl stream read {} --from first",
            queue.definition().name
        )));
    }
    let page = Page {
        count: number(request, "count")?.unwrap_or(COUNT_DEFAULT).clamp(1, COUNT_MAX),
        after: request.query("after").map(cursor).transpose()?,
        filter: HeadersFilter::of_query(request),
        encoding: Encoding {
            always_base64: match request.query("encoding") {
                None | Some("auto") => false,
                Some("base64") => true,
                Some(_) => {
                    return Err(ApiError::bad_request("Unsupported encoding. Please use auto or base64."));
                }
            },
            truncate: Some(number(request, "body_limit")?.unwrap_or(BODY_LIMIT_DEFAULT)),
        },
    };
    match request.query("state").unwrap_or("ready") {
        "ready" => page.of_ready(&vhost, &queue),
        "unacked" => page.of_unacked(request, &vhost, &queue),
        other => Err(ApiError::bad_value("unknown_state", other)),
    }
}

fn number(request: &Request, name: &str) -> Result<Option<usize>, ApiError> {
    let text = request.query(name);
    text.map(|text| text.parse().map_err(|_| ApiError::bad_value("not_integer", text))).transpose()
}

/// A place as [`place`] writes it.
pub(super) fn cursor(text: &str) -> Result<Cursor, ApiError> {
    let parsed = text
        .split_once('.')
        .and_then(|(priority, position)| Some((priority.parse().ok()?, Position(position.parse().ok()?))));
    parsed.ok_or_else(|| ApiError::bad_value("not_a_place", text))
}

pub(super) fn place(seen: &SeenMessage) -> String {
    format!("{}.{}", seen.priority, seen.position)
}

struct Page {
    count: usize,
    after: Option<Cursor>,
    filter: HeadersFilter,
    encoding: Encoding,
}

impl Page {
    fn of_ready(&self, vhost: &crate::broker::VirtualHost, queue: &QueueHandle) -> Result<Answer, ApiError> {
        let (mut items, mut scanned, mut after) = (Vec::new(), 0, self.after);
        let (mut next, mut bytes) = (None, 0);
        'looking: while scanned < SCANNED_MAX {
            let seen = vhost.browse(queue, after, SCANNED_AT_ONCE, SCANNED_BYTES)?;
            if seen.is_empty() {
                next = None;
                break;
            }
            for seen in seen {
                scanned += 1;
                after = Some((seen.priority, seen.position));
                next = Some(place(&seen));
                if self.filter.wants(&seen.message) {
                    items.push(self.show(&seen, "ready"));
                    bytes += self.shown_bytes(&seen);
                    if items.len() == self.count || bytes >= PAGE_BYTES_MAX {
                        break 'looking;
                    }
                }
            }
        }
        Answer::of(&Browsed { items, next, scanned: scanned as u64, silent_connections: None })
    }

    fn of_unacked(
        &self,
        request: &Request,
        vhost: &crate::broker::VirtualHost,
        queue: &QueueHandle,
    ) -> Result<Answer, ApiError> {
        let after = self.after.map_or(Position(0), |(_, position)| position);
        let (mut held, silent) = ask_connections(request, queue, after);
        held.sort_by_key(|(_, held)| held.seen.position());
        held.truncate(SCANNED_AT_ONCE);
        let is_more_likely = held.len() == SCANNED_AT_ONCE;
        let mut next = None;
        let (mut items, mut scanned, mut bytes) = (Vec::new(), 0, 0);
        let mut is_whole = true;
        for (connection, held) in held {
            scanned += 1;
            // One that was acknowledged meanwhile is not shown.
            let Some(seen) = vhost.seen_unacked(queue, held.seen)? else { continue };
            next = Some(place(&seen));
            if !self.filter.wants(&seen.message) {
                continue;
            }
            let holder = Some(Holder {
                connection_name: connection.facts().name.clone(),
                channel_number: held.channel,
                consumer_tag: held.consumer_tag,
                delivered_at: held.delivered_at,
            });
            items.push(Seen { holder, ..self.show(&seen, "unacked") });
            bytes += self.shown_bytes(&seen);
            if items.len() == self.count || bytes >= PAGE_BYTES_MAX {
                is_whole = false;
                break;
            }
        }
        let next = next.filter(|_| is_more_likely || !is_whole);
        Answer::of(&Browsed { items, next, scanned, silent_connections: Some(silent) })
    }

    /// How much of a message's body is shown.
    fn shown_bytes(&self, seen: &SeenMessage) -> usize {
        seen.message.body_bytes().min(self.encoding.truncate.unwrap_or(usize::MAX))
    }

    fn show(&self, seen: &SeenMessage, state: &str) -> Seen {
        let message = &seen.message;
        let (payload, payload_encoding) = self.encoding.payload(message.body());
        Seen {
            place: place(seen),
            state: state.to_owned(),
            exchange: json::text_of(message.exchange()),
            routing_key: json::text_of(message.routing_key()),
            redelivered: seen.redelivered,
            delivery_count: seen.delivery_count,
            priority: seen.priority,
            enqueued_at: seen.enqueued_at,
            payload_bytes: message.body_bytes(),
            properties: shown_properties(&message.decode_properties()),
            payload,
            payload_encoding,
            holder: None,
        }
    }
}

/// What the connections have unacknowledged of a queue, and how many of them did not answer in time.
fn ask_connections(
    request: &Request,
    queue: &QueueHandle,
    after: Position,
) -> (Vec<(Arc<LiveConnection>, UnackedMessage)>, usize) {
    let mut asked = Vec::new();
    for connection in request.broker().connections().list() {
        let has_some = connection.facts().vhost == queue.definition().vhost
            && connection.progress().channels.values().any(|channel| channel.facts.unacked > 0);
        if has_some {
            let (tell, told) = sync_channel(1);
            connection.inquire(Inquiry::Unacked(UnackedInquiry {
                queue: queue.definition().id,
                after,
                max: SCANNED_AT_ONCE,
                // The receiver is gone when it took too long.
                answer: Box::new(move |held| drop(tell.try_send(held))),
            }));
            asked.push((connection, told));
        }
    }
    let (mut found, mut silent) = (Vec::new(), 0);
    for (connection, told) in asked {
        match told.recv_timeout(PATIENCE) {
            Ok(held) => found.extend(held.into_iter().map(|held| (connection.clone(), held))),
            Err(_) => silent += 1,
        }
    }
    (found, silent)
}
