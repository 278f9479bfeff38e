//! Takes one field out of a thing without writing out the others: lists are sorted by it, and show single columns.

use serde::ser::{Error as _, Impossible, Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Error, Value};

/// What a path such as `message_stats.publish` leads to in a thing; `None` where it has no such field.
pub fn at_path<T: Serialize + ?Sized>(thing: &T, path: &str) -> Option<Value> {
    // What has no fields at all fails at it, and has not this one either.
    pick(thing, path).ok().flatten()
}

fn pick<T: Serialize + ?Sized>(thing: &T, path: &str) -> Result<Option<Value>, Error> {
    if path.is_empty() {
        return serde_json::to_value(thing).map(Some);
    }
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    thing.serialize(Picker { name, rest })
}

/// Finds one field.
#[derive(Clone, Copy)]
struct Picker<'a> {
    name: &'a str,
    /// The path that leads on from there.
    rest: &'a str,
}

/// The fields of an object, of which one is wanted.
struct Fields<'a> {
    wanted: Picker<'a>,
    found: Option<Value>,
    /// Whether the value that comes next is the wanted field's.
    is_next: bool,
}

impl SerializeStruct for Fields<'_> {
    type Ok = Option<Value>;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        if name == self.wanted.name {
            self.found = pick(value, self.wanted.rest)?;
        }
        Ok(())
    }

    fn end(self) -> Result<Option<Value>, Error> {
        Ok(self.found)
    }
}

impl SerializeMap for Fields<'_> {
    type Ok = Option<Value>;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.is_next = self.found.is_none() && serde_json::to_value(key)? == self.wanted.name;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if self.is_next {
            self.found = pick(value, self.wanted.rest)?;
        }
        Ok(())
    }

    fn end(self) -> Result<Option<Value>, Error> {
        Ok(self.found)
    }
}

/// What is no object, and so has no fields.
type Never = Impossible<Option<Value>, Error>;

fn no_fields<T>() -> Result<T, Error> {
    Err(Error::custom("it has no fields"))
}

macro_rules! without_fields {
    ($($method:ident($($type:ty),*) -> $result:ty;)*) => {
        $(fn $method(self $(, _: $type)*) -> Result<$result, Error> {
            no_fields()
        })*
    };
}

impl<'a> Serializer for Picker<'a> {
    type Ok = Option<Value>;
    type Error = Error;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Fields<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Never;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Error> {
        Ok(Fields { wanted: self, found: None, is_next: false })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields<'a>, Error> {
        Ok(Fields { wanted: self, found: None, is_next: false })
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Option<Value>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Option<Value>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Option<Value>, Error> {
        no_fields()
    }

    without_fields! {
        serialize_bool(bool) -> Option<Value>;
        serialize_i8(i8) -> Option<Value>;
        serialize_i16(i16) -> Option<Value>;
        serialize_i32(i32) -> Option<Value>;
        serialize_i64(i64) -> Option<Value>;
        serialize_u8(u8) -> Option<Value>;
        serialize_u16(u16) -> Option<Value>;
        serialize_u32(u32) -> Option<Value>;
        serialize_u64(u64) -> Option<Value>;
        serialize_f32(f32) -> Option<Value>;
        serialize_f64(f64) -> Option<Value>;
        serialize_char(char) -> Option<Value>;
        serialize_str(&str) -> Option<Value>;
        serialize_bytes(&[u8]) -> Option<Value>;
        serialize_none() -> Option<Value>;
        serialize_unit() -> Option<Value>;
        serialize_unit_struct(&'static str) -> Option<Value>;
        serialize_unit_variant(&'static str, u32, &'static str) -> Option<Value>;
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde_json::json;

    #[derive(Serialize)]
    struct Inner {
        rate: f64,
    }

    #[derive(Serialize)]
    struct Thing {
        name: &'static str,
        none: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u64>,
        words: Vec<&'static str>,
        details: Option<Inner>,
        table: Value,
    }

    #[test]
    fn a_path_leads_to_what_is_written_there() {
        let thing = Thing {
            name: "q",
            none: None,
            absent: None,
            words: vec!["a"],
            details: Some(Inner { rate: 0.5 }),
            table: json!({ "a": { "b": 1 } }),
        };
        let whole = serde_json::to_value(&thing).unwrap();
        for path in [
            "name",
            "none",
            "absent",
            "words",
            "details",
            "details.rate",
            "table.a",
            "table.a.b",
            "table.b",
            "name.x",
            "words.x",
            "none.x",
            "unknown",
            "",
        ] {
            let mut parts = path.split('.').filter(|part| !part.is_empty());
            let expected = parts.try_fold(&whole, |at, part| at.get(part));
            assert_eq!(at_path(&thing, path).as_ref(), expected, "{path}");
            assert_eq!(at_path(&whole, path).as_ref(), expected, "{path}");
        }
    }
}
