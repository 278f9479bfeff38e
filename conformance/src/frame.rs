//! Frames: cutting them from a stream, putting them together, and the message content that spans several of them.
//! Used by [`mod@crate::run`], which sees [`Item`]s only.

use crate::field::Reader;
use crate::method::{Kind, Method, Wire, read_value, write_value};

/// Type octets of the frames.
pub const METHOD: u8 = 1;
/// A content header.
pub const HEADER: u8 = 2;
/// A piece of a body.
pub const BODY: u8 = 3;
/// A heartbeat.
pub const HEARTBEAT: u8 = 8;
/// The octet that ends each frame.
pub const END: u8 = 0xce;

/// The basic class's properties, in the order of their flags.
pub const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::Short),
    ("content_encoding", Kind::Short),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Int(1)),
    ("priority", Kind::Int(1)),
    ("correlation_id", Kind::Short),
    ("reply_to", Kind::Short),
    ("expiration", Kind::Short),
    ("message_id", Kind::Short),
    ("timestamp", Kind::Int(8)),
    ("type", Kind::Short),
    ("user_id", Kind::Short),
    ("app_id", Kind::Short),
    ("cluster_id", Kind::Short),
];

/// A message's properties (only those present) and body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Name and value, in the order of the flags.
    pub properties: Vec<(&'static str, Wire)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// One thing that came on a channel.
#[derive(Clone, Debug)]
pub enum Item {
    /// The eight bytes of a protocol header (channel 0).
    Protocol([u8; 8]),
    /// A method, with its content if it has one.
    Method(Method, Option<Content>),
    /// A heartbeat (channel 0).
    Heartbeat,
    /// Bytes that are not AMQP, or content out of order; says why.
    Fault(String),
}

/// A frame as cut from the stream.
#[derive(Debug)]
pub struct Frame {
    /// The type octet.
    pub kind: u8,
    /// The channel.
    pub channel: u16,
    /// What is between the seven octets in front and the end octet.
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn encode(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(END);
    out
}

/// Takes one whole frame from the front of `buffer`, if it holds one; an error if its end octet is wrong.
pub fn cut(buffer: &mut Vec<u8>) -> Result<Option<Frame>, String> {
    if buffer.len() < 7 {
        return Ok(None);
    }
    let size = u32::from_be_bytes([buffer[3], buffer[4], buffer[5], buffer[6]]) as usize;
    if buffer.len() < size + 8 {
        return Ok(None);
    }
    if buffer[size + 7] != END {
        return Err(format!("a frame of type {} ends in {:#x}", buffer[0], buffer[size + 7]));
    }
    let frame = Frame {
        kind: buffer[0],
        channel: u16::from_be_bytes([buffer[1], buffer[2]]),
        payload: buffer[7..size + 7].to_vec(),
    };
    buffer.drain(..size + 8);
    Ok(Some(frame))
}

/// The payload of a content header frame.
pub fn encode_header(class: u16, weight: u16, size: u64, properties: &[(&'static str, Wire)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    let mut flags = 0u16;
    let mut values = Vec::new();
    for (position, (name, kind)) in PROPERTIES.iter().enumerate() {
        if let Some((_, value)) = properties.iter().find(|(given, _)| given == name) {
            flags |= 1 << (15 - position);
            write_value(&mut values, *kind, value);
        }
    }
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&values);
    out
}

/// Reads a content header: the body's size, and the properties.
pub fn decode_header(payload: &[u8]) -> Result<(u64, Content), String> {
    let mut reader = Reader::new(payload);
    let (class, weight) = (reader.unsigned(2)?, reader.unsigned(2)?);
    let size = reader.unsigned(8)?;
    let flags = reader.unsigned(2)?;
    if class != 60 || weight != 0 || flags & 3 != 0 {
        return Err(format!("content header of class {class}, weight {weight}, flags {flags:#x}"));
    }
    let mut content = Content::default();
    for (position, (name, kind)) in PROPERTIES.iter().enumerate() {
        if flags >> (15 - position) & 1 == 1 {
            content.properties.push((name, read_value(&mut reader, *kind)?));
        }
    }
    if reader.rest().is_empty() {
        return Ok((size, content));
    }
    Err("bytes behind the last property".into())
}

/// Puts a channel's frames together.
#[derive(Debug, Default)]
pub struct Assembly {
    pending: Option<(Method, Option<(u64, Content)>)>,
}

impl Assembly {
    /// Takes the next frame of the channel; gives what it completes.
    pub fn accept(&mut self, frame: Frame) -> Option<Item> {
        match self.step(frame) {
            Ok(item) => item,
            Err(reason) => Some(Item::Fault(reason)),
        }
    }

    fn step(&mut self, frame: Frame) -> Result<Option<Item>, String> {
        match (frame.kind, self.pending.take()) {
            (METHOD, None) => {
                let method = Method::decode(&frame.payload)?;
                if method.spec.has_content() {
                    self.pending = Some((method, None));
                    return Ok(None);
                }
                Ok(Some(Item::Method(method, None)))
            }
            (HEADER, Some((method, None))) => {
                let (size, content) = decode_header(&frame.payload)?;
                Ok(self.complete(method, size, content))
            }
            (BODY, Some((method, Some((size, mut content))))) => {
                content.body.extend_from_slice(&frame.payload);
                Ok(self.complete(method, size, content))
            }
            (HEARTBEAT, None) if frame.channel == 0 && frame.payload.is_empty() => Ok(Some(Item::Heartbeat)),
            (kind, _) => Err(format!("a frame of type {kind} that has no place here")),
        }
    }

    fn complete(&mut self, method: Method, size: u64, content: Content) -> Option<Item> {
        if content.body.len() as u64 == size {
            return Some(Item::Method(method, Some(content)));
        }
        self.pending = Some((method, Some((size, content))));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_with_its_properties() {
        let properties = vec![
            ("content_type", Wire::Text(b"text/plain".to_vec())),
            ("delivery_mode", Wire::Int(2)),
            ("timestamp", Wire::Int(7)),
        ];
        let (size, content) = decode_header(&encode_header(60, 0, 5, &properties)).unwrap();
        assert_eq!((size, content.properties), (5, properties));
    }

    #[test]
    fn frames_are_cut_only_when_whole_and_refused_with_a_wrong_end() {
        let mut bytes = encode(HEARTBEAT, 0, b"");
        let last = bytes.pop().unwrap();
        assert!(cut(&mut bytes).unwrap().is_none());
        bytes.push(last);
        assert_eq!(cut(&mut bytes).unwrap().unwrap().kind, HEARTBEAT);
        assert!(cut(&mut vec![1, 0, 0, 0, 0, 0, 0, 0xcd]).is_err());
    }
}
