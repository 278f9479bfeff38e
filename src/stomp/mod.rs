//! STOMP 1.0, 1.1 and 1.2, with the destinations and headers of RabbitMQ's plugin: bytes in and bytes out, no sockets.
//! [`Connection`] is a [`crate::session::Session`]; `convert` is the one place that knows both its headers and the properties of
//! messages.

mod connection;
mod convert;
mod destination;
mod error;
mod frame;
mod heartbeat;
mod parser;

pub use connection::Connection;
pub use parser::FrameLimits;

use crate::broker::Broker;
use crate::protocol::{Accepted, Protocol};
use crate::session::Session;
use std::sync::Arc;

/// What all connections share.
#[derive(Clone, Debug)]
pub struct StompSettings {
    /// What the header `server` of CONNECTED says.
    pub server: String,
    /// Whether CONNECTED has no such header.
    pub hide_server_info: bool,
    /// Who logs in with a CONNECT that names no user, with the password; `None` for nobody.
    pub default_login: Option<(String, String)>,
    /// Whether a client that sends something else first is logged in as the default user.
    pub implicit_connect: bool,
    /// The vhost of a CONNECT without the header `host`.
    pub default_vhost: String,
    /// The exchange of destinations that begin with `/topic/`.
    pub default_topic_exchange: String,
    /// Whether a NACK without the header `requeue` puts the message back.
    pub default_nack_requeue: bool,
    /// Whether a line end follows each frame.
    pub trailing_lf: bool,
    /// Limits of a frame.
    pub frame: FrameLimits,
    /// How long a client may take until it has logged in.
    pub login_timeout_ms: u64,
    /// Bytes that are encoded ahead of the socket.
    pub transmit_bytes: usize,
    /// Subscriptions of a connection.
    pub subscriptions_max: usize,
    /// Open transactions of a connection.
    pub transactions_max: usize,
    /// Messages of an uncommitted transaction.
    pub tx_messages_max: usize,
    /// Bytes of an uncommitted transaction's messages.
    pub tx_bytes_max: usize,
}

impl Default for StompSettings {
    fn default() -> StompSettings {
        StompSettings {
            server: "RabbitMQ/3.13.7".to_owned(),
            hide_server_info: false,
            default_login: None,
            implicit_connect: false,
            default_vhost: "/".to_owned(),
            default_topic_exchange: "amq.topic".to_owned(),
            default_nack_requeue: true,
            trailing_lf: true,
            frame: FrameLimits::default(),
            login_timeout_ms: 10_000,
            transmit_bytes: 256 * 1024,
            subscriptions_max: 2047,
            transactions_max: 16,
            tx_messages_max: 1_000_000,
            tx_bytes_max: 256 << 20,
        }
    }
}

/// Everything that a connection needs of the broker.
#[derive(Clone, Debug)]
pub struct Stomp {
    /// The broker that connections act on.
    pub broker: Arc<Broker>,
    /// The settings of all connections.
    pub settings: Arc<StompSettings>,
}

impl Protocol for Stomp {
    fn name(&self) -> &'static str {
        "stomp"
    }

    fn name_over_tls(&self) -> &'static str {
        "stomp/ssl"
    }

    fn title(&self) -> &'static str {
        "STOMP"
    }

    fn open(&self, accepted: Accepted) -> Box<dyn Session> {
        let Accepted { peer, waker, newcomer, at, .. } = accepted;
        let mut session = Connection::new(self.clone(), peer, waker, at);
        session.counts_as(newcomer);
        Box::new(session)
    }
}
