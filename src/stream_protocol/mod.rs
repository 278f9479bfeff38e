//! RabbitMQ's stream protocol (port 5552): whole chunks of a stream at a time, with offsets, publishing ids and super streams. Bytes in
//! and bytes out, no sockets; [`Connection`] is a [`crate::session::Session`].
//!
//! Source of all codes and layouts: RabbitMQ's `deps/rabbitmq_stream/docs/PROTOCOL.adoc`, and what 4.3 answers.

mod chunk;
mod code;
mod connection;
mod frame;

pub use connection::Connection;

use crate::broker::Broker;
use crate::protocol::{Accepted, Protocol};
use crate::session::Session;
use std::sync::Arc;

/// What all connections share.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// The server property `product`.
    pub product: String,
    /// The server property `version`: clients choose by it what they use.
    pub version: String,
    /// The server property `cluster_name`.
    pub cluster_name: String,
    /// The host that clients are to connect to for a stream; `None` is the one that they have connected to.
    pub advertised_host: Option<String>,
    /// The port that clients are to connect to for a stream; `None` is the one that they have connected to.
    pub advertised_port: Option<u16>,
    /// Bytes of a frame, as it is tuned; 0 is no limit but that of a message.
    pub frame_max: u32,
    /// Bytes of a message.
    pub message_bytes_max: usize,
    /// Bytes of a frame before the connection is open.
    pub initial_frame_max: usize,
    /// Seconds between two heartbeats, as it is tuned; 0 is none.
    pub heartbeat_s: u16,
    /// How long a client may take for each step until the connection is open.
    pub login_timeout_ms: u64,
    /// How long a client may take to answer a request of the broker's.
    pub request_timeout_ms: u64,
    /// Publishes that may be unconfirmed before nothing more is read.
    pub unconfirmed_max: usize,
    /// Bytes that all sub-batches of a frame may have together when they are unpacked.
    pub unpacked_bytes_max: usize,
    /// Bytes that are encoded ahead of the socket.
    pub transmit_bytes: usize,
}

impl Default for StreamSettings {
    fn default() -> StreamSettings {
        StreamSettings {
            product: "RabbitMQ".to_owned(),
            version: "3.13.7".to_owned(),
            cluster_name: "leveret".to_owned(),
            advertised_host: None,
            advertised_port: None,
            frame_max: 1 << 20,
            message_bytes_max: 16 << 20,
            initial_frame_max: 8192,
            heartbeat_s: 60,
            login_timeout_ms: 10_000,
            request_timeout_ms: 60_000,
            unconfirmed_max: 50_000,
            unpacked_bytes_max: 16 << 20,
            transmit_bytes: 256 << 10,
        }
    }
}

/// Everything that a connection needs of the broker.
#[derive(Clone, Debug)]
pub struct StreamProtocol {
    /// The broker that connections act on.
    pub broker: Arc<Broker>,
    /// The settings of all connections.
    pub settings: Arc<StreamSettings>,
}

impl Protocol for StreamProtocol {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn name_over_tls(&self) -> &'static str {
        "stream/ssl"
    }

    fn title(&self) -> &'static str {
        "the stream protocol"
    }

    fn open(&self, accepted: Accepted) -> Box<dyn Session> {
        let Accepted { peer, waker, newcomer, at, .. } = accepted;
        let mut session = Connection::new(self.clone(), peer, waker, at);
        session.counts_as(newcomer);
        Box::new(session)
    }
}
