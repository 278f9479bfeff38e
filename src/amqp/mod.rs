//! AMQP 0-9-1: bytes in and bytes out, no sockets. [`Connection`] is a [`crate::session::Session`]; frames go from it to a
//! channel, which has one file for each class of methods.

mod answers;
mod channel;
mod connection;
mod error;
mod frame;
mod method;
mod waiting;

pub use channel::ContentLimits;
pub use connection::Connection;
pub use error::{AmqpError, ReplyCode};

use crate::broker::Broker;
use crate::client::TransactionLimits;
use crate::message::{ChannelNumber, LinkId};
use crate::protocol::{Accepted, Protocol};
use crate::session::Session;
use std::sync::Arc;

/// What all connections share.
#[derive(Clone, Debug)]
pub struct AmqpSettings {
    /// What server properties call the product. Clients recognise brokers by it.
    pub product: String,
    /// What they call its version.
    pub version: String,
    /// The cluster's name, a server property.
    pub cluster_name: String,
    /// Channels of a connection.
    pub channel_max: u16,
    /// Bytes of a frame.
    pub frame_max: u32,
    /// Bytes of a frame before the two ends have agreed on that: a login with a long token is one.
    pub initial_frame_max: u32,
    /// Seconds between heartbeats that are proposed to a client; 0 for none.
    pub heartbeat_s: u16,
    /// How long a client may take until its connection is open.
    pub handshake_timeout_ms: u64,
    /// How long a client may take to answer a close.
    pub close_timeout_ms: u64,
    /// Limits on what clients publish.
    pub content: ContentLimits,
    /// Bytes that are encoded ahead of the socket.
    pub transmit_bytes: usize,
    /// Consumers of a channel; 0 is no limit.
    pub consumers_per_channel_max: u32,
    /// How long a delivery may go unacknowledged where neither consumer nor queue says, in milliseconds; 0 is no limit.
    pub consumer_timeout_ms: u64,
    /// Messages of an uncommitted transaction.
    pub tx_messages_max: usize,
    /// Bytes of an uncommitted transaction's messages.
    pub tx_bytes_max: usize,
}

impl AmqpSettings {
    /// How large a transaction may be.
    fn tx_limits(&self) -> TransactionLimits {
        TransactionLimits { messages_max: self.tx_messages_max, bytes_max: self.tx_bytes_max }
    }
}

impl Default for AmqpSettings {
    fn default() -> AmqpSettings {
        AmqpSettings {
            product: "RabbitMQ".to_owned(),
            version: "3.13.7".to_owned(),
            cluster_name: "leveret@localhost".to_owned(),
            channel_max: 2047,
            frame_max: 131_072,
            initial_frame_max: 65_536,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            close_timeout_ms: 30_000,
            content: ContentLimits { message_bytes_max: 134_217_728, field_table_depth_max: 64 },
            transmit_bytes: 256 * 1024,
            consumers_per_channel_max: 0,
            consumer_timeout_ms: 0,
            tx_messages_max: 1_000_000,
            tx_bytes_max: 256 << 20,
        }
    }
}

/// Everything that a connection needs of the broker.
#[derive(Clone, Debug)]
pub struct Amqp {
    /// The broker that connections act on.
    pub broker: Arc<Broker>,
    /// The settings of all connections.
    pub settings: Arc<AmqpSettings>,
}

/// The channel that a link is: the core names none but those that channels gave it.
#[inline]
fn channel_of(link: LinkId) -> ChannelNumber {
    ChannelNumber::try_from(link.0).unwrap_or_default()
}

impl Protocol for Amqp {
    fn name(&self) -> &'static str {
        "amqp"
    }

    fn name_over_tls(&self) -> &'static str {
        "amqp/ssl"
    }

    fn title(&self) -> &'static str {
        "AMQP"
    }

    fn open(&self, accepted: Accepted) -> Box<dyn Session> {
        let Accepted { peer, waker, socket, newcomer, at } = accepted;
        let mut session = Connection::new(self.clone(), peer, waker, socket, at);
        session.counts_as(newcomer);
        Box::new(session)
    }
}
