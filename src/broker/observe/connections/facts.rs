//! What is known of a connection and of its channels: what stays the same while it is open, and what changes.

use super::{Apart, Tally};
use crate::broker::observe::stats::{MessageSizes, MessageStats, Samples, Traffic};
use crate::message::{ChannelNumber, ConnectionId, EncodedTable, Millis, Name};
use std::collections::BTreeMap;
use std::fmt;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, without the port.
    pub host: String,
    /// The port of TCP.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What was agreed on for a connection over TLS, in the names that RabbitMQ gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// Version of TLS in Erlang's words, such as `tlsv1.3`.
    pub protocol: String,
    /// Such as `any` in TLS 1.3.
    pub key_exchange: String,
    /// Cipher of the suite in Erlang's words, such as `aes_256_gcm`.
    pub cipher: String,
    /// MAC of the suite in Erlang's words, such as `aead`.
    pub hash: String,
    /// The certificate that the peer showed.
    pub peer_certificate: Option<CertificateFacts>,
}

/// What is known of a client's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its subject, such as `CN=worker,O=Shop`.
    pub subject: String,
    /// The authority that signed it.
    pub issuer: String,
    /// From when to when it holds.
    pub validity: String,
    /// The user that SASL EXTERNAL logs in: the part of the certificate that the configuration names, if it has one.
    pub login: Option<String>,
}

/// What stays the same for as long as a connection is open.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The connection's id, unique in the broker.
    pub id: ConnectionId,
    /// Its name: `peer:port -> host:port`.
    pub name: String,
    /// Address and port of the client.
    pub peer: Endpoint,
    /// Address and port of the broker that the client connected to.
    pub local: Endpoint,
    /// The user that has logged in.
    pub user: Name,
    /// The vhost that it opened.
    pub vhost: Name,
    /// What it speaks, such as `AMQP 0-9-1`.
    pub protocol: &'static str,
    /// How its user was authenticated, such as `PLAIN`.
    pub auth_mechanism: String,
    /// What the client says of itself.
    pub client_properties: EncodedTable,
    /// What was agreed on, if it is over TLS.
    pub tls: Option<TlsFacts>,
    /// Channels that it may have; 0 is no limit.
    pub channel_max: u16,
    /// Bytes that a frame may have; 0 is no limit.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 is none.
    pub heartbeat_s: u16,
    /// When it was accepted.
    pub connected_at: Millis,
}

/// Whether a connection's publishes get through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// They get through.
    #[default]
    Running,
    /// They are slowed down, since consumers or the store can't keep up with them.
    Flow,
    /// They are blocked until an alarm is cleared.
    Blocked,
}

impl ConnectionState {
    /// The state as RabbitMQ names it.
    pub fn name(self) -> &'static str {
        match self {
            ConnectionState::Running => "running",
            ConnectionState::Flow => "flow",
            ConnectionState::Blocked => "blocked",
        }
    }
}

/// How a channel stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelFacts {
    /// Whether its publishes are confirmed.
    pub confirm: bool,
    /// Whether it is in a transaction.
    pub transactional: bool,
    /// How many consumers it has.
    pub consumers: u64,
    /// What a new consumer may have unacknowledged; 0 is no limit.
    pub prefetch_count: u64,
    /// What all its consumers together may have; 0 is no limit.
    pub global_prefetch_count: u64,
    /// Deliveries that wait for their acknowledgement.
    pub unacked: u64,
    /// Publishes that wait for their confirm.
    pub unconfirmed: u64,
    /// Publishes that wait for tx.commit.
    pub uncommitted: u64,
    /// Acknowledgements that wait for tx.commit.
    pub acks_uncommitted: u64,
    /// What was done with messages on it.
    pub stats: MessageStats,
    /// When something last happened on it.
    pub active_at: Millis,
}

/// A channel that is open.
#[derive(Clone, Debug, Default)]
pub struct LiveChannel {
    /// Its state, as of the connection's last turn.
    pub facts: ChannelFacts,
    /// How fast its messages move.
    pub samples: Samples<MessageStats>,
    /// What was done with messages on it, by queue and by exchange.
    pub apart: Apart,
}

/// Bytes that a connection moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Octets {
    /// Bytes that were received.
    pub received: u64,
    /// Bytes sent, or about to be.
    pub sent: u64,
}

/// What changes while a connection is open, as of its last turn.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether its publishes get through.
    pub state: ConnectionState,
    /// Bytes that were received.
    pub received_bytes: u64,
    /// Reads in which they came.
    pub received_count: u64,
    /// Bytes that were to be sent.
    pub sent_bytes: u64,
    /// Pieces in which they were handed to the socket.
    pub sent_count: u64,
    /// Its open channels, by their numbers.
    pub channels: BTreeMap<ChannelNumber, Box<LiveChannel>>,
    /// What was done with messages on all its channels, also on those that are closed.
    pub stats: MessageStats,
    /// How large the messages were that it published.
    pub sizes: MessageSizes,
    /// How fast its bytes move.
    pub samples: Samples<Octets>,
}

impl Progress {
    /// Notes how a channel stands, and what `tally` has counted apart.
    pub fn report(&mut self, number: ChannelNumber, facts: ChannelFacts, tally: &mut Tally) {
        let channel = self.channels.entry(number).or_default();
        let done = facts.stats.since(&channel.facts.stats);
        self.stats.add(&done);
        if facts.confirm {
            self.stats.publish_confirm += done.publish;
        }
        channel.apart.take(tally);
        channel.facts = facts;
    }

    /// Adds publishes of a channel that were confirmed without a turn of its session, whose next report counts them too.
    pub fn confirmed(&mut self, number: ChannelNumber, publishes: u64) {
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.facts.unconfirmed = channel.facts.unconfirmed.saturating_sub(publishes);
            channel.facts.stats.confirm += publishes;
            self.stats.confirm += publishes;
        }
    }

    /// What has moved so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            received_bytes: self.received_bytes,
            received_count: self.received_count,
            sent_bytes: self.sent_bytes,
            sent_count: self.sent_count,
        }
    }

    pub(super) fn sample(&mut self, now: Millis) {
        self.samples.take(now, Octets { received: self.received_bytes, sent: self.sent_bytes });
        for channel in self.channels.values_mut() {
            channel.samples.take(now, channel.facts.stats);
        }
    }
}
