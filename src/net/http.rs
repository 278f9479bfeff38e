//! Sockets that speak HTTP, plain or over TLS. The answers are a router's, which is passed in.

mod compress;
mod slots;
mod websocket;

use super::tls::{SplitTcp, Tls, plain_reason};
use super::{Shutdown, canonical};
use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
pub(super) use slots::SPARE;
pub use slots::{AtWork, Slot};
use slots::{Seat, Slots};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
pub use websocket::Entrance;
use websocket::Upgrading;

/// How long requests that have begun may take when the broker stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take for the head of its next request, from when the connection is open or the last answer was given.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);

/// How long a client may take nothing of what it is answered.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// How long a handshake of TLS may take.
const TLS_PATIENCE: Duration = Duration::from_secs(5);

/// A socket that listens for HTTP.
pub struct HttpListener {
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
    slots: Arc<Slots>,
    began: Instant,
}

impl HttpListener {
    /// Binds to `address`; port 0 is a port of the system's choice. At most `connections_max` connections are open at once, and
    /// a few more while all of them are at work: when more come, idle ones are closed.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        connections_max: usize,
    ) -> io::Result<HttpListener> {
        let socket = TcpListener::bind(address).await?;
        Ok(HttpListener { socket, tls, slots: Arc::new(Slots::new(connections_max)), began: Instant::now() })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the shutdown begins, and lets requests end that have begun by then. With an entrance WebSocket is spoken too.
    pub async fn run(self, router: Router, entrance: Option<Arc<Entrance>>, shutdown: Shutdown) {
        let mut router = router.layer(axum::middleware::from_fn(compress::compress));
        if let Some(entrance) = &entrance {
            router = router.merge(entrance.router());
        }
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                (connection, peer) = self.accept() => {
                    let (router, entrance) = (router.clone(), entrance.clone());
                    drop(open.spawn(serve(connection, peer, router, entrance, shutdown.clone())));
                }
                Some(_) = open.join_next() => {}
                () = shutdown.begun() => break,
            }
        }
        let ended = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
            let address = self.address().map(|address| address.to_string()).unwrap_or_default();
            tracing::warn!("HTTP requests on {address} were not answered after {STOP_PATIENCE:?}, dropped");
        }
    }

    async fn accept(&self) -> (Connection, SocketAddr) {
        self.slots.wait_for_room().await;
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Answers are written whole; a failure only makes them slower.
                    let _ = stream.set_nodelay(true);
                    let stream = match &self.tls {
                        None => Stream::Plain(stream),
                        Some(tls) => Stream::Greeting(Box::pin(greet(tls.clone(), stream, peer))),
                    };
                    let seat = self.slots.enter(millis_since(self.began));
                    let connection = Connection { stream, stalled: None, seat, began: self.began };
                    return (connection, canonical(peer));
                }
                Err(error) => {
                    tracing::warn!("a connection for HTTP could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn millis_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Serves one connection. It ends when its client says nothing for too long, or does not read what it asked for, and when it has
/// nothing to do while others want its place.
async fn serve(
    connection: Connection,
    peer: SocketAddr,
    router: Router,
    entrance: Option<Arc<Entrance>>,
    shutdown: Shutdown,
) {
    let slot = connection.seat.slot().clone();
    let upgrading = Upgrading::default();
    let router = router.layer(Extension(ConnectInfo(PeerAddress(peer)))).layer(Extension(slot.clone()));
    let service = TowerToHyperService::new(router.layer(Extension(upgrading.clone())));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_PATIENCE);
    let mut served = pin!(builder.serve_connection(TokioIo::new(connection), service).with_upgrades());
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.begun() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        () = slot.is_to_leave() => {
            tracing::debug!("the HTTP connection from {peer} was idle, and made way for another");
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!("the HTTP connection from {peer} ended: {error}");
    }
    if let (Some(entrance), Some(upgraded)) = (entrance, upgrading.take()) {
        Box::pin(entrance.serve(upgraded, peer, &shutdown)).await;
    }
}

/// The handshake of TLS, which must not keep others from being accepted.
async fn greet(tls: Arc<Tls>, stream: TcpStream, peer: SocketAddr) -> io::Result<TlsStream<SplitTcp>> {
    let greeted = tokio::time::timeout(TLS_PATIENCE, tls.accept_anybody(stream)).await;
    let greeted = greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    greeted.inspect_err(|error| {
        tracing::warn!("an HTTP connection from {peer} refused: TLS: {}", plain_reason(error));
    })
}

/// The address of the client, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// A connection, which counts for as long as it lives.
struct Connection {
    stream: Stream,
    /// When the peer has to have read something, if it lets an answer wait.
    stalled: Option<Pin<Box<Sleep>>>,
    seat: Seat,
    /// Since when its listener counts.
    began: Instant,
}

type Greeting = Pin<Box<dyn Future<Output = io::Result<TlsStream<SplitTcp>>> + Send>>;

enum Stream {
    Plain(TcpStream),
    Greeting(Greeting),
    Tls(Box<TlsStream<SplitTcp>>),
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}

impl ReadWrite for TcpStream {}

impl ReadWrite for TlsStream<SplitTcp> {}

impl Connection {
    /// What bytes go through, once there is such a thing.
    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn ReadWrite>>> {
        if let Stream::Greeting(greeting) = &mut self.stream {
            let stream = ready!(greeting.as_mut().poll(context));
            self.stream = match stream {
                Ok(stream) => Stream::Tls(Box::new(stream)),
                Err(error) => {
                    self.stream = Stream::Greeting(Box::pin(std::future::ready(Err(error.kind().into()))));
                    return Poll::Ready(Err(error));
                }
            };
        }
        match &mut self.stream {
            Stream::Plain(stream) => Poll::Ready(Ok(Pin::new(stream))),
            Stream::Tls(stream) => Poll::Ready(Ok(Pin::new(&mut **stream))),
            Stream::Greeting(_) => Poll::Pending,
        }
    }
}

impl Connection {
    /// An error when the peer has taken nothing for too long.
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.seat.touch(millis_since(self.began));
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(READ_PATIENCE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(ready!(self.poll_stream(context))?.poll_read(context, buffer));
        self.seat.touch(millis_since(self.began));
        Poll::Ready(read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.poll_stream(context))?.poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.poll_stream(context))?.poll_flush(context);
        self.unless_stalled(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(context))?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    /// One connection at a time, on a clock that runs when nothing else does.
    async fn listen() -> SocketAddr {
        listen_and_say(Arc::default()).await
    }

    /// The same, which says when something is at work.
    async fn listen_and_say(at_work: Arc<Notify>) -> SocketAddr {
        let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), None, 1).await.unwrap();
        let working = move |slot: Extension<Arc<Slot>>| async move {
            let _at_work = slot.begin();
            at_work.notify_one();
            std::future::pending::<()>().await;
        };
        let address = listener.address().unwrap();
        let large = get(async || vec![b'x'; 64 << 20]);
        let router = Router::new()
            .route("/small", get(async || "here"))
            .route("/large", large)
            .route("/working", get(working));
        tokio::spawn(listener.run(router, None, Shutdown::default()));
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    async fn is_answered(address: SocketAddr) -> bool {
        let mut answer = [0; 12];
        ask(address, "/small").await.read_exact(&mut answer).await.unwrap();
        answer == *b"HTTP/1.1 200"
    }

    /// Waits until the broker has hung up.
    async fn is_over(stream: &mut TcpStream) -> bool {
        let mut rest = Vec::new();
        // What has been sent is cut off, or the end is a reset.
        let _ = stream.read_to_end(&mut rest).await;
        true
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_makes_room_for_others_at_once() {
        let address = listen().await;
        let began = Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(is_answered(address).await);
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /small HTTP/1.1\r\nHost:").await.unwrap();
        assert!(is_answered(address).await);
        assert!(is_over(&mut silent).await && is_over(&mut half).await);
        assert!(began.elapsed() < Duration::from_secs(1), "nobody had to run out of time");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_makes_room_for_others() {
        let address = listen().await;
        let unread = ask(address, "/large").await;
        assert!(is_answered(address).await);
        drop(unread);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_answered_stays_and_others_are_answered_beside() {
        let at_work = Arc::new(Notify::new());
        let address = listen_and_say(at_work.clone()).await;
        let mut working = ask(address, "/working").await;
        at_work.notified().await;
        for _ in 0..2 * slots::SPARE {
            assert!(is_answered(address).await);
        }
        let patience = Duration::from_secs(30);
        assert!(tokio::time::timeout(patience, is_over(&mut working)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_stays_without_asking_anything() {
        let address = listen().await;
        let began = Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(is_over(&mut silent).await && began.elapsed() >= REQUEST_PATIENCE);
    }
}
