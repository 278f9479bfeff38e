//! Patterns of permissions: regular expressions as RabbitMQ's users write them, with what Perl's know and plain ones do not,
//! such as `^(?!amq[.])`. They are looked for anywhere in a name; an empty one fits nothing but the empty name.

use fancy_regex::{Regex, RegexBuilder};
use std::fmt;

/// Steps that matching one name may take before it is given up: only patterns with look-around or back-references count them.
const STEPS_MAX: usize = 100_000;

/// A pattern, as written and compiled.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        Pattern::compile(text, text)
    }

    /// A pattern in which each `{name}` stands for a value, which is taken literally; other braces are left as they are.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Pattern, PatternError> {
        let mut expanded = text.to_owned();
        for (name, value) in variables {
            expanded = expanded.replace(&format!("{{{name}}}"), &fancy_regex::escape(value));
        }
        Pattern::compile(text, &expanded)
    }

    fn compile(text: &str, expanded: &str) -> Result<Pattern, PatternError> {
        let source = if expanded.is_empty() { "^$".to_owned() } else { with_literal_braces(expanded) };
        let regex = RegexBuilder::new(&source).backtrack_limit(STEPS_MAX).build();
        let regex =
            regex.map_err(|error| PatternError { pattern: text.to_owned(), reason: reason(&error) })?;
        Ok(Pattern { text: text.to_owned(), regex })
    }

    /// Whether it is found in `name`. One that takes too long to match does not.
    pub fn is_match(&self, name: &str) -> bool {
        self.regex.is_match(name).unwrap_or(false)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// What is wrong, in a line.
fn reason(error: &fancy_regex::Error) -> String {
    match error {
        fancy_regex::Error::ParseError(position, error) => format!("{error}, at position {position}"),
        other => {
            // Of some patterns a picture is drawn, with what is wrong in its last line.
            let text = other.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// A brace that begins no repetition is itself, as in Perl: `{client_id}` without a value, for instance.
fn with_literal_braces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '\\']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        // What a backslash takes away its meaning, or gives one, stays with it.
        let taken = if from.starts_with('\\') { escape_length(from) } else { 1 };
        if from.starts_with('{') && !is_repetition(from) {
            out.push('\\');
        }
        out.push_str(&from[..taken]);
        rest = &from[taken..];
    }
    out.push_str(rest);
    out
}

/// The bytes of an escape at the start of `text`: `\{`, `\d`, `\p{Lu}`, `\x{e9}`.
fn escape_length(text: &str) -> usize {
    let Some(letter) = text[1..].chars().next() else { return 1 };
    let length = 1 + letter.len_utf8();
    let takes_braces = matches!(letter, 'p' | 'P' | 'x' | 'u' | 'U' | 'k' | 'g');
    match text[length..].starts_with('{').then(|| text[length..].find('}')).flatten() {
        Some(end) if takes_braces => length + end + 1,
        _ => length,
    }
}

/// Whether `text` begins with `{3}`, `{3,}` or `{3,5}`.
fn is_repetition(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_looked_for_anywhere_and_an_empty_one_fits_nothing() {
        for (pattern, name, fits) in [
            ("a", "bab", true),
            ("", "x", false),
            ("", "", true),
            ("^(?!amq[.])", "amq.topic", false),
            ("^(?!amq[.])", "orders", true),
            ("^a{2}$", "aa", true),
            ("^a{2,}$", "aaa", true),
            ("^{client_id}$", "{client_id}", true),
            (r"^\{a\}$", "{a}", true),
            (r"^\p{Lu}", "Ä", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().is_match(name), fits, "{pattern} {name}");
        }
        assert_eq!(Pattern::new("(").unwrap_err().pattern, "(");
    }

    #[test]
    fn a_variable_is_taken_literally() {
        let pattern = Pattern::with_variables("^{username}[.]{other}$", &[("username", "a.b*")]).unwrap();
        assert!(pattern.is_match("a.b*.{other}") && !pattern.is_match("aab.{other}"));
        assert_eq!(pattern.as_str(), "^{username}[.]{other}$");
    }

    #[test]
    fn a_pattern_that_takes_for_ever_does_not_match() {
        let pattern = Pattern::new("^(?=(a+)+$)b").unwrap();
        assert!(!pattern.is_match(&format!("{}c", "a".repeat(200))));
    }
}
