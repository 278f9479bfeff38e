//! Those who speak the stream protocol: their connections, what publishes on them, and what reads.

use super::answer::{Answer, ApiError};
use super::list::list;
use super::request::Request;
use super::routes::{Needs, Route};
use super::{connections, json};
use crate::api::{self, QueueDetails};
use crate::broker::VirtualHost;
use crate::broker::observe::connections::LiveConnection;
use crate::broker::queue::{QueueHandle, StreamPublisher, SubscriptionState};
use crate::message::ConnectionId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/stream/connections",
        Needs::Login,
        all_connections,
        "All open connections of the stream protocol",
    )
    .lists::<api::Connection>(),
    Route::get(
        "/api/stream/connections/{vhost}",
        Needs::SeeVhost,
        connections_to,
        "The connections of the stream protocol to a vhost",
    )
    .lists::<api::Connection>(),
    Route::get(
        "/api/stream/connections/{vhost}/{name}",
        Needs::SeeVhost,
        connections::connection,
        "A connection of the stream protocol",
    )
    .answers::<api::Connection>(),
    Route::delete(
        "/api/stream/connections/{vhost}/{name}",
        Needs::SeeVhost,
        connections::close,
        "Closes a connection of the stream protocol; X-Reason says why",
    ),
    Route::get(
        "/api/stream/connections/{vhost}/{name}/publishers",
        Needs::SeeVhost,
        publishers_on,
        "What publishes on a connection of the stream protocol",
    )
    .lists::<api::StreamPublisher>(),
    Route::get(
        "/api/stream/connections/{vhost}/{name}/consumers",
        Needs::SeeVhost,
        consumers_on,
        "What consumes on a connection of the stream protocol",
    )
    .lists::<api::StreamConsumer>(),
    Route::get(
        "/api/stream/publishers",
        Needs::Login,
        all_publishers,
        "All publishers of the stream protocol",
    )
    .lists::<api::StreamPublisher>(),
    Route::get(
        "/api/stream/publishers/{vhost}",
        Needs::SeeVhost,
        publishers_in,
        "The publishers of the stream protocol in a vhost",
    )
    .lists::<api::StreamPublisher>(),
    Route::get(
        "/api/stream/publishers/{vhost}/{stream}",
        Needs::SeeVhost,
        publishers_of,
        "What publishes to a stream over the stream protocol",
    )
    .lists::<api::StreamPublisher>(),
    Route::get("/api/stream/consumers", Needs::Login, all_consumers, "All consumers of the stream protocol")
        .lists::<api::StreamConsumer>(),
    Route::get(
        "/api/stream/consumers/{vhost}",
        Needs::SeeVhost,
        consumers_in,
        "The consumers of the stream protocol in a vhost",
    )
    .lists::<api::StreamConsumer>(),
];

/// What RabbitMQ calls the protocol.
const PROTOCOL: &str = "stream";

/// The connections that the user sees.
fn visible(request: &Request) -> Vec<Arc<LiveConnection>> {
    let mut all = connections::visible(request);
    all.retain(|connection| connection.facts().protocol == PROTOCOL);
    all
}

fn all_connections(request: &Request) -> Result<Answer, ApiError> {
    connections::list_all(&visible(request), request)
}

fn connections_to(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let mut found = visible(request);
    found.retain(|connection| connection.facts().vhost == *vhost.name());
    connections::list_all(&found, request)
}

/// What publishes to these streams, or reads them, on connections that the user sees.
struct Seen {
    connections: BTreeMap<ConnectionId, Arc<LiveConnection>>,
    streams: Vec<Arc<QueueHandle>>,
}

impl Seen {
    fn of(request: &Request, streams: Vec<Arc<QueueHandle>>) -> Seen {
        let connections = visible(request).into_iter().map(|one| (one.facts().id, one)).collect();
        Seen { connections, streams }
    }

    /// On one connection alone.
    fn on(request: &Request) -> Result<Seen, ApiError> {
        let connection = connections::find(request)?;
        let streams = streams(&*request.vhost()?);
        Ok(Seen { connections: BTreeMap::from([(connection.facts().id, connection)]), streams })
    }

    fn publishers(&self, request: &Request) -> Result<Answer, ApiError> {
        let mut shown = Vec::new();
        for stream in &self.streams {
            for publisher in stream.declared_publishers() {
                let connection = self.connections.get(&publisher.connection);
                shown.extend(connection.map(|connection| describe_publisher(stream, &publisher, connection)));
            }
        }
        list(shown, request)
    }

    fn consumers(&self, request: &Request) -> Result<Answer, ApiError> {
        let mut shown = Vec::new();
        for stream in &self.streams {
            for subscription in stream.subscriptions() {
                let connection = self.connections.get(&subscription.connection);
                shown.extend(
                    connection.map(|connection| describe_consumer(stream, &subscription, connection)),
                );
            }
        }
        list(shown, request)
    }
}

fn streams(vhost: &VirtualHost) -> Vec<Arc<QueueHandle>> {
    let mut streams = vhost.queues();
    streams.retain(|queue| queue.stream_state().is_some());
    streams.sort_by(|one, other| one.definition().name.cmp(&other.definition().name));
    streams
}

fn all_streams(request: &Request) -> Vec<Arc<QueueHandle>> {
    request.broker().vhosts().iter().flat_map(|vhost| streams(vhost)).collect()
}

fn all_publishers(request: &Request) -> Result<Answer, ApiError> {
    Seen::of(request, all_streams(request)).publishers(request)
}

fn publishers_in(request: &Request) -> Result<Answer, ApiError> {
    Seen::of(request, streams(&*request.vhost()?)).publishers(request)
}

fn publishers_of(request: &Request) -> Result<Answer, ApiError> {
    let mut of_name = streams(&*request.vhost()?);
    of_name.retain(|stream| &*stream.definition().name == request.parameter("stream"));
    if of_name.is_empty() {
        return Err(ApiError::NotFound);
    }
    Seen::of(request, of_name).publishers(request)
}

fn publishers_on(request: &Request) -> Result<Answer, ApiError> {
    Seen::on(request)?.publishers(request)
}

fn all_consumers(request: &Request) -> Result<Answer, ApiError> {
    Seen::of(request, all_streams(request)).consumers(request)
}

fn consumers_in(request: &Request) -> Result<Answer, ApiError> {
    Seen::of(request, streams(&*request.vhost()?)).consumers(request)
}

fn consumers_on(request: &Request) -> Result<Answer, ApiError> {
    Seen::on(request)?.consumers(request)
}

fn queue(stream: &QueueHandle) -> QueueDetails {
    let definition = stream.definition();
    QueueDetails { name: definition.name.clone(), vhost: definition.vhost.clone() }
}

fn describe_publisher(
    stream: &QueueHandle,
    publisher: &StreamPublisher,
    connection: &LiveConnection,
) -> api::StreamPublisher {
    let counts = &publisher.counts;
    api::StreamPublisher {
        connection_details: connections::details(connection.facts()),
        confirmed: counts.confirmed.load(Ordering::Relaxed),
        errored: counts.errored.load(Ordering::Relaxed),
        published: counts.published.load(Ordering::Relaxed),
        publisher_id: publisher.number,
        queue: queue(stream),
        reference: publisher.reference.as_deref().unwrap_or_default().to_owned(),
    }
}

fn describe_consumer(
    stream: &QueueHandle,
    subscription: &SubscriptionState,
    connection: &LiveConnection,
) -> api::StreamConsumer {
    let status = match (subscription.single_active, subscription.active) {
        (false, _) => "up",
        (true, true) => "single_active",
        (true, false) => "waiting",
    };
    api::StreamConsumer {
        connection_details: connections::details(connection.facts()),
        active: subscription.active,
        activity_status: status.to_owned(),
        consumed: subscription.consumed,
        credits: subscription.credits,
        offset: subscription.offset,
        offset_lag: subscription.lag,
        properties: json::table(&subscription.arguments.decode()),
        queue: queue(stream),
        // Subscriptions have their numbers as links.
        subscription_id: u8::try_from(subscription.link.0).unwrap_or(u8::MAX),
    }
}
