//! Typed reading of one table of the configuration.
//!
//! A struct's `read` asks its [`Section`] for each of its keys; a key that is there and was never asked for is unknown.
//! Each reader returns what it could make of the value, and reports the rest, so that reading goes on.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use config::{Map, Value, ValueKind};

use super::argument::{self, Arguments};
use super::diagnose::{Location, Problems, join, nearest};
use super::limits::MemoryLimit;

/// Longest name that AMQP can carry (0-9-1 section 4.2.5.3, short strings), in bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// The part of a name that is the broker's own.
pub(super) const RESERVED_PREFIX: &str = "amq.";

/// One table of the configuration, by its key path.
pub(super) struct Section<'a> {
    problems: &'a Problems,
    path: String,
    values: Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Reads the whole tree.
    pub(super) fn read_root<T>(
        values: Map<String, Value>,
        problems: &'a Problems,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> T {
        Section::read_table(String::new(), values, problems, read)
    }

    fn read_table<T>(
        path: String,
        values: Map<String, Value>,
        problems: &'a Problems,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> T {
        let mut section = Section { problems, path, values, known: Vec::new() };
        let result = read(&mut section);
        section.report_unknown_keys();
        result
    }

    fn report_unknown_keys(&self) {
        for key in self.values.keys().filter(|key| !self.known.contains(&key.as_str())) {
            let message = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            self.problems.report_unknown(&join(&self.path, key), &message);
        }
    }

    /// Where this table stands in the file.
    pub(super) fn location(&self) -> Option<Location> {
        self.problems.location(&self.path)
    }

    /// Whether a key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Reports about one of this table's keys.
    pub(super) fn report(&self, key: &str, message: impl Into<String>) {
        self.problems.report(&join(&self.path, key), &self.path, message);
    }

    /// Reports a value of the wrong type or outside its bounds.
    pub(super) fn report_unexpected(&self, key: &str, expected: impl Display, found: impl Display) {
        self.report(key, format!("expected {expected}, found {found}"));
    }

    /// Reports a key that must be there.
    pub(super) fn report_missing(&self, key: &str, expected: impl Display) {
        self.report(key, format!("missing; expected {expected}"));
    }

    fn value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.values.get(key).cloned()
    }

    /// A table below this one; an absent one is read as empty, and so gives the defaults.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let values = match self.value(key).map(|value| value.kind) {
            None => Map::new(),
            Some(ValueKind::Table(values)) => values,
            Some(other) => {
                self.report_unexpected(
                    key,
                    format!("a table, [{}]", join(&self.path, key)),
                    describe(&other),
                );
                Map::new()
            }
        };
        Section::read_table(join(&self.path, key), values, self.problems, read)
    }

    /// A list of tables; none if it is absent.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'a>) -> T,
    ) -> Option<Vec<T>> {
        let expected = format!("a list in the file, each item under [[{}]]", join(&self.path, key));
        let values = match self.value(key)?.kind {
            ValueKind::Array(values) => values,
            other => {
                self.report_unexpected(key, expected, describe(&other));
                return None;
            }
        };
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{}[{index}]", join(&self.path, key));
            match value.kind {
                ValueKind::Table(table) => items.push(Section::read_table(path, table, self.problems, &read)),
                other => {
                    let message = format!("expected {expected}, found {}", describe(&other));
                    self.problems.report(&path, &self.path, message);
                }
            }
        }
        Some(items)
    }

    /// A whole number within `bounds`, or none.
    pub(super) fn optional_whole<T>(&mut self, key: &'static str, bounds: impl RangeBounds<T>) -> Option<T>
    where
        T: TryFrom<i128> + Display + PartialOrd,
    {
        let found = self.value(key)?.kind;
        let number: Option<i128> = match &found {
            ValueKind::I64(number) => Some((*number).into()),
            ValueKind::String(text) if self.is_variable(key) => text.trim().parse().ok(),
            _ => None,
        };
        let accepted = number.and_then(|number| T::try_from(number).ok()).filter(|n| bounds.contains(n));
        if accepted.is_none() {
            let expected = match (bounds.start_bound(), bounds.end_bound()) {
                (Bound::Included(low), Bound::Included(high)) => {
                    format!("a whole number from {low} to {high}")
                }
                (Bound::Included(low), _) => format!("a whole number of {low} or more"),
                _ => "a whole number".to_owned(),
            };
            self.report_unexpected(key, expected, describe(&found));
        }
        accepted
    }

    /// The same of a setting that may have no value at all.
    pub(super) fn perhaps_whole<T>(
        &mut self,
        key: &'static str,
        bounds: impl RangeBounds<T>,
    ) -> Option<Option<T>>
    where
        T: TryFrom<i128> + Display + PartialOrd,
    {
        self.optional_whole(key, bounds).map(Some)
    }

    /// An amount of memory: a fraction of it, or bytes, or 0 for any.
    pub(super) fn memory_limit(&mut self, key: &'static str) -> Option<MemoryLimit> {
        let found = self.value(key)?.kind;
        let found = match &found {
            ValueKind::String(text) if self.is_variable(key) => {
                let whole = text.trim().parse().map(ValueKind::I64);
                whole.or_else(|_| text.trim().parse().map(ValueKind::Float)).unwrap_or(found)
            }
            _ => found,
        };
        match found {
            ValueKind::I64(0) => Some(MemoryLimit::None),
            ValueKind::I64(bytes) if bytes > 0 => Some(MemoryLimit::Bytes(bytes.unsigned_abs())),
            ValueKind::Float(fraction) if fraction > 0.0 && fraction <= 1.0 => {
                Some(MemoryLimit::Fraction(fraction))
            }
            other => {
                let expected = "a fraction of the memory above 0.0 up to 1.0, a whole number of bytes, or 0";
                self.report_unexpected(key, expected, describe(&other));
                None
            }
        }
    }

    /// True or false, or `default`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else { return default };
        let accepted = match &value.kind {
            ValueKind::Boolean(boolean) => Some(*boolean),
            ValueKind::String(text) if self.is_variable(key) => text.trim().parse().ok(),
            _ => None,
        };
        if accepted.is_none() {
            self.report_unexpected(key, "true or false", describe(&value.kind));
        }
        accepted.unwrap_or(default)
    }

    /// True or false, or none.
    pub(super) fn optional_boolean(&mut self, key: &'static str) -> Option<bool> {
        self.has(key).then(|| self.boolean(key, false)).or_else(|| self.absent(key))
    }

    /// A name of a setting that may have none at all.
    pub(super) fn perhaps_name(&mut self, key: &'static str) -> Option<Option<String>> {
        self.name(key).map(Some)
    }

    /// A text of a setting that may have none at all.
    pub(super) fn perhaps_text(&mut self, key: &'static str) -> Option<Option<String>> {
        self.text(key).map(Some)
    }

    /// Any text of a setting that may have none at all.
    pub(super) fn perhaps_any_text(&mut self, key: &'static str) -> Option<Option<String>> {
        self.any_text(key).map(Some)
    }

    /// A list of strings of a setting that may have none at all.
    pub(super) fn perhaps_texts(&mut self, key: &'static str) -> Option<Option<Vec<String>>> {
        self.optional_texts(key).map(Some)
    }

    /// True or false of a setting that may be neither.
    pub(super) fn perhaps_boolean(&mut self, key: &'static str) -> Option<Option<bool>> {
        self.optional_boolean(key).map(Some)
    }

    /// One of a few words of a setting that may have none at all.
    pub(super) fn perhaps_choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<Option<T>> {
        self.choice(key, choices).map(Some)
    }

    /// A path that is no empty text, or none.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A path of a setting that may have none at all.
    pub(super) fn perhaps_path(&mut self, key: &'static str) -> Option<Option<PathBuf>> {
        self.path(key).map(Some)
    }

    /// A list of strings that are not empty, or none.
    pub(super) fn optional_texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.has(key).then(|| self.texts(key)).or_else(|| self.absent(key))
    }

    /// Notes that a key is known that is not set.
    fn absent<T>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        None
    }

    /// A string, any string, or none.
    pub(super) fn any_text(&mut self, key: &'static str) -> Option<String> {
        match self.value(key)?.kind {
            ValueKind::String(text) => Some(text),
            other => {
                self.report_unexpected(key, "a string", describe(&other));
                None
            }
        }
    }

    /// A string that is not empty, or none.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let text = self.any_text(key)?;
        if text.is_empty() {
            self.report_unexpected(key, "a string that is not empty", "\"\"");
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// A string that no problem repeats, or none.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<String> {
        match self.value(key)?.kind {
            ValueKind::String(text) => Some(text),
            _ => {
                self.report(key, "expected a string, found something else; put the value in quotes");
                None
            }
        }
    }

    /// A string short enough for AMQP's short strings, or none.
    pub(super) fn short_text(&mut self, key: &'static str) -> Option<String> {
        let text = self.any_text(key)?;
        if text.len() > NAME_BYTES_MAX {
            let expected = format!("at most {NAME_BYTES_MAX} bytes");
            self.report_unexpected(key, expected, format!("{} bytes", text.len()));
        }
        Some(text)
    }

    /// A name (of anything), or none. A wrong one is reported and still returned, so that what refers to it finds it.
    pub(super) fn name(&mut self, key: &'static str) -> Option<String> {
        let name = self.any_text(key)?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let found = if name.is_empty() { "\"\"".to_owned() } else { format!("{} bytes", name.len()) };
            self.report_unexpected(key, format!("a name of 1 to {NAME_BYTES_MAX} bytes"), found);
        } else if name.contains(['\r', '\n']) {
            self.report_unexpected(key, "a name without line breaks", format!("{name:?}"));
        }
        Some(name)
    }

    /// A name that must be there; that it is not is reported.
    pub(super) fn required_name(&mut self, key: &'static str) -> Option<String> {
        let name = self.name(key);
        if !self.has(key) {
            self.report_missing(key, format!("a name of 1 to {NAME_BYTES_MAX} bytes"));
        }
        name
    }

    /// The name of an exchange or queue to declare, which must not be one of the broker's own.
    pub(super) fn declared_name(&mut self, key: &'static str) -> Option<String> {
        let name = self.required_name(key)?;
        if name.starts_with(RESERVED_PREFIX) {
            let expected =
                format!("a name that does not begin with {RESERVED_PREFIX:?}, which is the broker's own");
            self.report_unexpected(key, expected, format!("{name:?}"));
        }
        Some(name)
    }

    /// One of a few words, or none.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let found = self.value(key)?.kind;
        let word = if let ValueKind::String(word) = &found { word.as_str() } else { "" };
        let chosen = choices.iter().find(|(name, _)| *name == word).map(|(_, chosen)| *chosen);
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.report_unexpected(key, format!("one of {}", names.join(", ")), describe(&found));
        }
        chosen
    }

    /// A list of strings that are not empty; an absent one is empty.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let expected = "a list of strings, none of them empty";
        let ValueKind::Array(values) = value.kind else {
            self.report_unexpected(key, expected, describe(&value.kind));
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match value.kind {
                ValueKind::String(text) if !text.is_empty() => texts.push(text),
                other => self.report_unexpected(key, expected, describe(&other)),
            }
        }
        texts
    }

    /// The optional arguments of an exchange, queue or binding.
    pub(super) fn arguments(&mut self, key: &'static str) -> Option<Arguments> {
        let ValueKind::Table(table) = self.value(key)?.kind else {
            let found = self.values.get(key).map(|value| describe(&value.kind)).unwrap_or_default();
            self.report_unexpected(key, "a table, { name = value }", found);
            return None;
        };
        Some(argument::read_table(&join(&self.path, key), table, self.problems))
    }

    fn is_variable(&self, key: &str) -> bool {
        self.problems.is_variable(&join(&self.path, key))
    }
}

/// What was found, as a message shows it.
pub(super) fn describe(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        // 5.0 is no whole number, and has to look like none.
        ValueKind::Float(number) => format!("{number:?}"),
        other => other.to_string(),
    }
}
