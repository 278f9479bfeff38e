//! What is listed, as a table for people or as JSON for programs.

use serde_json::{Map, Value};
use std::io::{self, IsTerminal, Write};

/// What a path such as `message_stats.publish` leads to.
pub(super) fn at_path<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(value, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

/// A value in one line of plain text; nothing that a terminal would take for a command.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(cell).collect::<Vec<_>>().join(",")
        }
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::Array(_) | Value::Object(_) => printable(&value.to_string()),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Names may hold anything, and a control character would act on the terminal.
pub(super) fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { plain.extend(letter.escape_debug()) } else { plain.push(letter) }
    }
    plain
}

/// How a table looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether the columns' names stand above it.
    pub(super) has_header: bool,
    /// Letters of a cell; what is longer is cut.
    pub(super) cell_max: usize,
}

/// Letters of a cell on a terminal, where one long value would push all the others out of sight.
const CELL_MAX: usize = 60;

impl Look {
    /// A table with whole cells, however wide.
    pub(super) const WIDE: Look = Look { has_header: true, cell_max: usize::MAX };

    /// With cells that are cut on a terminal; for programs they are whole.
    pub(super) fn of_output() -> Look {
        let cell_max = if io::stdout().is_terminal() { CELL_MAX } else { usize::MAX };
        Look { has_header: true, cell_max }
    }
}

/// The text, or what there is room for of it.
fn cut(text: String, letters_max: usize) -> String {
    match text.char_indices().nth(letters_max) {
        None => text,
        Some(_) => text.chars().take(letters_max - 1).chain(['…']).collect(),
    }
}

/// Writes the items' columns below each other; numbers end at the right.
pub(super) fn write_table(
    out: &mut dyn Write,
    columns: &[String],
    items: &[Value],
    look: Look,
) -> io::Result<()> {
    let shown = |item: &Value, column: &String| cut(cell(at_path(item, column)), look.cell_max);
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|column| shown(item, column)).collect()).collect();
    let is_number: Vec<bool> = columns
        .iter()
        .map(|column| {
            let mut values = items.iter().map(|item| at_path(item, column)).filter(|value| !value.is_null());
            !items.is_empty() && values.all(Value::is_number)
        })
        .collect();
    let width = |index: usize| {
        let cells = rows.iter().map(|row| row[index].chars().count());
        cells.max().unwrap_or(0).max(columns[index].chars().count())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut write_row = |cells: &[String]| {
        let mut line = String::new();
        for ((text, width), is_number) in cells.iter().zip(&widths).zip(&is_number) {
            let padding = " ".repeat(width.saturating_sub(text.chars().count()));
            let (before, behind) = if *is_number { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(before);
            line.push_str(text);
            line.push_str(behind);
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())
    };
    if look.has_header {
        write_row(columns)?;
    }
    rows.iter().try_for_each(|row| write_row(row))
}

/// Writes the items as an array, with those columns or everything.
pub(super) fn write_json(out: &mut dyn Write, columns: Option<&[String]>, items: &[Value]) -> io::Result<()> {
    let picked = |item: &Value| match columns {
        None => item.clone(),
        Some(columns) => {
            let fields = columns.iter().map(|column| (column.clone(), at_path(item, column).clone()));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    };
    let items: Vec<Value> = items.iter().map(picked).collect();
    serde_json::to_writer_pretty(&mut *out, &items)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(columns: &[&str], items: &[Value]) -> String {
        let mut out = Vec::new();
        let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
        write_table(&mut out, &columns, items, Look::WIDE).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let items = [
            json!({ "name": "orders", "stats": { "n": 1000 }, "tags": ["a", "b"], "arguments": {} }),
            json!({ "name": "ö", "stats": {}, "tags": [], "arguments": { "x": 1 } }),
        ];
        let expected =
            "name    stats.n  tags  arguments\norders     1000  a,b\nö                      {\"x\":1}\n";
        assert_eq!(table(&["name", "stats.n", "tags", "arguments"], &items), expected);
        assert_eq!(table(&["name"], &[]), "name\n");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let mut out = Vec::new();
        let look = Look { has_header: false, cell_max: 4 };
        let items = [json!({ "a": "ööööö", "b": 1 }), json!({ "a": "1234", "b": 2 })];
        write_table(&mut out, &["a".to_owned(), "b".to_owned()], &items, look).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ööö…  1\n1234  2\n");
    }

    #[test]
    fn a_name_does_nothing_to_the_terminal() {
        assert_eq!(cell(&json!("a\u{1b}[2J\nb")), "a\\u{1b}[2J\\nb");
    }
}
