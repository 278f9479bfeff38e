//! Resource alarms, as clients see them: publishers are blocked with connection.blocked, all others go on.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::basic::{AMQPMethod as Basic, AMQPProperties, Publish};
use amq_protocol::protocol::connection::{
    AMQPMethod as ConnectionMethod, Blocked, Close, Open, StartOk, TuneOk, Unblocked,
};
use amq_protocol::protocol::{AMQPClass, basic, confirm, queue, tx};
use amq_protocol::types::{AMQPValue, FieldTable};
use leveret::broker::alarms::Alarm;
use leveret::net::MemoryWatch;
use leveret_test_support::frames::{channel_open, method, publish, publish_to};
use leveret_test_support::lines::{InMemory, LineId};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A connection with channel 1 open, whose client knows connection.blocked or does not.
fn connect(broker: &mut InMemory, knows_blocked: bool, heartbeat: u16) -> LineId {
    let mut capabilities = FieldTable::default();
    capabilities.insert("connection.blocked".into(), AMQPValue::Boolean(knows_blocked));
    let mut client_properties = FieldTable::default();
    client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let start_ok = StartOk {
        client_properties,
        mechanism: "PLAIN".into(),
        response: "\0guest\0guest".into(),
        locale: "en_US".into(),
    };
    let methods = [
        ConnectionMethod::StartOk(start_ok),
        ConnectionMethod::TuneOk(TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat }),
        ConnectionMethod::Open(Open { virtual_host: "/".into() }),
    ];
    let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
    for each in methods {
        bytes.extend(method(0, AMQPClass::Connection(each)));
    }
    bytes.extend(channel_open(1));
    let line = broker.open();
    broker.send(line, &bytes);
    assert_eq!(broker.frames(line).len(), 4);
    line
}

fn declare(name: &str) -> Vec<u8> {
    let declare = queue::Declare { queue: name.into(), ..queue::Declare::default() };
    method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)))
}

fn confirm_select() -> Vec<u8> {
    method(1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: true })))
}

fn consume(name: &str) -> Vec<u8> {
    let consume = basic::Consume { queue: name.into(), no_ack: true, ..basic::Consume::default() };
    method(1, AMQPClass::Basic(Basic::Consume(consume)))
}

fn blocked() -> AMQPFrame {
    let blocked = Blocked { reason: "low on disk".into() };
    AMQPFrame::Method(0, AMQPClass::Connection(ConnectionMethod::Blocked(blocked)))
}

fn unblocked() -> AMQPFrame {
    AMQPFrame::Method(0, AMQPClass::Connection(ConnectionMethod::Unblocked(Unblocked {})))
}

fn confirmed(delivery_tag: u64, multiple: bool) -> AMQPFrame {
    AMQPFrame::Method(1, AMQPClass::Basic(Basic::Ack(basic::Ack { delivery_tag, multiple })))
}

fn raise(broker: &mut InMemory) {
    broker.amqp.broker.alarms().raise(Alarm::Disk);
    broker.settle();
}

fn clear(broker: &mut InMemory) {
    broker.amqp.broker.alarms().clear(Alarm::Disk);
    broker.settle();
}

/// Bodies of the messages that were delivered.
fn bodies(frames: &[AMQPFrame]) -> Vec<String> {
    let body = |frame: &AMQPFrame| match frame {
        AMQPFrame::Body(_, bytes) => Some(String::from_utf8(bytes.clone()).unwrap()),
        _ => None,
    };
    frames.iter().filter_map(body).collect()
}

#[test]
fn who_publishes_is_held_up_until_the_alarm_is_cleared() {
    let mut broker = InMemory::new();
    let publisher = connect(&mut broker, true, 0);
    broker.send(publisher, &[declare("q"), confirm_select(), publish_to(1, "q", b"before")].concat());
    let frames = broker.frames(publisher);
    assert_eq!(frames[1..], [confirmed(1, false)], "{frames:?}");

    raise(&mut broker);
    // It has published before, and is left alone until it does so again.
    assert_eq!(broker.frames(publisher), []);
    broker.send(publisher, &declare("q"));
    assert_eq!(broker.frames(publisher).len(), 1);
    let two = [publish_to(1, "q", b"first"), publish_to(1, "q", b"second"), declare("later")].concat();
    broker.send(publisher, &two);
    assert_eq!(broker.frames(publisher), [blocked()]);
    broker.send(publisher, &publish_to(1, "q", b"third"));
    assert_eq!(broker.frames(publisher), [], "it is told once");

    clear(&mut broker);
    let frames = broker.frames(publisher);
    assert_eq!(frames[0], unblocked());
    // What waited behind the declaration went on when that was answered.
    assert_eq!(frames[2..], [confirmed(3, true), confirmed(4, false)], "{frames:?}");
    assert!(matches!(frames[1], AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_)))));

    raise(&mut broker);
    broker.send(publisher, &publish_to(1, "q", b"fourth"));
    assert_eq!(broker.frames(publisher), [blocked()], "a new alarm is a new reason to say so");
}

#[test]
fn consumers_and_deletes_go_on() {
    let mut broker = InMemory::new();
    let [publisher, consumer, late] = [(); 3].map(|()| connect(&mut broker, true, 0));
    broker.send(publisher, &[declare("q"), publish_to(1, "q", b"one"), publish_to(1, "q", b"two")].concat());
    raise(&mut broker);
    broker.send(publisher, &publish_to(1, "q", b"three"));
    broker.send(consumer, &consume("q"));
    assert_eq!(bodies(&broker.frames(consumer)), ["one", "two"]);
    let opened_during = connect(&mut broker, true, 0);
    let delete = queue::Delete { queue: "q".into(), ..queue::Delete::default() };
    broker.send(late, &declare("other"));
    broker.send(opened_during, &method(1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete))));
    for line in [late, opened_during] {
        let frames = broker.frames(line);
        assert_eq!(frames.len(), 1, "{frames:?}");
    }
}

#[test]
fn a_held_up_consumer_still_gets_deliveries() {
    let mut broker = InMemory::new();
    let both = connect(&mut broker, true, 0);
    let other = connect(&mut broker, true, 0);
    broker.send(both, &[declare("q"), consume("q")].concat());
    broker.frames(both);
    raise(&mut broker);
    broker.send(both, &publish_to(1, "q", b"own"));
    assert_eq!(broker.frames(both), [blocked()]);
    // A message without a body is whole with its header, and so is the first that passes.
    let to = Publish { routing_key: "q".into(), ..Publish::default() };
    broker.send(other, &publish(1, to, AMQPProperties::default(), b""));
    assert_eq!(broker.frames(other), [blocked()]);
    let frames = broker.frames(both);
    assert!(matches!(frames[0], AMQPFrame::Method(1, AMQPClass::Basic(Basic::Deliver(_)))), "{frames:?}");
    clear(&mut broker);
    assert_eq!(bodies(&broker.frames(both)), ["own"]);
}

#[test]
fn a_client_that_does_not_know_connection_blocked_is_held_up_in_silence() {
    let mut broker = InMemory::new();
    let publisher = connect(&mut broker, false, 0);
    broker.send(publisher, &[declare("q"), confirm_select()].concat());
    broker.frames(publisher);
    raise(&mut broker);
    broker.send(publisher, &publish_to(1, "q", b"held up"));
    assert_eq!(broker.frames(publisher), []);
    clear(&mut broker);
    assert_eq!(broker.frames(publisher), [confirmed(1, false)]);
}

#[test]
fn heartbeats_are_sent_and_not_missed_while_held_up() {
    let mut broker = InMemory::new();
    let publisher = connect(&mut broker, true, 10);
    broker.send(publisher, &declare("q"));
    raise(&mut broker);
    broker.send(publisher, &publish_to(1, "q", b"held up"));
    broker.frames(publisher);
    broker.advance(60_000);
    assert!(!broker.is_closed(publisher), "it can't be heard, so it can't be missed");
    let heartbeats = broker.frames(publisher);
    assert!(heartbeats.iter().all(|frame| matches!(frame, AMQPFrame::Heartbeat)), "{heartbeats:?}");
    assert_eq!(heartbeats.len(), 12);
    clear(&mut broker);
    broker.advance(19_000);
    assert!(!broker.is_closed(publisher), "its silence is counted from now");
    broker.advance(2000);
    assert!(broker.is_closed(publisher));
}

#[test]
fn all_alarms_have_to_be_cleared() {
    let mut broker = InMemory::new();
    let publisher = connect(&mut broker, true, 0);
    broker.send(publisher, &declare("q"));
    broker.frames(publisher);
    raise(&mut broker);
    broker.send(publisher, &publish_to(1, "q", b"held up"));
    assert_eq!(broker.frames(publisher), [blocked()]);
    broker.amqp.broker.alarms().raise(Alarm::Memory);
    clear(&mut broker);
    assert_eq!(broker.frames(publisher), []);
    broker.amqp.broker.alarms().clear(Alarm::Memory);
    broker.settle();
    assert_eq!(broker.frames(publisher), [unblocked()]);
}

fn low_on_memory() -> AMQPFrame {
    let blocked = Blocked { reason: "low on memory".into() };
    AMQPFrame::Method(0, AMQPClass::Connection(ConnectionMethod::Blocked(blocked)))
}

/// A watch on a process that may take 1000 KiB: what it takes is said at each look, and 0 that it is unknown.
fn memory_of_1000_kib(broker: &InMemory) -> impl FnMut(&mut InMemory, u64) + use<> {
    let used_kib = Arc::new(AtomicU64::new(900));
    let source = used_kib.clone();
    let source = Box::new(move || match source.load(Ordering::Relaxed) {
        0 => Err(io::Error::other("no answer")),
        used_kib => Ok(used_kib << 10),
    });
    let watch = MemoryWatch::new(Some(1000 << 10), 0, broker.amqp.broker.clone(), source);
    move |broker: &mut InMemory, kib: u64| {
        used_kib.store(kib, Ordering::Relaxed);
        watch.look();
        broker.settle();
    }
}

#[test]
fn memory_above_the_limit_holds_publishers_up_until_enough_is_given_back() {
    let mut broker = InMemory::new();
    let mut look = memory_of_1000_kib(&broker);
    let [publisher, consumer] = [(); 2].map(|()| connect(&mut broker, true, 0));
    look(&mut broker, 1000);
    broker.send(publisher, &[declare("q"), confirm_select(), publish_to(1, "q", b"one")].concat());
    assert_eq!(broker.frames(publisher)[1..], [confirmed(1, false)], "at the limit nothing is short yet");

    look(&mut broker, 1001);
    broker.send(publisher, &[publish_to(1, "q", b"two"), publish_to(1, "q", b"three")].concat());
    assert_eq!(broker.frames(publisher), [low_on_memory()]);
    broker.send(consumer, &consume("q"));
    assert_eq!(bodies(&broker.frames(consumer)), ["one"]);
    for still_too_much in [1000, 951, 950, 0] {
        look(&mut broker, still_too_much);
        assert_eq!(broker.frames(publisher), [], "at {still_too_much}");
    }
    look(&mut broker, 949);
    let frames = broker.frames(publisher);
    assert_eq!(frames, [unblocked(), confirmed(3, true)]);
    assert_eq!(bodies(&broker.frames(consumer)), ["two", "three"], "nothing was lost");

    // Between the two marks nothing changes, whichever way it goes.
    for kib in [990, 1000, 960] {
        look(&mut broker, kib);
        broker.send(publisher, &publish_to(1, "q", b"more"));
        assert_eq!(bodies(&broker.frames(consumer)), ["more"], "at {kib}");
        broker.frames(publisher);
    }
}

#[test]
fn memory_that_messages_have_given_back_is_free_though_the_process_keeps_it() {
    let mut broker = InMemory::new();
    let mut look = memory_of_1000_kib(&broker);
    let [publisher, consumer] = [(); 2].map(|()| connect(&mut broker, true, 0));
    let large = [b'm'; 100 << 10];
    broker.send(publisher, &[declare("q"), confirm_select(), publish_to(1, "q", &large)].concat());
    broker.frames(publisher);
    look(&mut broker, 1001);
    broker.send(publisher, &publish_to(1, "q", &large));
    assert_eq!(broker.frames(publisher), [low_on_memory()]);
    broker.send(consumer, &consume("q"));
    assert_eq!(bodies(&broker.frames(consumer)).len(), 1);
    look(&mut broker, 1001);
    assert_eq!(broker.frames(publisher), [unblocked(), confirmed(2, false)]);
    // Not every need fits what was kept.
    look(&mut broker, 1003);
    broker.send(publisher, &publish_to(1, "q", &large));
    assert_eq!(broker.frames(publisher), [confirmed(3, false)]);
    // It takes much more than ever: that is no memory which was kept.
    look(&mut broker, 1030);
    broker.send(publisher, &publish_to(1, "q", &large));
    assert_eq!(broker.frames(publisher), [low_on_memory()]);
}

#[test]
fn a_held_up_connection_takes_part_in_a_shutdown() {
    let mut broker = InMemory::new();
    let publisher = connect(&mut broker, true, 0);
    broker.send(publisher, &declare("q"));
    raise(&mut broker);
    broker.send(publisher, &publish_to(1, "q", b"held up"));
    broker.frames(publisher);
    broker.shut_down();
    let frames = broker.frames(publisher);
    let close = |frame: &AMQPFrame| match frame {
        AMQPFrame::Method(0, AMQPClass::Connection(ConnectionMethod::Close(Close { reply_code, .. }))) => {
            *reply_code
        }
        _ => 0,
    };
    assert_eq!(frames.iter().map(close).collect::<Vec<_>>(), [320]);
    let close_ok = ConnectionMethod::CloseOk(amq_protocol::protocol::connection::CloseOk {});
    broker.send(publisher, &method(0, AMQPClass::Connection(close_ok)));
    assert!(broker.is_closed(publisher));
}

fn tx_select() -> Vec<u8> {
    method(1, AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})))
}

/// Why a connection was closed.
fn close_of(frames: &[AMQPFrame]) -> Option<&Close> {
    frames.iter().find_map(|frame| match frame {
        AMQPFrame::Method(0, AMQPClass::Connection(ConnectionMethod::Close(close))) => Some(close),
        _ => None,
    })
}

#[test]
fn far_above_the_limit_the_connection_that_keeps_most_is_closed_and_told_why() {
    const LIMIT: u64 = 16 << 20;
    let mut broker = InMemory::new();
    let [publisher, small, large] = [(); 3].map(|()| connect(&mut broker, true, 0));
    broker.send(publisher, &declare("q"));
    let body = [b'm'; 100 << 10];
    for (line, messages) in [(small, 15), (large, 30)] {
        broker.send(line, &tx_select());
        (0..messages).for_each(|_| broker.send(line, &publish_to(1, "q", &body)));
    }
    for line in [publisher, small, large] {
        broker.frames(line);
    }
    let used = Arc::new(AtomicU64::new(LIMIT / 100 * 110));
    let source = used.clone();
    let source = Box::new(move || Ok(source.load(Ordering::Relaxed)));
    let watch = MemoryWatch::new(Some(LIMIT), 110, broker.amqp.broker.clone(), source);
    let look = |broker: &mut InMemory, times: usize| {
        for _ in 0..times {
            watch.look();
            broker.settle();
        }
    };
    look(&mut broker, 5);
    assert_eq!(close_of(&broker.frames(large)), None, "at the mark");
    used.store(LIMIT * 2, Ordering::Relaxed);
    look(&mut broker, 5);
    let frames = broker.frames(large);
    let close = close_of(&frames).unwrap();
    let text = close.reply_text.as_str();
    assert_eq!(close.reply_code, 320);
    assert!(
        text.contains("(0 unacknowledged deliveries, 3000 KiB of transactions): acknowledge sooner"),
        "{text}"
    );
    assert_eq!(close_of(&broker.frames(small)), None);
    // What was given back has time to go back to the system, and then it is the next one's turn.
    look(&mut broker, 100);
    assert_eq!(close_of(&broker.frames(small)), None);
    look(&mut broker, 100);
    assert!(close_of(&broker.frames(small)).is_some());
    // A connection that keeps next to nothing is not closed.
    look(&mut broker, 1000);
    assert_eq!(close_of(&broker.frames(publisher)), None);
}
