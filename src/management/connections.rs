//! Connections: what they are, and closing them.

use super::answer::{Answer, ApiError};
use super::list::{list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::put_rated;
use super::{auth, channels, json};
use crate::broker::connections::{Endpoint, LiveConnection};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/connections", Needs::Login, connections, "All open connections"),
    Route::get("/api/connections/{name}", Needs::Login, connection, "A connection"),
    Route::delete("/api/connections/{name}", Needs::Login, close, "Closes a connection; X-Reason says why"),
    Route::get(
        "/api/connections/{name}/channels",
        Needs::Login,
        connection_channels,
        "The channels of a connection",
    ),
    Route::get("/api/connections/{name}/sessions", Needs::Login, sessions, "The sessions of AMQP 1.0: none"),
    Route::get(
        "/api/connections/username/{user}",
        Needs::Login,
        connections_of_user,
        "The connections of a user",
    ),
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
    ),
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
fn find(request: &Request) -> Result<Arc<LiveConnection>, ApiError> {
    let name = request.parameter("name");
    visible(request).into_iter().find(|connection| connection.facts().name == name).ok_or(ApiError::NotFound)
}

fn render_all(connections: &[Arc<LiveConnection>], request: &Request) -> Result<Answer, ApiError> {
    list(connections.iter().map(|connection| render(connection, request)).collect(), request)
}

fn connections(request: &Request) -> Result<Answer, ApiError> {
    render_all(&visible(request), request)
}

fn connections_of_user(request: &Request) -> Result<Answer, ApiError> {
    let mut found = visible(request);
    found.retain(|connection| &*connection.facts().user == request.parameter("user"));
    render_all(&found, request)
}

fn connections_in_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let mut found = visible(request);
    found.retain(|connection| connection.facts().vhost == *vhost.name());
    render_all(&found, request)
}

fn connection(request: &Request) -> Result<Answer, ApiError> {
    one(render(&*find(request)?, request), request)
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

fn close(request: &Request) -> Result<Answer, ApiError> {
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
pub(super) fn details(name: &str, peer: &Endpoint) -> Value {
    json!({ "name": name, "peer_host": peer.host, "peer_port": peer.port })
}

fn render(connection: &LiveConnection, request: &Request) -> Value {
    let facts = connection.facts();
    let (state, received, received_count, sent, sent_count, samples) = {
        let progress = connection.progress();
        let counts = (progress.received_bytes, progress.received_count);
        (progress.state, counts.0, counts.1, progress.sent_bytes, progress.sent_count, progress.samples)
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("auth_mechanism", facts.auth_mechanism.as_str().into());
    put("channel_max", facts.channel_max.into());
    put("channels", connection.channels().into());
    put("client_properties", json::table_to_json(&facts.client_properties.decode()));
    put("connected_at", facts.connected_at.into());
    put("frame_max", facts.frame_max.into());
    put("host", facts.local.host.as_str().into());
    put("name", facts.name.as_str().into());
    put("node", request.settings().node_name.as_str().into());
    let certificate = facts.tls.as_ref().and_then(|tls| tls.peer_certificate.as_ref());
    let of_certificate = |text: Option<&String>| text.map_or(Value::Null, |text| text.as_str().into());
    put("peer_cert_issuer", of_certificate(certificate.map(|certificate| &certificate.issuer)));
    put("peer_cert_subject", of_certificate(certificate.map(|certificate| &certificate.subject)));
    put("peer_cert_validity", of_certificate(certificate.map(|certificate| &certificate.validity)));
    put("peer_host", facts.peer.host.as_str().into());
    put("peer_port", facts.peer.port.into());
    put("port", facts.local.port.into());
    put("protocol", facts.protocol.into());
    put("recv_cnt", received_count.into());
    put("send_cnt", sent_count.into());
    put("send_pend", 0.into());
    let of_tls = |text: Option<&String>| text.map_or(Value::Null, |text| text.as_str().into());
    put("ssl", facts.tls.is_some().into());
    put("ssl_cipher", of_tls(facts.tls.as_ref().map(|tls| &tls.cipher)));
    put("ssl_hash", of_tls(facts.tls.as_ref().map(|tls| &tls.hash)));
    put("ssl_key_exchange", of_tls(facts.tls.as_ref().map(|tls| &tls.key_exchange)));
    put("ssl_protocol", of_tls(facts.tls.as_ref().map(|tls| &tls.protocol)));
    put("state", state.name().into());
    put("timeout", facts.heartbeat_s.into());
    put("type", "network".into());
    put("user", (*facts.user).into());
    let given_name = facts.client_properties.field("connection_name");
    if let Some(name) = given_name.as_ref().and_then(|name| name.as_str()) {
        put("user_provided_name", name.into());
    }
    put("user_who_performed_action", (*facts.user).into());
    put("vhost", (*facts.vhost).into());
    put_rated(&mut fields, "recv_oct", received, samples.rate(|octets| octets.received));
    put_rated(&mut fields, "send_oct", sent, samples.rate(|octets| octets.sent));
    Value::Object(fields)
}
