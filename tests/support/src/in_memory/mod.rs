//! The whole broker in memory: one thread, a fake clock, no sockets. A [`Transport`] for the players of its clients.

pub mod manage;

use crate::direct_socket::{DirectSocket, Received};
use bytes::{Buf, BytesMut};
use leveret::amqp::{Amqp, AmqpSettings, Connection};
use leveret::broker::access::permissions::Patterns;
use leveret::broker::access::users::User;
use leveret::broker::exchange::ExchangeTypes;
use leveret::broker::observe::connections::Endpoint;
use leveret::broker::{Broker, BrokerError, BrokerLimits};
use leveret::clock::{Clock, TestClock};
use leveret::protocol::Peer;
use leveret::rabbit::RabbitDialect;
use leveret::session::{Flow, Session, Transmit};
use leveret::stomp::{self, Stomp, StompSettings};
use leveret::store::{Journal, JournalOptions, Loss, MemoryStore, Store};
use leveret::stream_protocol::{self, StreamProtocol, StreamSettings};
use leveret_conformance::{Arrived, ConnectionId, Transport};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A broker without sockets, and the connections to it.
pub struct InMemory {
    amqp: Amqp,
    /// What clients speak that come now.
    spoken: Spoken,
    clock: TestClock,
    connections: BTreeMap<ConnectionId, Line>,
    opened: usize,
    commits: Commits,
    /// The steps of the longest turn of a session so far.
    longest_turn: u64,
}

/// What a client speaks.
enum Spoken {
    Amqp,
    Stomp(Stomp),
    Stream(StreamProtocol),
}

/// Who commits the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// The broker, whenever it has nothing else to do.
    ByItself,
    /// The test; the broker only what changes definitions, since the changing client waits for the answer.
    Changes,
    /// The test alone.
    Never,
}

/// One connection: the session, and the bytes on their way in either direction.
struct Line {
    session: Box<dyn Session>,
    woken: Arc<AtomicBool>,
    input: BytesMut,
    /// Whether the session has more to do with what has come.
    unhandled: bool,
    received: Received,
    closed: bool,
}

impl InMemory {
    /// A broker that keeps nothing.
    pub fn new() -> InMemory {
        InMemory::with(BrokerLimits::default())
    }

    /// The same with other limits.
    pub fn with(limits: BrokerLimits) -> InMemory {
        let clock = TestClock::at(1_700_000_000_000);
        let store = Box::new(MemoryStore::default());
        let (broker, losses) = InMemory::open(store, JournalOptions::default(), limits, clock).unwrap();
        assert_eq!(losses, []);
        InMemory { commits: Commits::ByItself, ..broker }
    }

    /// A broker on a store, and what was lost of that. Messages are committed when the test does it.
    pub fn open(
        store: Box<dyn Store>,
        options: JournalOptions,
        limits: BrokerLimits,
        clock: TestClock,
    ) -> Result<(InMemory, Vec<Loss>), BrokerError> {
        let (journal, mut recovered) = Journal::open(store, options, |_| ()).unwrap();
        let losses = std::mem::take(&mut recovered.losses);
        let broker =
            Broker::open(Arc::new(journal), recovered, ExchangeTypes::standard(), limits, clock.now())?;
        broker.set_dialect(RabbitDialect::default());
        broker.add_vhost("/")?;
        let tags = vec!["administrator".to_owned()];
        broker.put_user(User::with_password("guest", "guest", [1, 2, 3, 4], tags)).unwrap();
        broker.set_permissions("guest", "/", Patterns::new(".*", ".*", ".*").unwrap()).unwrap();
        let amqp = Amqp { broker: Arc::new(broker), settings: Arc::new(AmqpSettings::default()) };
        let connections = BTreeMap::new();
        Ok((
            InMemory {
                amqp,
                spoken: Spoken::Amqp,
                clock,
                connections,
                opened: 0,
                commits: Commits::Changes,
                longest_turn: 0,
            },
            losses,
        ))
    }

    /// The broker, whose journal the test has to commit.
    pub fn broker(&self) -> &Broker {
        &self.amqp.broker
    }

    /// The steps of the longest turn of a session, or of the broker's timer, since this was asked before.
    pub fn take_longest_turn(&mut self) -> u64 {
        std::mem::take(&mut self.longest_turn)
    }

    /// Clients that come from now on speak STOMP.
    pub fn speak_stomp(&mut self, settings: StompSettings) {
        let broker = self.amqp.broker.clone();
        self.spoken = Spoken::Stomp(Stomp { broker, settings: Arc::new(settings) });
    }

    /// Clients that come from now on speak the stream protocol.
    pub fn speak_stream_protocol(&mut self, settings: StreamSettings) {
        let broker = self.amqp.broker.clone();
        self.spoken = Spoken::Stream(StreamProtocol { broker, settings: Arc::new(settings) });
    }

    /// Clients that come from now on speak AMQP.
    pub fn speak_amqp(&mut self) {
        self.spoken = Spoken::Amqp;
    }

    /// Something comes from a client, and nothing happens yet.
    pub fn put(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(line) = self.connections.get_mut(&connection) {
            line.input.extend_from_slice(bytes);
        }
    }

    /// Lets one session have one turn, and commits what that changed.
    pub fn step(&mut self, connection: ConnectionId) {
        let now = self.clock.now();
        if let Some(line) = self.connections.get_mut(&connection) {
            line.step(now);
        }
        self.amqp.broker.journal().commit().unwrap();
    }

    /// Takes what a client has received so far, without anything happening.
    pub fn take_received(&mut self, connection: ConnectionId, into: &mut Vec<u8>) {
        if let Some(line) = self.connections.get(&connection) {
            into.append(&mut line.received.lock().unwrap());
        }
    }

    /// From now on the test commits everything.
    pub fn commit_nothing(&mut self) {
        self.commits = Commits::Never;
    }

    /// The broker begins to stop.
    pub fn shut_down(&mut self) {
        let now = self.clock.now();
        for line in self.connections.values_mut().filter(|line| !line.closed) {
            line.session.handle_shutdown(now);
            line.woken.store(true, Ordering::Relaxed);
        }
        self.settle();
    }

    /// Lets everything happen that can happen at this instant.
    pub fn settle(&mut self) {
        loop {
            let now = self.clock.now();
            let mut progress = false;
            let (_, steps) = leveret::steps::of(|| self.amqp.broker.handle_timeout(now));
            self.longest_turn = self.longest_turn.max(steps);
            progress |= self.amqp.broker.next_deadline() <= now;
            progress |= self.amqp.broker.run_streams(now);
            for line in self.connections.values_mut() {
                let (stepped, steps) = leveret::steps::of(|| line.step(now));
                progress |= stepped;
                self.longest_turn = self.longest_turn.max(steps);
            }
            let journal = self.amqp.broker.journal();
            let durable = journal.durable();
            match self.commits {
                Commits::ByItself => progress |= journal.commit().unwrap() != durable,
                // When the answer is an error, so be it.
                Commits::Changes if !progress && journal.defined() > durable => {
                    progress = journal.commit().is_ok();
                }
                Commits::Changes | Commits::Never => {}
            }
            if !progress {
                return;
            }
        }
    }

    /// The next instant at which something is due.
    fn next_deadline(&self) -> Option<u64> {
        let sessions =
            self.connections.values().filter(|line| !line.closed).filter_map(|l| l.session.poll_timeout());
        let streams = Some(self.amqp.broker.streams().next_deadline()).filter(|at| *at != u64::MAX);
        sessions.chain(self.amqp.broker.timer().next()).chain(streams).min()
    }
}

impl Line {
    /// What `net` does with a session: it has its turn when something has come, when it is woken, and when its time has come.
    fn step(&mut self, now: u64) -> bool {
        let is_woken = self.woken.swap(false, Ordering::Relaxed);
        let is_due = self.session.poll_timeout().is_some_and(|at| at <= now);
        if self.closed || !(is_woken || is_due || self.unhandled || !self.input.is_empty()) {
            return false;
        }
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        let (before, was_unhandled) = (self.input.len(), self.unhandled);
        if before > 0 || self.unhandled {
            self.unhandled = self.session.handle_input(&mut self.input, now);
        }
        let mut progress = self.input.len() != before || was_unhandled && !self.unhandled;
        let mut out = Transmit::default();
        loop {
            let flow = self.session.poll_transmit(&mut out, now);
            let has_sent = !out.is_empty();
            progress |= has_sent;
            while out.has_remaining() {
                self.received.lock().unwrap().extend_from_slice(out.chunk());
                out.advance(out.chunk().len());
            }
            match flow {
                Flow::More => {}
                // As a socket does, it looks again when all has been written.
                Flow::Open if has_sent => {}
                Flow::Closed | Flow::Reset => {
                    self.session.handle_disconnect(None, now);
                    self.closed = true;
                    return true;
                }
                Flow::Open => return progress || self.unhandled,
                Flow::Slowed | Flow::Paused => return progress,
            }
        }
    }
}

impl Transport for InMemory {
    fn open(&mut self) -> Result<ConnectionId, String> {
        self.opened += 1;
        let end = |port| Endpoint { host: "memory".to_owned(), port };
        let peer = Peer::new(end(u16::try_from(self.opened).unwrap_or(u16::MAX)), end(0), true);
        let (received, woken) = (Received::default(), Arc::new(AtomicBool::new(true)));
        let bell = woken.clone();
        let waker = Box::new(move || bell.store(true, Ordering::Relaxed));
        let socket = DirectSocket::new(&received, &Arc::new(AtomicBool::new(true)));
        let now = self.clock.now();
        let session: Box<dyn Session> = match &self.spoken {
            Spoken::Stomp(stomp) => Box::new(stomp::Connection::new(stomp.clone(), peer, waker, now)),
            Spoken::Stream(stream) => {
                Box::new(stream_protocol::Connection::new(stream.clone(), peer, waker, now))
            }
            Spoken::Amqp => Box::new(Connection::new(self.amqp.clone(), peer, waker, Some(socket), now)),
        };
        let line = Line { session, woken, input: BytesMut::new(), unhandled: false, received, closed: false };
        self.connections.insert(self.opened, line);
        Ok(self.opened)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(line) = self.connections.get_mut(&connection).filter(|line| !line.closed) {
            line.input.extend_from_slice(bytes);
        }
        self.settle();
    }

    fn receive(&mut self, connection: ConnectionId, _wait: Duration, into: &mut Vec<u8>) -> Arrived {
        self.settle();
        let Some(line) = self.connections.get_mut(&connection) else { return Arrived::Closed };
        let mut received = line.received.lock().unwrap();
        if !received.is_empty() {
            into.append(&mut received);
            return Arrived::Data;
        }
        if line.closed { Arrived::Closed } else { Arrived::Quiet }
    }

    fn advance(&mut self, time: Duration) {
        self.settle();
        let end = self.clock.now() + u64::try_from(time.as_millis()).unwrap();
        // Deadlines pass one after the other, each at its own time.
        while let Some(at) = self.next_deadline().filter(|at| *at <= end) {
            let now = self.clock.now();
            self.clock.advance(at.saturating_sub(now).max(1));
            self.settle();
        }
        self.clock.advance(end.saturating_sub(self.clock.now()));
        self.settle();
    }

    fn close(&mut self, connection: ConnectionId) {
        if let Some(mut line) = self.connections.remove(&connection) {
            let now = self.clock.now();
            let (_, steps) = leveret::steps::of(|| line.session.handle_disconnect(None, now));
            self.longest_turn = self.longest_turn.max(steps);
        }
        self.settle();
    }

    fn manage(&mut self, method: &str, path: &str, body: &str) -> Result<(), String> {
        let (status, answer) = self.call(method, path, body);
        self.settle();
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("{status}: {answer}")) }
    }

    fn exact(&self) -> bool {
        true
    }
}
