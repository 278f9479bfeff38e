//! Field tables: ordered, with exact types, so that what a client sent comes out unchanged (0-9-1 section 4.2.5.5).
//!
//! Type tags are RabbitMQ's, which differ from the specification's: `s` is a signed 16-bit integer, `L` a signed 64-bit one.

use super::reader::{DecodeError, Reader, put_short_str};
use crate::steps;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Bytes of up to 255: a routing key, a header's name. Usually UTF-8, not necessarily so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortStr(Arc<[u8]>);

impl ShortStr {
    /// The bytes, at most 255.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Borrow<[u8]> for ShortStr {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for ShortStr {
    fn from(text: &str) -> ShortStr {
        ShortStr(text.as_bytes().into())
    }
}

impl From<&[u8]> for ShortStr {
    fn from(bytes: &[u8]) -> ShortStr {
        ShortStr(bytes.into())
    }
}

impl PartialEq<str> for ShortStr {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Display for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

/// One value of a field table.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, and `L` as RabbitMQ reads it
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`
    Decimal {
        /// How many decimal places there are.
        scale: u8,
        /// The digits, as a whole number.
        value: u32,
    },
    /// `S`
    LongStr(Vec<u8>),
    /// `A`
    Array(Vec<Value>),
    /// `T`: seconds since the Unix epoch
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
    /// `x`
    Bytes(Vec<u8>),
}

impl Value {
    /// The type's name as RabbitMQ writes it in reply texts.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::I8(_) => "byte",
            Value::U8(_) => "unsignedbyte",
            Value::I16(_) => "short",
            Value::U16(_) => "unsignedshort",
            Value::I32(_) => "signedint",
            Value::U32(_) => "unsignedint",
            Value::I64(_) => "long",
            Value::F32(_) => "float",
            Value::F64(_) => "double",
            Value::Decimal { .. } => "decimal",
            Value::LongStr(_) => "longstr",
            Value::Array(_) => "array",
            Value::Timestamp(_) => "timestamp",
            Value::Table(_) => "table",
            Value::Void => "void",
            Value::Bytes(_) => "binary",
        }
    }

    /// The value as a whole number, if it has one of the integer types: their widths are all equal to RabbitMQ.
    pub fn as_integer(&self) -> Option<i64> {
        Some(match *self {
            Value::I8(n) => n.into(),
            Value::U8(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I64(n) => n,
            _ => return None,
        })
    }

    /// The text of a long string, if it is one and is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::LongStr(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Passes over a value.
    pub(super) fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        check_value(reader, usize::MAX)
    }

    /// How many values it is with those in it.
    fn count(&self) -> usize {
        match self {
            Value::Table(table) => 1 + table.count(),
            Value::Array(values) => 1 + values.iter().map(Value::count).sum::<usize>(),
            _ => 1,
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>, depth_max: usize) -> Result<Value, DecodeError> {
        steps::count(1);
        Ok(match reader.u8()? {
            b't' => Value::Bool(reader.u8()? != 0),
            b'b' => Value::I8(reader.i8()?),
            b'B' => Value::U8(reader.u8()?),
            b's' => Value::I16(reader.i16()?),
            b'u' => Value::U16(reader.u16()?),
            b'I' => Value::I32(reader.i32()?),
            b'i' => Value::U32(reader.u32()?),
            b'l' | b'L' => Value::I64(reader.i64()?),
            b'f' => Value::F32(reader.f32()?),
            b'd' => Value::F64(reader.f64()?),
            b'D' => Value::Decimal { scale: reader.u8()?, value: reader.u32()? },
            b'S' => Value::LongStr(reader.long_str()?.to_vec()),
            b'T' => Value::Timestamp(reader.u64()?),
            b'V' => Value::Void,
            b'x' => Value::Bytes(reader.long_str()?.to_vec()),
            b'F' => Value::Table(FieldTable::decode(reader.long_str()?, deeper(depth_max)?)?),
            b'A' => {
                let depth_max = deeper(depth_max)?;
                let mut items = Reader::new(reader.long_str()?);
                let mut values = Vec::new();
                while !items.is_empty() {
                    values.push(Value::decode(&mut items, depth_max)?);
                }
                Value::Array(values)
            }
            tag => return Err(DecodeError::UnknownFieldType(tag)),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bool(flag) => out.extend_from_slice(&[b't', u8::from(*flag)]),
            Value::I8(n) => put(out, b'b', &n.to_be_bytes()),
            Value::U8(n) => put(out, b'B', &n.to_be_bytes()),
            Value::I16(n) => put(out, b's', &n.to_be_bytes()),
            Value::U16(n) => put(out, b'u', &n.to_be_bytes()),
            Value::I32(n) => put(out, b'I', &n.to_be_bytes()),
            Value::U32(n) => put(out, b'i', &n.to_be_bytes()),
            Value::I64(n) => put(out, b'l', &n.to_be_bytes()),
            Value::F32(n) => put(out, b'f', &n.to_be_bytes()),
            Value::F64(n) => put(out, b'd', &n.to_be_bytes()),
            Value::Decimal { scale, value } => {
                put(out, b'D', &[*scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Value::Timestamp(n) => put(out, b'T', &n.to_be_bytes()),
            Value::Void => out.push(b'V'),
            Value::LongStr(bytes) => with_length(out, b'S', |out| out.extend_from_slice(bytes)),
            Value::Bytes(bytes) => with_length(out, b'x', |out| out.extend_from_slice(bytes)),
            Value::Table(table) => with_length(out, b'F', |out| table.encode(out)),
            Value::Array(values) => with_length(out, b'A', |out| values.iter().for_each(|v| v.encode(out))),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::LongStr(text.as_bytes().to_vec())
    }
}

fn deeper(depth_max: usize) -> Result<usize, DecodeError> {
    depth_max.checked_sub(1).ok_or(DecodeError::TooDeep(depth_max))
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn with_length(out: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    put(out, tag, &[0; 4]);
    let start = out.len();
    content(out);
    let length = u32::try_from(out.len() - start).expect("a field value is shorter than 4 GiB");
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
}

/// Named values in the order in which the client wrote them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldTable(Vec<(ShortStr, Value)>);

impl FieldTable {
    /// Decodes a table's content, that is without the four bytes of its length. Tables and arrays inside it may be nested
    /// `depth_max` levels deep.
    ///
    /// # Errors
    /// When the bytes are no table, or nest too deep.
    pub fn decode(bytes: &[u8], depth_max: usize) -> Result<FieldTable, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut fields = Vec::new();
        while !reader.is_empty() {
            let name = ShortStr::from(reader.short_str()?);
            fields.push((name, Value::decode(&mut reader, depth_max)?));
        }
        Ok(FieldTable(fields))
    }

    /// Appends the table's content, without its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            put_short_str(name, out);
            value.encode(out);
        }
    }

    /// The first value of that name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Sets a value: in the place of the first one of that name, else at the end.
    pub fn insert(&mut self, name: impl Into<ShortStr>, value: Value) {
        let name = name.into();
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes all values of that name out; the first is returned.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(key, _)| key != name);
        Some(value)
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ShortStr, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many fields there are, with those of the tables in it and the values of arrays.
    pub fn count(&self) -> usize {
        self.0.iter().map(|(_, value)| value.count()).sum()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that `bytes` are a table's content without building it; see [`FieldTable::decode`].
    ///
    /// # Errors
    /// When the bytes are no table, or nest too deep.
    pub fn check(bytes: &[u8], depth_max: usize) -> Result<(), DecodeError> {
        FieldTable::check_names(bytes, depth_max, |_| ())
    }

    /// Like [`FieldTable::check`], and shows the outermost names on the way.
    pub(super) fn check_names(
        bytes: &[u8],
        depth_max: usize,
        mut name: impl FnMut(&[u8]),
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            name(reader.short_str()?);
            check_value(&mut reader, depth_max)?;
        }
        Ok(())
    }

    /// The first value of that name in a table's content; `None` where it can't be read.
    pub(super) fn find(bytes: &[u8], name: &str) -> Option<Value> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            if reader.short_str().ok()? == name.as_bytes() {
                return Value::decode(&mut reader, usize::MAX).ok();
            }
            Value::skip(&mut reader).ok()?;
        }
        None
    }

    /// Orders the fields by name, as RabbitMQ does with tables that it has changed.
    pub fn sort(&mut self) {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
}

fn check_value(reader: &mut Reader<'_>, depth_max: usize) -> Result<(), DecodeError> {
    steps::count(1);
    let fixed = match reader.u8()? {
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'D' => 5,
        b'V' => 0,
        b'S' | b'x' => reader.u32()? as usize,
        b'F' => return FieldTable::check(reader.long_str()?, deeper(depth_max)?),
        b'A' => {
            let depth_max = deeper(depth_max)?;
            let mut items = Reader::new(reader.long_str()?);
            while !items.is_empty() {
                check_value(&mut items, depth_max)?;
            }
            return Ok(());
        }
        tag => return Err(DecodeError::UnknownFieldType(tag)),
    };
    reader.take(fixed).map(|_| ())
}

impl<N: Into<ShortStr>> FromIterator<(N, Value)> for FieldTable {
    fn from_iter<T: IntoIterator<Item = (N, Value)>>(fields: T) -> FieldTable {
        FieldTable(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_type() -> FieldTable {
        let inner: FieldTable = [("k", Value::from("v")), ("n", Value::Void)].into_iter().collect();
        [
            ("z", Value::Bool(true)),
            ("a", Value::I8(-1)),
            ("b", Value::U8(255)),
            ("c", Value::I16(-2)),
            ("d", Value::U16(65535)),
            ("e", Value::I32(-3)),
            ("f", Value::U32(7)),
            ("g", Value::I64(-4)),
            ("h", Value::F32(1.5)),
            ("i", Value::F64(-2.5)),
            ("j", Value::Decimal { scale: 2, value: 314 }),
            ("l", Value::Array(vec![Value::I32(1), Value::Table(inner.clone())])),
            ("m", Value::Timestamp(1_700_000_000)),
            ("o", Value::Table(inner)),
            ("p", Value::Bytes(vec![0, 255])),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn every_type_comes_back_in_its_order() {
        let table = every_type();
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(FieldTable::decode(&bytes, 2).unwrap(), table);
        assert_eq!(FieldTable::check(&bytes, 2), Ok(()));
    }

    #[test]
    fn a_table_cut_anywhere_is_refused() {
        let mut bytes = Vec::new();
        every_type().encode(&mut bytes);
        for end in 1..bytes.len() {
            let (decoded, checked) =
                (FieldTable::decode(&bytes[..end], 9), FieldTable::check(&bytes[..end], 9));
            assert_eq!(decoded.is_ok(), checked.is_ok(), "cut at {end}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let mut table = FieldTable::default();
        for _ in 0..3 {
            table = [("t", Value::Table(table))].into_iter().collect();
        }
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert!(FieldTable::decode(&bytes, 3).is_ok());
        assert_eq!(FieldTable::decode(&bytes, 2), Err(DecodeError::TooDeep(0)));
        assert_eq!(FieldTable::check(&bytes, 2), Err(DecodeError::TooDeep(0)));
    }
}
