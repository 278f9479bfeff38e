//! Accepts connections. Nothing that happens to one of them, or to accept itself, ends the broker.

use super::Shutdown;
use super::drive::{DriveLimits, drive};
use crate::amqp::{Amqp, Connection, Peer};
use crate::broker::connections::Endpoint;
use crate::clock::Clock;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// After a failed accept, for instance at the limit of file descriptors, connections get so long to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long peers get to answer the close of their connections when the broker stops: it is to be gone within ten seconds.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Open connections; 0 is no limit.
    pub connections_max: u32,
    /// Limits of each of them.
    pub drive: DriveLimits,
}

/// A socket that listens for AMQP 0-9-1.
pub struct Listener {
    socket: TcpListener,
    amqp: Amqp,
    clock: Arc<dyn Clock>,
    limits: ListenerLimits,
    open: Arc<AtomicU32>,
}

impl Listener {
    /// Binds to `address`; port 0 is a port of the system's choice.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(
        address: SocketAddr,
        amqp: Amqp,
        clock: Arc<dyn Clock>,
        limits: ListenerLimits,
    ) -> io::Result<Listener> {
        let socket = TcpListener::bind(address).await?;
        Ok(Listener { socket, amqp, clock, limits, open: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections until the shutdown begins, then waits until all of them are closed. Those whose peers take too long
    /// to answer are dropped.
    pub async fn run(self, shutdown: Shutdown) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => self.serve(stream, peer, &mut connections, &shutdown),
                    Err(error) => {
                        tracing::warn!("a connection could not be accepted: {error}; going on in {ACCEPT_PAUSE:?}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
                () = shutdown.begun() => break,
            }
        }
        drop(self.socket);
        let all_closed = async {
            while let Some(ended) = connections.join_next().await {
                log_panic(ended);
            }
        };
        if tokio::time::timeout(CLOSE_PATIENCE, all_closed).await.is_err() {
            tracing::warn!(
                "{} connections were not closed after {CLOSE_PATIENCE:?}, dropped",
                connections.len()
            );
            // What they held is given back when their tasks are dropped.
            connections.shutdown().await;
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>, shutdown: &Shutdown) {
        let max = self.limits.connections_max;
        if max > 0 && self.open.load(Ordering::Relaxed) >= max {
            tracing::warn!("connection from {peer} refused: all {max} of limits.connections_max are open");
            return;
        }
        let guard = CountGuard::new(&self.open);
        let (amqp, clock, limits, shutdown) =
            (self.amqp.clone(), self.clock.clone(), self.limits.drive, shutdown.clone());
        connections.spawn(async move {
            let _guard = guard;
            if let Err(error) = serve_connection(stream, peer, amqp, &*clock, limits, &shutdown).await {
                tracing::info!("connection from {peer} ended: {error}");
            }
        });
    }
}

/// A panic is our own broken invariant: it ends its connection and is told, the broker goes on.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a connection's task failed, please report this: {error}");
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    amqp: Amqp,
    clock: &dyn Clock,
    limits: DriveLimits,
    shutdown: &Shutdown,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let wake = Arc::new(Notify::new());
    let waker = {
        let wake = wake.clone();
        Box::new(move || wake.notify_one())
    };
    let peer = Peer::new(endpoint(peer), endpoint(local), peer.ip().is_loopback());
    let session = Connection::new(amqp, peer, waker, clock.now());
    let (reader, writer) = stream.split();
    drive(session, reader, writer, &wake, clock, limits, shutdown).await
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string(), port: address.port() }
}

/// Counts an open connection for as long as it lives.
struct CountGuard(Arc<AtomicU32>);

impl CountGuard {
    fn new(count: &Arc<AtomicU32>) -> CountGuard {
        count.fetch_add(1, Ordering::Relaxed);
        CountGuard(count.clone())
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
