//! The connections that are open: what is known of each, how many a user or a vhost has, and how one is asked to close.
//!
//! A connection's own task enters it here when the vhost is opened and takes it out when it ends. What changes meanwhile the
//! task writes at most once a turn, under a lock that only readers share with it.

mod totals;

use super::browse::{Inquiries, Inquiry};
use super::stats::{MessageSizes, MessageStats, Samples, Traffic, count};
use crate::broker::delivery::Outbox;
use crate::broker::memory::Holdings;
use crate::message::{ChannelNumber, ConnectionId, EncodedTable, Millis, Name};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

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
    /// Such as `tlsv1.3`.
    pub protocol: String,
    /// Such as `any` in TLS 1.3.
    pub key_exchange: String,
    /// Such as `aes_256_gcm`.
    pub cipher: String,
    /// Such as `aead`.
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
    /// The client's end.
    pub peer: Endpoint,
    /// The broker's end.
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
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveChannel {
    /// Its state, as of the connection's last turn.
    pub facts: ChannelFacts,
    /// How fast its messages move.
    pub samples: Samples<MessageStats>,
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
    /// The open channels.
    pub channels: BTreeMap<ChannelNumber, Box<LiveChannel>>,
    /// What was done with messages on all its channels, also on those that are closed.
    pub stats: MessageStats,
    /// How large the messages were that it published.
    pub sizes: MessageSizes,
    /// How fast its bytes move.
    pub samples: Samples<Octets>,
}

impl Progress {
    /// Notes how a channel stands.
    pub fn report(&mut self, number: ChannelNumber, facts: ChannelFacts) {
        let channel = self.channels.entry(number).or_default();
        let done = facts.stats.since(&channel.facts.stats);
        self.stats.add(&done);
        if facts.confirm {
            self.stats.publish_confirm += done.publish;
        }
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

    fn sample(&mut self, now: Millis) {
        self.samples.take(now, Octets { received: self.received_bytes, sent: self.sent_bytes });
        for channel in self.channels.values_mut() {
            channel.samples.take(now, channel.facts.stats);
        }
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct LiveConnection {
    facts: ConnectionFacts,
    outbox: Arc<Outbox>,
    progress: Mutex<Progress>,
    channels: AtomicU32,
    is_asked_to_close: AtomicBool,
    close_reason: Mutex<Option<String>>,
    pub(in crate::broker) inquiries: Inquiries,
    holdings: Mutex<Option<Holdings>>,
}

impl LiveConnection {
    /// What does not change.
    pub fn facts(&self) -> &ConnectionFacts {
        &self.facts
    }

    /// What changes. The connection's task waits while this is locked: copy it, and drop the guard.
    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }

    /// How many channels are open, to the moment.
    pub fn channels(&self) -> u32 {
        self.channels.load(Ordering::Relaxed)
    }

    /// Says how many channels are open.
    pub fn set_channels(&self, count: usize) {
        self.channels.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Has the connection closed with 320 `CONNECTION_FORCED - reason`. Only the first reason counts.
    pub fn ask_to_close(&self, reason: &str) {
        self.close_reason.lock().get_or_insert_with(|| reason.to_owned());
        self.is_asked_to_close.store(true, Ordering::Release);
        self.outbox.wake();
    }

    /// Why the connection is to close, once after it was asked to.
    pub fn take_close_reason(&self) -> Option<String> {
        if !self.is_asked_to_close.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.close_reason.lock().clone()
    }

    /// Questions to the connection's channels that wait for their answers.
    pub fn inquiries(&self) -> &Inquiries {
        &self.inquiries
    }

    /// Asks what the connection keeps in memory; it answers with its next turn, see [`LiveConnection::holdings`].
    pub fn ask_for_holdings(&self) {
        *self.holdings.lock() = None;
        self.inquire(Inquiry::Holdings);
    }

    /// What it keeps in memory, once it has answered.
    pub fn holdings(&self) -> Option<Holdings> {
        *self.holdings.lock()
    }

    /// Says what it keeps in memory.
    pub fn set_holdings(&self, holdings: Holdings) {
        *self.holdings.lock() = Some(holdings);
    }

    /// Has the connection look what it was asked.
    pub(in crate::broker) fn wake(&self) {
        self.outbox.wake();
    }

    /// Whether [`LiveConnection::take_close_reason`] has something to say.
    pub fn is_asked_to_close(&self) -> bool {
        self.is_asked_to_close.load(Ordering::Acquire)
    }
}

/// How many connections there are beside a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Of the same user.
    pub of_user: usize,
    /// In the same vhost.
    pub of_vhost: usize,
}

/// The open connections; see the module.
#[derive(Debug, Default)]
pub struct Connections {
    live: Mutex<Live>,
    created: AtomicU64,
    closed: AtomicU64,
}

#[derive(Debug, Default)]
struct Live {
    by_id: BTreeMap<ConnectionId, Arc<LiveConnection>>,
    of_user: BTreeMap<Name, usize>,
    of_vhost: BTreeMap<Name, usize>,
    /// What was done on connections that have ended, by vhost.
    ended: BTreeMap<Name, MessageStats>,
    /// What moved over them.
    ended_traffic: Traffic,
    /// How large the messages were that came over them.
    ended_sizes: MessageSizes,
}

impl Connections {
    /// Enters a connection, unless `admit` refuses it by what is open already; no other gets in between.
    ///
    /// # Errors
    /// What `admit` says.
    pub fn open<E>(
        &self,
        facts: ConnectionFacts,
        outbox: &Arc<Outbox>,
        admit: impl FnOnce(ConnectionCounts) -> Result<(), E>,
    ) -> Result<Arc<LiveConnection>, E> {
        let mut live = self.live.lock();
        admit(ConnectionCounts {
            of_user: live.of_user.get(&facts.user).copied().unwrap_or(0),
            of_vhost: live.of_vhost.get(&facts.vhost).copied().unwrap_or(0),
        })?;
        *live.of_user.entry(facts.user.clone()).or_default() += 1;
        *live.of_vhost.entry(facts.vhost.clone()).or_default() += 1;
        let connection = Arc::new(LiveConnection {
            facts,
            outbox: outbox.clone(),
            progress: Mutex::default(),
            channels: AtomicU32::new(0),
            is_asked_to_close: AtomicBool::new(false),
            close_reason: Mutex::default(),
            inquiries: Inquiries::default(),
            holdings: Mutex::default(),
        });
        live.by_id.insert(connection.facts.id, connection.clone());
        count(&self.created);
        Ok(connection)
    }

    /// Takes a connection out that has ended.
    pub fn remove(&self, id: ConnectionId) {
        let mut live = self.live.lock();
        let Some(connection) = live.by_id.remove(&id) else { return };
        count(&self.closed);
        count_down(&mut live.of_user, &connection.facts.user);
        count_down(&mut live.of_vhost, &connection.facts.vhost);
        let (stats, traffic, sizes) = {
            let progress = connection.progress.lock();
            (progress.stats, progress.traffic(), progress.sizes)
        };
        live.ended.entry(connection.facts.vhost.clone()).or_default().add(&stats);
        live.ended_traffic.add(&traffic);
        live.ended_sizes.add(&sizes);
    }

    /// How large all messages were that clients have published since the start.
    pub fn sizes(&self) -> MessageSizes {
        let live = self.live.lock();
        let mut total = live.ended_sizes;
        live.by_id.values().for_each(|connection| total.add(&connection.progress.lock().sizes));
        total
    }

    pub(in crate::broker) fn sample(&self, now: Millis) {
        for connection in self.list() {
            connection.progress.lock().sample(now);
        }
    }

    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<Arc<LiveConnection>> {
        self.live.lock().by_id.values().cloned().collect()
    }

    /// One, by its id.
    pub fn find(&self, id: ConnectionId) -> Option<Arc<LiveConnection>> {
        self.live.lock().by_id.get(&id).cloned()
    }

    /// One, by its name.
    pub fn find_by_name(&self, name: &str) -> Option<Arc<LiveConnection>> {
        self.live.lock().by_id.values().find(|connection| connection.facts.name == name).cloned()
    }

    /// How many were opened since the start, and how many of them have ended.
    pub fn opened_and_closed(&self) -> (u64, u64) {
        (self.created.load(Ordering::Relaxed), self.closed.load(Ordering::Relaxed))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.live.lock().by_id.len()
    }

    /// How many a user has.
    pub fn count_of_user(&self, user: &str) -> usize {
        self.live.lock().of_user.get(user).copied().unwrap_or(0)
    }

    /// How many a vhost has.
    pub fn count_of_vhost(&self, vhost: &str) -> usize {
        self.live.lock().of_vhost.get(vhost).copied().unwrap_or(0)
    }

    /// How many channels all connections have open.
    pub fn channels(&self) -> u64 {
        self.live.lock().by_id.values().map(|connection| u64::from(connection.channels())).sum()
    }

    /// How many channels all connections of a user have open.
    pub fn channels_of_user(&self, user: &str) -> u64 {
        let live = self.live.lock();
        let of_user = live.by_id.values().filter(|connection| &*connection.facts.user == user);
        of_user.map(|connection| u64::from(connection.channels())).sum()
    }

    /// Asks all connections to close that `which` picks, and says how many those are.
    pub fn ask_to_close(&self, which: impl Fn(&ConnectionFacts) -> bool, reason: &str) -> usize {
        let mut asked = 0;
        for connection in self.list().iter().filter(|connection| which(&connection.facts)) {
            connection.ask_to_close(reason);
            asked += 1;
        }
        asked
    }
}

fn count_down(counts: &mut BTreeMap<Name, usize>, name: &Name) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn facts(id: u64, user: &str, vhost: &str) -> ConnectionFacts {
        let peer = Endpoint { host: "::1".to_owned(), port: 40_000 };
        let local = Endpoint { host: "127.0.0.1".to_owned(), port: 5672 };
        ConnectionFacts {
            id: ConnectionId(id),
            name: format!("{peer} -> {local}"),
            peer,
            local,
            user: user.into(),
            vhost: vhost.into(),
            protocol: "AMQP 0-9-1",
            auth_mechanism: "PLAIN".to_owned(),
            client_properties: EncodedTable::default(),
            tls: None,
            channel_max: 0,
            frame_max: 0,
            heartbeat_s: 0,
            connected_at: 0,
        }
    }

    fn admit_all(_: ConnectionCounts) -> Result<(), ()> {
        Ok(())
    }

    #[test]
    fn connections_are_counted_by_user_and_vhost() {
        let connections = Connections::default();
        let outbox = Arc::new(Outbox::new(Box::new(|| ()), Arc::default()));
        for (id, user, vhost) in [(1, "u", "/"), (2, "u", "v"), (3, "w", "v")] {
            connections.open(facts(id, user, vhost), &outbox, admit_all).unwrap().set_channels(2);
        }
        let full = connections.open(facts(4, "u", "v"), &outbox, Err);
        assert_eq!(full.unwrap_err(), ConnectionCounts { of_user: 2, of_vhost: 2 });
        connections.remove(ConnectionId(2));
        connections.remove(ConnectionId(2));
        assert_eq!((connections.count_of_user("u"), connections.count_of_vhost("v")), (1, 1));
        assert_eq!((connections.count(), connections.channels_of_user("w")), (2, 2));
        assert!(connections.find_by_name("[::1]:40000 -> 127.0.0.1:5672").is_some());
    }

    #[test]
    fn who_is_asked_to_close_is_woken_and_hears_the_first_reason_once() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        let count = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let outbox = Arc::new(Outbox::new(Box::new(count), Arc::default()));
        let connections = Connections::default();
        let connection = connections.open(facts(1, "u", "/"), &outbox, admit_all).unwrap();
        assert_eq!(connection.take_close_reason(), None);
        assert_eq!(connections.ask_to_close(|facts| &*facts.user == "u", "first"), 1);
        connection.ask_to_close("second");
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        assert_eq!(connection.take_close_reason().as_deref(), Some("first"));
        assert_eq!(connection.take_close_reason(), None);
    }
}
