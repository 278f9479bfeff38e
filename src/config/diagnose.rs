//! What is wrong with a configuration, said so that it can be put right: where, which key, and what would do.
//!
//! [`Problems`] gathers while the configuration is read (by `source`, `section` and `references`); [`ConfigErrors`] is
//! what the caller of `Config::load` gets. Nothing here stops at the first problem.

use crate::steps;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// The place in the configuration file where something is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, as it was named on the command line.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The key path, such as `queues[2]`.
    pub key: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.key)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file it is in, as named on the command line; none for a variable.
    pub file: Option<String>,
    /// The line, counted from 1; none for a variable, or where the file as a whole is meant.
    pub line: Option<usize>,
    /// The key path, such as `queues[2].durable`, or the variable's name. Empty for an error of syntax.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that was found wrong, in the order of the file, variables last. Displayed one problem to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The problems; never empty.
    pub problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn unreadable_file(file: &str, message: String) -> ConfigErrors {
        let problem = Problem { file: Some(file.to_owned()), line: None, key: String::new(), message };
        ConfigErrors { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Takes passwords out of URLs in a text: `amqp://user:secret@host` becomes `amqp://user:***@host`. Complaints quote what was
/// found, and are kept where others read them.
fn without_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("://");
        let end = part.find(['/', ' ', '"', '\'', '?', '#']).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        match authority.rsplit_once('@') {
            Some((login, host)) => {
                let user = login.split(':').next().unwrap_or_default();
                clean.push_str(&format!("{user}:***@{host}"));
            }
            None => clean.push_str(authority),
        }
        clean.push_str(rest);
    }
    clean
}

/// Gathers problems, and knows where each key path was set. Paths look like `queues[2].durable`.
pub(super) struct Problems {
    file: String,
    lines: HashMap<String, usize>,
    /// Key path to the variable that set it.
    variables: BTreeMap<String, String>,
    found: RefCell<Vec<Problem>>,
    /// How many names may still be compared with what was meant.
    comparisons_left: Cell<usize>,
}

/// Names that are compared to find what was meant, for all problems of a file together. Beyond that no hints are given.
const COMPARISONS_MAX: usize = 1_000_000;

impl Problems {
    pub(super) fn new(file: &str) -> Problems {
        Problems {
            file: file.to_owned(),
            lines: HashMap::new(),
            variables: BTreeMap::new(),
            found: RefCell::default(),
            comparisons_left: Cell::new(COMPARISONS_MAX),
        }
    }

    pub(super) fn set_line(&mut self, path: &str, line: usize) {
        steps::count(1 + path.len() / 16);
        self.lines.insert(path.to_owned(), line);
    }

    pub(super) fn set_variable(&mut self, path: &str, name: &str) {
        self.variables.insert(path.to_owned(), name.to_owned());
    }

    pub(super) fn location(&self, path: &str) -> Option<Location> {
        let line = *self.lines.get(path)?;
        Some(Location { file: self.file.clone(), line, key: path.to_owned() })
    }

    pub(super) fn is_variable(&self, path: &str) -> bool {
        self.variables.contains_key(path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Reports about the value at `path`, or, where it is missing, about the table `parent` that should hold it. A
    /// variable that set the value, or turned it into a table by naming something below it, is what is to blame.
    pub(super) fn report(&self, path: &str, parent: &str, message: impl Into<String>) {
        if let Some(variable) = self.variables.get(path) {
            self.report_variable(variable, message);
        } else if let Some(variable) = self.variables_below(path).next() {
            self.report_variable(variable, format!("{path}: {}", message.into()));
        } else {
            self.report_key(path, self.lines.get(path).or_else(|| self.lines.get(parent)), message);
        }
    }

    /// Reports an unknown key, wherever it is set: in the file, by variables, or both.
    pub(super) fn report_unknown(&self, path: &str, message: &str) {
        let line = self.lines.get(path);
        let at = self.variables.get(path);
        if line.is_some() {
            self.report_key(path, line, message);
        }
        if let Some(variable) = at {
            self.report_variable(variable, message);
        }
        for variable in self.variables_below(path) {
            self.report_variable(variable, format!("{path}: {message}"));
        }
    }

    /// Reports about a line of the file, where `key`, if any, is only what stands there.
    pub(super) fn report_line(&self, line: usize, key: &str, message: impl Into<String>) {
        self.report_key(key, Some(&line), message);
    }

    pub(super) fn report_variable(&self, name: &str, message: impl Into<String>) {
        let message = without_passwords(&message.into());
        let problem = Problem { file: None, line: None, key: name.to_owned(), message };
        self.found.borrow_mut().push(problem);
    }

    fn report_key(&self, path: &str, line: Option<&usize>, message: impl Into<String>) {
        let file = line.map(|_| self.file.clone());
        let message = without_passwords(&message.into());
        let problem = Problem { file, line: line.copied(), key: path.to_owned(), message };
        self.found.borrow_mut().push(problem);
    }

    /// The known name that `name` most likely was meant to be, if any is near, and as long as not too many were looked for.
    pub(super) fn nearest<'a>(&self, name: &str, known: &HashSet<&'a str>) -> Option<&'a str> {
        let left = self.comparisons_left.get().checked_sub(known.len())?;
        self.comparisons_left.set(left);
        steps::count(known.len());
        nearest(name, known.iter().copied())
    }

    fn variables_below(&self, path: &str) -> impl Iterator<Item = &String> {
        let prefix = format!("{path}.");
        self.variables.iter().filter(move |(path, _)| path.starts_with(&prefix)).map(|(_, variable)| variable)
    }

    pub(super) fn into_errors(self) -> ConfigErrors {
        let mut problems = self.found.into_inner();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        ConfigErrors { problems }
    }
}

/// Whether TOML takes `key` without quotes.
pub(super) fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// `path` followed by `key`, which is quoted where TOML would want it quoted.
pub(super) fn join(path: &str, key: &str) -> String {
    let key = if is_bare(key) { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The candidate that `word` most likely was meant to be, if any is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.85)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_quoted_without_their_passwords() {
        for (text, clean) in [
            ("found \"amqp://u:s@h:1/v\"", "found \"amqp://u:***@h:1/v\""),
            ("a://u:p@s@h, b://h/x@y", "a://u:***@h, b://h/x@y"),
            ("no URL", "no URL"),
        ] {
            assert_eq!(without_passwords(text), clean);
        }
    }
}
