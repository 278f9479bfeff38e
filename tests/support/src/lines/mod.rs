//! The whole broker in memory, on one thread and a fake clock, for tests that speak AMQP to it in bytes. Nothing happens
//! but in [`InMemory::settle`], and nothing is left to happen when that returns.

use crate::direct_socket::{DirectSocket, Received};
use crate::frames::{channel_open, cut, handshake};
use amq_protocol::frame::AMQPFrame;
use bytes::{Buf, BufMut, BytesMut};
use leveret::amqp::{Amqp, AmqpSettings, Connection};
use leveret::broker::access::permissions::Patterns;
use leveret::broker::access::users::User;
use leveret::broker::exchange::ExchangeTypes;
use leveret::broker::observe::connections::Endpoint;
use leveret::broker::{Broker, BrokerLimits};
use leveret::clock::{Clock, TestClock};
use leveret::protocol::Peer;
use leveret::session::{Flow, Room, Session, Transmit};
use leveret::store::{Journal, JournalOptions, MemoryStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A connection's number. Never used again after its end.
pub type LineId = usize;

/// A broker without sockets, and the connections to it.
pub struct InMemory {
    pub amqp: Amqp,
    pub clock: TestClock,
    lines: BTreeMap<LineId, Line>,
    opened: usize,
}

/// One connection: the session, and the bytes on their way in either direction.
struct Line {
    session: Connection,
    woken: Arc<AtomicBool>,
    /// What the peer has sent and was not read yet.
    socket: BytesMut,
    /// What was read and the session has left.
    input: BytesMut,
    /// Whether the session has more to do with what has come.
    unhandled: bool,
    /// What the session gave and the peer has not read.
    out: Transmit,
    received: Received,
    reading: Arc<AtomicBool>,
    paused: bool,
    closed: bool,
}

impl InMemory {
    pub fn new() -> InMemory {
        InMemory::with(AmqpSettings::default())
    }

    pub fn with(settings: AmqpSettings) -> InMemory {
        InMemory::with_limits(settings, BrokerLimits::default())
    }

    pub fn with_limits(settings: AmqpSettings, limits: BrokerLimits) -> InMemory {
        let clock = TestClock::at(1_700_000_000_000);
        let store = Box::new(MemoryStore::default());
        let (journal, recovered) = Journal::open(store, JournalOptions::default(), |_| ()).unwrap();
        let types = ExchangeTypes::standard();
        let broker = Broker::open(Arc::new(journal), recovered, types, limits, clock.now()).unwrap();
        InMemory::of(broker, settings)
    }

    /// The same around a broker that may know something; the vhost / and its user guest are made.
    pub(crate) fn of(broker: Broker, settings: AmqpSettings) -> InMemory {
        let clock = TestClock::at(1_700_000_000_000);
        if broker.vhost("/").is_none() {
            broker.add_vhost("/").unwrap();
        }
        let tags = vec!["administrator".to_owned()];
        broker.put_user(User::with_password("guest", "guest", [1, 2, 3, 4], tags)).unwrap();
        broker.set_permissions("guest", "/", Patterns::new(".*", ".*", ".*").unwrap()).unwrap();
        let amqp = Amqp { broker: Arc::new(broker), settings: Arc::new(settings) };
        InMemory { amqp, clock, lines: BTreeMap::new(), opened: 0 }
    }

    /// Opens a connection; nothing is sent on it yet.
    pub fn open(&mut self) -> LineId {
        self.opened += 1;
        let end = |port| Endpoint { host: "memory".to_owned(), port };
        let peer = Peer::new(end(u16::try_from(self.opened).unwrap_or(u16::MAX)), end(0), true);
        let (received, reading) = (Received::default(), Arc::new(AtomicBool::new(true)));
        let socket = DirectSocket::new(&received, &reading);
        let woken = Arc::new(AtomicBool::new(true));
        let bell = woken.clone();
        let waker = Box::new(move || bell.store(true, Ordering::Relaxed));
        let session = Connection::new(self.amqp.clone(), peer, waker, Some(socket), self.clock.now());
        let line = Line {
            session,
            woken,
            socket: BytesMut::new(),
            input: BytesMut::new(),
            unhandled: false,
            out: Transmit::default(),
            received,
            reading,
            paused: false,
            closed: false,
        };
        self.lines.insert(self.opened, line);
        self.opened
    }

    /// Opens a connection and brings it to where channels 1 to `channels` are open.
    pub fn connect(&mut self, channels: u16) -> LineId {
        let line = self.open();
        let mut bytes = handshake();
        (1..=channels).for_each(|channel| bytes.extend(channel_open(channel)));
        self.send(line, &bytes);
        let frames = self.frames(line);
        assert_eq!(frames.len(), 3 + usize::from(channels), "{frames:?}");
        line
    }

    /// Sends bytes, and lets what follows happen. A closed connection swallows them.
    pub fn send(&mut self, line: LineId, bytes: &[u8]) {
        self.feed(line, bytes);
        self.settle();
    }

    /// Puts bytes on their way, for several connections to be busy at once.
    pub fn feed(&mut self, line: LineId, bytes: &[u8]) {
        if let Some(line) = self.lines.get_mut(&line).filter(|line| !line.closed) {
            line.socket.extend_from_slice(bytes);
        }
    }

    /// Stops or goes on reading what the broker sends.
    pub fn set_reading(&mut self, line: LineId, reading: bool) {
        self.lines[&line].reading.store(reading, Ordering::Relaxed);
        self.settle();
    }

    /// Bytes that the broker keeps for a peer which does not read them.
    pub fn unread_bytes(&self, line: LineId) -> usize {
        self.lines[&line].out.len()
    }

    /// The bytes that have come since the last time.
    pub fn bytes(&mut self, line: LineId) -> Vec<u8> {
        self.lines
            .get(&line)
            .map(|line| std::mem::take(&mut *line.received.lock().unwrap()))
            .unwrap_or_default()
    }

    /// The frames that have come since the last time.
    pub fn frames(&mut self, line: LineId) -> Vec<AMQPFrame> {
        let bytes = self.bytes(line);
        let (frames, used) = cut(&bytes);
        assert_eq!(used, bytes.len(), "the broker sent half a frame behind {frames:?}");
        frames
    }

    pub fn is_closed(&self, line: LineId) -> bool {
        self.lines.get(&line).is_none_or(|line| line.closed)
    }

    /// The broker begins to stop.
    pub fn shut_down(&mut self) {
        let now = self.clock.now();
        for line in self.lines.values_mut().filter(|line| !line.closed) {
            line.session.handle_shutdown(now);
            line.woken.store(true, Ordering::Relaxed);
        }
        self.settle();
    }

    /// The peer goes without a word.
    pub fn drop_line(&mut self, line: LineId) {
        if let Some(mut line) = self.lines.remove(&line) {
            line.session.handle_disconnect(None, self.clock.now());
        }
        self.settle();
    }

    /// Lets everything happen that can happen at this instant.
    pub fn settle(&mut self) {
        loop {
            let now = self.clock.now();
            self.amqp.broker.handle_timeout(now);
            let mut progress = self.amqp.broker.next_deadline() <= now;
            progress |= self.amqp.broker.run_streams(now);
            for line in self.lines.values_mut() {
                progress |= line.step(now, self.amqp.settings.transmit_bytes);
            }
            let durable = self.amqp.broker.journal().durable();
            progress |= self.amqp.broker.journal().commit().unwrap() != durable;
            if !progress {
                return;
            }
        }
    }

    /// Lets time pass; deadlines come one after the other, each at its own time.
    pub fn advance(&mut self, by_ms: u64) {
        self.settle();
        let end = self.clock.now() + by_ms;
        while let Some(at) = self.next_deadline().filter(|at| *at <= end) {
            let now = self.clock.now();
            self.clock.advance(at.saturating_sub(now).max(1));
            self.settle();
        }
        self.clock.advance(end.saturating_sub(self.clock.now()));
        self.settle();
    }

    fn next_deadline(&self) -> Option<u64> {
        let open = self.lines.values().filter(|line| !line.closed);
        let streams = Some(self.amqp.broker.streams().next_deadline()).filter(|at| *at != u64::MAX);
        let sessions = open.filter_map(|line| line.session.poll_timeout());
        sessions.chain(self.amqp.broker.timer().next()).chain(streams).min()
    }
}

impl Line {
    /// Reads what is there to where the session wants it, once. True when the session took something.
    fn read(&mut self, now: u64) -> bool {
        let before = self.socket.len() + self.input.len();
        if self.unhandled {
            self.unhandled = self.session.handle_input(&mut self.input, now);
            return self.socket.len() + self.input.len() != before || !self.unhandled;
        }
        if before == 0 {
            return false;
        }
        let room = if self.input.is_empty() { self.session.room() } else { Room::Input };
        let bytes = match &room {
            Room::Input => self.socket.len(),
            Room::Short(bytes) => self.socket.len().min(*bytes),
            Room::Own(room) => self.socket.len().min(room.remaining_mut()),
        };
        let read = self.socket.split_to(bytes);
        if let Room::Own(mut room) = room {
            room.put(read);
            self.session.handle_own_room(bytes, now);
        } else {
            self.input.unsplit(read);
            self.unhandled = self.session.handle_input(&mut self.input, now);
        }
        self.socket.len() + self.input.len() != before
    }

    /// What `net` does with a session: it has its turn when something has come or can leave, when it is woken, and when its time
    /// has come. Nothing is read while much waits to be sent.
    fn step(&mut self, now: u64, transmit_bytes: usize) -> bool {
        let is_woken = self.woken.swap(false, Ordering::Relaxed);
        let is_due = self.session.poll_timeout().is_some_and(|at| at <= now);
        let reading = self.reading.load(Ordering::Relaxed);
        let has_something =
            !self.socket.is_empty() || !self.input.is_empty() || (reading && !self.out.is_empty());
        if self.closed || !(is_woken || is_due || self.unhandled || has_something) {
            return false;
        }
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        let mut progress = false;
        if !self.paused && self.out.len() < transmit_bytes {
            progress = self.read(now);
        }
        loop {
            let waiting = self.out.len();
            let flow = self.session.poll_transmit(&mut self.out, now);
            progress |= self.out.len() != waiting;
            let mut has_written = false;
            while reading && self.out.has_remaining() {
                has_written = true;
                progress = true;
                self.received.lock().unwrap().extend_from_slice(self.out.chunk());
                self.out.advance(self.out.chunk().len());
            }
            match flow {
                Flow::Closed | Flow::Reset => {
                    self.session.handle_disconnect(None, now);
                    self.closed = true;
                    return true;
                }
                Flow::More if reading => {}
                // It looks again when all has been written.
                Flow::Open if has_written => {}
                Flow::More | Flow::Open | Flow::Slowed | Flow::Paused => {
                    // What was blocked goes on.
                    let has_room = matches!(flow, Flow::More | Flow::Open) && self.out.len() < transmit_bytes;
                    let goes_on = (self.paused && flow != Flow::Paused) || (self.unhandled && has_room);
                    self.paused = flow == Flow::Paused;
                    return progress || goes_on;
                }
            }
        }
    }
}
