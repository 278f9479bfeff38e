//! What comes between the sockets of the management API and its handlers: authentication, limits, threads.

use super::answer::{Answer, ApiError};
use super::body::{Received, receive};
use super::browser::{Asked, protect};
use super::request::Request;
use super::routes::{Method, Needs, Route};
use super::{Management, ROUTES, audit, auth};
use crate::broker::access::users::User;
use crate::broker::turn::{DurableWaiter, StoreError};
use crate::broker::{Broker, Ticket};
use crate::message::Lsn;
use crate::net::{PeerAddress, Slot};
use crate::steps;
use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request as HttpRequest};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method as HttpMethod, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinError;

/// The routes of one path.
type OfPath = Arc<Vec<&'static Route>>;

/// What is in the path, or what is wrong with it.
type PathParams = Result<RawPathParams, RawPathParamsRejection>;

pub(super) fn router(management: &Management) -> Router {
    let mut paths: BTreeMap<&str, Vec<&'static Route>> = BTreeMap::new();
    for route in ROUTES.iter().copied().flatten() {
        paths.entry(route.path).or_default().push(route);
    }
    let mut router = Router::new().fallback(async || protect(ApiError::NotFound.into_response(), false));
    for (path, routes) in paths {
        let (routes, management) = (Arc::new(routes), management.clone());
        let handler =
            any(move |parameters: PathParams, peer: ConnectInfo<PeerAddress>, request: HttpRequest| {
                let (management, routes) = (management.clone(), routes.clone());
                async move {
                    // A name that is no text is none of anything.
                    let Ok(parameters) = parameters else {
                        return protect(ApiError::NotFound.into_response(), false);
                    };
                    let parameters =
                        parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
                    handle(management, routes, parameters.collect(), peer.0.0, request).await
                }
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
        &HttpMethod::OPTIONS => {
            return protect(([(header::ALLOW, allowed())], ()).into_response(), false);
        }
        _ => return protect(ApiError::MethodNotAllowed(allowed()).into_response(), false),
    };
    let Some(route) = routes.iter().copied().find(|route| route.method == method) else {
        return protect(ApiError::MethodNotAllowed(allowed()).into_response(), false);
    };
    let response = match answer(management, route, parameters, peer, request).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            if let ApiError::Internal(text) = &error {
                tracing::error!("{} {}: {text}", route.method.name(), route.path);
            }
            error.into_response()
        }
    };
    protect(response, route.needs != Needs::Nothing)
}

/// Authenticates, and only then reads the body. The handler runs on a thread for what may take its time: a long list is
/// written out there. What it has changed is answered when it is durable; no thread waits for that.
async fn answer(
    management: Management,
    route: &'static Route,
    parameters: Vec<(String, String)>,
    peer: SocketAddr,
    request: HttpRequest,
) -> Result<Answer, ApiError> {
    let (head, body) = request.into_parts();
    let slot = head.extensions.get::<Arc<Slot>>();
    if slot.is_some_and(|slot| slot.is_spare()) && route.needs != Needs::Nothing {
        return Err(ApiError::Busy);
    }
    if route.needs != Needs::Nothing {
        let (method, headers) = (route.method, &head.headers);
        Asked { settings: &management.settings, method, headers, peer: peer.ip() }.check()?;
    }
    let query: Vec<(String, String)> =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
    let user = admit(&management, route, &parameters, &head, peer).await?;
    // Who need not log in has nothing to say, and can't make the broker keep it, nor its connection stay.
    let is_known = route.needs != Needs::Nothing;
    let _at_work = slot.filter(|_| is_known).map(|slot| slot.begin());
    let body = match is_known {
        true => receive(&management, route.body, &head.headers, body).await?,
        false => Received::nothing(&management),
    };
    let form = form(&head.headers, &body.bytes).await?;
    let now = management.clock.now();
    let before = management.broker.last_change();
    let audited = audit::Request::of(route, &user.name, peer, head.uri.path(), &body.bytes);
    let request = Request { management, user, now, parameters, query, headers: head.headers, body, form };
    let handle = move |request: &Request| {
        let answered = (route.handler)(request);
        if route.method != Method::Get {
            // What has no turn of its own.
            request.broker().tell_now(request.now);
        }
        // A client that hangs up meanwhile leaves the change, and the line about it.
        audited.inspect(|audited| audited.tell(&answered));
        answered
    };
    if route.is_quick { handle(&request) } else { act(route.method, request, handle, before).await }
}

/// Has the handler do what is asked, and waits until what it changed is durable.
async fn act(
    method: Method,
    request: Request,
    handle: impl FnOnce(&Request) -> Result<Answer, ApiError> + Send + 'static,
    before: Ticket,
) -> Result<Answer, ApiError> {
    let (broker, bodies) = (request.management.broker.clone(), request.management.bodies.clone());
    let turn = bodies.turn().await?;
    let answered = tokio::task::spawn_blocking(move || steps::of(|| handle(&request))).await;
    drop(turn);
    // They count as if there were one thread.
    let answered = answered.map(|(answer, taken)| {
        steps::count(usize::try_from(taken).unwrap_or(usize::MAX));
        answer
    });
    let answer = answered
        .unwrap_or_else(|error: JoinError| Err(ApiError::Internal(format!("the handler failed: {error}"))))?;
    let change = broker.last_change();
    // Who changes what is so already may have come right behind the one who did it.
    if change != before || matches!(method, Method::Put | Method::Delete) {
        durable(&broker, change).await?;
    }
    Ok(answer)
}

/// Wakes the request that waits for an answer of the broker.
#[derive(Default)]
struct DurableSignal(Notify);

impl DurableWaiter for DurableSignal {
    fn durable(&self, _: Lsn, _: bool) {
        self.0.notify_one();
    }

    fn failed(&self, _: &StoreError) {
        self.0.notify_one();
    }
}

/// Waits until what the ticket is for is durable.
async fn durable(broker: &Broker, ticket: Ticket) -> Result<(), ApiError> {
    loop {
        if let Some(answer) = broker.answered(ticket) {
            return Ok(answer?);
        }
        let signal = Arc::new(DurableSignal::default());
        broker.await_answer(ticket, signal.clone());
        broker.journal().wake_committer();
        signal.0.notified().await;
    }
}

/// The user, if it may do what the route does.
async fn admit(
    management: &Management,
    route: &Route,
    parameters: &[(String, String)],
    head: &Parts,
    peer: SocketAddr,
) -> Result<Arc<User>, ApiError> {
    let broker = &management.broker;
    if route.needs == Needs::Nothing {
        return Ok(Arc::new(User::nobody()));
    }
    let user = auth::authenticate(management, &head.headers, peer.ip()).await?;
    let vhost = parameters.iter().find(|(name, _)| name == "vhost").map(|(_, value)| value.as_str());
    let refused = auth::authorise(broker, &user, route.needs, vhost).err().map(|error| match error {
        // A PUT gets an answer that says what is missing.
        ApiError::NotFound if matches!(route.method, Method::Put | Method::Post) => {
            ApiError::NotThere("vhost_not_found".to_owned())
        }
        other => other,
    });
    let Some(refused) = refused else { return Ok(user) };
    let refused = Err(refused);
    let audited = audit::Request::of(route, &user.name, peer, head.uri.path(), &Bytes::new());
    audited.inspect(|audited| audited.tell(&refused));
    refused.map(|_: Answer| user)
}

/// The fields of a body that is a form with files; of any other body there are none.
async fn form(headers: &HeaderMap, body: &Bytes) -> Result<Vec<(String, Bytes)>, ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(boundary) = content_type.and_then(|value| multer::parse_boundary(value).ok()) else {
        return Ok(Vec::new());
    };
    let unreadable = |error| ApiError::bad_request(format!("the form can't be read: {error}"));
    let mut parts = multer::Multipart::with_reader(&body[..], boundary);
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(unreadable)? {
        let name = part.name().unwrap_or_default().to_owned();
        fields.push((name, part.bytes().await.map_err(unreadable)?));
    }
    Ok(fields)
}
