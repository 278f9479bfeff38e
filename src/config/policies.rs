//! `[[policies]]` and `[[operator_policies]]`: settings for all queues and exchanges whose names match a pattern. They are set
//! at each start; what the file says counts before what was set while the broker ran.

use super::argument::Arguments;
use super::section::Section;
use super::table::settings;
use super::topology::DEFAULT_VHOST;
use crate::vocabulary::ApplyTo;

settings! {
    /// One of `[[policies]]` or `[[operator_policies]]`. What pattern and definition may be is the broker's to say.
    Policy, declared_at {
        /// The vhost that it is for.
        vhost: String = DEFAULT_VHOST.to_owned(), name();
        /// Its name. Required.
        name: String = String::new(), required_name();
        /// A regular expression, looked for anywhere in the names of queues and exchanges; an empty one fits all. Required.
        pattern: String = String::new(), policy_pattern();
        /// What it is for.
        apply_to: ApplyTo = ApplyTo::All, choice(ApplyTo::NAMES);
        /// Of several that fit, the one with the highest priority applies.
        priority: i64 = 0, optional_whole(..);
        /// What it sets. Required.
        definition: Arguments = Arguments::new(), policy_definition();
    }
}

impl Section<'_> {
    /// A pattern, which has to be there.
    fn policy_pattern(&mut self, key: &'static str) -> Option<String> {
        if !self.has(key) {
            self.report_missing(key, "a regular expression, looked for in names");
        }
        self.any_text(key)
    }

    /// What a policy sets, which has to be there.
    fn policy_definition(&mut self, key: &'static str) -> Option<Arguments> {
        if !self.has(key) {
            self.report_missing(key, "a table, { key = value }, such as { max-length = 1000 }");
        }
        self.arguments(key)
    }
}
