//! Optional arguments of exchanges, queues and bindings, in the file's own types.
//!
//! Which arguments mean what is for the broker to say when it declares; here they only have to be values that a field
//! table can carry. The caller of `Config::load` turns them into one.

use std::fmt;

use config::{Map, Value, ValueKind};

use super::diagnose::{Problems, join};
use super::section::NAME_BYTES_MAX;

/// Arguments by name, in the order of the file, each name once.
pub type Arguments = Vec<(String, Argument)>;

/// The value of one argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// A whole number of 64 bits.
    Integer(i64),
    /// A number with a point, `inf` or `nan`.
    Float(f64),
    /// A string.
    String(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A list of values, of any types.
    Array(Vec<Argument>),
    /// A table: values by name, in their order.
    Table(Arguments),
}

impl fmt::Display for Argument {
    /// As TOML writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Argument::Integer(integer) => write!(f, "{integer}"),
            Argument::Float(float) => write!(f, "{float:?}"),
            Argument::String(text) => write!(f, "{text:?}"),
            Argument::Boolean(boolean) => write!(f, "{boolean}"),
            Argument::Array(values) => {
                let values: Vec<_> = values.iter().map(Argument::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Argument::Table(arguments) => {
                let arguments: Vec<_> =
                    arguments.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                write!(f, "{{ {} }}", arguments.join(", "))
            }
        }
    }
}

pub(super) fn read_table(path: &str, table: Map<String, Value>, problems: &Problems) -> Arguments {
    let mut arguments = Arguments::with_capacity(table.len());
    for (name, value) in table {
        let path_of_value = join(path, &name);
        if name.len() > NAME_BYTES_MAX {
            let message =
                format!("expected a name of at most {NAME_BYTES_MAX} bytes, found {} bytes", name.len());
            problems.report(&path_of_value, path, message);
        }
        if let Some(argument) = read_value(&path_of_value, value.kind, problems) {
            arguments.push((name, argument));
        }
    }
    arguments
}

fn read_value(path: &str, kind: ValueKind, problems: &Problems) -> Option<Argument> {
    Some(match kind {
        ValueKind::I64(integer) => Argument::Integer(integer),
        ValueKind::Float(float) => Argument::Float(float),
        ValueKind::String(text) => Argument::String(text),
        ValueKind::Boolean(boolean) => Argument::Boolean(boolean),
        ValueKind::Table(table) => Argument::Table(read_table(path, table, problems)),
        ValueKind::Array(values) => Argument::Array(
            values
                .into_iter()
                .enumerate()
                .filter_map(|(index, value)| read_value(&format!("{path}[{index}]"), value.kind, problems))
                .collect(),
        ),
        // TOML has no such values.
        ValueKind::Nil | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
            problems.report(path, "", "expected a number, string, true or false, list or table");
            return None;
        }
    })
}
