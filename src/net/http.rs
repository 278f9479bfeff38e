//! Sockets that speak HTTP, plain or over TLS. What is answered is somebody else's.

use super::Shutdown;
use super::tls::Tls;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;

/// How long requests that have begun may take when the broker stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        let address = self.address().map(|address| address.to_string()).unwrap_or_default();
        let service = router.into_make_service_with_connect_info::<PeerAddress>();
        let (begun, patience) = (shutdown.clone(), async move {
            shutdown.begun().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        });
        let served = axum::serve(self, service).with_graceful_shutdown(async move { begun.begun().await });
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    tracing::error!("HTTP on {address} ended: {error}");
                }
            }
            () = patience => {
                tracing::warn!("HTTP requests on {address} were not answered after {STOP_PATIENCE:?}, dropped");
            }
        }
    }
}

impl Listener for HttpListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let permit =
                self.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Answers are written whole; a failure only makes them slower.
                    let _ = stream.set_nodelay(true);
                    let stream = match &self.tls {
                        None => Stream::Plain(stream),
                        Some(tls) => Stream::Greeting(Box::pin(greet(tls.clone(), stream, peer))),
                    };
                    return (Connection { stream, _permit: permit }, peer);
                }
                Err(error) => {
                    tracing::warn!("a connection for HTTP could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// The handshake of TLS, which must not keep others from being accepted.
async fn greet(tls: Arc<Tls>, stream: TcpStream, peer: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let greeted = tokio::time::timeout(TLS_PATIENCE, tls.accept_anybody(stream)).await;
    let greeted = greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    greeted.inspect_err(|error| tracing::warn!("an HTTP connection from {peer} refused: TLS: {error}"))
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

impl Connected<IncomingStream<'_, HttpListener>> for PeerAddress {
    fn connect_info(stream: IncomingStream<'_, HttpListener>) -> PeerAddress {
        PeerAddress(*stream.remote_addr())
    }
}

/// A connection, which counts for as long as it lives.
pub struct Connection {
    stream: Stream,
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
        ready!(self.poll_stream(context))?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(context))?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(context))?.poll_shutdown(context)
    }
}
