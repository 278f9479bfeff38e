//! The types of AMQP 1.0 (its section 1.6): reading any of them, and writing those that are needed.

use super::EntryError;
use crate::message::Reader;
use crate::steps;

/// A value, as it stands in the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoded<'a> {
    Null,
    Bool(bool),
    /// Of 8, 16, 32 or 64 bits.
    Unsigned(u8, u64),
    Signed(u8, i64),
    F32(f32),
    F64(f64),
    Char(u32),
    /// Milliseconds since the Unix epoch.
    Timestamp(i64),
    Uuid([u8; 16]),
    /// One of the three decimal types.
    Decimal(&'a [u8]),
    Binary(&'a [u8]),
    /// A string.
    Text(&'a [u8]),
    Symbol(&'a [u8]),
    List(Elements<'a>),
    /// Keys and values in turn.
    Map(Elements<'a>),
    Array(Elements<'a>),
}

impl<'a> Encoded<'a> {
    /// Reads a value; what describes it is passed over.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Encoded<'a>, EntryError> {
        let code = constructor(reader)?;
        Encoded::read_of(code, reader)
    }

    fn read_of(code: u8, reader: &mut Reader<'a>) -> Result<Encoded<'a>, EntryError> {
        steps::count(1);
        let content = content(code, reader)?;
        let mut inner = Reader::new(content);
        Ok(match code {
            0x40 => Encoded::Null,
            0x41 => Encoded::Bool(true),
            0x42 => Encoded::Bool(false),
            0x43 => Encoded::Unsigned(32, 0),
            0x44 => Encoded::Unsigned(64, 0),
            0x45 => Encoded::List(Elements { count: 0, code: None, bytes: inner }),
            0x50 => Encoded::Unsigned(8, unsigned(content)),
            0x51 => Encoded::Signed(8, signed(content)),
            0x52 => Encoded::Unsigned(32, unsigned(content)),
            0x53 => Encoded::Unsigned(64, unsigned(content)),
            0x54 => Encoded::Signed(32, signed(content)),
            0x55 => Encoded::Signed(64, signed(content)),
            0x56 => Encoded::Bool(content != [0]),
            0x60 => Encoded::Unsigned(16, unsigned(content)),
            0x61 => Encoded::Signed(16, signed(content)),
            0x70 => Encoded::Unsigned(32, unsigned(content)),
            0x71 => Encoded::Signed(32, signed(content)),
            0x72 => Encoded::F32(inner.f32()?),
            0x73 => Encoded::Char(inner.u32()?),
            0x74 | 0x84 | 0x94 => Encoded::Decimal(content),
            0x80 => Encoded::Unsigned(64, unsigned(content)),
            0x81 => Encoded::Signed(64, signed(content)),
            0x82 => Encoded::F64(inner.f64()?),
            0x83 => Encoded::Timestamp(signed(content)),
            0x98 => Encoded::Uuid(content.try_into().map_err(|_| EntryError::Truncated)?),
            0xa0 | 0xb0 => Encoded::Binary(content),
            0xa1 | 0xb1 => Encoded::Text(content),
            0xa3 | 0xb3 => Encoded::Symbol(content),
            0xc0 | 0xd0 => Encoded::List(Elements::read(code, inner)?),
            0xc1 | 0xd1 => Encoded::Map(Elements::read(code, inner)?),
            0xe0 | 0xf0 => Encoded::Array(Elements::read(code, inner)?),
            code => return Err(EntryError::UnknownType(code)),
        })
    }

    /// The bytes of a string, symbol or binary.
    pub(super) fn text(self) -> Option<&'a [u8]> {
        match self {
            Encoded::Binary(bytes) | Encoded::Text(bytes) | Encoded::Symbol(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The code of the type that follows, behind what describes it.
fn constructor(reader: &mut Reader<'_>) -> Result<u8, EntryError> {
    loop {
        match reader.u8()? {
            0x00 => skip(reader)?,
            code => return Ok(code),
        }
    }
}

/// Passes over a value.
pub(super) fn skip(reader: &mut Reader<'_>) -> Result<(), EntryError> {
    let mut values = 1u64;
    while values > 0 {
        steps::count(1);
        match reader.u8()? {
            // What describes it, and what is described.
            0x00 => values += 1,
            code => {
                content(code, reader)?;
                values -= 1;
            }
        }
    }
    Ok(())
}

/// Takes what a value of that type has behind its code; of those with a length what is behind that.
fn content<'a>(code: u8, reader: &mut Reader<'a>) -> Result<&'a [u8], EntryError> {
    let bytes = match code >> 4 {
        0x4 => 0,
        0x5 => 1,
        0x6 => 2,
        0x7 => 4,
        0x8 => 8,
        0x9 => 16,
        0xa | 0xc | 0xe => reader.u8()?.into(),
        0xb | 0xd | 0xf => reader.u32()? as usize,
        _ => return Err(EntryError::UnknownType(code)),
    };
    Ok(reader.take(bytes)?)
}

fn unsigned(content: &[u8]) -> u64 {
    content.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn signed(content: &[u8]) -> i64 {
    let unused = 64 - 8 * content.len() as u32;
    (unsigned(content) << unused) as i64 >> unused
}

/// The elements of a list, map or array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a> {
    /// How many are left.
    count: u32,
    /// In an array: the type of all.
    code: Option<u8>,
    bytes: Reader<'a>,
}

impl<'a> Elements<'a> {
    fn read(code: u8, mut bytes: Reader<'a>) -> Result<Elements<'a>, EntryError> {
        let is_wide = code & 0x10 != 0;
        let count = if is_wide { bytes.u32()? } else { bytes.u8()?.into() };
        let code = if code >= 0xe0 { Some(constructor(&mut bytes)?) } else { None };
        Ok(Elements { count, code, bytes })
    }

    /// The next one, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Encoded<'a>>, EntryError> {
        let Some(left) = self.count.checked_sub(1) else {
            return if self.bytes.is_empty() { Ok(None) } else { Err(EntryError::WrongCount) };
        };
        self.count = left;
        let read = match self.code {
            Some(code) => Encoded::read_of(code, &mut self.bytes)?,
            None => Encoded::read(&mut self.bytes)?,
        };
        Ok(Some(read))
    }

    /// The next two, if there are any: of a map.
    pub(super) fn next_pair(&mut self) -> Result<Option<(Encoded<'a>, Encoded<'a>)>, EntryError> {
        let Some(key) = self.next()? else { return Ok(None) };
        let value = self.next()?.ok_or(EntryError::WrongCount)?;
        Ok(Some((key, value)))
    }
}

/// Writes values behind one another.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

/// A list or map whose elements are being written.
pub(super) struct Open {
    /// Where it begins.
    at: usize,
    count: u32,
}

pub(super) const LIST: u8 = 0xc0;
pub(super) const MAP: u8 = 0xc1;

impl Writer<'_> {
    /// Begins a section.
    pub(super) fn section(&mut self, descriptor: u8) {
        self.0.extend_from_slice(&[0x00, 0x53, descriptor]);
    }

    /// Begins a [`LIST`] or a [`MAP`].
    pub(super) fn open(&mut self, code: u8) -> Open {
        let at = self.0.len();
        self.0.extend_from_slice(&[code, 0, 0]);
        Open { at, count: 0 }
    }

    /// Ends it.
    pub(super) fn close(&mut self, open: Open) {
        let Open { at, count } = open;
        let bytes = self.0.len() - at - 2;
        if let (Ok(bytes), Ok(count)) = (u8::try_from(bytes), u8::try_from(count)) {
            self.0[at + 1..at + 3].copy_from_slice(&[bytes, count]);
            return;
        }
        let code = self.0[at] | 0x10;
        let bytes = u32::try_from(bytes + 3).expect("a message is shorter than 4 GiB");
        let mut head = [code, 0, 0, 0, 0, 0, 0, 0, 0];
        head[1..5].copy_from_slice(&bytes.to_be_bytes());
        head[5..].copy_from_slice(&count.to_be_bytes());
        self.0.splice(at..at + 3, head);
    }

    pub(super) fn null(&mut self) {
        self.0.push(0x40);
    }

    /// A boolean in the one byte that it takes in the lists that AMQP defines.
    pub(super) fn flag(&mut self, flag: bool) {
        self.0.push(if flag { 0x41 } else { 0x42 });
    }

    pub(super) fn fixed(&mut self, code: u8, bytes: &[u8]) {
        self.0.push(code);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn uint(&mut self, number: u32) {
        match u8::try_from(number) {
            Ok(0) => self.0.push(0x43),
            Ok(small) => self.fixed(0x52, &[small]),
            Err(_) => self.fixed(0x70, &number.to_be_bytes()),
        }
    }

    pub(super) fn int(&mut self, number: i32) {
        match i8::try_from(number) {
            Ok(small) => self.fixed(0x54, &small.to_be_bytes()),
            Err(_) => self.fixed(0x71, &number.to_be_bytes()),
        }
    }

    pub(super) fn long(&mut self, number: i64) {
        match i8::try_from(number) {
            Ok(small) => self.fixed(0x55, &small.to_be_bytes()),
            Err(_) => self.fixed(0x81, &number.to_be_bytes()),
        }
    }

    /// A time in seconds.
    pub(super) fn time(&mut self, seconds: u64) {
        let ms = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
        self.fixed(0x83, &ms.to_be_bytes());
    }

    fn variable(&mut self, code: u8, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(length) => self.0.extend_from_slice(&[code, length]),
            Err(_) => {
                let length = u32::try_from(bytes.len()).expect("a message is shorter than 4 GiB");
                self.0.push(code | 0x10);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
        }
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn binary(&mut self, bytes: &[u8]) {
        self.variable(0xa0, bytes);
    }

    pub(super) fn symbol(&mut self, bytes: &[u8]) {
        self.variable(0xa3, bytes);
    }

    /// A string; what is no UTF-8 in it is replaced.
    pub(super) fn text(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(_) => self.variable(0xa1, bytes),
            Err(_) => self.variable(0xa1, String::from_utf8_lossy(bytes).as_bytes()),
        }
    }

    /// A string where it is one, else binary.
    pub(super) fn text_or_binary(&mut self, bytes: &[u8]) {
        let is_text = !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok();
        self.variable(if is_text { 0xa1 } else { 0xa0 }, bytes);
    }
}

impl Open {
    /// That many elements more have been written.
    pub(super) fn add(&mut self, elements: u32) {
        self.count += elements;
    }
}

impl From<crate::message::DecodeError> for EntryError {
    fn from(_: crate::message::DecodeError) -> EntryError {
        EntryError::Truncated
    }
}
