//! The contract between a listener and any protocol: what a protocol is called, and how a session of it begins. `net` accepts
//! sockets and knows no protocol; `server` says which one is spoken where.
//!
//! A protocol is what all its sessions share, such as [`crate::amqp::Amqp`]: the broker, and its settings. It is reached through the
//! trait once for each connection, and its session through [`Session`] a few times for each read.

use crate::broker::access::newcomers::Newcomer;
use crate::broker::delivery::Waker;
use crate::broker::observe::connections::{Endpoint, TlsFacts};
use crate::message::Millis;
use crate::session::{DirectWrite, Session};
use std::fmt::Display;
use std::sync::Arc;

/// What the log calls the lines about connections opened, closed and refused: a target of their own, so that they can be left out,
/// or kept alone.
pub const CONNECTION_LOG: &str = "leveret::connection";

/// A protocol that clients speak to the broker.
pub trait Protocol: Send + Sync {
    /// What RabbitMQ calls a listener for it, as `amqp`.
    fn name(&self) -> &'static str;

    /// What RabbitMQ calls a listener for it over TLS, as `amqp/ssl`.
    fn name_over_tls(&self) -> &'static str;

    /// What people call it, as `AMQP`: for the log.
    fn title(&self) -> &'static str;

    /// Begins the session of a connection whose first bytes of this protocol are still to come.
    fn open(&self, accepted: Accepted) -> Box<dyn Session>;
}

/// A connection that was accepted, after its PROXY header and its TLS handshake.
pub struct Accepted {
    /// Who is at the other end.
    pub peer: Peer,
    /// Wakes the session, when something waits in its outbox.
    pub waker: Waker,
    /// Where the committer may write while the session has nothing to send. None where only the session can, as over TLS.
    pub socket: Option<Arc<dyn DirectWrite>>,
    /// Its place among those that have not logged in. The session drops it when it has.
    pub newcomer: Newcomer,
    /// When it was accepted: the time that a client gets to log in begins here.
    pub at: Millis,
}

/// The client's end, and what is known of it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The connection's name: `peer_ip:port -> local_ip:port`.
    pub name: String,
    /// Address and port of the client, from the PROXY header if there was one.
    pub address: Endpoint,
    /// Address and port that the client connected to.
    pub local_address: Endpoint,
    /// Whether the peer is on this machine.
    pub is_loopback: bool,
    /// What was agreed on, if it speaks TLS.
    pub tls: Option<TlsFacts>,
    /// Whether it came over WebSocket. Nothing depends on that but what RabbitMQ calls the protocol then, as `Web STOMP 1.2`.
    pub is_web: bool,
}

impl Peer {
    /// A peer that speaks without TLS.
    pub fn new(address: Endpoint, local_address: Endpoint, is_loopback: bool) -> Peer {
        let name = format!("{address} -> {local_address}");
        Peer { name, address, local_address, is_loopback, tls: None, is_web: false }
    }
}

/// Logs that a connection was refused before it had a session.
pub fn log_refused(peer: &dyn Display, reason: &dyn Display) {
    let (peer, reason) = (peer.to_string(), reason.to_string());
    tracing::warn!(target: CONNECTION_LOG, peer, reason, "connection refused");
}
