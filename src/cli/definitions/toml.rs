//! A list of tables as TOML writes it.

use serde_json::{Map, Value};
use std::fmt::Write;

/// One table: what it is, for messages, and its keys and values in their order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) list: &'static str,
    pub(super) title: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// Appends a table of an array of tables, with its keys.
pub(super) fn write(entry: &Entry, out: &mut String) {
    let _ = write!(out, "\n[[{}]]\n", entry.list);
    for (key, value) in &entry.fields {
        // What TOML has not was taken out before.
        if let Ok(value) = toml(value) {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
}

/// Takes out of a table of arguments what TOML has no value for, and says what that was.
pub(super) fn take_unwritable(arguments: &mut Map<String, Value>) -> Vec<(String, Value)> {
    let mut taken = Vec::new();
    arguments.retain(|name, value| match toml(value) {
        Ok(_) => true,
        Err(unwritable) => {
            taken.push((name.clone(), unwritable.clone()));
            false
        }
    });
    taken
}

/// A value as TOML writes it in a line, or the one in it that TOML has not.
fn toml(value: &Value) -> Result<String, &Value> {
    Ok(match value {
        Value::Null => return Err(value),
        Value::Number(number) if number.is_u64() && !number.is_i64() => return Err(value),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(toml).collect::<Result<_, _>>()?;
            format!("[{}]", values.join(", "))
        }
        Value::Object(fields) => format!("{{ {} }}", inline(fields)?),
    })
}

fn inline(fields: &Map<String, Value>) -> Result<String, &Value> {
    let pairs = fields.iter().map(|(name, value)| Ok(format!("{} = {}", key(name), toml(value)?)));
    Ok(pairs.collect::<Result<Vec<_>, _>>()?.join(", "))
}

fn key(name: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A string in quotes. JSON's escapes are TOML's too, but for one control character that JSON leaves as it is.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
