//! What comes between the sockets of the management API and its handlers: who asks, limits, threads.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Method, Needs, Route};
use super::{Management, ROUTES, auth};
use crate::broker::users::User;
use crate::net::PeerAddress;
use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{RawPathParams, Request as HttpRequest};
use axum::http::Method as HttpMethod;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinError;

/// How long a request's body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// The routes of one path.
type OfPath = Arc<Vec<&'static Route>>;

pub(super) fn router(management: &Management) -> Router {
    let mut paths: BTreeMap<&str, Vec<&'static Route>> = BTreeMap::new();
    for route in ROUTES.iter().copied().flatten() {
        paths.entry(route.path).or_default().push(route);
    }
    let mut router = Router::new().fallback(async || ApiError::NotFound.into_response());
    for (path, routes) in paths {
        let (routes, management) = (Arc::new(routes), management.clone());
        let handler =
            any(move |parameters: RawPathParams, peer: ConnectInfo<PeerAddress>, request: HttpRequest| {
                let parameters =
                    parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                handle(management.clone(), routes.clone(), parameters, peer.0.0, request)
            });
        // A slash at the end makes no difference, as in RabbitMQ.
        router = router.route(&format!("{path}/"), handler.clone()).route(path, handler);
    }
    router
}

async fn handle(
    management: Management,
    routes: OfPath,
    parameters: Vec<(String, String)>,
    peer: SocketAddr,
    request: HttpRequest,
) -> Response {
    let allowed = || {
        let get = routes.iter().any(|route| route.method == Method::Get).then_some("HEAD, GET");
        let others = routes.iter().map(|route| route.method).filter(|method| *method != Method::Get);
        let names: Vec<&str> = get.into_iter().chain(others.map(Method::name)).chain(["OPTIONS"]).collect();
        names.join(", ")
    };
    let method = match request.method() {
        &HttpMethod::GET | &HttpMethod::HEAD => Method::Get,
        &HttpMethod::PUT => Method::Put,
        &HttpMethod::POST => Method::Post,
        &HttpMethod::DELETE => Method::Delete,
        &HttpMethod::OPTIONS => return ([(axum::http::header::ALLOW, allowed())], ()).into_response(),
        _ => return ApiError::MethodNotAllowed(allowed()).into_response(),
    };
    let Some(route) = routes.iter().copied().find(|route| route.method == method) else {
        return ApiError::MethodNotAllowed(allowed()).into_response();
    };
    match answer(management, route, parameters, peer, request).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            if let ApiError::Internal(text) = &error {
                tracing::error!("{} {}: {text}", route.method.name(), route.path);
            }
            error.into_response()
        }
    }
}

/// Sees who asks, and only then reads what it says. The handler runs on a thread for what may take its time: a long list is
/// written out there, and what is durable is synced.
async fn answer(
    management: Management,
    route: &'static Route,
    parameters: Vec<(String, String)>,
    peer: SocketAddr,
    request: HttpRequest,
) -> Result<Answer, ApiError> {
    let (head, body) = request.into_parts();
    let query: Vec<(String, String)> =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
    let user = admit(&management, route, &parameters, &head.headers, peer)?;
    let body = receive(body, management.settings.body_bytes_max).await?;
    let now = management.clock.now();
    let request = Request { management, user, now, parameters, query, headers: head.headers, body };
    let answered = tokio::task::spawn_blocking(move || (route.handler)(&request)).await;
    answered
        .unwrap_or_else(|error: JoinError| Err(ApiError::Internal(format!("the handler failed: {error}"))))
}

/// The user, if it may do what the route does.
fn admit(
    management: &Management,
    route: &Route,
    parameters: &[(String, String)],
    headers: &axum::http::HeaderMap,
    peer: SocketAddr,
) -> Result<User, ApiError> {
    let broker = &management.broker;
    if route.needs == Needs::Nothing {
        return Ok(User { name: "".into(), password_hash: String::new(), tags: Vec::new() });
    }
    let user = auth::authenticate(broker, headers, peer.ip().is_loopback()).inspect_err(|error| {
        if *error != ApiError::LoginNeeded {
            tracing::warn!("a login to the management API from {peer} was refused: {error}");
        }
    })?;
    let vhost = parameters.iter().find(|(name, _)| name == "vhost").map(|(_, value)| value.as_str());
    auth::authorise(broker, &user, route.needs, vhost)?;
    Ok(user)
}

async fn receive(body: Body, bytes_max: usize) -> Result<bytes::Bytes, ApiError> {
    match tokio::time::timeout(BODY_PATIENCE, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // The body was too long, or the peer is gone and will not read this.
        Ok(Err(_)) => Err(ApiError::TooLarge(bytes_max)),
        Err(_) => Err(ApiError::bad_request("the body did not arrive in time")),
    }
}
