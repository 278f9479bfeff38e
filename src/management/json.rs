//! Field tables and JSON: the one place where each becomes the other.

use super::answer::ApiError;
use crate::message::{FieldTable, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

/// A field table as an object.
pub(super) fn table_to_json(table: &FieldTable) -> Json {
    Json::Object(table.iter().map(|(name, value)| (name.to_string(), value_to_json(value))).collect())
}

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
/// As there.
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
    fn bytes_that_are_no_text_are_in_base64() {
        let table: FieldTable = [("b", Value::LongStr(vec![0xff]))].into_iter().collect();
        assert_eq!(table_to_json(&table), json!({ "b": "/w==" }));
    }
}
