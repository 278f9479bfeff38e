//! What comes with one read is done in the order in which it came, whichever channels it is for: as if each piece had come alone.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::basic::{self, AMQPMethod as Basic};
use amq_protocol::protocol::queue::{self, AMQPMethod as Queue};
use amq_protocol::protocol::{AMQPClass, queue::Declare};
use amq_protocol::types::{AMQPValue, FieldTable};
use leveret_test_support::frames::{encode, method, publish_to};
use leveret_test_support::lines::{InMemory, LineId};

const CHANNELS: u16 = 3;
const QUEUES: [&str; 2] = ["a", "b"];

/// Numbers that look random and are not.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn queue_method(channel: u16, queue: Queue) -> Vec<u8> {
    method(channel, AMQPClass::Queue(queue))
}

fn basic_method(channel: u16, basic: Basic) -> Vec<u8> {
    method(channel, AMQPClass::Basic(basic))
}

/// A queue that keeps only its last messages.
fn declare(name: &str, length_max: i32) -> Vec<u8> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(length_max));
    queue_method(1, Queue::Declare(Declare { queue: name.into(), arguments, ..Declare::default() }))
}

/// What a client may say on one of its channels.
fn piece(numbers: &mut Numbers, number: u64) -> Vec<u8> {
    let channel = 1 + numbers.below(CHANNELS.into()) as u16;
    let queue = QUEUES[numbers.below(2) as usize];
    match numbers.below(9) {
        0..=4 => publish_to(channel, queue, number.to_string().as_bytes()),
        5 => basic_method(channel, Basic::Get(basic::Get { queue: queue.into(), no_ack: false })),
        6 => basic_method(channel, Basic::Ack(basic::Ack { delivery_tag: 0, multiple: true })),
        7 => {
            let nack = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
            basic_method(channel, Basic::Nack(nack))
        }
        _ => match numbers.below(3) {
            0 => queue_method(channel, Queue::Purge(queue::Purge { queue: queue.into(), nowait: false })),
            1 => basic_method(channel, Basic::Recover(basic::Recover { requeue: true })),
            _ => {
                let declare = Declare { queue: queue.into(), passive: true, ..Declare::default() };
                queue_method(channel, Queue::Declare(declare))
            }
        },
    }
}

/// A connection with all its channels, and the two queues.
fn connect(broker: &mut InMemory) -> LineId {
    let line = broker.connect(CHANNELS);
    for queue in QUEUES {
        broker.send(line, &declare(queue, 4));
    }
    broker.frames(line);
    line
}

/// What is left in the queues.
fn drain(broker: &mut InMemory, line: LineId) -> Vec<Vec<u8>> {
    let mut left = Vec::new();
    for queue in QUEUES {
        loop {
            broker.send(line, &basic_method(1, Basic::Get(basic::Get { queue: queue.into(), no_ack: true })));
            let frames = broker.frames(line);
            let Some(AMQPFrame::Body(_, body)) = frames.into_iter().next_back() else { break };
            left.push(body);
        }
    }
    left
}

#[test]
fn pieces_that_come_together_are_done_as_if_each_came_alone() {
    for seed in 1..=300 {
        let mut numbers = Numbers(seed);
        let pieces: Vec<Vec<u8>> = (0..25).map(|number| piece(&mut numbers, number)).collect();
        let answers = [true, false].map(|together| {
            let mut broker = InMemory::new();
            let line = connect(&mut broker);
            if together {
                broker.send(line, &pieces.concat());
            } else {
                pieces.iter().for_each(|piece| broker.send(line, piece));
            }
            let frames: Vec<Vec<u8>> = broker.frames(line).iter().map(encode).collect();
            (frames, drain(&mut broker, line))
        });
        assert!(answers[0] == answers[1], "seed {seed}: {:?}\ninstead of {:?}", answers[0], answers[1]);
    }
}

#[test]
fn an_acknowledgement_makes_room_for_what_is_published_behind_it() {
    let mut broker = InMemory::new();
    let line = broker.connect(1);
    broker.send(line, &declare("a", 1));
    broker.send(line, &basic_method(1, Basic::Qos(basic::Qos { prefetch_count: 1, global: false })));
    broker.send(
        line,
        &basic_method(1, Basic::Consume(basic::Consume { queue: "a".into(), ..Default::default() })),
    );
    broker.send(line, &[publish_to(1, "a", b"1"), publish_to(1, "a", b"2")].concat());
    broker.frames(line);
    // The second is delivered, so that the third is the only one that waits, and none is dropped.
    let ack = basic_method(1, Basic::Ack(basic::Ack { delivery_tag: 1, multiple: false }));
    broker.send(line, &[ack, publish_to(1, "a", b"3")].concat());
    let ack = basic_method(1, Basic::Ack(basic::Ack { delivery_tag: 2, multiple: false }));
    broker.send(line, &ack);
    let bodies = broker.frames(line).into_iter().filter_map(|frame| match frame {
        AMQPFrame::Body(_, body) => Some(body),
        _ => None,
    });
    assert_eq!(bodies.collect::<Vec<_>>(), [b"2", b"3"]);
}
