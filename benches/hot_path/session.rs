//! A connection in memory: frames in, frames out, and what queues do in between. One turn has as many messages as a read of a
//! busy socket.

use bytes::{Buf, BytesMut};
use divan::Bencher;
use divan::counter::ItemsCount;
use leveret::amqp::{Amqp, AmqpSettings, Connection};
use leveret::broker::access::permissions::Patterns;
use leveret::broker::access::users::User;
use leveret::broker::exchange::ExchangeTypes;
use leveret::broker::observe::connections::Endpoint;
use leveret::broker::{Broker, BrokerLimits};
use leveret::message::Millis;
use leveret::protocol::Peer;
use leveret::session::{Flow, Session, Transmit};
use leveret::store::{Journal, JournalOptions, MemoryStore};
use std::sync::Arc;

/// Messages of a turn.
const BATCH: u64 = 256;

/// Bytes of a body.
const BODY_BYTES: usize = 100;

const NOW: Millis = 1_700_000_000_000;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// An open connection with channel 1.
struct Line {
    session: Connection,
    out: Transmit,
    amqp: Amqp,
}

impl Line {
    fn open() -> Line {
        let (journal, recovered) =
            Journal::open(Box::new(MemoryStore::default()), JournalOptions::default(), |_| ())
                .expect("memory opens");
        let (types, limits) = (ExchangeTypes::standard(), BrokerLimits::default());
        let broker =
            Broker::open(Arc::new(journal), recovered, types, limits, NOW).expect("nothing is there");
        broker.add_vhost("/").expect("it is new");
        broker.put_user(User::with_password("guest", "guest", [1, 2, 3, 4], Vec::new())).expect("it is new");
        let all = Patterns::new(".*", ".*", ".*").expect("these are patterns");
        broker.set_permissions("guest", "/", all).expect("both are there");
        broker.commit_changes().expect("memory takes everything");
        let amqp = Amqp { broker: Arc::new(broker), settings: Arc::new(AmqpSettings::default()) };
        let end = || Endpoint { host: "memory".to_owned(), port: 0 };
        let session =
            Connection::new(amqp.clone(), Peer::new(end(), end(), true), Box::new(|| ()), None, NOW);
        let mut line = Line { session, out: Transmit::default(), amqp };
        line.turn(&mut BytesMut::from(&b"AMQP\x00\x00\x09\x01"[..]));
        let login = b"\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
        for (channel, ids, arguments) in [
            (0, [10, 11], &login[..]),
            (0, [10, 31], b"\x07\xff\0\x02\0\0\0\0"),
            (0, [10, 40], b"\x01/\0\0"),
            (1, [20, 10], b"\0"),
            (1, [50, 10], b"\0\0\x01q\0\0\0\0\0"),
        ] {
            line.call(channel, ids, arguments);
        }
        assert_eq!(line.ready(), 0, "the queue is there");
        line
    }

    fn call(&mut self, channel: u8, ids: [u8; 2], arguments: &[u8]) {
        let mut bytes = BytesMut::new();
        put_method(&mut bytes, channel, ids, arguments);
        self.turn(&mut bytes);
    }

    /// Handles what came, and returns how many bytes went out.
    fn turn(&mut self, input: &mut BytesMut) -> usize {
        let mut sent = 0;
        self.session.handle_input(input, NOW);
        loop {
            let flow = self.session.poll_transmit(&mut self.out, NOW);
            while self.out.has_remaining() {
                let count = self.out.chunk().len();
                sent += count;
                self.out.advance(count);
            }
            if flow != Flow::More {
                assert_ne!(flow, Flow::Closed, "the connection is still open");
                return sent;
            }
        }
    }

    fn ready(&self) -> usize {
        let vhost = self.amqp.broker.vhost("/").expect("it is there");
        let queue = vhost.queue("q").expect("it was declared");
        let counts = queue.counts();
        counts.ready + counts.unacked
    }
}

fn put_frame(out: &mut BytesMut, kind: u8, channel: u8, pieces: &[&[u8]]) {
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    out.extend_from_slice(&[kind, 0, channel]);
    out.extend_from_slice(&(bytes as u32).to_be_bytes());
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(&[FRAME_END]);
}

fn put_method(out: &mut BytesMut, channel: u8, ids: [u8; 2], arguments: &[u8]) {
    put_frame(out, METHOD, channel, &[&[0, ids[0], 0, ids[1]], arguments]);
}

/// A batch of publishes to the default exchange.
fn publishes(routing_key: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    for _ in 0..BATCH {
        let key_bytes = [routing_key.len() as u8];
        put_frame(&mut out, METHOD, 1, &[b"\0\x3c\0\x28\0\0\0", &key_bytes, routing_key, b"\0"]);
        let size = (BODY_BYTES as u64).to_be_bytes();
        put_frame(&mut out, HEADER, 1, &[b"\0\x3c\0\0", &size, b"\x10\0\x01"]);
        put_frame(&mut out, BODY, 1, &[&[b'x'; BODY_BYTES]]);
    }
    out
}

/// Frames in: decoded, put together, routed to nowhere.
#[divan::bench]
fn frames_in(bencher: Bencher<'_, '_>) {
    let mut line = Line::open();
    let batch = publishes(b"nowhere");
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| batch.clone())
        .bench_local_refs(|input| line.turn(input));
    assert_eq!(line.ready(), 0);
}

/// Publishing, and deliveries out, which count as acknowledged at once.
#[divan::bench]
fn publish_deliver(bencher: Bencher<'_, '_>) {
    let mut line = Line::open();
    line.call(1, [60, 20], b"\0\0\x01q\x01t\x02\0\0\0\0");
    let batch = publishes(b"q");
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| batch.clone())
        .bench_local_refs(|input| assert!(line.turn(input) > BODY_BYTES * BATCH as usize));
    assert_eq!(line.ready(), 0);
}

/// Publishing, deliveries out, and one acknowledgement for all of them.
#[divan::bench]
fn publish_deliver_ack(bencher: Bencher<'_, '_>) {
    let mut line = Line::open();
    line.call(1, [60, 20], b"\0\0\x01q\x01t\0\0\0\0\0");
    let batch = publishes(b"q");
    let mut tag = 0;
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| batch.clone()).bench_local_refs(|input| {
        assert!(line.turn(input) > BODY_BYTES * BATCH as usize);
        tag += BATCH;
        let mut ack = BytesMut::new();
        put_frame(&mut ack, METHOD, 1, &[b"\0\x3c\0\x50", &u64::to_be_bytes(tag), b"\x01"]);
        line.turn(&mut ack)
    });
    assert_eq!(line.ready(), 0);
}
