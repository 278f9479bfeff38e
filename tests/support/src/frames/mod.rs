//! AMQP 0-9-1 as a client writes and reads it, for tests that speak it in bytes.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::basic::{AMQPMethod as Basic, AMQPProperties, Publish};
use amq_protocol::protocol::{AMQPClass, channel};

/// The protocol header of 0-9-1.
pub const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// What comes before everything else: the protocol header, start-ok as guest, tune-ok, open of the vhost /.
pub fn handshake() -> Vec<u8> {
    handshake_with_heartbeat(0)
}

/// The same, with a heartbeat interval in seconds.
pub fn handshake_with_heartbeat(heartbeat: u16) -> Vec<u8> {
    use amq_protocol::protocol::connection::{AMQPMethod, Open, StartOk, TuneOk};
    let start_ok = StartOk {
        mechanism: "PLAIN".into(),
        response: "\0guest\0guest".into(),
        locale: "en_US".into(),
        ..StartOk::default()
    };
    let methods = [
        AMQPMethod::StartOk(start_ok),
        AMQPMethod::TuneOk(TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat }),
        AMQPMethod::Open(Open { virtual_host: "/".into() }),
    ];
    let mut bytes = PROTOCOL_HEADER.to_vec();
    for method in methods {
        bytes.extend(encode(&AMQPFrame::Method(0, AMQPClass::Connection(method))));
    }
    bytes
}

pub fn encode(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().write
}

/// One method frame.
pub fn method(channel: u16, method: AMQPClass) -> Vec<u8> {
    encode(&AMQPFrame::Method(channel, method))
}

pub fn channel_open(channel: u16) -> Vec<u8> {
    method(channel, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})))
}

pub fn channel_close(channel: u16) -> Vec<u8> {
    method(channel, AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default())))
}

/// basic.publish with its content.
pub fn publish(channel: u16, publish: Publish, properties: AMQPProperties, body: &[u8]) -> Vec<u8> {
    let mut bytes = method(channel, AMQPClass::Basic(Basic::Publish(publish)));
    let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
    bytes.extend(encode(&AMQPFrame::Header(channel, header)));
    for chunk in body.chunks(131_072 - 8) {
        bytes.extend(encode(&AMQPFrame::Body(channel, chunk.to_vec())));
    }
    bytes
}

/// Publishes through the default exchange.
pub fn publish_to(channel: u16, queue: &str, body: &[u8]) -> Vec<u8> {
    let to = Publish { routing_key: queue.into(), ..Publish::default() };
    publish(channel, to, AMQPProperties::default(), body)
}

/// The whole frames at the front of what the broker sent, and how many bytes they are.
pub fn cut(bytes: &[u8]) -> (Vec<AMQPFrame>, usize) {
    let mut frames = Vec::new();
    let mut used = 0;
    while let Some(size) = bytes.get(used + 3..used + 7) {
        let end = used + 8 + u32::from_be_bytes(size.try_into().unwrap()) as usize;
        let Some(frame) = bytes.get(used..end) else { break };
        let (_, frame) = parse_frame(frame)
            .unwrap_or_else(|error| panic!("the broker sent what is no frame: {error:?}; {frames:?}"));
        frames.push(frame);
        used = end;
    }
    (frames, used)
}
