//! Bytes of STOMP clients, on a broker in memory.

use crate::in_memory::InMemory;
use leveret::stomp::{FrameLimits, StompSettings};
use leveret_conformance::{Arrived, ConnectionId, Transport};
use std::time::Duration;

const CONNECT: &[u8] = b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0";

/// Small limits, so that they are reached.
fn settings() -> StompSettings {
    StompSettings {
        frame: FrameLimits {
            headers_max: 20,
            header_bytes_max: 200,
            head_bytes_max: 1000,
            body_bytes_max: 1 << 16,
            login_bytes_max: 300,
        },
        transmit_bytes: 1 << 14,
        subscriptions_max: 10,
        transactions_max: 3,
        tx_messages_max: 50,
        tx_bytes_max: 1 << 16,
        ..StompSettings::default()
    }
}

/// What two clients send, one of them before its login. The first byte says how the bytes are cut on their way.
pub(super) fn stomp(data: &[u8]) {
    let Some((&cuts, bytes)) = data.split_first() else { return };
    let mut broker = InMemory::new();
    broker.speak_stomp(settings());
    let (known, unknown) = (broker.open().unwrap(), broker.open().unwrap());
    broker.send(known, CONNECT);
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
        let counts = queue.counts();
        assert_eq!((counts.unacked, counts.consumers), (0, 0), "nobody is left who could have them");
        assert_eq!(queue.definition().exclusive_owner, None, "it should have gone with its connection");
    }
}

fn received(broker: &mut InMemory, client: ConnectionId) -> Vec<u8> {
    let mut bytes = Vec::new();
    while broker.receive(client, Duration::ZERO, &mut bytes) == Arrived::Data {}
    bytes
}

/// Whatever was asked, what comes back is frames and line ends.
fn check_frames(mut bytes: &[u8]) {
    const COMMANDS: [&[u8]; 4] = [b"CONNECTED\n", b"MESSAGE\n", b"RECEIPT\n", b"ERROR\n"];
    while !bytes.is_empty() {
        if let [b'\n', rest @ ..] = bytes {
            bytes = rest;
            continue;
        }
        assert!(COMMANDS.iter().any(|command| bytes.starts_with(command)), "{bytes:?} is no frame");
        let head_end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("a head ends");
        let head = String::from_utf8_lossy(&bytes[..head_end]);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let body_end = head_end + 2 + length.map_or(0, |length| length.parse::<usize>().unwrap());
        assert_eq!(bytes.get(body_end), Some(&0), "a frame ends with a zero");
        bytes = &bytes[body_end + 1..];
    }
}
