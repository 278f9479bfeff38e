//! The sockets of the management API, and what comes between them and the handlers: who asks, limits, threads.

use super::answer::{Answer, ApiError};
use super::auth::Refused;
use super::request::Request;
use super::routes::{Method, Needs, Route};
use super::{Management, ROUTES, auth};
use crate::broker::users::User;
use crate::net::Shutdown;
use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{RawPathParams, Request as HttpRequest};
use axum::http::Method as HttpMethod;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::{IncomingStream, Listener};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

/// How long requests that have begun may take when the broker stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a request's body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// A socket that listens for the management API.
#[derive(Debug)]
pub struct HttpListener {
    socket: TcpListener,
}

impl HttpListener {
    /// Binds to `address`; port 0 is a port of the system's choice.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(address: SocketAddr) -> io::Result<HttpListener> {
        Ok(HttpListener { socket: TcpListener::bind(address).await? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the shutdown begins, and lets requests end that have begun by then.
    pub async fn run(self, management: Management, shutdown: Shutdown) {
        let connections = Arc::new(Semaphore::new(management.settings.connections_max));
        let limited = Limited { socket: self.socket, connections };
        let service = router(&management).into_make_service_with_connect_info::<PeerAddress>();
        let (begun, patience) = (shutdown.clone(), async move {
            shutdown.begun().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        });
        let served = axum::serve(limited, service).with_graceful_shutdown(async move { begun.begun().await });
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    tracing::error!("the management API ended: {error}");
                }
            }
            () = patience => tracing::warn!("requests to the management API were not answered after {STOP_PATIENCE:?}, dropped"),
        }
    }
}

/// A listener that lets only so many connections be open.
struct Limited {
    socket: TcpListener,
    connections: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        loop {
            let permit =
                self.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Answers are written whole; a failure only makes them slower.
                    let _ = stream.set_nodelay(true);
                    return (Counted { stream, _permit: permit }, peer);
                }
                Err(error) => {
                    tracing::warn!("the management API can't accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct PeerAddress(SocketAddr);

impl Connected<IncomingStream<'_, Limited>> for PeerAddress {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> PeerAddress {
        PeerAddress(*stream.remote_addr())
    }
}

/// A connection, which counts for as long as it lives.
struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The routes of one path.
type OfPath = Arc<Vec<&'static Route>>;

fn router(management: &Management) -> Router {
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
    let user = match admit(&management, route, &parameters, &head.headers, peer) {
        Ok(user) => user,
        Err(refused) => return Err(hold_back(&management, refused).await),
    };
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
) -> Result<Arc<User>, Refused> {
    let broker = &management.broker;
    if route.needs == Needs::Nothing {
        return Ok(Arc::new(User::nobody()));
    }
    let user = auth::authenticate(management, headers, peer.ip())?;
    let vhost = parameters.iter().find(|(name, _)| name == "vhost").map(|(_, value)| value.as_str());
    auth::authorise(broker, &user, route.needs, vhost)?;
    Ok(user)
}

/// Lets whoever fails often wait for the answer, if there is room among those who wait.
async fn hold_back(management: &Management, refused: Refused) -> ApiError {
    if refused.delay_ms > 0
        && let Some(_waiting) = management.broker.logins().wait()
    {
        tokio::time::sleep(Duration::from_millis(refused.delay_ms)).await;
    }
    refused.error
}

async fn receive(body: Body, bytes_max: usize) -> Result<bytes::Bytes, ApiError> {
    match tokio::time::timeout(BODY_PATIENCE, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // The body was too long, or the peer is gone and will not read this.
        Ok(Err(_)) => Err(ApiError::TooLarge(bytes_max)),
        Err(_) => Err(ApiError::bad_request("the body did not arrive in time")),
    }
}
