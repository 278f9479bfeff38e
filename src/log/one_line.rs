//! The fields of a line of text, kept to that line. Names of users, queues and clients are in the log as their owners chose
//! them, and even a client that can't log in may choose: a line break in one would write a line of its own, and other control
//! characters would move the reader's cursor.

use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes the message and then the other fields, each as `name=value`, and escapes what is no text in all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Fields { out: Escaping(writer), is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Fields<W> {
    out: Escaping<W>,
    is_first: bool,
    result: fmt::Result,
}

impl<W: Write> Fields<W> {
    fn put(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.out.write_str(" ")?;
        }
        match name {
            "message" => write!(self.out, "{value:?}"),
            name => write!(self.out, "{}={value:?}", name.trim_start_matches("r#")),
        }
    }
}

impl<W: Write> Visit for Fields<W> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What the log crate hands on says where it comes from once more.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.put(field.name(), value);
        }
    }
}

/// Passes text on, with what is no text written as Rust escapes it.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, character)| is_hidden(*character)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", hidden.escape_default())?;
            rest = &rest[at + hidden.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Whether a character is none to read: control characters, other ends of lines, and what turns the direction of text.
fn is_hidden(character: char) -> bool {
    let turns =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_escaped_and_the_rest_is_as_it_was() {
        let mut out = Escaping(String::new());
        write!(out, "user 'ä \\ \"x\"' a\r\nERROR \u{1b}[31m\u{85}\u{2028}\u{202e}\u{7f}é").unwrap();
        assert_eq!(out.0, "user 'ä \\ \"x\"' a\\r\\nERROR \\u{1b}[31m\\u{85}\\u{2028}\\u{202e}\\u{7f}é");
    }
}
