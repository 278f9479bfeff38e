//! Bodies that go into their messages as they come: however they are cut on their way, the result is the same.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::basic::{self, AMQPMethod as Basic};
use amq_protocol::protocol::{AMQPClass, channel, queue};
use leveret::amqp::AmqpSettings;
use leveret::broker::alarms::Alarm;
use leveret_test_support::frames::{channel_open, method, publish_to};
use leveret_test_support::lines::{InMemory, LineId};

/// Bytes of a body that takes three frames.
const LARGE: usize = 300_000;

/// Bytes that a frame's payload has at most here.
const PAYLOAD_MAX: usize = 131_064;

fn body(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}

/// A connection with two channels and a queue.
fn connect(broker: &mut InMemory) -> LineId {
    let line = broker.connect(2);
    let declare = queue::Declare { queue: "q".into(), nowait: true, ..queue::Declare::default() };
    broker.send(line, &method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))));
    line
}

fn publish(bytes: usize) -> Vec<u8> {
    publish_to(1, "q", &body(bytes))
}

/// The bodies in the queue, which is empty then.
fn take(broker: &mut InMemory, line: LineId) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    loop {
        let get = basic::Get { queue: "q".into(), no_ack: true };
        broker.send(line, &method(2, AMQPClass::Basic(Basic::Get(get))));
        let frames = broker.frames(line);
        let parts = frames.into_iter().filter_map(|frame| match frame {
            AMQPFrame::Body(_, payload) => Some(payload),
            _ => None,
        });
        let parts: Vec<Vec<u8>> = parts.collect();
        if parts.is_empty() {
            return bodies;
        }
        bodies.push(parts.concat());
    }
}

#[test]
fn a_body_is_whole_however_it_is_cut() {
    let pieces =
        [7, 8, 9, 1000, 32_768, PAYLOAD_MAX - 1, PAYLOAD_MAX, PAYLOAD_MAX + 1, PAYLOAD_MAX + 8, 1 << 20];
    for piece in pieces {
        let mut broker = InMemory::new();
        let line = connect(&mut broker);
        let sizes = [LARGE, 10, PAYLOAD_MAX, 2 * PAYLOAD_MAX, 32_767, 32_768, 32_769, 1 << 20, LARGE];
        let bytes = sizes.map(publish).concat();
        bytes.chunks(piece).for_each(|piece| broker.send(line, piece));
        assert!(take(&mut broker, line) == sizes.map(body), "pieces of {piece} bytes");
    }
}

#[test]
fn a_body_is_whole_when_it_comes_byte_by_byte() {
    let mut broker = InMemory::new();
    let line = connect(&mut broker);
    let bytes = [publish(40_000), publish(5)].concat();
    bytes.chunks(1).for_each(|byte| broker.send(line, byte));
    assert!(take(&mut broker, line) == [body(40_000), body(5)]);
}

#[test]
fn a_frame_that_ends_wrongly_is_refused_with_the_same_words() {
    let mut bytes = publish(LARGE);
    *bytes.last_mut().unwrap() = 0;
    let refusals = [bytes.len(), 1000, PAYLOAD_MAX].map(|piece| {
        let mut broker = InMemory::new();
        let line = connect(&mut broker);
        bytes.chunks(piece).for_each(|piece| broker.send(line, piece));
        broker.frames(line)
    });
    assert!(format!("{:?}", refusals[0]).contains("invalid_frame_end_marker,0"), "{refusals:?}");
    assert_eq!(refusals[0], refusals[1]);
    assert_eq!(refusals[0], refusals[2]);
}

#[test]
fn a_channel_that_is_closed_meanwhile_swallows_the_rest() {
    let mut broker = InMemory::with(AmqpSettings { consumer_timeout_ms: 60_000, ..AmqpSettings::default() });
    let line = connect(&mut broker);
    let bytes = publish(LARGE);
    let (first, rest) = bytes.split_at(200_000);
    let consume = basic::Consume { queue: "q".into(), nowait: true, ..basic::Consume::default() };
    broker.send(line, &method(1, AMQPClass::Basic(Basic::Consume(consume))));
    broker.send(line, &publish_to(2, "q", b"is never acknowledged"));
    broker.send(line, first);
    broker.advance(180_000);
    assert!(
        format!("{:?}", broker.frames(line)).contains("PRECONDITION_FAILED"),
        "the channel was not closed"
    );
    broker.send(line, rest);
    let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
    broker.send(line, &[method(1, AMQPClass::Channel(close_ok)), channel_open(1), publish(LARGE)].concat());
    assert_eq!(broker.frames(line).len(), 1, "not only the channel was opened");
    assert!(take(&mut broker, line) == [b"is never acknowledged".to_vec(), body(LARGE)]);
}

#[test]
fn a_body_waits_for_the_end_of_an_alarm() {
    let mut broker = InMemory::new();
    let line = connect(&mut broker);
    let other = broker.connect(2);
    let bytes = publish(LARGE);
    let (first, rest) = bytes.split_at(200_000);
    broker.send(line, first);
    broker.amqp.broker.alarms().raise(Alarm::Memory);
    broker.send(line, rest);
    broker.send(line, &publish(LARGE));
    assert!(take(&mut broker, other).is_empty(), "a frame behind the one that had begun was taken");
    broker.amqp.broker.alarms().clear(Alarm::Memory);
    broker.settle();
    assert!(take(&mut broker, line) == [body(LARGE), body(LARGE)]);
}
