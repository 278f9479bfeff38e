//! Seeds of what lies on a disk.

use super::{Seed, long};
use leveret::broker::queue::QueueDeclaration;
use leveret::broker::topology::definitions::Definition;
use leveret::broker::topology::vhost_settings::VhostSettings;
use leveret::message::{FieldTable, Message, Properties, QueueId, Value};

/// Operations of a record: see `src/store/journal/record.rs`.
const ENQUEUE: u8 = 1;
const TRANSIENT: u8 = 0x10;
const RETURNED: u8 = 0x20;
const SETTLE: u8 = 2;
const REQUEUE: u8 = 3;
const DROP_QUEUE: u8 = 4;
const DELIVERED: u8 = 5;

/// A message in queue 1, at these positions.
fn enqueue(flags: u8, positions: &[u64]) -> Vec<u8> {
    let mut properties = Vec::new();
    Properties { expiration: Some("9".into()), ..Properties::default() }.encode(&mut properties);
    let message = Message::new("x", b"k", &properties, b"body").unwrap();
    let (content, shape) = message.stored();
    let mut record = vec![ENQUEUE | flags, shape.exchange_bytes, shape.routing_key_bytes as u8];
    record.extend([shape.properties_bytes as u8, 1, content.len() as u8, positions.len() as u8]);
    for position in positions {
        record.push(1);
        record.extend(number(*position));
        record.push(0);
        record.extend((flags & RETURNED != 0).then_some(3));
    }
    [record, content.to_vec()].concat()
}

/// A number as LEB128.
fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// One piece: what it is, and its bytes.
fn piece(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &long(bytes)].concat()
}

pub(super) fn journal() -> Vec<Seed> {
    const RECORD: u8 = 0;
    const DAMAGED: u8 = 1;
    const LOST: u8 = 2;
    const DEFINITION: u8 = 3;
    let vhost = Definition::VirtualHost("/".into(), VhostSettings::default());
    let arguments: FieldTable = [("x-max-length", Value::I32(5))].into_iter().collect();
    let declaration = QueueDeclaration {
        name: "q".into(),
        durable: true,
        auto_delete: false,
        exclusive_owner: None,
        arguments,
    };
    let queue = Definition::Queue("/".into(), QueueId(1), declaration);
    let define = |definition: &Definition| {
        piece(DEFINITION, &[&definition.key()[..1], &definition.encode()[..]].concat())
    };
    let definitions = [define(&vhost), define(&queue)].concat();
    let seeds = [
        ("enqueued", piece(RECORD, &[enqueue(0, &[1, 2, 3]), enqueue(0, &[20])].concat())),
        (
            "settled",
            [
                piece(RECORD, &enqueue(0, &[1, 2])),
                piece(RECORD, &[SETTLE, 1, 1, 0]),
                piece(RECORD, &[SETTLE, 1, 5, 100]),
            ]
            .concat(),
        ),
        (
            "returned",
            [
                piece(
                    RECORD,
                    &[&[REQUEUE, 1, 2, 4][..], &[DELIVERED, 1, 0, 3], &enqueue(0, &[1, 2])].concat(),
                ),
                piece(RECORD, &enqueue(RETURNED, &[2])),
            ]
            .concat(),
        ),
        (
            "dropped",
            [
                piece(RECORD, &enqueue(TRANSIENT, &[4])),
                piece(RECORD, &[DROP_QUEUE, 1]),
                piece(RECORD, &enqueue(0, &[5])),
            ]
            .concat(),
        ),
        (
            "damaged",
            [
                piece(RECORD, &enqueue(0, &[1])),
                piece(DAMAGED | 5 << 2, &enqueue(0, &[2])),
                piece(LOST, &enqueue(0, &[3])),
                piece(RECORD | 3 << 2, &enqueue(0, &[4])),
                piece(RECORD, b"\x09unknown"),
            ]
            .concat(),
        ),
        ("far", piece(RECORD, &[&[SETTLE, 1, 1][..], &number(u64::MAX - 2), &enqueue(0, &[2])].concat())),
        (
            "far-returned",
            piece(RECORD, &[&enqueue(0, &[1])[..], &[REQUEUE, 1], &number(u64::MAX), &[1]].concat()),
        ),
        ("end", piece(RECORD, &enqueue(0, &[u64::MAX - 1, u64::MAX]))),
    ];
    seeds.map(|(name, seed)| ("journal", name.to_owned(), [&definitions[..], &seed].concat())).into()
}

pub(super) fn log() -> Vec<Seed> {
    const RAW: u8 = 0;
    const FILE: u8 = 1;
    const CUT: u8 = 2;
    const START: u8 = 3;
    const DISCARD: u8 = 4;
    const CHANGES: u8 = 5;
    const RECORD: u8 = 6;
    let start = piece(START, &0_u64.to_le_bytes());
    let record = |position: u64| piece(RECORD, &enqueue(0, &[position]));
    let change = piece(CHANGES, &[&[0, 1, 0, 0, 0, b'k', 1, 0, 0, 0, b'v'][..]].concat());
    let definition = piece(DISCARD | 1 << 3, &[&[0, 1, 0, 0, 0, b'k', b'v'][..]].concat());
    let seeds = [
        ("records", [&start[..], &record(1), &record(2), &change, &definition].concat()),
        ("discarded", [&start[..], &record(1), &piece(DISCARD, &1_u64.to_le_bytes()), &record(2)].concat()),
        ("cut", [&start[..], &record(1), &record(2), &[CUT, 20]].concat()),
        ("hole", [&start[..], &record(1), &[RAW, 8, 1, 2, 3, 4, 5, 6, 7, 8], &record(2)].concat()),
        ("files", [&start[..], &record(1), &[FILE], &start, &record(2)].concat()),
        ("gone", [&start[..], &record(1), &[FILE | 4 << 5], &start, &record(2)].concat()),
        ("far", [&start[..], &record(1), &piece(RECORD | 7 << 5, &enqueue(0, &[2])), &record(3)].concat()),
        ("far-entry", [&start[..], &piece(CHANGES | 7 << 5, b""), &record(3)].concat()),
        ("last-entry", [&start[..], &piece(CHANGES | 6 << 5, b""), &record(3)].concat()),
        ("last-file", [&start[..], &record(1), &[FILE | 6 << 5], &record(3)].concat()),
    ];
    seeds.map(|(name, seed)| ("log", name.to_owned(), seed)).into()
}
