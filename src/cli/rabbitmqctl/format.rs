//! How RabbitMQ's command writes what is listed: cells between tabs, or JSON with a line for each item.

use super::super::output::printable;
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
    /// Words in brackets, as Erlang prints a list of atoms.
    Words(Vec<String>),
}

impl Cell {
    /// As a cell of a table.
    fn text(&self) -> String {
        match self {
            Cell::Plain(Value::Null) => String::new(),
            Cell::Plain(Value::String(text)) => text.clone(),
            Cell::Plain(value) | Cell::Json(value) => value.to_string(),
            Cell::Table(value) => term(value),
            Cell::Words(words) => format!("[{}]", words.join(", ")),
        }
    }

    /// Within a table with lines around it.
    fn pretty(&self) -> String {
        match self {
            Cell::Table(Value::Object(fields)) => fields.iter().map(field_term).collect(),
            Cell::Table(_) => String::new(),
            Cell::Words(words) => words.join(", "),
            Cell::Plain(_) | Cell::Json(_) => self.text(),
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

/// A table as RabbitMQ writes it as JSON: name, type and value of each field. The management API does not report types of
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

/// A field of a table with its type, as Erlang prints it.
fn field_term((name, value): (&String, &Value)) -> String {
    let (kind, _) = typed(value);
    format!("{{{},{kind},{}}}", binary(name), typed_term(value))
}

/// A value whose type stands beside it.
fn typed_term(value: &Value) -> String {
    match value {
        Value::String(text) => binary(text),
        Value::Object(fields) => format!("[{}]", joined(fields.iter().map(field_term), ",")),
        Value::Array(items) => {
            let items = items.iter().map(|item| format!("{{{},{}}}", typed(item).0, typed_term(item)));
            format!("[{}]", joined(items, ","))
        }
        other => term(other),
    }
}

fn binary(text: &str) -> String {
    format!("<<{}>>", Value::from(text))
}

/// What terminals take for lines between the two: `l`, `q` and so on are corners and strokes then.
const LINES: (&str, &str) = ("\x1b(0", "\x1b(B");
/// What makes a header bold.
const BOLD: (&str, &str) = ("\x1b[1m", "\x1b[0m");

/// Writes a table with lines around its cells. It has its header whatever was typed.
fn write_pretty(out: &mut dyn Write, columns: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(&cell.pretty())).collect()).collect();
    let length = |text: &str| text.chars().count();
    let width = |index: usize, column: &str| {
        rows.iter().map(|row| length(&row[index])).fold(length(column), usize::max)
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(index, column)| width(index, column)).collect();
    let (begin, end) = LINES;
    let line = |left: &str, crossing: &str, right: &str| {
        let strokes = widths.iter().map(|width| "q".repeat(width + 2));
        format!("{begin}{left}{}{right}{end}", joined(strokes, crossing))
    };
    let side = format!("{begin}x{end}");
    let framed = |cells: &[String], (before, behind): (&str, &str)| {
        let cells = cells
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!(" {before}{text}{behind}{} ", " ".repeat(width - length(text))));
        format!("{side}{}{side}", joined(cells, &side))
    };
    let names: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
    writeln!(out, "{}\n{}", line("l", "w", "k"), framed(&names, BOLD))?;
    for row in &rows {
        writeln!(out, "{}\n{}", line("t", "n", "u"), framed(row, ("", "")))?;
    }
    writeln!(out, "{}", line("m", "v", "j"))
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
        Format::PrettyTable => write_pretty(out, columns, rows),
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
    fn a_pretty_table_has_lines() {
        let rows = [
            vec![
                Cell::Plain("q3".into()),
                Cell::Table(json!({ "x-max-length": 5, "x-overflow": "drop-head" })),
                Cell::Words(vec!["a".into(), "b".into()]),
            ],
            vec![Cell::Plain("wide\n".into()), Cell::Table(json!({})), Cell::Words(Vec::new())],
        ];
        let mut out = Vec::new();
        write_list(&mut out, Format::PrettyTable, false, &["name", "arguments", "tags"], &rows).unwrap();
        let expected = r#"
^(0lqqqqqqqqwqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqwqqqqqqk^(B
^(0x^(B ^[1mname^[0m   ^(0x^(B ^[1marguments^[0m                                                                  ^(0x^(B ^[1mtags^[0m ^(0x^(B
^(0tqqqqqqqqnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqnqqqqqqu^(B
^(0x^(B q3     ^(0x^(B {<<"x-max-length">>,signedint,5}{<<"x-overflow">>,longstr,<<"drop-head">>} ^(0x^(B a, b ^(0x^(B
^(0tqqqqqqqqnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqnqqqqqqu^(B
^(0x^(B wide\n ^(0x^(B                                                                            ^(0x^(B      ^(0x^(B
^(0mqqqqqqqqvqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqvqqqqqqj^(B
"#;
        assert_eq!(String::from_utf8(out).unwrap().replace('\x1b', "^"), expected.trim_start());
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
