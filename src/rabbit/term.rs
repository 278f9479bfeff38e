//! Values as Erlang prints them. RabbitMQ's reply texts quote what a client sent in that form, and clients compare the texts.

use crate::message::{FieldTable, Value};

/// A value: `5`, `true`, `<<"text">>`, `[{<<"name">>,longstr,<<"text">>}]`.
pub(crate) fn term(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::F32(number) => float(format!("{:?}", f64::from(*number))),
        Value::F64(number) => float(format!("{number:?}")),
        Value::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        Value::LongStr(bytes) | Value::Bytes(bytes) => binary(bytes),
        Value::Array(values) => {
            list(values.iter().map(|value| format!("{{{},{}}}", value.type_name(), term(value))))
        }
        Value::Table(table) => list(term_fields(table)),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        Value::I8(_) | Value::U8(_) | Value::I16(_) | Value::U16(_) | Value::I32(_) | Value::U32(_) => {
            value.as_integer().map(|number| number.to_string()).unwrap_or_default()
        }
        Value::I64(number) => number.to_string(),
    }
}

/// The fields of a table: `{<<"name">>,longstr,<<"text">>}`.
fn term_fields(table: &FieldTable) -> impl Iterator<Item = String> {
    table
        .iter()
        .map(|(name, value)| format!("{{{},{},{}}}", binary(name.as_bytes()), value.type_name(), term(value)))
}

/// A table as events have it: a text for each field.
pub(crate) fn arguments(table: &FieldTable) -> Value {
    Value::Array(term_fields(table).map(|text| Value::from(text.as_str())).collect())
}

/// A value that came as JSON: objects are maps, and null is a word. Reading JSON makes whole numbers of 64 bits, long
/// strings, arrays, tables and void.
pub(crate) fn json_term(value: &Value) -> String {
    match value {
        Value::Void => "null".to_owned(),
        Value::Array(values) => list(values.iter().map(json_term)),
        Value::Table(table) => {
            let fields = table
                .iter()
                .map(|(name, value)| format!("{} => {}", binary(name.as_bytes()), json_term(value)));
            format!("#{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        other => term(other),
    }
}

/// Bytes: `<<"text">>` when all of them are printable characters of Latin-1, else `<<196,128>>`.
pub(crate) fn binary(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<<>>".to_owned();
    }
    if bytes.iter().all(|byte| is_printable(*byte)) {
        return format!("<<\"{}\">>", String::from_utf8_lossy(&escaped(bytes)));
    }
    self::bytes(bytes)
}

/// Bytes as numbers, whatever they are: `<<0,60>>`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 8..=13 | 27 | 32..=126 | 160..=255)
}

fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for byte in bytes {
        let letter = match byte {
            8 => b'b',
            9 => b't',
            10 => b'n',
            11 => b'v',
            12 => b'f',
            13 => b'r',
            27 => b'e',
            b'"' | b'\\' => *byte,
            _ => {
                text.push(*byte);
                continue;
            }
        };
        text.extend([b'\\', letter]);
    }
    text
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// Erlang writes `1.0e20` where Rust writes `1e20`.
fn float(text: String) -> String {
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0e{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FieldTable;

    fn table(fields: &[(&str, Value)]) -> FieldTable {
        fields.iter().cloned().collect()
    }

    #[test]
    fn values_look_as_in_rabbitmq() {
        let examples: &[(Value, &str)] = &[
            (Value::from("v"), r#"<<"v">>"#),
            (Value::from(""), "<<>>"),
            (Value::from("é"), r#"<<"é">>"#),
            (Value::from("Ā"), "<<196,128>>"),
            (Value::from("a\"b\\\n"), r#"<<"a\"b\\\n">>"#),
            (Value::Bytes(vec![0, 1]), "<<0,1>>"),
            (Value::I32(5), "5"),
            (Value::I64(1 << 40), "1099511627776"),
            (Value::Bool(true), "true"),
            (Value::Void, "undefined"),
            (Value::F64(1.5), "1.5"),
            (Value::F64(1e20), "1.0e20"),
            (Value::F64(1e-7), "1.0e-7"),
            (Value::Decimal { scale: 2, value: 314 }, "{2,314}"),
            (Value::Table(table(&[("a", Value::I32(1))])), r#"[{<<"a">>,signedint,1}]"#),
            (Value::Array(vec![Value::I32(1), Value::from("x")]), r#"[{signedint,1},{longstr,<<"x">>}]"#),
        ];
        for (value, text) in examples {
            assert_eq!(term(value), *text);
        }
    }

    #[test]
    fn json_looks_as_in_rabbitmq() {
        let inner = Value::Table(table(&[("b", Value::Void)]));
        let value =
            Value::Table(table(&[("a", Value::Array(vec![Value::I64(1), inner])), ("c", Value::Bool(true))]));
        assert_eq!(json_term(&value), r#"#{<<"a">> => [1,#{<<"b">> => null}],<<"c">> => true}"#);
        assert_eq!(json_term(&Value::from("a\"b")), r#"<<"a\"b">>"#);
    }
}
