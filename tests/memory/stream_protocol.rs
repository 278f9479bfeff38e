//! The stream protocol on the broker in memory: all cases of `conformance/stream/`, and what needs the clock, the journal or the limits
//! of a test.

use leveret::broker::access::permissions::Patterns;
use leveret::broker::alarms::Alarm;
use leveret::stream_protocol::StreamSettings;
use leveret_conformance::{Arrived, Broker as Kind, ConnectionId, Transport, stream};
use leveret_test_support::in_memory::InMemory;
use std::time::Duration;

#[test]
fn every_case_in_the_stream_protocol_passes() {
    let scripts = stream::load(&stream::folder()).unwrap();
    assert!(scripts.len() > 10, "{} cases", scripts.len());
    let mut failures = Vec::new();
    for script in &scripts {
        let mut broker = broker(StreamSettings::default());
        if let Err(error) = stream::play(script, &mut broker, Kind::Leveret, "1") {
            failures.push(format!("{}: {error}", script.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn broker(settings: StreamSettings) -> InMemory {
    let mut broker = InMemory::new();
    broker.speak_stream_protocol(settings);
    broker
}

/// A frame: its key, its version, its fields.
fn frame(key: u16, version: u16, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let mut frame = (body.len() as u32 + 4).to_be_bytes().to_vec();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(body);
    frame
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// The keys of the frames that have come.
fn received(broker: &mut InMemory, connection: ConnectionId) -> Vec<u16> {
    let mut input = Vec::new();
    while broker.receive(connection, Duration::ZERO, &mut input) == Arrived::Data {}
    let (mut keys, mut rest) = (Vec::new(), &input[..]);
    while let Some(size) = rest.first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        keys.push(u16::from_be_bytes([rest[4], rest[5]]));
        rest = &rest[4 + size..];
    }
    keys
}

fn is_closed(broker: &mut InMemory, connection: ConnectionId) -> bool {
    let mut input = Vec::new();
    loop {
        match broker.receive(connection, Duration::ZERO, &mut input) {
            Arrived::Data => {}
            arrived => return arrived == Arrived::Closed,
        }
    }
}

fn connected(broker: &mut InMemory, heartbeat_s: u32) -> ConnectionId {
    let connection = broker.open().unwrap();
    let login = [&number(1)[..], &text("PLAIN"), &bytes(b"\0guest\0guest")];
    broker.send(connection, &frame(0x13, 1, &login));
    broker.send(connection, &frame(0x14, 1, &[&number(0), &number(heartbeat_s)]));
    broker.send(connection, &frame(0x15, 1, &[&number(2), &text("/")]));
    assert_eq!(received(broker, connection), [0x8013, 0x14, 0x8015]);
    connection
}

fn create(broker: &mut InMemory, connection: ConnectionId, stream: &str) {
    broker.send(connection, &frame(0xd, 1, &[&number(3), &text(stream), &number(0)]));
    assert_eq!(received(broker, connection), [0x800d]);
}

fn declare_publisher(broker: &mut InMemory, connection: ConnectionId, stream: &str) {
    broker.send(connection, &frame(1, 1, &[&number(4), &[1], &text(""), &text(stream)]));
    assert_eq!(received(broker, connection), [0x8001]);
}

fn publish(id: u64) -> Vec<u8> {
    let entry = bytes(&[0, 0x53, 0x75, 0xa0, 1, b'x']);
    frame(2, 1, &[&[1], &number(1), &id.to_be_bytes(), &entry])
}

#[test]
fn a_publish_is_confirmed_when_it_is_durable_and_not_before() {
    let mut broker = broker(StreamSettings::default());
    let client = connected(&mut broker, 0);
    create(&mut broker, client, "s");
    declare_publisher(&mut broker, client, "s");
    broker.commit_nothing();
    broker.send(client, &publish(1));
    broker.send(client, &publish(2));
    assert_eq!(received(&mut broker, client), [0_u16; 0]);
    broker.broker().journal().commit().unwrap();
    assert_eq!(received(&mut broker, client), [3], "both in one frame");
}

#[test]
fn a_publish_waits_while_an_alarm_is_up() {
    let mut broker = broker(StreamSettings::default());
    let client = connected(&mut broker, 0);
    create(&mut broker, client, "s");
    declare_publisher(&mut broker, client, "s");
    broker.broker().raise_alarm(Alarm::Memory);
    broker.send(client, &publish(1));
    assert_eq!(received(&mut broker, client), [0_u16; 0]);
    broker.broker().clear_alarm(Alarm::Memory);
    assert_eq!(received(&mut broker, client), [3]);
}

#[test]
fn more_than_may_be_unconfirmed_is_not_read() {
    let mut broker = broker(StreamSettings { unconfirmed_max: 2, ..StreamSettings::default() });
    let client = connected(&mut broker, 0);
    create(&mut broker, client, "s");
    declare_publisher(&mut broker, client, "s");
    broker.commit_nothing();
    (1..=3).for_each(|id| broker.send(client, &publish(id)));
    let stream = broker.broker().vhost("/").unwrap().queue("s").unwrap();
    assert_eq!(stream.stats().publish, 2);
    broker.broker().journal().commit().unwrap();
    assert_eq!(received(&mut broker, client), [3]);
    assert_eq!(stream.stats().publish, 3, "there is room again");
}

#[test]
fn silence_ends_a_connection_and_heartbeats_are_sent() {
    let mut broker = broker(StreamSettings::default());
    let client = connected(&mut broker, 2);
    broker.advance(Duration::from_secs(1));
    assert_eq!(received(&mut broker, client), [0x17]);
    broker.send(client, &frame(0x17, 1, &[]));
    broker.advance(Duration::from_secs(3));
    assert!(!is_closed(&mut broker, client));
    broker.advance(Duration::from_secs(1));
    assert!(is_closed(&mut broker, client));
}

#[test]
fn each_step_until_a_connection_is_open_has_its_time() {
    let mut broker = broker(StreamSettings::default());
    let client = broker.open().unwrap();
    broker.send(client, &frame(0x11, 1, &[&number(1), &number(0)]));
    assert_eq!(received(&mut broker, client), [0x8011]);
    broker.advance(Duration::from_secs(9));
    assert!(!is_closed(&mut broker, client));
    broker.advance(Duration::from_secs(1));
    assert!(is_closed(&mut broker, client));
}

#[test]
fn an_active_consumer_that_does_not_say_where_it_begins_is_closed() {
    let mut broker = broker(StreamSettings::default());
    let client = connected(&mut broker, 0);
    create(&mut broker, client, "s");
    let properties =
        [&number(2)[..], &text("name"), &text("g"), &text("single-active-consumer"), &text("true")].concat();
    let subscribe = [&number(5)[..], &[1], &text("s"), &[0, 1], &[0, 9], &properties];
    broker.send(client, &frame(7, 1, &subscribe));
    assert_eq!(received(&mut broker, client), [0x8007, 0x1a]);
    broker.advance(Duration::from_secs(59));
    assert!(!is_closed(&mut broker, client));
    broker.advance(Duration::from_secs(1));
    assert!(is_closed(&mut broker, client));
}

#[test]
fn permissions_are_those_of_queues() {
    let mut broker = broker(StreamSettings::default());
    let client = connected(&mut broker, 0);
    create(&mut broker, client, "s");
    let code = |broker: &mut InMemory, key: u16, fields: &[&[u8]]| {
        let client = connected(broker, 0);
        broker.send(client, &frame(key, 1, fields));
        let mut answer = Vec::new();
        while broker.receive(client, Duration::ZERO, &mut answer) == Arrived::Data {}
        u16::from_be_bytes([answer[12], answer[13]])
    };
    let attempts: [(u16, Vec<&[u8]>); 6] = [
        (0xd, vec![&[0, 0, 0, 9], b"\0\x01t", &[0; 4]]),
        (0xe, vec![&[0, 0, 0, 9], b"\0\x01s"]),
        (1, vec![&[0, 0, 0, 9], &[1], b"\0\0", b"\0\x01s"]),
        (7, vec![&[0, 0, 0, 9], &[1], b"\0\x01s", &[0, 1], &[0, 1]]),
        (0xb, vec![&[0, 0, 0, 9], b"\0\x01g", b"\0\x01s"]),
        (0x1c, vec![&[0, 0, 0, 9], b"\0\x01s"]),
    ];
    let all = broker.broker().permissions().list();
    assert_eq!(all.len(), 1);
    broker.broker().set_permissions("guest", "/", Patterns::new("^$", "^$", "^$").unwrap()).unwrap();
    for (key, fields) in attempts {
        assert_eq!(code(&mut broker, key, &fields), 0x10, "{key:#x}");
    }
}
