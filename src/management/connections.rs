//! Connections: what they are, and closing them.

use super::answer::{Answer, ApiError};
use super::list::{list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::{auth, channels, json};
use crate::api::{self, Details};
use crate::broker::observe::connections::{ConnectionFacts, LiveConnection};
use serde_json::Value;
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/connections", Needs::Login, connections, "All open connections")
        .lists::<api::Connection>(),
    Route::get("/api/connections/{name}", Needs::Login, connection, "A connection")
        .answers::<api::Connection>(),
    Route::delete("/api/connections/{name}", Needs::Login, close, "Closes a connection; X-Reason says why"),
    Route::get(
        "/api/connections/{name}/channels",
        Needs::Login,
        connection_channels,
        "The channels of a connection",
    )
    .lists::<api::Channel>(),
    Route::get("/api/connections/{name}/sessions", Needs::Login, sessions, "The sessions of AMQP 1.0: none"),
    Route::get(
        "/api/connections/username/{user}",
        Needs::Login,
        connections_of_user,
        "The connections of a user",
    )
    .lists::<api::Connection>(),
    Route::delete(
        "/api/connections/username/{user}",
        Needs::Login,
        close_of_user,
        "Closes the connections of a user; X-Reason says why",
    ),
    Route::get(
        "/api/vhosts/{vhost}/connections",
        Needs::SeeVhost,
        connections_in_vhost,
        "The connections to a vhost",
    )
    .lists::<api::Connection>(),
];

/// The connections that the user sees: all, or its own.
pub(super) fn visible(request: &Request) -> Vec<Arc<LiveConnection>> {
    let mut all = request.broker().connections().list();
    if !auth::is_monitor(&request.user) {
        all.retain(|connection| connection.facts().user == request.user.name);
    }
    all
}

/// The connection in the path, if the user sees it.
pub(super) fn find(request: &Request) -> Result<Arc<LiveConnection>, ApiError> {
    let name = request.parameter("name");
    visible(request).into_iter().find(|connection| connection.facts().name == name).ok_or(ApiError::NotFound)
}

pub(super) fn list_all(connections: &[Arc<LiveConnection>], request: &Request) -> Result<Answer, ApiError> {
    list(connections.iter().map(|connection| describe(connection, request)).collect(), request)
}

fn connections(request: &Request) -> Result<Answer, ApiError> {
    list_all(&visible(request), request)
}

fn connections_of_user(request: &Request) -> Result<Answer, ApiError> {
    let mut found = visible(request);
    found.retain(|connection| &*connection.facts().user == request.parameter("user"));
    list_all(&found, request)
}

fn connections_in_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let mut found = visible(request);
    found.retain(|connection| connection.facts().vhost == *vhost.name());
    list_all(&found, request)
}

pub(super) fn connection(request: &Request) -> Result<Answer, ApiError> {
    one(&describe(&*find(request)?, request), request)
}

fn connection_channels(request: &Request) -> Result<Answer, ApiError> {
    list(channels::of_connection(&*find(request)?, request), request)
}

fn sessions(request: &Request) -> Result<Answer, ApiError> {
    find(request)?;
    list(Vec::<Value>::new(), request)
}

fn reason(request: &Request) -> &str {
    request.header("x-reason").unwrap_or("Closed via management plugin")
}

pub(super) fn close(request: &Request) -> Result<Answer, ApiError> {
    find(request)?.ask_to_close(reason(request));
    Ok(Answer::NoContent)
}

fn close_of_user(request: &Request) -> Result<Answer, ApiError> {
    for connection in visible(request) {
        if &*connection.facts().user == request.parameter("user") {
            connection.ask_to_close(reason(request));
        }
    }
    Ok(Answer::NoContent)
}

/// A connection as part of something else.
pub(super) fn details(facts: &ConnectionFacts) -> api::ConnectionDetails {
    api::ConnectionDetails {
        name: facts.name.clone(),
        peer_host: facts.peer.host.clone(),
        peer_port: facts.peer.port,
    }
}

fn describe(connection: &LiveConnection, request: &Request) -> api::Connection {
    let facts = connection.facts();
    let (state, received, received_count, sent, sent_count, samples) = {
        let progress = connection.progress();
        let counts = (progress.received_bytes, progress.received_count);
        (progress.state, counts.0, counts.1, progress.sent_bytes, progress.sent_count, progress.samples)
    };
    let tls = facts.tls.as_ref();
    let certificate = tls.and_then(|tls| tls.peer_certificate.as_ref());
    let given_name = facts.client_properties.field("connection_name");
    api::Connection {
        auth_mechanism: facts.auth_mechanism.clone(),
        channel_max: facts.channel_max,
        channels: connection.channels(),
        client_properties: json::table(&facts.client_properties.decode()),
        connected_at: facts.connected_at,
        frame_max: facts.frame_max,
        host: facts.local.host.clone(),
        name: facts.name.clone(),
        node: request.node(),
        peer_cert_issuer: certificate.map(|certificate| certificate.issuer.clone()),
        peer_cert_subject: certificate.map(|certificate| certificate.subject.clone()),
        peer_cert_validity: certificate.map(|certificate| certificate.validity.clone()),
        peer_host: facts.peer.host.clone(),
        peer_port: facts.peer.port,
        port: facts.local.port,
        protocol: facts.protocol.to_owned(),
        recv_cnt: received_count,
        send_cnt: sent_count,
        send_pend: 0,
        ssl: tls.is_some(),
        ssl_cipher: tls.map(|tls| tls.cipher.clone()),
        ssl_hash: tls.map(|tls| tls.hash.clone()),
        ssl_key_exchange: tls.map(|tls| tls.key_exchange.clone()),
        ssl_protocol: tls.map(|tls| tls.protocol.clone()),
        state: state.name().to_owned(),
        timeout: facts.heartbeat_s,
        kind: "network".to_owned(),
        user: facts.user.clone(),
        user_provided_name: given_name.as_ref().and_then(|name| name.as_str()).map(str::to_owned),
        user_who_performed_action: facts.user.clone(),
        vhost: facts.vhost.clone(),
        recv_oct: received,
        recv_oct_details: Details::of(samples.rate(|octets| octets.received)),
        send_oct: sent,
        send_oct_details: Details::of(samples.rate(|octets| octets.sent)),
    }
}
