//! What an import says of single entries: that they are left out, are not all as they were, or do nothing here.

use crate::api::{ImportNote, Table};
use serde_json::Value;
use std::fmt;

/// An entry of a document, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The list that it is in.
    pub section: &'static str,
    /// Its place there, counted from 0.
    pub index: usize,
    /// What it is, with its name.
    pub title: String,
    /// Its name; of a binding that of its source, of permissions that of the user.
    pub name: String,
    /// The vhost it says that it is in.
    pub vhost: Option<String>,
}

impl Entry {
    pub(super) fn new(section: &'static str, index: usize, kind: &'static str, fields: &Table) -> Entry {
        let of = |name: &str| fields.get(name).and_then(Value::as_str);
        let name = of("name").or(of("user")).or(of("source")).unwrap_or_default();
        let kind = if of("component") == Some("operator_policy") { "operator policy" } else { kind };
        let destination = match section {
            "bindings" => format!(" to '{}'", in_a_line(of("destination").unwrap_or_default())),
            _ => String::new(),
        };
        let title = format!("{kind} '{}'{destination}", in_a_line(name));
        Entry { section, index, title, name: name.to_owned(), vhost: of("vhost").map(str::to_owned) }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}], {}", self.section, self.index, self.title)?;
        match &self.vhost {
            Some(vhost) => write!(f, " in vhost '{}'", in_a_line(vhost)),
            None => Ok(()),
        }
    }
}

/// A text with names in it as it can stand in a line.
pub fn in_a_line(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// What became of an entry that is not imported just as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not imported.
    LeftOut,
    /// It is imported, and something about it is not as it was.
    Changed,
    /// It is imported, and something of it does nothing here.
    WithoutEffect,
}

impl Outcome {
    /// The word that the answer to a request has for it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::LeftOut => "left_out",
            Outcome::Changed => "changed",
            Outcome::WithoutEffect => "without_effect",
        }
    }
}

/// What there is to say of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The entry of the document.
    pub entry: Entry,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it is left out, or has no effect.
    pub reason: String,
}

impl Note {
    /// As the answer to a request has it.
    pub(super) fn answer(&self) -> ImportNote {
        ImportNote {
            section: self.entry.section.to_owned(),
            index: self.entry.index,
            name: self.entry.name.clone(),
            vhost: self.entry.vhost.clone(),
            outcome: self.outcome.name().to_owned(),
            reason: self.reason.clone(),
            message: self.to_string(),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.outcome {
            Outcome::LeftOut => " is left out",
            Outcome::Changed => " is changed",
            Outcome::WithoutEffect => "",
        };
        write!(f, "{}{what}: {}", self.entry, in_a_line(&self.reason))
    }
}
