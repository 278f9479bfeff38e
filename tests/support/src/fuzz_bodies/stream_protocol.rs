//! Bytes of clients of the stream protocol, on a broker in memory.

use crate::in_memory::InMemory;
use leveret::stream_protocol::StreamSettings;
use leveret_conformance::{Arrived, ConnectionId, Transport};
use std::time::Duration;

/// Small limits, so that they are reached.
fn settings() -> StreamSettings {
    StreamSettings {
        frame_max: 4096,
        message_bytes_max: 1 << 16,
        initial_frame_max: 300,
        unconfirmed_max: 20,
        transmit_bytes: 1 << 14,
        ..StreamSettings::default()
    }
}

/// A login, and a stream to work with.
const BEFORE: &[&[u8]] = &[
    b"\0\0\0\x1f\0\x13\0\x01\0\0\0\x01\0\x05PLAIN\0\0\0\x0c\0guest\0guest",
    b"\0\0\0\x0c\0\x14\0\x01\0\0\x10\0\0\0\0\x3c",
    b"\0\0\0\x0b\0\x15\0\x01\0\0\0\x02\0\x01/",
    b"\0\0\0\x0f\0\x0d\0\x01\0\0\0\x03\0\x01s\0\0\0\0",
    b"\0\0\0\x0e\0\x01\0\x01\0\0\0\x04\x01\0\0\0\x01s",
];

/// What two clients send, one of them before its login. The first byte says how the bytes are cut on their way.
pub(super) fn stream_protocol(data: &[u8]) {
    let Some((&cuts, bytes)) = data.split_first() else { return };
    let mut broker = InMemory::new();
    broker.speak_stream_protocol(settings());
    let (known, unknown) = (broker.open().unwrap(), broker.open().unwrap());
    for frame in BEFORE {
        broker.send(known, frame);
    }
    assert_eq!(check_frames(&received(&mut broker, known)), 5, "the connection is open");
    for chunk in bytes.chunks(usize::from(cuts) + 1) {
        broker.send(known, chunk);
        broker.send(unknown, chunk);
    }
    broker.advance(Duration::from_secs(70));
    for client in [known, unknown] {
        check_frames(&received(&mut broker, client));
        broker.close(client);
    }
    for queue in broker.broker().vhost("/").unwrap().queues() {
        assert_eq!(queue.counts().consumers, 0, "nobody is left who could read");
        assert!(queue.declared_publishers().is_empty(), "nobody is left who could publish");
    }
}

fn received(broker: &mut InMemory, client: ConnectionId) -> Vec<u8> {
    let mut bytes = Vec::new();
    while broker.receive(client, Duration::ZERO, &mut bytes) == Arrived::Data {}
    bytes
}

/// Whatever was asked, what comes back is frames with keys that there are; how many.
fn check_frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((size, rest)) = bytes.split_first_chunk() {
        let size = u32::from_be_bytes(*size) as usize;
        assert!(size >= 4, "a frame has a key");
        let frame = rest.get(..size).expect("a frame ends");
        let key = u16::from_be_bytes([frame[0], frame[1]]) & 0x7fff;
        assert!((1..=0x1f).contains(&key), "{key:#x} is no command");
        bytes = &rest[size..];
        count += 1;
    }
    assert!(bytes.is_empty(), "a frame has its size");
    count
}
