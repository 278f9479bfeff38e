//! Reads what clients send into the types of this module, as leniently as RabbitMQ: yes and no may be words, numbers may stand in
//! quotes, what is null is not there, and an object without fields may be a list without items, as Erlang writes it. What can't be
//! read is a [`Fault`], which the caller puts into words.

use serde::Deserializer;
use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};
use std::fmt;

/// What is wrong with something that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A field that has to be there is not.
    Missing(String),
    /// A field, or an item of a list, is no text: the field's name, or the item.
    NotText(Value),
    /// A value is neither true nor false.
    NotBoolean(Value),
    /// A field is no whole number, or too large a one.
    NotInteger(String, Value),
    /// A field is no object.
    NotObject(String),
    /// A field is no list.
    NotList(String),
    /// Something else, in words.
    Other(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing(field) => write!(f, "{field:?} is missing"),
            Fault::NotText(what) => write!(f, "{what} is no text"),
            Fault::NotBoolean(value) => write!(f, "{value} is neither true nor false"),
            Fault::NotInteger(field, value) => write!(f, "{field:?} is no whole number: {value}"),
            Fault::NotObject(field) => write!(f, "{field:?} is no object"),
            Fault::NotList(field) => write!(f, "{field:?} is no list"),
            Fault::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Fault {
        Fault::Other(text.to_string())
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::Missing(field.to_owned())
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::Other(format!("expected {expected}, found {unexpected}"))
    }
}

/// How objects may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As JSON has them.
    Plain,
    /// Also as Erlang's lists: `[["max-length", 5]]`, with or without a type in the middle.
    Pairs,
}

/// Reads a thing out of the fields that were sent of it; those that it does not have are passed over.
///
/// # Errors
/// What is wrong with the first field that is.
pub fn read<T: DeserializeOwned>(sent: &Value, form: Form) -> Result<T, Fault> {
    T::deserialize(Reader { value: sent, field: "", form })
}

/// The fields of an object, in whichever form it is written.
pub fn fields(value: &Value, form: Form) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields.clone()),
        Value::Array(items) if form == Form::Pairs => items.iter().map(pair).collect(),
        Value::Array(items) if items.is_empty() => Some(Map::new()),
        _ => None,
    }
}

fn pair(item: &Value) -> Option<(String, Value)> {
    match item.as_array()?.as_slice() {
        [Value::String(name), value] | [Value::String(name), Value::String(_), value] => {
            Some((name.clone(), value.clone()))
        }
        _ => None,
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Reader<'a> {
    value: &'a Value,
    /// The field that it is the value of; of an item there is none.
    field: &'a str,
    form: Form,
}

impl<'a> Reader<'a> {
    fn text(self) -> Result<&'a str, Fault> {
        self.value.as_str().ok_or_else(|| self.no_text())
    }

    fn no_text(self) -> Fault {
        Fault::NotText(if self.field.is_empty() { self.value.clone() } else { self.field.into() })
    }

    fn no_integer(self) -> Fault {
        Fault::NotInteger(self.field.to_owned(), self.value.clone())
    }

    fn integer(self) -> Result<i64, Fault> {
        let number = self.value.as_i64().or_else(|| self.value.as_str().and_then(|text| text.parse().ok()));
        number.ok_or_else(|| self.no_integer())
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let read = match self.value.as_u64() {
                Some(number) => visitor.visit_u64(number),
                None => visitor.visit_i64(self.integer()?),
            };
            read.map_err(|_: Fault| self.no_integer())
        })*
    };
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.visit_str(self.text()?)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    texts! { deserialize_str deserialize_string deserialize_char deserialize_identifier }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // What takes several types takes a text at least.
        self.value.clone().deserialize_any(visitor).map_err(|_| self.no_text())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::String(word) if word == "true" || word == "false" => visitor.visit_bool(word == "true"),
            other => Err(Fault::NotBoolean(other.clone())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items { reader: self, rest: items.iter() }),
            _ => Err(Fault::NotList(self.field.to_owned())),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let fields = fields(self.value, self.form).ok_or_else(|| Fault::NotObject(self.field.to_owned()))?;
        visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, AsItIs(value)))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let fields = fields(self.value, self.form).ok_or_else(|| Fault::NotObject(self.field.to_owned()))?;
        visitor.visit_map(Fields { rest: fields.iter(), value: None, form: self.form })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let word: StrDeserializer<'_, Fault> = self.text()?.into_deserializer();
        visitor.visit_enum(word)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 bytes byte_buf unit unit_struct tuple tuple_struct ignored_any
    }
}

/// A value within a table, which is kept as it is.
struct AsItIs(Value);

impl<'de> IntoDeserializer<'de, Fault> for AsItIs {
    type Deserializer = AsItIs;

    fn into_deserializer(self) -> AsItIs {
        self
    }
}

impl<'de> Deserializer<'de> for AsItIs {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_any(visitor).map_err(|error| Fault::Other(error.to_string()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The fields of a thing, but for those that are null.
struct Fields<'a> {
    rest: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
    form: Form,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let next = self.rest.by_ref().find(|(_, value)| !value.is_null());
        self.value = next.map(|(name, value)| (name.as_str(), value));
        let Some((name, _)) = self.value else { return Ok(None) };
        let name: StrDeserializer<'_, Fault> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (field, value) = self.value.take().unwrap_or(("", &Value::Null));
        seed.deserialize(Reader { value, field, form: self.form })
    }
}

/// The items of a list.
struct Items<'a> {
    reader: Reader<'a>,
    rest: std::slice::Iter<'a, Value>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.rest.next().map(|value| seed.deserialize(Reader { value, field: "", ..self.reader })).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Table;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Thing {
        flag: bool,
        count: Option<i64>,
        small: u8,
        text: Option<String>,
        table: Table,
        words: Vec<String>,
        any: Value,
    }

    fn read_plain(sent: Value) -> Result<Thing, Fault> {
        read(&sent, Form::Plain)
    }

    #[test]
    fn what_rabbitmq_takes_is_taken() {
        let sent =
            json!({ "flag": "true", "count": "-5", "text": "x", "table": [], "unknown": [1], "any": null });
        let expected = Thing { flag: true, count: Some(-5), text: Some("x".to_owned()), ..Thing::default() };
        assert_eq!(read_plain(sent), Ok(expected));
        let nothing = json!({ "flag": null, "count": null, "text": null, "table": null, "words": null });
        assert_eq!(read_plain(nothing), Ok(Thing::default()));
        let table = json!({ "a": null, "b": ["true", 1, { "c": 1.5 }] });
        let read = read_plain(json!({ "table": table, "any": { "x": null }, "words": ["a"] })).unwrap();
        assert_eq!((Value::Object(read.table), read.any), (table, json!({ "x": null })));
    }

    #[test]
    fn a_fault_says_what_is_wrong_with_which_field() {
        for (sent, fault) in [
            (json!({ "flag": 1 }), Fault::NotBoolean(json!(1))),
            (json!({ "count": 1.5 }), Fault::NotInteger("count".to_owned(), json!(1.5))),
            (json!({ "count": "many" }), Fault::NotInteger("count".to_owned(), json!("many"))),
            (json!({ "small": 256 }), Fault::NotInteger("small".to_owned(), json!(256))),
            (json!({ "text": 1 }), Fault::NotText(json!("text"))),
            (json!({ "table": "x" }), Fault::NotObject("table".to_owned())),
            (json!({ "table": [["a", 1]] }), Fault::NotObject("table".to_owned())),
            (json!({ "words": "x" }), Fault::NotList("words".to_owned())),
            (json!({ "words": [1] }), Fault::NotText(json!(1))),
        ] {
            assert_eq!(read_plain(sent.clone()), Err(fault), "{sent}");
        }
    }

    #[test]
    fn pairs_are_an_object() {
        let expected = json!({ "a": 1, "b": [2] });
        for written in
            [expected.clone(), json!([["a", 1], ["b", [2]]]), json!([["a", "long", 1], ["b", [2]]])]
        {
            assert_eq!(fields(&written, Form::Pairs), expected.as_object().cloned(), "{written}");
            let read: Thing = read(&json!([["table", written]]), Form::Pairs).unwrap();
            assert_eq!(Value::Object(read.table), expected);
        }
        assert_eq!(fields(&json!([]), Form::Plain), Some(Map::new()));
        for other in [json!(["a", 1]), json!([["a"]]), json!("a"), json!([{ "a": 1 }]), json!(null)] {
            assert_eq!(fields(&other, Form::Pairs), None, "{other}");
        }
    }
}
