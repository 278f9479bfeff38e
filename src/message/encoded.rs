//! Field tables as they are kept: encoded, as a client would send them. Decoded, a field of four bytes takes eighty.

use super::reader::Reader;
use super::table::{FieldTable, Value};
use std::fmt;

/// A field table that is decoded on demand.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncodedTable(Box<[u8]>);

impl EncodedTable {
    /// Decodes the whole table.
    pub fn decode(&self) -> FieldTable {
        self.iter().collect()
    }

    /// The first value of that name.
    pub fn field(&self, name: &str) -> Option<Value> {
        let mut reader = Reader::new(&self.0);
        while !reader.is_empty() {
            let found = sound(reader.short_str());
            if found == name.as_bytes() {
                return Some(sound(Value::decode(&mut reader, usize::MAX)));
            }
            sound(Value::skip(&mut reader));
        }
        None
    }

    /// All fields in order, each decoded when its turn comes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Value)> {
        let mut reader = Reader::new(&self.0);
        std::iter::from_fn(move || {
            let name = (!reader.is_empty()).then(|| sound(reader.short_str()))?;
            Some((name, sound(Value::decode(&mut reader, usize::MAX))))
        })
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the table's content, without its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// What was encoded here can be decoded.
fn sound<T>(result: Result<T, super::DecodeError>) -> T {
    result.expect("the table was encoded from a decoded one")
}

impl From<&FieldTable> for EncodedTable {
    fn from(table: &FieldTable) -> EncodedTable {
        let mut encoded = Vec::new();
        table.encode(&mut encoded);
        EncodedTable(encoded.into())
    }
}

impl From<FieldTable> for EncodedTable {
    fn from(table: FieldTable) -> EncodedTable {
        EncodedTable::from(&table)
    }
}

impl fmt::Debug for EncodedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.decode().fmt(f)
    }
}

/// How large the arguments of a declaration may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimits {
    /// Fields, with those of the tables in it and the values of arrays.
    pub fields_max: usize,
    /// Bytes of the table in its encoding, without its length.
    pub bytes_max: usize,
}

impl Default for TableLimits {
    fn default() -> TableLimits {
        TableLimits { fields_max: 1024, bytes_max: 64 << 10 }
    }
}

impl TableLimits {
    /// Checks a table. What is wrong names the setting that says so.
    ///
    /// # Errors
    /// With what is too much, how much that is, and what is allowed.
    pub fn check(self, table: &FieldTable) -> Result<(), TableTooLarge> {
        let fields = table.count();
        if fields > self.fields_max {
            return Err(TableTooLarge::Fields { fields, max: self.fields_max });
        }
        let bytes = EncodedTable::from(table).bytes();
        if bytes > self.bytes_max {
            return Err(TableTooLarge::Bytes { bytes, max: self.bytes_max });
        }
        Ok(())
    }
}

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableTooLarge {
    /// It has too many fields.
    #[error("{fields} fields, where limits.field_table_fields_max allows {max}")]
    Fields {
        /// How many it has.
        fields: usize,
        /// How many it may have.
        max: usize,
    },
    /// It is too long.
    #[error("{bytes} bytes, where limits.field_table_bytes_max allows {max}")]
    Bytes {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let inner: FieldTable = [("k", Value::from("v"))].into_iter().collect();
        let table: FieldTable = [
            ("a", Value::Void),
            ("b", Value::Array(vec![Value::I32(1), Value::Table(inner)])),
            ("c", Value::from("text")),
            ("a", Value::Bool(true)),
        ]
        .into_iter()
        .collect();
        let kept = EncodedTable::from(&table);
        assert_eq!((kept.decode(), kept.field("c")), (table.clone(), Some(Value::from("text"))));
        assert_eq!((kept.field("a"), kept.field("d")), (Some(Value::Void), None));
        assert!(EncodedTable::default().is_empty() && EncodedTable::default().decode().is_empty());
        assert_eq!(table.count(), 7);
        let limits = TableLimits { fields_max: 7, bytes_max: kept.bytes() };
        assert_eq!(limits.check(&table), Ok(()));
        let fewer = TableLimits { fields_max: 6, ..limits };
        assert_eq!(fewer.check(&table), Err(TableTooLarge::Fields { fields: 7, max: 6 }));
        assert!(TableLimits { bytes_max: kept.bytes() - 1, ..limits }.check(&table).is_err());
    }
}
