//! Field tables as they are on the wire: ordered, with the exact type of every value. Used by [`crate::method`] and
//! [`crate::frame`]; most codecs sort tables or merge types, and a case must see both.

/// One value of a field table: its type tag as sent, and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The tag byte, such as `S` or `l`.
    pub tag: u8,
    /// The value itself.
    pub value: Value,
}

/// What a field holds; the tag says how wide it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b B s u I i l L T`
    Int(i128),
    /// `f d`
    Float(f64),
    /// `D`: scale and unscaled value.
    Decimal(u8, u32),
    /// `S x`
    Bytes(Vec<u8>),
    /// `A`
    List(Vec<Field>),
    /// `F`
    Table(Table),
    /// `V`
    Void,
}

/// Names and values in the order of the wire.
pub type Table = Vec<(Vec<u8>, Field)>;

/// Width in bytes and signedness of the integer tags.
fn integer(tag: u8) -> Option<(usize, bool)> {
    Some(match tag {
        b'b' => (1, true),
        b'B' => (1, false),
        b's' => (2, true),
        b'u' => (2, false),
        b'I' => (4, true),
        b'i' => (4, false),
        b'l' | b'L' => (8, true),
        b'T' => (8, false),
        _ => return None,
    })
}

/// Whether a value of this tag is an integer in scripts.
pub fn is_integer(tag: u8) -> bool {
    integer(tag).is_some()
}

/// A reader over bytes; every error says what was missing.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        if self.bytes.len() < count {
            return Err(format!("{count} bytes expected, {} left", self.bytes.len()));
        }
        let (head, tail) = self.bytes.split_at(count);
        self.bytes = tail;
        Ok(head)
    }

    /// An unsigned big-endian integer of `width` bytes.
    pub fn unsigned(&mut self, width: usize) -> Result<u64, String> {
        Ok(self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Bytes behind a one-byte length.
    pub fn short_string(&mut self) -> Result<Vec<u8>, String> {
        let length = self.unsigned(1)? as usize;
        Ok(self.take(length)?.to_vec())
    }

    /// Bytes behind a four-byte length.
    pub fn long_string(&mut self) -> Result<&'a [u8], String> {
        let length = self.unsigned(4)? as usize;
        self.take(length)
    }

    /// A table behind its four-byte length.
    pub fn table(&mut self) -> Result<Table, String> {
        let mut inner = Reader::new(self.long_string()?);
        let mut table = Vec::new();
        while !inner.bytes.is_empty() {
            let name = inner.short_string()?;
            table.push((name, inner.field()?));
        }
        Ok(table)
    }

    fn field(&mut self) -> Result<Field, String> {
        let tag = self.take(1)?[0];
        let value = match tag {
            b't' => Value::Bool(self.unsigned(1)? != 0),
            b'f' => Value::Float(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            b'd' => Value::Float(f64::from_bits(self.unsigned(8)?)),
            b'D' => Value::Decimal(self.unsigned(1)? as u8, self.unsigned(4)? as u32),
            b'S' | b'x' => Value::Bytes(self.long_string()?.to_vec()),
            b'A' => {
                let mut inner = Reader::new(self.long_string()?);
                let mut list = Vec::new();
                while !inner.bytes.is_empty() {
                    list.push(inner.field()?);
                }
                Value::List(list)
            }
            b'F' => Value::Table(self.table()?),
            b'V' => Value::Void,
            _ => {
                let (width, signed) =
                    integer(tag).ok_or_else(|| format!("unknown field type {:?}", tag as char))?;
                let raw = self.unsigned(width)?;
                let shift = 64 - 8 * width as u32;
                let signed_value = i128::from(((raw << shift) as i64) >> shift);
                Value::Int(if signed { signed_value } else { i128::from(raw) })
            }
        };
        Ok(Field { tag, value })
    }
}

/// Appends a table with its length.
pub fn write_table(into: &mut Vec<u8>, table: &Table) {
    let mut inner = Vec::new();
    for (name, field) in table {
        write_short_string(&mut inner, name);
        write_field(&mut inner, field);
    }
    write_long_string(into, &inner);
}

/// Appends bytes behind a one-byte length; longer ones are cut, as a case that wants that writes raw bytes.
pub fn write_short_string(into: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(255)];
    into.push(bytes.len() as u8);
    into.extend_from_slice(bytes);
}

/// Appends bytes behind a four-byte length.
pub fn write_long_string(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    into.extend_from_slice(bytes);
}

fn write_field(into: &mut Vec<u8>, field: &Field) {
    into.push(field.tag);
    match &field.value {
        Value::Bool(value) => into.push(u8::from(*value)),
        Value::Int(value) => {
            let width = integer(field.tag).map_or(8, |(width, _)| width);
            into.extend_from_slice(&value.to_be_bytes()[16 - width..]);
        }
        Value::Float(value) if field.tag == b'f' => {
            into.extend_from_slice(&(*value as f32).to_be_bytes());
        }
        Value::Float(value) => into.extend_from_slice(&value.to_be_bytes()),
        Value::Decimal(scale, value) => {
            into.push(*scale);
            into.extend_from_slice(&value.to_be_bytes());
        }
        Value::Bytes(bytes) => write_long_string(into, bytes),
        Value::List(list) => {
            let mut inner = Vec::new();
            list.iter().for_each(|field| write_field(&mut inner, field));
            write_long_string(into, &inner);
        }
        Value::Table(table) => write_table(into, table),
        Value::Void => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_as_it_was_in_order_and_type() {
        let field = |tag, value| Field { tag, value };
        let table: Table = vec![
            (b"z".to_vec(), field(b'b', Value::Int(-1))),
            (b"a".to_vec(), field(b'B', Value::Int(255))),
            (b"s".to_vec(), field(b's', Value::Int(-300))),
            (b"l".to_vec(), field(b'l', Value::Int(-5_000_000_000))),
            (b"T".to_vec(), field(b'T', Value::Int(1 << 40))),
            (b"f".to_vec(), field(b'f', Value::Float(1.5))),
            (b"D".to_vec(), field(b'D', Value::Decimal(2, 314))),
            (b"n".to_vec(), field(b'F', Value::Table(vec![(b"v".to_vec(), field(b'V', Value::Void))]))),
            (b"A".to_vec(), field(b'A', Value::List(vec![field(b'S', Value::Bytes(b"x".to_vec()))]))),
        ];
        let mut bytes = Vec::new();
        write_table(&mut bytes, &table);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.table().unwrap(), table);
        assert!(reader.rest().is_empty());
    }
}
