//! What RabbitMQ 4.3.6 writes and reads, as it was seen on the wire, both ways; and that nothing else than bytes and work in bounds comes
//! of anything.

use super::{DEPTH_MAX, EntryError, VALUES_MAX, encode, to_091};
use crate::message::{FORMAT_AMQP_10, FieldTable, Message, Properties, STREAM_FILTER_VALUE, Value};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn text(text: &[u8]) -> Value {
    Value::LongStr(text.to_vec())
}

fn message(exchange: &str, key: &str, properties: &Properties, body: &[u8]) -> Message {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    Message::new(exchange, key.as_bytes(), &encoded, body).unwrap()
}

fn with_headers(headers: &[(&str, Value)]) -> Properties {
    Properties { headers: Some(headers.iter().cloned().collect()), ..Properties::default() }
}

fn everything() -> Properties {
    Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        headers: None,
        delivery_mode: Some(2),
        priority: Some(7),
        correlation_id: Some("c1".into()),
        reply_to: Some("re ply/ü".into()),
        expiration: Some("60000".into()),
        message_id: Some("m1".into()),
        timestamp: Some(1_700_000_000),
        kind: Some("kind".into()),
        user_id: Some("guest".into()),
        app_id: Some("app".into()),
        cluster_id: None,
    }
}

const UUID: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

/// A section with a map of that many keys and values.
fn map(section: &str, elements: u8, content: &str) -> String {
    let bytes = bytes(content).len() + 1;
    match u8::try_from(bytes) {
        Ok(bytes) => format!("0053{section}c1{bytes:02x}{elements:02x}{content}"),
        Err(_) => format!("0053{section}d1{:08x}{elements:08x}{content}", bytes + 3),
    }
}

const ENVELOPE: &str =
    "005370c006054240404143005372c12204a30d782d726f7574696e672d6b6579a1027631a30a782d65786368616e6765a100";

#[track_caller]
fn is_written(message: &Message, hex: &str) {
    let mut out = Vec::new();
    encode(message, &mut out);
    assert_eq!(out, bytes(hex), "{}", out.escape_ascii());
}

#[test]
fn properties_are_written_as_rabbitmq_does() {
    let plain = Properties::default();
    is_written(&message("", "v1", &plain, b"hi"), &format!("{ENVELOPE} 005375a0026869"));
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() };
    let is_durable = ENVELOPE.replacen("42", "41", 1);
    is_written(&message("", "v1", &persistent, b"hi"), &format!("{is_durable} 005375a0026869"));
    let urgent = Properties { priority: Some(255), expiration: Some("0".into()), ..Properties::default() };
    let has_priority = ENVELOPE.replacen("c006054240404143", "c007054250ff434143", 1);
    is_written(&message("", "v1", &urgent, b"x"), &format!("{has_priority} 005375a00178"));
    let with_ids = Properties {
        message_id: Some(UUID.into()),
        correlation_id: Some(UUID.into()),
        ..Properties::default()
    };
    is_written(
        &message("", "v1", &with_ids, b"x"),
        &format!(
            "{ENVELOPE} 005373c0270698f81d4fae7dec11d0a76500a0c91e6bf64040404098f81d4fae7dec11d0a76500a0c91e6bf6
             005375a00178"
        ),
    );
    is_written(
        &message("vx", "rk.€", &everything(), b"body"),
        "005370c00b05415007700000ea604143005372c13c06a30d782d726f7574696e672d6b6579a106726b2ee282aca30a782d65
         786368616e6765a1027678a30c782d62617369632d74797065a1046b696e64005373c04e0ba1026d31a00567756573744040
         a1192f7175657565732f7265253230706c79253246254333254243a1026331a30a746578742f706c61696ea304677a697040
         830000018bcfe56800a103617070005375a004626f6479",
    );
    let empty_texts = Properties {
        content_type: Some("".into()),
        correlation_id: Some("bin\0".into()),
        message_id: Some("".into()),
        user_id: Some("guest".into()),
        app_id: Some("".into()),
        headers: Some(FieldTable::default()),
        ..Properties::default()
    };
    is_written(
        &message("", "v1", &empty_texts, b"x"),
        &format!("{ENVELOPE} 005373c01a0ba100a0056775657374404040a00462696e00a300404040a100 005375a00178"),
    );
}

#[test]
fn headers_are_written_as_rabbitmq_does() {
    let of_every_type = with_headers(&[
        ("s", text(b"text")),
        ("u", text("ü€".as_bytes())),
        ("nul", text(b"a\0b")),
        ("bytes", Value::Bytes(vec![0xff, 0xfe])),
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("small", Value::I32(5)),
        ("neg", Value::I32(-5)),
        ("big", Value::I64(1 << 40)),
        ("f", Value::F64(1.5)),
        ("f32", Value::F32(1.5)),
        ("i8", Value::I8(-1)),
        ("u8", Value::U8(255)),
        ("i16", Value::I16(-2)),
        ("u16", Value::U16(65534)),
        ("u32", Value::U32(u32::MAX)),
        ("badutf", text(&[0xff, 0xfe])),
        ("i0", Value::I64(0)),
        ("ts", Value::Timestamp(1_704_067_200)),
        ("none", Value::Void),
        ("arr", Value::Array(vec![Value::I32(1), text(b"a")])),
        ("tab", Value::Table([("a", Value::I32(1))].into_iter().collect())),
        ("BCC", Value::Array(vec![text(b"c")])),
    ]);
    is_written(
        &message("", "v1", &of_every_type, b"x"),
        &format!(
            "{ENVELOPE} {} 005375a00178",
            map("74", 40, "a10173a10474657874a10175a105c3bce282aca1036e756ca003610062a1056279746573a002fffe
             a1037965735601a1026e6f5600a105736d616c6c5405a1036e656754fba103626967810000010000000000a10166823ff800
             0000000000a103663332723fc00000a102693851ffa102753850ffa10369313661fffea10375313660fffea1037533327
             0ffffffffa106626164757466a002fffea10269305500a1027473830000018cc251f400a1046e6f6e6540"),
        ),
    );
    let nested: FieldTable = [("c", Value::Array(vec![Value::Bool(true)]))].into_iter().collect();
    let annotations = with_headers(&[
        ("x-s", text(b"text")),
        ("x-i", Value::I32(5)),
        (
            "x-arr",
            Value::Array(vec![
                Value::I32(1),
                text(b"a"),
                Value::Table([("b", text(b"c"))].into_iter().collect()),
            ]),
        ),
        ("x-tab", Value::Table([("a", Value::I32(1)), ("b", Value::Table(nested))].into_iter().collect())),
        ("x-none", Value::Void),
        ("x-bin", Value::Bytes(vec![0xff])),
        ("x-ts", Value::Timestamp(1_704_067_200)),
        ("x-b", Value::Bool(true)),
        ("X-up", Value::I32(1)),
    ]);
    is_written(
        &message("", "v1", &annotations, b"x"),
        "005370c006054240404143005372c19214a30d782d726f7574696e672d6b6579a1027631a30a782d65786368616e6765a100
         a303782d73a10474657874a303782d695405a305782d617272c00f035401a10161c10702a30162a10163a305782d746162c1
         1404a301615401a30162c10902a30163c003015601a306782d6e6f6e6540a305782d62696ea001ffa304782d747383000001
         8cc251f400a303782d625601005374c10902a104582d75705401005375a00178",
    );
    let copies = with_headers(&[
        ("CC", Value::Array(vec![text(b"a"), text(b"b")])),
        ("BCC", Value::Array(vec![text(b"c")])),
        ("x-routing-key", text(b"mine")),
        ("x-basic-type", text(b"mine")),
    ]);
    is_written(
        &message("", "v1", &copies, b"x"),
        "005370c006054240404143005372c13106a30d782d726f7574696e672d6b6579a1027631a30a782d65786368616e6765a100
         a304782d6363c00702a10161a10162005375a00178",
    );
}

fn read(hex: &str) -> Result<Message, EntryError> {
    to_091(&Message::of_amqp10("v2", None, &bytes(hex)))
}

#[track_caller]
fn is_read(hex: &str, properties: Properties, body: &[u8]) {
    let expected = message("", "v2", &properties, body);
    let read = read(hex).unwrap();
    assert_eq!(read.decode_properties(), properties);
    assert_eq!(read, expected);
}

#[test]
fn sections_are_read_as_rabbitmq_does() {
    let plain = Properties::default;
    is_read("005375a0026869", plain(), b"hi");
    is_read("00537045 005375a00178", plain(), b"x");
    let durable = Properties { delivery_mode: Some(2), ..plain() };
    is_read("005370d0000000050000000141 005375a00178", durable.clone(), b"x");
    is_read("005370d000000006000000015601 005375a00178", durable, b"x");
    let header =
        Properties { delivery_mode: Some(1), priority: Some(9), expiration: Some("1000".into()), ..plain() };
    is_read("005370d00000000f0000000542500970000003e8425207 005375a00178", header, b"x");
    is_read("005375a0026162 005375a0026364", plain(), b"abcd");
    is_read("00800000000000000075a00178", plain(), b"x");
    is_read("00a310616d71703a646174613a62696e617279a00178", plain(), b"x");
    let of_values = || Properties { kind: Some("amqp-1.0".into()), ..plain() };
    for body in
        ["005377a10376616c", "00537740", "005376d00000000900000002a101615401", "005375a00178005377a10176"]
    {
        is_read(body, of_values(), &bytes(body));
        let mut again = Vec::new();
        encode(&read(body).unwrap(), &mut again);
        let is_same = again.ends_with(&bytes(body));
        assert!(is_same || body.starts_with("005375"), "what came as values is values again");
    }
    // RabbitMQ ends the consumer's connection at these.
    is_read("005375a00178 005378d10000000a00000002a3016ba10176", plain(), b"x");
    is_read("005371d10000000a00000002a3016ba10176 005375a00178", plain(), b"x");
}

#[test]
fn properties_are_read_as_rabbitmq_does() {
    let properties = Properties {
        content_type: Some("ct".into()),
        content_encoding: Some("ce".into()),
        correlation_id: Some("cid".into()),
        reply_to: Some("a b".into()),
        message_id: Some("mid".into()),
        timestamp: Some(1_700_000_000),
        user_id: Some("guest".into()),
        app_id: Some("gid".into()),
        ..Properties::default()
    };
    is_read(
        "005373d0000000550000000da1036d6964a0056775657374a102746fa1047375626aa10d2f7175657565732f6125323062a1
         03636964a3026374a3026365830000018bcfe56800830000018bcfe56be7a1036769645205a104726769 64005375a00178",
        properties,
        b"x",
    );
    let reply = |name: &str| Properties { reply_to: Some(name.into()), ..Properties::default() };
    is_read("005373d00000000f0000000540404040a105706c61696e005375a00178", reply("plain"), b"x");
    is_read(
        "005373d0000000180000000540404040a10e2f65786368616e6765732f652f6b005375a00178",
        reply("/exchanges/e/k"),
        b"x",
    );
    let ids = Properties {
        message_id: Some("77".into()),
        correlation_id: Some("18446744073709551615".into()),
        ..Properties::default()
    };
    is_read("005373d00000001300000006534d4040404080ffffffffffffffff005375a00178", ids, b"x");
    let binary = with_headers(&[
        ("x-correlation-id", Value::Bytes(b"abc".to_vec())),
        ("x-message-id", Value::Bytes(vec![1, 2])),
    ]);
    is_read("005373d00000001100000006a002010240404040a003616263005375a00178", binary, b"x");
    let uuid = Properties {
        message_id: Some("urn:uuid:00010203-0405-0607-0809-0a0b0c0d0e0f".into()),
        ..Properties::default()
    };
    is_read("005373d0000000150000000198000102030405060708090a0b0c0d0e0f005375a00178", uuid, b"x");
    let long = bytes(&format!("005373d00000013500000001b10000012c{}005375a00178", "6d".repeat(300)));
    let read = to_091(&Message::of_amqp10("v2", None, &long)).unwrap();
    assert_eq!(read.decode_properties(), with_headers(&[("x-message-id", text(&[b'm'; 300]))]));
}

#[test]
fn headers_are_read_as_rabbitmq_does() {
    is_read(
        &format!("{} 005375a00178", map("74", 42, "a10173a10176a10373796da30179a10362696ea00101a1046e756c6c40a1017441a1016251ffa1
         014250ffa102736861fffea102757360fffea1016954fba101497100010000a10275695205a10375693043a1016c55fba1014c
         81ffffffffffffffffa103756c3044a102756c5305a10166723fc00000a10164823ff8000000000000a1027473830000018bcf
         e56be7a10264637300000041")),
        with_headers(&[
            ("B", Value::U8(255)),
            ("I", Value::I32(65536)),
            ("L", Value::I64(-1)),
            ("b", Value::I8(-1)),
            ("bin", text(&[1])),
            ("d", Value::F64(1.5)),
            ("dc", text(b"A")),
            ("f", Value::F32(1.5)),
            ("i", Value::I32(-5)),
            ("l", Value::I64(-5)),
            ("null", Value::Void),
            ("s", text(b"v")),
            ("sh", Value::I16(-2)),
            ("sym", text(b"y")),
            ("t", Value::Bool(true)),
            ("ts", Value::Timestamp(1_700_000_000)),
            ("ui", Value::U32(5)),
            ("ui0", Value::U32(0)),
            ("ul", Value::I64(5)),
            ("ul0", Value::I64(0)),
            ("us", Value::U16(65534)),
        ]),
        b"x",
    );
    let before_the_epoch = with_headers(&[("ts", Value::Timestamp(0))]);
    is_read("005374d10000001100000002a102747383ffffffffffffffff005375a00178", before_the_epoch, b"x");
    let first = with_headers(&[("k", text(b"v1"))]);
    is_read("005374d10000001200000004a1016ba1027631a1016ba1027632005375a00178", first, b"x");
    let nested = with_headers(&[
        ("k", Value::Array(vec![text(b"v1"), Value::I32(1)])),
        ("m", Value::Table([("a", text(b"b"))].into_iter().collect())),
    ]);
    is_read(
        "005374d10000002800000004a1016bd00000000a00000002a10276315401a1016dd10000000a00000002a10161a10162
         005375a00178",
        nested,
        b"x",
    );
    let array = with_headers(&[("k", Value::Array(vec![text(b"a"), text(b"b")]))]);
    is_read("005374d10000001500000002a1016bf00000000900000002a101610162005375a00178", array, b"x");
    let annotation_first = with_headers(&[("a", text(b"b")), ("x-a", text(b"ann"))]);
    is_read(
        "005372d10000000e00000002a303782d61a103616e6e
         005374d10000001400000004a103782d61a103617070a10161a10162005375a00178",
        annotation_first,
        b"x",
    );
}

#[test]
fn what_a_publisher_of_0_9_1_sent_is_read_of_both_versions() {
    let read_of = |hex: &str| {
        let read = read(hex).unwrap();
        let names =
            (read.exchange().escape_ascii().to_string(), read.routing_key().escape_ascii().to_string());
        (names, read.decode_properties())
    };
    let (names, properties) = read_of(
        "005372d10000009a0000000ea30a782d65786368616e6765a109616d712e746f706963a30d782d726f7574696e672d6b6579a1
         02726ba30c782d62617369632d74797065a1027479a310782d62617369632d7072696f726974795004a312782d62617369632d
         65787069726174696f6ea103353030a315782d62617369632d64656c69766572792d6d6f64655002a30e782d62617369632d61
         70702d6964a1026170005375a00178",
    );
    assert_eq!(names, ("amq.topic".to_owned(), "rk".to_owned()));
    let expected = Properties {
        delivery_mode: Some(2),
        priority: Some(4),
        expiration: Some("500".into()),
        kind: Some("ty".into()),
        app_id: Some("ap".into()),
        ..Properties::default()
    };
    assert_eq!(properties, expected);
    // As version 3 wrote type and app_id.
    let (names, properties) = read_of(
        "005372d10000002500000004a30a782d65786368616e6765a100a30d782d726f7574696e672d6b6579a102726b
         005374d10000003200000006a10c782d62617369632d74797065a1027479a10e782d62617369632d6170702d6964a1026170a1
         03782d68a10176005375a00178",
    );
    assert_eq!(names, (String::new(), "rk".to_owned()));
    let expected = Properties { kind: Some("ty".into()), app_id: Some("ap".into()), ..Properties::default() };
    assert_eq!(properties, Properties { headers: with_headers(&[("x-h", text(b"v"))]).headers, ..expected });
    // What was written here comes back, but for what has no place there.
    let sent = message("vx", "rk.€", &everything(), b"body");
    let mut entry = Vec::new();
    encode(&sent, &mut entry);
    assert_eq!(to_091(&Message::of_amqp10("s", None, &entry)), Ok(sent));
}

#[test]
fn what_is_no_message_is_refused() {
    for (hex, error) in [
        ("", EntryError::Empty),
        ("6a756e6b", EntryError::NotASection { at: 0 }),
        ("005375a0056869", EntryError::Truncated),
        ("005375a001787a7a", EntryError::NotASection { at: 6 }),
        ("005379a00178005375a00179", EntryError::NotASection { at: 0 }),
        ("005375a10178", EntryError::WrongSection { section: 0x75 }),
        ("005373d10000000a00000002a10161a10162005375a00178", EntryError::WrongSection { section: 0x73 }),
        ("005374c10401a10161005375a00178", EntryError::WrongCount),
        ("005374c10302a101", EntryError::Truncated),
        ("00537753", EntryError::Truncated),
        ("0053771f", EntryError::UnknownType(0x1f)),
    ] {
        assert_eq!(read(hex), Err(error), "{hex}");
    }
}

#[test]
fn work_and_memory_are_bounded() {
    // An array of nulls takes no bytes for each.
    let nulls = "005374d10000001100000002a1016bf00000000500ffffff40";
    assert_eq!(read(nulls), Err(EntryError::TooMany));
    let nested = |levels: usize| {
        let mut value = vec![0x40];
        for _ in 0..levels {
            let mut list = vec![0xd0];
            list.extend_from_slice(&(value.len() as u32 + 4).to_be_bytes());
            list.extend_from_slice(&1u32.to_be_bytes());
            list.append(&mut value);
            value = list;
        }
        let mut entry = bytes("005374d1");
        entry.extend_from_slice(&(value.len() as u32 + 7).to_be_bytes());
        entry.extend_from_slice(&bytes("00000002a1016b"));
        entry.append(&mut value);
        to_091(&Message::of_amqp10("s", None, &entry))
    };
    assert!(nested(DEPTH_MAX).is_ok());
    assert_eq!(nested(DEPTH_MAX + 1), Err(EntryError::TooDeep));
    // Descriptors of descriptors are no recursion.
    let mut described = bytes("005377");
    described.resize(100_000, 0);
    assert_eq!(to_091(&Message::of_amqp10("s", None, &described)), Err(EntryError::Truncated));
    let mut table = Value::I32(1);
    for _ in 0..2 * DEPTH_MAX {
        table = Value::Array(vec![table]);
    }
    let mut entry = Vec::new();
    encode(&message("", "s", &with_headers(&[("x-deep", table)]), b""), &mut entry);
    assert!(to_091(&Message::of_amqp10("s", None, &entry)).is_ok());
    const { assert!(VALUES_MAX < 0x00ff_ffff) };
}

#[test]
fn an_entry_is_kept_with_its_filter_value_as_it_came() {
    let entry = bytes("005375a0026869");
    for filter in [None, Some(&b"eu"[..])] {
        let kept = Message::of_amqp10("orders", filter, &entry);
        assert_eq!(
            (kept.exchange(), kept.routing_key(), kept.body()),
            (&b""[..], &b"orders"[..], &entry[..])
        );
        assert_eq!(kept.format(), FORMAT_AMQP_10);
        let value = kept.headers().and_then(|headers| headers.field(STREAM_FILTER_VALUE).cloned());
        assert_eq!(value, filter.map(text));
        let (content, shape) = kept.stored();
        let again = Message::from_stored(content.to_vec().into(), shape).unwrap();
        assert_eq!(again, kept);
        let mut out = Vec::new();
        encode(&again, &mut out);
        assert_eq!(out, entry);
        let converted = to_091(&kept).unwrap();
        assert_eq!((converted.body(), converted.headers()), (&b"hi"[..], None));
    }
}
