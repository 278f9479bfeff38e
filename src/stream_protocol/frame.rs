//! Frames: `size (4) ‖ key (2) ‖ version (2) ‖ ...`, where the size is that of what follows it. Integers are big endian; bit 15 of a key
//! says that it is a response. A string has its length in 16 bits before it, bytes in 32, and -1 there is none.

use crate::session::Transmit;

/// What the commands are called by.
pub(super) mod key {
    pub(in crate::stream_protocol) const DECLARE_PUBLISHER: u16 = 0x01;
    pub(in crate::stream_protocol) const PUBLISH: u16 = 0x02;
    pub(in crate::stream_protocol) const PUBLISH_CONFIRM: u16 = 0x03;
    pub(in crate::stream_protocol) const PUBLISH_ERROR: u16 = 0x04;
    pub(in crate::stream_protocol) const QUERY_PUBLISHER_SEQUENCE: u16 = 0x05;
    pub(in crate::stream_protocol) const DELETE_PUBLISHER: u16 = 0x06;
    pub(in crate::stream_protocol) const SUBSCRIBE: u16 = 0x07;
    pub(in crate::stream_protocol) const DELIVER: u16 = 0x08;
    pub(in crate::stream_protocol) const CREDIT: u16 = 0x09;
    pub(in crate::stream_protocol) const STORE_OFFSET: u16 = 0x0a;
    pub(in crate::stream_protocol) const QUERY_OFFSET: u16 = 0x0b;
    pub(in crate::stream_protocol) const UNSUBSCRIBE: u16 = 0x0c;
    pub(in crate::stream_protocol) const CREATE: u16 = 0x0d;
    pub(in crate::stream_protocol) const DELETE: u16 = 0x0e;
    pub(in crate::stream_protocol) const METADATA: u16 = 0x0f;
    pub(in crate::stream_protocol) const METADATA_UPDATE: u16 = 0x10;
    pub(in crate::stream_protocol) const PEER_PROPERTIES: u16 = 0x11;
    pub(in crate::stream_protocol) const SASL_HANDSHAKE: u16 = 0x12;
    pub(in crate::stream_protocol) const SASL_AUTHENTICATE: u16 = 0x13;
    pub(in crate::stream_protocol) const TUNE: u16 = 0x14;
    pub(in crate::stream_protocol) const OPEN: u16 = 0x15;
    pub(in crate::stream_protocol) const CLOSE: u16 = 0x16;
    pub(in crate::stream_protocol) const HEARTBEAT: u16 = 0x17;
    pub(in crate::stream_protocol) const ROUTE: u16 = 0x18;
    pub(in crate::stream_protocol) const PARTITIONS: u16 = 0x19;
    pub(in crate::stream_protocol) const CONSUMER_UPDATE: u16 = 0x1a;
    pub(in crate::stream_protocol) const EXCHANGE_COMMAND_VERSIONS: u16 = 0x1b;
    pub(in crate::stream_protocol) const STREAM_STATS: u16 = 0x1c;
    pub(in crate::stream_protocol) const CREATE_SUPER_STREAM: u16 = 0x1d;
    pub(in crate::stream_protocol) const DELETE_SUPER_STREAM: u16 = 0x1e;

    pub(in crate::stream_protocol) const RESOLVE_OFFSET_SPEC: u16 = 0x1f;

    /// Set in the key of a response.
    pub(in crate::stream_protocol) const RESPONSE: u16 = 0x8000;
}

/// A frame that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) key: u16,
    pub(super) version: u16,
    pub(super) body: &'a [u8],
}

/// What input begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// A frame, and the bytes that it takes.
    Whole(Frame<'a>, usize),
    /// A part of one.
    Unfinished,
    /// A frame that is larger than it may be.
    TooLarge(u32),
    /// A frame without a key.
    TooShort,
}

/// Bytes of the size in front of a frame.
const SIZE_BYTES: usize = 4;

/// Bytes of key and version.
const HEAD_BYTES: usize = 4;

/// Looks for a frame of at most `max` bytes; 0 is no limit.
pub(super) fn cut(input: &[u8], max: usize) -> Cut<'_> {
    let Some(size) = input.first_chunk::<SIZE_BYTES>() else { return Cut::Unfinished };
    let announced = u32::from_be_bytes(*size);
    let size = announced as usize;
    if max > 0 && size > max {
        return Cut::TooLarge(announced);
    }
    if size < HEAD_BYTES {
        return Cut::TooShort;
    }
    match input.get(SIZE_BYTES..SIZE_BYTES + size) {
        None => Cut::Unfinished,
        Some(frame) => {
            let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            let frame = Frame { key: number(0), version: number(2), body: &frame[HEAD_BYTES..] };
            Cut::Whole(frame, SIZE_BYTES + size)
        }
    }
}

/// A frame's fields are not what its key says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the fields of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(body: &'a [u8]) -> Fields<'a> {
        Fields(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte, which stays there.
    pub(super) fn first(&self) -> Result<u8, Malformed> {
        self.0.first().copied().ok_or(Malformed)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string, or none.
    pub(super) fn perhaps_text(&mut self) -> Result<Option<&'a str>, Malformed> {
        match self.array().map(i16::from_be_bytes)? {
            -1 => Ok(None),
            length => {
                let text = self.take(usize::try_from(length).map_err(|_| Malformed)?)?;
                std::str::from_utf8(text).map(Some).map_err(|_| Malformed)
            }
        }
    }

    /// A string; none is an empty one.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        Ok(self.perhaps_text()?.unwrap_or_default())
    }

    /// Bytes; none is no bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match self.array().map(i32::from_be_bytes)? {
            -1 => Ok(&[]),
            length => self.take(usize::try_from(length).map_err(|_| Malformed)?),
        }
    }

    /// How many elements follow, none of which takes less than `least` bytes.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.array().map(i32::from_be_bytes)?).map_err(|_| Malformed)?;
        if count > self.0.len() / least { Err(Malformed) } else { Ok(count) }
    }

    pub(super) fn texts(&mut self) -> Result<Vec<&'a str>, Malformed> {
        (0..self.count(2)?).map(|_| self.text()).collect()
    }

    pub(super) fn map(&mut self) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
        (0..self.count(4)?).map(|_| Ok((self.text()?, self.text()?))).collect()
    }
}

/// Puts a frame together; the size is filled in at the end.
#[derive(Debug)]
pub(super) struct FrameWriter(Vec<u8>);

impl FrameWriter {
    pub(super) fn new(key: u16, version: u16) -> FrameWriter {
        let mut frame = FrameWriter(vec![0; SIZE_BYTES]);
        frame.u16(key).u16(version);
        frame
    }

    /// A response to a request.
    pub(super) fn response(key: u16, correlation: u32) -> FrameWriter {
        let mut frame = FrameWriter::new(key | key::RESPONSE, 1);
        frame.u32(correlation);
        frame
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut FrameWriter {
        self.0.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut FrameWriter {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut FrameWriter {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut FrameWriter {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut FrameWriter {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A string. What is too long for one is cut off: no name of ours is.
    pub(super) fn text(&mut self, text: &str) -> &mut FrameWriter {
        let bytes = &text.as_bytes()[..text.floor_char_boundary(i16::MAX as usize)];
        self.u16(bytes.len() as u16);
        self.0.extend_from_slice(bytes);
        self
    }

    /// How many elements follow.
    pub(super) fn count(&mut self, count: usize) -> &mut FrameWriter {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(super) fn map<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    ) -> &mut FrameWriter {
        self.count(entries.len());
        for (name, value) in entries {
            self.text(name).text(value);
        }
        self
    }

    /// What is there so far, for what is put behind it otherwise.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The whole frame.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let size = u32::try_from(self.0.len() - SIZE_BYTES).unwrap_or(u32::MAX);
        self.0[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        std::mem::take(&mut self.0)
    }

    /// Puts the frame behind what is to be sent.
    pub(super) fn put(&mut self, out: &mut Transmit) {
        out.put(&self.finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_by_their_size() {
        let mut bytes = FrameWriter::new(0x11, 1).u32(7).map([("a", "b")].into_iter()).finish();
        bytes.extend_from_slice(&[0, 0]);
        let Cut::Whole(frame, taken) = cut(&bytes, 0) else { panic!("a whole frame") };
        assert_eq!((frame.key, frame.version, taken), (0x11, 1, bytes.len() - 2));
        let mut fields = Fields::of(frame.body);
        assert_eq!((fields.u32(), fields.map()), (Ok(7), Ok(vec![("a", "b")])));
        assert!(fields.is_empty());
        assert_eq!(cut(&bytes[..taken - 1], 0), Cut::Unfinished);
        assert_eq!(cut(&bytes, taken - 5), Cut::TooLarge(taken as u32 - 4));
        assert_eq!(cut(&[0, 0, 0, 3, 0, 1, 0], 0), Cut::TooShort);
    }

    #[test]
    fn no_count_promises_more_than_there_is() {
        assert_eq!(Fields::of(&[0x7f, 0xff, 0xff, 0xff, 0, 0]).texts(), Err(Malformed));
        assert_eq!(Fields::of(&[0xff; 4]).map(), Err(Malformed));
        assert_eq!(Fields::of(&[0, 5, b'a']).text(), Err(Malformed));
        assert_eq!(Fields::of(&[0xff, 0xff]).perhaps_text(), Ok(None));
        assert_eq!(Fields::of(&[0x80, 0, 0, 0]).bytes(), Err(Malformed));
    }
}
