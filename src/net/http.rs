//! Sockets that speak HTTP, plain or over TLS. What is answered is somebody else's.

use super::tls::{Tls, plain_reason};
use super::{Shutdown, canonical};
use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

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
    connections: Arc<Semaphore>,
}

impl HttpListener {
    /// Binds to `address`; port 0 is a port of the system's choice. At most `connections_max` connections are open at once.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        connections_max: usize,
    ) -> io::Result<HttpListener> {
        let socket = TcpListener::bind(address).await?;
        Ok(HttpListener { socket, tls, connections: Arc::new(Semaphore::new(connections_max)) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the shutdown begins, and lets requests end that have begun by then.
    pub async fn run(self, router: Router, shutdown: Shutdown) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                (connection, peer) = self.accept() => {
                    drop(open.spawn(serve(connection, peer, router.clone(), shutdown.clone())));
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
        let permit = self.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Answers are written whole; a failure only makes them slower.
                    let _ = stream.set_nodelay(true);
                    let stream = match &self.tls {
                        None => Stream::Plain(stream),
                        Some(tls) => Stream::Greeting(Box::pin(greet(tls.clone(), stream, peer))),
                    };
                    return (Connection { stream, stalled: None, _permit: permit }, canonical(peer));
                }
                Err(error) => {
                    tracing::warn!("a connection for HTTP could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Serves one connection. It ends when its client says nothing for too long, or does not read what it asked for.
async fn serve(connection: Connection, peer: SocketAddr, router: Router, shutdown: Shutdown) {
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(PeerAddress(peer)))));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_PATIENCE);
    let mut served = pin!(builder.serve_connection(TokioIo::new(connection), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.begun() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("the HTTP connection from {peer} ended: {error}");
    }
}

/// The handshake of TLS, which must not keep others from being accepted.
async fn greet(tls: Arc<Tls>, stream: TcpStream, peer: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let greeted = tokio::time::timeout(TLS_PATIENCE, tls.accept_anybody(stream)).await;
    let greeted = greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    greeted.inspect_err(|error| {
        tracing::warn!("an HTTP connection from {peer} refused: TLS: {}", plain_reason(error));
    })
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// A connection, which counts for as long as it lives.
struct Connection {
    stream: Stream,
    /// When the peer has to have read something, if it lets an answer wait.
    stalled: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

type Greeting = Pin<Box<dyn Future<Output = io::Result<TlsStream<TcpStream>>> + Send>>;

enum Stream {
    Plain(TcpStream),
    Greeting(Greeting),
    Tls(Box<TlsStream<TcpStream>>),
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}

impl ReadWrite for TcpStream {}

impl ReadWrite for TlsStream<TcpStream> {}

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
        ready!(self.poll_stream(context))?.poll_read(context, buffer)
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

    /// One connection at a time, on a clock that runs when nothing else does.
    async fn listen() -> SocketAddr {
        let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), None, 1).await.unwrap();
        let address = listener.address().unwrap();
        let large = get(async || vec![b'x'; 64 << 20]);
        let router = Router::new().route("/small", get(async || "here")).route("/large", large);
        tokio::spawn(listener.run(router, Shutdown::default()));
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

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_makes_room_for_others() {
        let address = listen().await;
        let silent = TcpStream::connect(address).await.unwrap();
        assert!(is_answered(address).await);
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /small HTTP/1.1\r\nHost:").await.unwrap();
        assert!(is_answered(address).await);
        drop((silent, half));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_makes_room_for_others() {
        let address = listen().await;
        let unread = ask(address, "/large").await;
        assert!(is_answered(address).await);
        drop(unread);
    }
}
