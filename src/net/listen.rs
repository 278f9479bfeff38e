//! Accepts connections. Nothing that happens to one of them, or to accept itself, ends the broker.

use super::drive::bell::Bell;
use super::drive::{DriveLimits, Driven, drive};
use super::event_loops::EventLoops;
use super::proxy::{self, Addresses};
use super::socket::SharedWriteHalf;
use super::tls::{self, SplitTcp, Tls, TlsInput, TlsOutput};
use super::websocket::{Beginning, Opened, WebSocket};
use super::{Shutdown, canonical};
use crate::broker::access::newcomers::{Newcomer, Newcomers, Origin, TooMany};
use crate::broker::observe::connections::{Endpoint, TlsFacts};
use crate::clock::Clock;
use crate::config::Network;
use crate::message::Millis;
use crate::protocol::{Accepted, Peer, Protocol, log_refused};
use crate::session::DirectWrite;
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_send_buffer_size;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

/// Between two looks whether there is room for one more that has not logged in.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Refusals are logged once in so long: who connects over and over must not fill a disk with them.
const LOG_PAUSE_MS: u64 = 1000;

/// After a failed accept, for instance at the limit of file descriptors, connections get so long to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long peers get to answer the close of their connections when the broker stops: it is to be gone within ten seconds.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What the kernel may hold of what is on its way to a peer on this machine. No distance has to be bridged there, and bytes that
/// wait longer than the processor's caches remember them come from memory once more: with the mebibytes that the kernel takes by
/// itself, messages of 1 MiB pass at seven tenths of the rate. Elsewhere the kernel decides.
const LOCAL_SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Counts the open connections.
    pub connections_max: u32,
    /// How long a client may take until its connection is open. Before the first byte of its protocol, that is for a header of
    /// the PROXY protocol and a handshake of TLS.
    pub handshake_timeout_ms: u64,
    /// Limits of each of them.
    pub drive: DriveLimits,
}

/// What comes before the protocol on each connection of a listener.
#[derive(Clone, Default)]
pub struct Transport {
    /// A header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// From where such headers are taken; connections from elsewhere have none. With none they are taken from everywhere.
    pub proxy_networks: Arc<[Network]>,
    /// The certificate to accept with, where TLS is spoken.
    pub tls: Option<Arc<Tls>>,
    /// What is offered over WebSocket, where that is spoken: then the client says which protocol comes.
    pub websocket: Option<Arc<WebSocket>>,
}

impl Transport {
    /// Whether a connection from there begins with a header of the PROXY protocol.
    fn takes_header_from(&self, address: IpAddr) -> bool {
        let networks = &self.proxy_networks;
        self.proxy_protocol
            && (networks.is_empty() || networks.iter().any(|network| network.contains(address)))
    }
}

/// What is spoken on the connections of a listener.
#[derive(Clone)]
pub struct Spoken {
    /// The protocol of the sessions.
    pub protocol: Arc<dyn Protocol>,
    /// What is below it.
    pub transport: Transport,
}

/// What the listeners of one broker share.
#[derive(Clone)]
pub struct Serving {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Limits of all listeners together.
    pub limits: ListenerLimits,
    /// How many connections are open, of all listeners.
    pub open: Arc<AtomicU32>,
    /// Those of them that have not logged in.
    pub newcomers: Arc<Newcomers>,
    /// What was said last of those that were not let in.
    pub refusals: Arc<Refusals>,
}

/// A connection that there is room for.
pub(super) struct Admitted {
    pub(super) newcomer: Newcomer,
    /// Counts it for as long as it lives.
    pub(super) counted: CountGuard,
    /// Comes when it has not logged in, and has to make way for others.
    pub(super) left: oneshot::Receiver<()>,
}

impl Serving {
    fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.limits.connections_max
    }

    /// Lets a connection in, unless there are too many; then that is logged. Without an origin it becomes known later.
    pub(super) fn admit(&self, peer: SocketAddr, origin: Option<Origin>) -> Option<Admitted> {
        let now = self.clock.now();
        if self.is_full() {
            let max = self.limits.connections_max;
            let reason =
                format!("all {max} connections are open that limits.connections_max and RLIMIT_NOFILE allow");
            self.refusals.tell(&peer, &reason, now);
            return None;
        }
        let (leave, left) = oneshot::channel();
        let leave = move || {
            // A client that is gone meanwhile needs no answer.
            let _ = leave.send(());
        };
        match self.newcomers.enter(origin, now, leave) {
            Ok(newcomer) => Some(Admitted { newcomer, counted: CountGuard::new(&self.open), left }),
            Err(refused) => {
                self.refusals.tell(&peer, &too_many(refused), now);
                None
            }
        }
    }

    /// Logs that a connection made way for others.
    pub(super) fn log_left(&self, peer: &SocketAddr) {
        self.refusals.tell(peer, "it has not logged in, and made way for others", self.clock.now());
    }
}

/// Says that connections were refused, though not of each one.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Unlogged>);

#[derive(Debug, Default)]
struct Unlogged {
    logged_at: Option<Millis>,
    count: u64,
}

impl Refusals {
    fn tell(&self, peer: &SocketAddr, reason: &str, now: Millis) {
        let unlogged = {
            let mut unlogged = self.0.lock();
            if unlogged.logged_at.is_some_and(|at| now < at + LOG_PAUSE_MS) {
                unlogged.count += 1;
                return;
            }
            unlogged.logged_at = Some(now);
            std::mem::take(&mut unlogged.count)
        };
        match unlogged {
            0 => log_refused(peer, &reason),
            more => log_refused(
                peer,
                &format_args!("{reason}; {more} more were refused since this was said last"),
            ),
        }
    }
}

/// A socket that listens for one protocol.
pub struct Listener {
    socket: TcpListener,
    spoken: Spoken,
    serving: Serving,
    loops: Arc<EventLoops>,
}

impl Listener {
    /// Binds to `address`; port 0 is a port of the system's choice. Connections run on `loops`.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(
        address: SocketAddr,
        spoken: Spoken,
        serving: Serving,
        loops: Arc<EventLoops>,
    ) -> io::Result<Listener> {
        let socket = TcpListener::bind(address).await?;
        Ok(Listener { socket, spoken, serving, loops })
    }

    /// What RabbitMQ calls such a listener, as `amqp` or `amqp/ssl`.
    pub fn name(&self) -> &'static str {
        let Spoken { protocol, transport } = &self.spoken;
        match (&transport.websocket, &transport.tls) {
            (None, None) => protocol.name(),
            (None, Some(_)) => protocol.name_over_tls(),
            (Some(_), None) => "http/websocket",
            (Some(_), Some(_)) => "https/websocket",
        }
    }

    /// The address that it is bound to.
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
        let mut arrived = None;
        loop {
            tokio::select! {
                (stream, peer) = self.accept(&mut arrived) => {
                    self.serve(stream, peer, &mut connections, &shutdown);
                }
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

    /// The next connection, when there is room for one that has not logged in. It waits in `arrived` until then.
    async fn accept(&self, arrived: &mut Option<(TcpStream, SocketAddr)>) -> (TcpStream, SocketAddr) {
        loop {
            match arrived.take() {
                Some(next) => {
                    if self.serving.newcomers.has_room(self.serving.clock.now(), self.serving.is_full()) {
                        return next;
                    }
                    *arrived = Some(next);
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                None => match self.socket.accept().await {
                    Ok((stream, peer)) => *arrived = Some((stream, canonical(peer))),
                    Err(error) => {
                        tracing::warn!(
                            "a connection could not be accepted: {error}; going on in {ACCEPT_PAUSE:?}"
                        );
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>, shutdown: &Shutdown) {
        // Behind a balancer the header says where the client is.
        let origin = (!self.spoken.transport.proxy_protocol).then(|| origin(peer));
        let Some(Admitted { newcomer, counted, left }) = self.serving.admit(peer, origin) else { return };
        let (serving, spoken, shutdown) = (self.serving.clone(), self.spoken.clone(), shutdown.clone());
        let seat = self.loops.seat();
        let handle = seat.handle().clone();
        // Its socket has to be known to the loop that it will run on.
        let stream = stream.into_std();
        let connection = async move {
            let _held = (counted, &seat);
            let bell = Arc::new(Bell::new(seat.sleep().clone()));
            let served = async {
                let stream = TcpStream::from_std(stream?)?;
                serve_connection(stream, peer, &spoken, &serving, newcomer, bell, &shutdown).await
            };
            tokio::select! {
                biased;
                served = served => {
                    if let Err(error) = served {
                        tracing::debug!("connection from {peer} ended: {error}");
                    }
                }
                Ok(()) = left => serving.log_left(&peer),
            }
        };
        connections.spawn_on(connection, &handle);
    }
}

/// A panic is our own broken invariant: it ends its connection and is logged; the broker goes on.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a connection's task failed, please report this: {error}");
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    Spoken { protocol, transport }: &Spoken,
    serving: &Serving,
    newcomer: Newcomer,
    bell: Arc<Bell>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if peer.ip().is_loopback() {
        set_socket_send_buffer_size(&stream, LOCAL_SEND_BUFFER_BYTES)?;
    }
    let socket = Addresses { peer, local: canonical(stream.local_addr()?) };
    let Serving { clock, limits, refusals, .. } = serving;
    let accepted_at = clock.now();
    let patience = Duration::from_millis(limits.handshake_timeout_ms);
    let prepared = tokio::time::timeout(patience, prepare(stream, socket, transport)).await;
    let (addresses, stream) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(refusal)) => {
            log_refused(&peer, &refusal);
            return Ok(());
        }
        Err(_) => {
            let title = if transport.websocket.is_some() { "WebSocket" } else { protocol.title() };
            log_refused(&peer, &format_args!("no {title} after {} ms", limits.handshake_timeout_ms));
            return Ok(());
        }
    };
    let waker = {
        let bell = bell.clone();
        Box::new(move || bell.ring())
    };
    let (peer, local) = (addresses.peer, addresses.local);
    if let Err(refused) = newcomer.comes_from(origin(peer)) {
        refusals.tell(&peer, &too_many(refused), clock.now());
        return Ok(());
    }
    let mut peer = peer_of(peer, local);
    match stream {
        Prepared::Plain(stream) => {
            let (reader, writer) = split(stream);
            let socket: Arc<dyn DirectWrite> = Arc::new(writer.clone());
            let session = protocol.open(Accepted {
                peer,
                waker,
                socket: Some(socket.clone()),
                newcomer,
                at: accepted_at,
            });
            let driven = Arc::new(Driven::new(session, bell.clone(), Some(socket), accepted_at));
            let others = Arc::downgrade(&driven);
            bell.admit(others);
            drive(&*driven, reader, writer, &**clock, limits.drive, shutdown).await
        }
        Prepared::Tls(stream, facts) => {
            peer.tls = Some(*facts);
            let session = protocol.open(Accepted { peer, waker, socket: None, newcomer, at: accepted_at });
            let (reader, writer) = tls::split(*stream);
            // On its own, as above: the task of any connection has room for what either way keeps.
            let driven = Arc::new(Driven::new(session, bell, None, accepted_at));
            drive(&driven, reader, writer, &**clock, limits.drive, shutdown).await
        }
        Prepared::Web(web) => {
            let beginning = Beginning { peer, newcomer, bell, accepted_at };
            Box::pin(web.drive(beginning, serving, shutdown)).await
        }
    }
}

/// The origin that a connection counts for: of IPv6 the network of 64 bits, since that is what one customer gets.
pub(super) fn origin(peer: SocketAddr) -> Origin {
    match peer.ip() {
        IpAddr::V4(address) => Origin(address.to_ipv6_mapped().to_bits()),
        IpAddr::V6(address) => Origin(address.to_bits() & !u128::from(u64::MAX)),
    }
}

fn too_many(TooMany(max): TooMany) -> String {
    format!(
        "{max} connections of its address have not logged in, which is limits.connections_before_login_per_address_max"
    )
}

pub(super) fn split(stream: TcpStream) -> (OwnedReadHalf, SharedWriteHalf) {
    let (reader, writer) = stream.into_split();
    (reader, SharedWriteHalf::new(writer))
}

/// A socket on which the protocol comes next.
enum Prepared {
    Plain(TcpStream),
    Tls(Box<TlsStream<SplitTcp>>, Box<TlsFacts>),
    Web(Web),
}

/// One over WebSocket.
enum Web {
    Plain(Box<Opened<OwnedReadHalf, SharedWriteHalf>>),
    Tls(Box<Opened<TlsInput, TlsOutput>>, Box<TlsFacts>),
}

impl Web {
    async fn drive(self, mut beginning: Beginning, serving: &Serving, shutdown: &Shutdown) -> io::Result<()> {
        match self {
            Web::Plain(opened) => opened.drive(beginning, serving, shutdown).await,
            Web::Tls(opened, facts) => {
                beginning.peer.tls = Some(*facts);
                opened.drive(beginning, serving, shutdown).await
            }
        }
    }
}

/// Does what comes before the protocol, the PROXY header, the TLS handshake and the upgrade to WebSocket, and returns the two ends
/// of the connection.
async fn prepare(
    mut stream: TcpStream,
    socket: Addresses,
    transport: &Transport,
) -> io::Result<(Addresses, Prepared)> {
    let mut addresses = socket;
    if transport.takes_header_from(socket.peer.ip()) {
        addresses = proxy::read_header(&mut stream).await?.unwrap_or(socket);
    }
    let peer = addresses.peer.ip();
    let Some(tls) = &transport.tls else {
        let Some(websocket) = &transport.websocket else { return Ok((addresses, Prepared::Plain(stream))) };
        let opened = Box::pin(websocket.open(stream, peer, split)).await?;
        return Ok((addresses, Prepared::Web(Web::Plain(Box::new(opened)))));
    };
    let stream = tls.accept(stream).await;
    let stream = stream
        .map_err(|error| io::Error::new(error.kind(), format!("TLS: {}", tls::plain_reason(&error))))?;
    let facts = Box::new(tls.facts(stream.get_ref().1));
    let Some(websocket) = &transport.websocket else {
        return Ok((addresses, Prepared::Tls(Box::new(stream), facts)));
    };
    let opened = Box::pin(websocket.open(stream, peer, tls::split)).await?;
    Ok((addresses, Prepared::Web(Web::Tls(Box::new(opened), facts))))
}

/// The client's end, and the broker's.
pub(super) fn peer_of(peer: SocketAddr, local: SocketAddr) -> Peer {
    Peer::new(endpoint(peer), endpoint(local), peer.ip().is_loopback())
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string(), port: address.port() }
}

/// Counts an open connection for as long as it lives.
pub(super) struct CountGuard(Arc<AtomicU32>);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::ffff:0:2]:2"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.2.2:1"));
    }
}
