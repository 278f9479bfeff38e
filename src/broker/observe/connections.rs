//! The connections that are open: what is known of each, how many a user or a vhost has, and how one is asked to close.
//!
//! A connection's own task enters it here when the vhost is opened and takes it out when it ends. What changes meanwhile the
//! task writes at most once a turn, under a lock that only readers share with it.

mod apart;
mod facts;
mod totals;

pub use apart::{Apart, Tally};
pub use facts::{
    CertificateFacts, ChannelFacts, ConnectionFacts, ConnectionState, Endpoint, LiveChannel, Octets,
    Progress, TlsFacts,
};

use super::browse::{Inquiries, Inquiry};
use super::stats::{MessageSizes, MessageStats, Traffic, count};
use crate::broker::delivery::Outbox;
use crate::broker::memory::Holdings;
use crate::message::{ConnectionId, Millis, Name};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

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
    use crate::message::EncodedTable;
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
