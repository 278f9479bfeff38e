//! The built broker under bad clients, where only real sockets and a real process show what happens.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::{self, AMQPMethod as Basic};
use amq_protocol::protocol::connection::{self, AMQPMethod as Connection};
use amq_protocol::protocol::queue::{self, AMQPMethod as Queue};
use leveret_test_support::broker_process::BrokerProcess;
use leveret_test_support::frames::{
    PROTOCOL_HEADER, channel_open, cut, handshake, handshake_with_heartbeat, method, publish_to,
};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// A socket on which nothing has been sent.
    fn socket(broker: &BrokerProcess) -> Client {
        let stream = TcpStream::connect(broker.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream, received: Vec::new() }
    }

    /// A connection with channel 1 open.
    fn open(broker: &BrokerProcess) -> Client {
        let mut client = Client::socket(broker);
        client.send(&handshake());
        client.send(&channel_open(1));
        let frames: Vec<AMQPFrame> = (0..4).map(|_| client.frame()).collect();
        assert!(matches!(frames[3], AMQPFrame::Method(1, _)), "{frames:?}");
        client
    }

    /// The same, unless it is refused.
    fn try_open(broker: &BrokerProcess) -> Option<Client> {
        let mut client = Client::socket(broker);
        // What is refused is reset, now or in a moment.
        let _ = client.stream.write_all(&[handshake(), channel_open(1)].concat());
        let mut first = [0; 1];
        if !client.stream.read(&mut first).is_ok_and(|count| count > 0) {
            return None;
        }
        client.received.push(first[0]);
        let frames: Vec<AMQPFrame> = (0..4).map(|_| client.frame()).collect();
        assert!(matches!(frames[3], AMQPFrame::Method(1, _)), "{frames:?}");
        Some(client)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn frame(&mut self) -> AMQPFrame {
        loop {
            let end =
                self.received.get(3..7).map(|size| 8 + u32::from_be_bytes(size.try_into().unwrap()) as usize);
            if let Some(end) = end.filter(|end| *end <= self.received.len()) {
                let frame: Vec<u8> = self.received.drain(..end).collect();
                return cut(&frame).0.remove(0);
            }
            let mut buffer = [0; 65536];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the broker closed the connection");
            self.received.extend_from_slice(&buffer[..count]);
        }
    }

    fn call(&mut self, class: AMQPClass) -> AMQPFrame {
        self.send(&method(1, class));
        self.frame()
    }

    /// Consumers of a queue; declares it if it is not there.
    fn consumers(&mut self, queue: &str) -> u32 {
        let declare = queue::Declare { queue: queue.into(), ..queue::Declare::default() };
        match self.call(AMQPClass::Queue(Queue::Declare(declare))) {
            AMQPFrame::Method(1, AMQPClass::Queue(Queue::DeclareOk(ok))) => ok.consumer_count,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes and gets it back.
    fn assert_works(&mut self) {
        let declare = queue::Declare { queue: "works".into(), ..queue::Declare::default() };
        self.call(AMQPClass::Queue(Queue::Declare(declare)));
        self.send(&publish_to(1, "works", b"yes"));
        let get = basic::Get { queue: "works".into(), no_ack: true };
        let ok = self.call(AMQPClass::Basic(Basic::Get(get)));
        assert!(matches!(ok, AMQPFrame::Method(1, AMQPClass::Basic(Basic::GetOk(_)))), "{ok:?}");
        self.frame();
        assert_eq!(self.frame(), AMQPFrame::Body(1, b"yes".to_vec()));
    }

    /// Reads until the broker closes the socket.
    fn wait_for_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 65536];
        while Instant::now() < deadline {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the broker did not close the socket: {error}"),
            }
        }
        panic!("the broker did not close the socket");
    }
}

/// Waits until it is so; `step` gives the broker something to answer in between, so this does not spin.
fn wait_until(what: &str, mut step: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !step() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
    }
}

fn resident_bytes(broker: &BrokerProcess) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn open_files(broker: &BrokerProcess) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.id())).unwrap().count()
}

#[test]
fn a_peer_that_does_not_read_is_dropped_and_costs_others_nothing() {
    let variables = [("LEVERET__LIMITS__WRITE_STALL_TIMEOUT_MS", "1000")];
    let broker = BrokerProcess::start_with("unread", &variables, None);
    let mut other = Client::open(&broker);
    assert_eq!(other.consumers("q"), 0);
    let body = vec![7; 100_000];
    for _ in 0..500 {
        other.send(&publish_to(1, "q", &body));
    }
    other.assert_works();
    let before = resident_bytes(&broker);
    let mut silent = Client::open(&broker);
    let consume =
        basic::Consume { queue: "q".into(), no_ack: true, nowait: true, ..basic::Consume::default() };
    silent.send(&method(1, AMQPClass::Basic(Basic::Consume(consume))));
    wait_until("the consumer is there", || other.consumers("q") == 1);
    let mut most = 0;
    wait_until("the consumer is dropped", || {
        most = most.max(resident_bytes(&broker));
        other.assert_works();
        other.consumers("q") == 0
    });
    assert!(most < before + (16 << 20), "from {before} to {most} bytes for a peer that does not read");
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let variables = [("LEVERET__LIMITS__HANDSHAKE_TIMEOUT_MS", "2000")];
    let broker = BrokerProcess::start_with("garbage", &variables, None);
    let mut other = Client::open(&broker);
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(100_000)
    .collect();
    let opened = [handshake(), channel_open(1)].concat();
    let mut clients: Vec<Client> = [
        noise.clone(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0x16, 0x03, 0x01, 0x02, 0x00],
        b"AMQP\x03\x01\x00\x00".to_vec(),
        [PROTOCOL_HEADER, &noise].concat(),
        [PROTOCOL_HEADER, &[0; 5000]].concat(),
        [&opened[..], &noise].concat(),
        [&opened[..], &[1, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat(),
    ]
    .iter()
    .map(|bytes| {
        let mut client = Client::socket(&broker);
        // The broker may have closed before all of it is sent.
        let _ = client.stream.write_all(bytes);
        client
    })
    .collect();
    clients.iter_mut().for_each(Client::wait_for_end);
    other.assert_works();
}

#[test]
fn half_a_handshake_is_not_waited_for() {
    let variables = [("LEVERET__LIMITS__HANDSHAKE_TIMEOUT_MS", "500")];
    let broker = BrokerProcess::start_with("handshake", &variables, None);
    let whole = handshake();
    let ends = [0, 3, 7, 8, 20, whole.len() - 1];
    let mut clients: Vec<Client> = ends
        .iter()
        .map(|end| {
            let mut client = Client::socket(&broker);
            client.send(&whole[..*end]);
            client
        })
        .collect();
    clients.iter_mut().for_each(Client::wait_for_end);
    // Signs of life are no progress.
    let mut beating = Client::socket(&broker);
    beating.send(PROTOCOL_HEADER);
    wait_until("the broker closes the socket", || {
        beating.stream.write_all(&[8, 0, 0, 0, 0, 0, 0, 0xCE].repeat(1000)).is_err()
    });
    Client::open(&broker).assert_works();
}

#[test]
fn a_thousand_connections_leave_nothing() {
    let broker = BrokerProcess::start_with("thousand", &[], None);
    let mut other = Client::open(&broker);
    let cycle = |rounds: usize| {
        for round in 0..rounds {
            let mut client = Client::open(&broker);
            let declare = queue::Declare { exclusive: true, ..queue::Declare::default() };
            client.call(AMQPClass::Queue(Queue::Declare(declare)));
            if round % 2 == 0 {
                let close = AMQPClass::Connection(Connection::Close(connection::Close::default()));
                client.send(&method(0, close));
                let ok = client.frame();
                assert_eq!(
                    ok,
                    AMQPFrame::Method(0, AMQPClass::Connection(Connection::CloseOk(connection::CloseOk {})))
                );
            }
        }
    };
    cycle(100);
    wait_until("the first are gone", || {
        other.assert_works();
        open_files(&broker) < 60
    });
    let (files, bytes) = (open_files(&broker), resident_bytes(&broker));
    cycle(1000);
    // The log may have gone on to its next file meanwhile, and opened the one behind it.
    wait_until("the others are gone", || {
        other.assert_works();
        open_files(&broker) <= files + 4
    });
    let grown = resident_bytes(&broker).saturating_sub(bytes);
    assert!(grown < 8 << 20, "{grown} bytes were left by a thousand connections");
}

#[test]
fn at_the_limit_of_file_descriptors_it_goes_on() {
    let broker = BrokerProcess::start_with("descriptors", &[], Some(128));
    let mut other = Client::open(&broker);
    let crowd: Vec<Client> = (0..60).map(|_| Client::socket(&broker)).collect();
    wait_until("those that do not log in make way for others", || {
        other.assert_works();
        broker.log().contains("it has not logged in, and made way for others")
    });
    // Its turn comes among them.
    Client::open(&broker).assert_works();
    other.assert_works();
    drop(crowd);
    let mut full = Vec::new();
    wait_until("as many have logged in as there are descriptors for", || {
        full.extend(Client::try_open(&broker));
        broker.log().contains("connections are open that limits.connections_max and RLIMIT_NOFILE allow")
    });
    assert!(full.len() >= 10 && open_files(&broker) < 128, "{} of {}", full.len(), open_files(&broker));
    other.assert_works();
    full.pop();
    wait_until("one more is let in", || Client::try_open(&broker).is_some());
}

#[test]
fn told_to_stop_it_says_why_and_does_not_wait_for_the_silent() {
    let mut broker = BrokerProcess::start_with("stop", &[], None);
    let mut polite = Client::open(&broker);
    let mut silent = Client::open(&broker);
    let mut half_open = Client::socket(&broker);
    half_open.send(PROTOCOL_HEADER);
    half_open.frame();
    let start = Instant::now();
    broker.ask_to_stop();
    for client in [&mut polite, &mut silent] {
        let AMQPFrame::Method(0, AMQPClass::Connection(Connection::Close(close))) = client.frame() else {
            panic!("no connection.close came");
        };
        assert_eq!(close.reply_code, 320);
        assert_eq!(
            close.reply_text.as_str(),
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
        );
    }
    let ok = AMQPClass::Connection(Connection::CloseOk(connection::CloseOk {}));
    polite.send(&method(0, ok));
    polite.wait_for_end();
    wait_until("it accepts no more", || TcpStream::connect(broker.address()).is_err());
    silent.wait_for_end();
    half_open.wait_for_end();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // Dropping it asserts that it ends with status 0.
}

#[test]
fn who_missed_heartbeats_is_told_with_the_next_write() {
    let broker = BrokerProcess::start("missed-heartbeats");
    let mut client = Client::socket(&broker);
    client.send(&handshake_with_heartbeat(1));
    let frames: Vec<AMQPFrame> = (0..3).map(|_| client.frame()).collect();
    assert!(matches!(frames[2], AMQPFrame::Method(0, _)), "{frames:?}");
    let ended = loop {
        match client.stream.read(&mut [0; 4096]) {
            Ok(0) => panic!("the socket was closed, and not reset"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
    client.stream.write_all(&channel_open(1)).unwrap_err();
}
