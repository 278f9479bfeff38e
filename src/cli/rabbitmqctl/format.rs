//! How RabbitMQ's command writes what is listed: cells between tabs, or JSON with a line for each item.

use super::arguments::Format;
use serde_json::{Value, json};
use std::io::{self, Write};

/// A cell of a list.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// A text, a number, true or false.
    Plain(Value),
    /// Arguments and properties, which come as a field table.
    Table(Value),
    /// Something that is JSON within a table too.
    Json(Value),
    /// Words in brackets.
    Words(Vec<String>),
}

impl Cell {
    /// Within a table.
    fn text(&self) -> String {
        match self {
            Cell::Plain(Value::Null) => String::new(),
            Cell::Plain(Value::String(text)) => text.clone(),
            Cell::Plain(value) | Cell::Json(value) => value.to_string(),
            Cell::Table(value) => term(value),
            Cell::Words(words) => format!("[{}]", words.join(", ")),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Plain(Value::Null) => "".into(),
            Cell::Plain(value) => value.clone(),
            Cell::Table(value) => triples(value),
            Cell::Json(value) => value.to_string().into(),
            Cell::Words(words) => json!(words),
        }
    }
}

/// A value as Erlang prints it: a table is a list of pairs.
fn term(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let pairs: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{{{},{}}}", Value::from(name.as_str()), term(value)))
                .collect();
            format!("[{}]", pairs.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(term).collect::<Vec<_>>().join(",")),
        Value::Null => "undefined".to_owned(),
        other => other.to_string(),
    }
}

/// A table as RabbitMQ writes it as JSON: name, type and value of each field. The management API does not tell types of
/// numbers apart, so those are the ones that clients mostly send.
fn triples(table: &Value) -> Value {
    match table {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let (kind, value) = typed(value);
                json!([name, kind, value])
            })
            .collect(),
        _ => json!([]),
    }
}

fn typed(value: &Value) -> (&'static str, Value) {
    match value {
        Value::Null => ("void", "undefined".into()),
        Value::Bool(_) => ("bool", value.clone()),
        Value::Number(number) => match number.as_i64() {
            Some(whole) if i32::try_from(whole).is_ok() => ("signedint", value.clone()),
            Some(_) => ("long", value.clone()),
            None => ("double", value.clone()),
        },
        Value::String(_) => ("longstr", value.clone()),
        Value::Array(items) => {
            let items = items.iter().map(|item| {
                let (kind, value) = typed(item);
                json!([kind, value])
            });
            ("array", items.collect())
        }
        Value::Object(_) => ("table", triples(value)),
    }
}

/// Writes a list. Without rows not even the columns' names are there.
pub(super) fn write_list(
    out: &mut dyn Write,
    format: Format,
    headers: bool,
    columns: &[&str],
    rows: &[Vec<Cell>],
) -> io::Result<()> {
    match format {
        Format::Json => {
            write!(out, "[")?;
            for (index, row) in rows.iter().enumerate() {
                let fields =
                    columns.iter().zip(row).map(|(column, cell)| ((*column).to_owned(), cell.json()));
                let object = Value::Object(fields.collect());
                write!(out, "\n{}{object}", if index == 0 { "" } else { "," })?;
            }
            writeln!(out, "\n]")
        }
        Format::Table => {
            if headers && !rows.is_empty() {
                writeln!(out, "{}", columns.join("\t"))?;
            }
            rows.iter().try_for_each(|row| writeln!(out, "{}", joined(row.iter().map(Cell::text), "\t")))
        }
        Format::Csv => {
            let quoted = |text: String| format!("\"{}\"", text.replace('"', "\"\""));
            if headers && !rows.is_empty() {
                writeln!(out, "{}", joined(columns.iter().map(|&column| quoted(column.to_owned())), ","))?;
            }
            rows.iter().try_for_each(|row| {
                writeln!(out, "{}", joined(row.iter().map(|cell| quoted(cell.text())), ","))
            })
        }
    }
}

fn joined(cells: impl Iterator<Item = String>, between: &str) -> String {
    cells.collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format) -> String {
        let rows = [
            vec![
                Cell::Plain("q3".into()),
                Cell::Plain(1.into()),
                Cell::Table(json!({ "x-max-length": 5, "x-queue-type": "quorum" })),
                Cell::Words(vec!["a".into(), "b".into()]),
            ],
            vec![
                Cell::Plain("q".into()),
                Cell::Plain(Value::Null),
                Cell::Table(json!({})),
                Cell::Words(Vec::new()),
            ],
        ];
        let mut out = Vec::new();
        write_list(&mut out, format, true, &["name", "messages", "arguments", "tags"], &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_has_tabs() {
        let expected = "name\tmessages\targuments\ttags\n\
                        q3\t1\t[{\"x-max-length\",5},{\"x-queue-type\",\"quorum\"}]\t[a, b]\n\
                        q\t\t[]\t[]\n";
        assert_eq!(written(Format::Table), expected);
    }

    #[test]
    fn json_has_a_line_for_each_item() {
        let expected = r#"[
{"name":"q3","messages":1,"arguments":[["x-max-length","signedint",5],["x-queue-type","longstr","quorum"]],"tags":["a","b"]}
,{"name":"q","messages":"","arguments":[],"tags":[]}
]
"#;
        assert_eq!(written(Format::Json), expected);
        assert!(
            written(Format::Csv).starts_with("\"name\",\"messages\",\"arguments\",\"tags\"\n\"q3\",\"1\",")
        );
    }

    #[test]
    fn nothing_listed_has_no_header() {
        for (format, expected) in [(Format::Table, ""), (Format::Json, "[\n]\n"), (Format::Csv, "")] {
            let mut out = Vec::new();
            write_list(&mut out, format, true, &["name"], &[]).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
