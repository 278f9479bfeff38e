//! `[[policies]]` and `[[operator_policies]]`: settings for all queues and exchanges whose names match a pattern. They are set
//! at each start; what the file says counts before what was set while the broker ran.

use super::argument::Arguments;
use super::diagnose::Location;
use super::section::Section;
use super::topology::Vhost;

/// One of `[[policies]]` or `[[operator_policies]]`. What pattern and definition may be is the broker's to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The vhost that it is for. Default `/`.
    pub vhost: String,
    /// Its name. Required.
    pub name: String,
    /// A regular expression, looked for anywhere in the names of queues and exchanges; an empty one fits all. Required.
    pub pattern: String,
    /// `all`, `queues`, `exchanges`, `classic_queues`, `quorum_queues` or `streams`. Default `all`.
    pub apply_to: String,
    /// Of several that fit, the one with the highest priority applies. Default 0.
    pub priority: i64,
    /// What it sets. Required.
    pub definition: Arguments,
    /// Where it stands in the file.
    pub declared_at: Option<Location>,
}

impl Policy {
    pub(super) fn read(section: &mut Section<'_>) -> Policy {
        if !section.has("pattern") {
            section.report_missing("pattern", "a regular expression, looked for in names");
        }
        if !section.has("definition") {
            section.report_missing("definition", "a table, { key = value }, such as { max-length = 1000 }");
        }
        let words = ["all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams"];
        let words = words.map(|word| (word, word));
        Policy {
            vhost: Vhost::read_reference(section),
            name: section.required_name("name"),
            pattern: section.any_text("pattern").unwrap_or_default(),
            apply_to: section.choice("apply_to", &words).unwrap_or("all").to_owned(),
            priority: section.whole("priority", i64::MIN.., 0),
            definition: section.arguments("definition"),
            declared_at: section.location(),
        }
    }
}
