//! A list of tables as TOML.

use leveret::api::Table;
use serde_json::Value;
use toml_edit::{Array, InlineTable, Key, Value as Toml};

/// One table: what it is, for messages, and its keys and values in their order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) list: &'static str,
    pub(super) title: String,
    pub(super) fields: Table,
}

/// Appends a table of an array of tables, with its keys.
pub(super) fn write(entry: &Entry, out: &mut String) {
    out.push_str(&format!("\n[[{}]]\n", entry.list));
    for (key, value) in &entry.fields {
        // What TOML has not was taken out before.
        if let Ok(value) = toml(value) {
            out.push_str(&format!("{} = {value}\n", Key::new(key)));
        }
    }
}

/// Takes out of a table of arguments what TOML has no value for, and says what that was.
pub(super) fn take_unwritable(arguments: &mut Table) -> Vec<(String, Value)> {
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

/// A value as TOML has it, or the one in it that TOML has not.
fn toml(value: &Value) -> Result<Toml, &Value> {
    Ok(match value {
        Value::Null => return Err(value),
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.is_u64()) {
            (Some(whole), _) => whole.into(),
            (None, true) => return Err(value),
            (None, false) => number.as_f64().ok_or(value)?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => values.iter().map(toml).collect::<Result<Array, _>>()?.into(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| Ok((name.as_str(), toml(value)?)));
            pairs.collect::<Result<InlineTable, &Value>>()?.into()
        }
    })
}

/// A string in quotes, in one line.
pub(super) fn quoted(text: &str) -> String {
    Toml::from(text).to_string()
}
