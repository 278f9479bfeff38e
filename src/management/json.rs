//! Reading JSON, and field tables and JSON: the one place where each becomes the other.

use super::answer::ApiError;
use crate::message::{FieldTable, Value};
use crate::steps;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};
use std::cell::Cell;

/// A field table as an object.
pub(super) fn table(table: &FieldTable) -> Map<String, Json> {
    table.iter().map(|(name, value)| (name.to_string(), value_to_json(value))).collect()
}

/// The same as a value.
pub(super) fn table_to_json(table: &FieldTable) -> Json {
    Json::Object(self::table(table))
}

/// A value as JSON has it.
pub(super) fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => Json::Bool(*flag),
        Value::F32(number) => float(f64::from(*number)),
        Value::F64(number) => float(*number),
        Value::Decimal { scale, value } => float(f64::from(*value) / 10f64.powi(i32::from(*scale))),
        Value::Timestamp(seconds) => Json::from(*seconds),
        Value::LongStr(bytes) | Value::Bytes(bytes) => Json::String(text_of(bytes)),
        Value::Array(values) => Json::Array(values.iter().map(value_to_json).collect()),
        Value::Table(table) => table_to_json(table),
        Value::Void => Json::Null,
        integer => integer.as_integer().map_or(Json::Null, Json::from),
    }
}

fn float(number: f64) -> Json {
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

/// Bytes as text; in base64 where they are none.
pub(super) fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => STANDARD.encode(bytes),
    }
}

/// An object as a field table, in its order. Whole numbers become 64 bits wide, other ones double.
///
/// # Errors
/// When it is nested deeper than `depth_max`, or a name is no short string.
pub(super) fn table_from_json(object: &Map<String, Json>, depth_max: usize) -> Result<FieldTable, ApiError> {
    let mut fields = Vec::with_capacity(object.len());
    for (name, value) in object {
        if name.len() > 255 {
            return Err(ApiError::bad_value("not_shortstr", name.as_str()));
        }
        fields.push((name.as_str(), value_from_json(value, depth_max)?));
    }
    Ok(fields.into_iter().collect())
}

/// A value as [`table_from_json`] has it within a table.
///
/// # Errors
/// As [`table_from_json`].
pub(super) fn value_from_json(value: &Json, depth_max: usize) -> Result<Value, ApiError> {
    let deeper = || depth_max.checked_sub(1).ok_or_else(|| ApiError::bad_request("nested too deep"));
    Ok(match value {
        Json::Null => Value::Void,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::I64(integer),
            None => Value::F64(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => {
            let depth_max = deeper()?;
            let values = values.iter().map(|value| value_from_json(value, depth_max));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Json::Object(object) => Value::Table(table_from_json(object, deeper()?)?),
    })
}

/// What any body's values may take in memory, and what they may for each byte of the body. `[0,0,0]` takes forty times what it is
/// written with; nothing that is asked for in earnest comes near that.
const VALUES_BYTES: usize = 1 << 20;
const VALUES_BYTES_EACH: usize = 4;

/// The same for a document of definitions: an export without spaces takes eight to thirteen times its length.
pub(super) const DEFINITIONS_BYTES_EACH: usize = 16;

/// What a value takes beside its text, and what a field of an object does beside its name and value.
const VALUE_BYTES: usize = size_of::<Json>();
const FIELD_BYTES: usize = size_of::<String>() + 2 * size_of::<usize>();

/// Reads a body as JSON; `None` when it is none.
///
/// # Errors
/// When its values would take far more memory than they have bytes.
pub(super) fn parse(body: &[u8]) -> Result<Option<Json>, ApiError> {
    match parse_bounded(body, VALUES_BYTES_EACH) {
        Ok((value, _)) => Ok(Some(value)),
        Err(Unparsed::TooMuch) => Err(ApiError::bad_request(TOO_MANY_VALUES)),
        Err(Unparsed::NoJson(_)) => Ok(None),
    }
}

/// What is said of a body that takes too much.
pub(super) const TOO_MANY_VALUES: &str = "the body has too many values";

/// Why bytes did not become a value.
pub(super) enum Unparsed {
    /// It would take too much memory.
    TooMuch,
    /// They are no JSON.
    NoJson(serde_json::Error),
}

/// Reads bytes as JSON whose values may take about `each` bytes of memory for each of them, and says what they take.
///
/// # Errors
/// When they are none, or take more.
pub(super) fn parse_bounded(bytes: &[u8], each: usize) -> Result<(Json, usize), Unparsed> {
    let allowed = VALUES_BYTES.saturating_add(bytes.len().saturating_mul(each));
    let left = Cell::new(allowed);
    let is_spent = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = Bounded { left: &left, is_spent: &is_spent }.deserialize(&mut reader);
    if is_spent.get() {
        return Err(Unparsed::TooMuch);
    }
    let value = parsed.map_err(Unparsed::NoJson)?;
    reader.end().map_err(Unparsed::NoJson)?;
    Ok((value, allowed - left.get()))
}

/// Reads one value, and counts what it takes.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
    is_spent: &'a Cell<bool>,
}

impl Bounded<'_> {
    fn spend<E: Error>(self, bytes: usize) -> Result<(), E> {
        steps::count(1);
        let left = self.left.get().checked_sub(bytes);
        self.is_spent.set(left.is_none());
        self.left.set(left.unwrap_or_default());
        left.map(|_| ()).ok_or_else(|| E::custom("it takes too much memory"))
    }

    fn single<E: Error>(self, value: impl Into<Json>) -> Result<Json, E> {
        self.spend(VALUE_BYTES)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        self.single(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        self.single(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        self.single(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        self.single(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        self.single(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        self.spend(value.len())?;
        self.single(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        self.spend(VALUE_BYTES)?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        self.spend(VALUE_BYTES)?;
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.spend(FIELD_BYTES + name.len())?;
            object.insert(name, fields.next_value_seed(self)?);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_json_can_say_comes_back() {
        let object = json!({ "z": 1, "a": -2.5, "t": "text", "l": [true, null, { "n": 1 }], "o": {} });
        let table = table_from_json(object.as_object().unwrap(), 3).unwrap();
        assert_eq!(table_to_json(&table), object);
        assert_eq!(
            table_from_json(object.as_object().unwrap(), 1).unwrap_err().to_string(),
            "bad_request: \"nested too deep\""
        );
    }

    #[test]
    fn a_body_is_read_as_it_is_unless_it_takes_too_much() {
        for text in
            ["null", "[1,-2,18446744073709551615,2.5e3,\"\\u00e4\",true]", "{\"b\":{},\"a\":[[]],\"b\":2}"]
        {
            let whole: Json = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text.as_bytes()).unwrap(), Some(whole.clone()));
            assert_eq!(parse(text.as_bytes()).unwrap().unwrap().to_string(), whole.to_string());
        }
        for text in ["", "{", "{} {}", "[1,]", "nul"] {
            assert_eq!(parse(text.as_bytes()).unwrap(), None, "{text}");
        }
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        assert!(parse(long.as_bytes()).unwrap().is_some());
        let zeros = format!("[0{}]", ",0".repeat(1 << 16));
        assert_eq!(
            parse(zeros.as_bytes()).unwrap_err().to_string(),
            "bad_request: \"the body has too many values\""
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_in_base64() {
        let table: FieldTable = [("b", Value::LongStr(vec![0xff]))].into_iter().collect();
        assert_eq!(table_to_json(&table), json!({ "b": "/w==" }));
    }
}
