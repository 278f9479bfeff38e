//! Patterns as operators write them for RabbitMQ: Perl's regular expressions, looked for anywhere in a name. Lookahead is in
//! daily use there (`^(?!amq[.])`), so this is more than the regular expressions that are linear in time; what goes beyond
//! those is tried a bounded number of times.

use crate::steps;
use fancy_regex::{Regex, RegexBuilder};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 4096;

/// Steps back while one name is looked at, which take a millisecond or two. Names have 255 bytes, so a pattern that needs more
/// does harm.
const BACKTRACK_MAX: usize = 100_000;

static GIVEN_UP: AtomicU64 = AtomicU64::new(0);

/// How often a pattern was given up since the process began, see [`Undecided`].
pub fn given_up() -> u64 {
    GIVEN_UP.load(Ordering::Relaxed)
}

/// A pattern tried more ways to match a name than it may: whether it does match is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the pattern '{pattern}' takes more than {BACKTRACK_MAX} steps on '{name}'; write it with fewer repetitions that match the same text"
)]
pub struct Undecided {
    /// The pattern, as written.
    pub pattern: String,
    /// The name that it was tried on.
    pub name: String,
}

/// Bytes that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// What most permissions are.
const EVERYTHING: &str = ".*";

/// A pattern, as written and compiled.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    /// `None` for what is found in any name: nothing has to be compiled, or looked for, then.
    regex: Option<Regex>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PatternError {
    /// The pattern, as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl From<Undecided> for PatternError {
    fn from(undecided: Undecided) -> PatternError {
        PatternError { reason: undecided.to_string(), pattern: undecided.pattern }
    }
}

impl Pattern {
    /// Compiles a pattern, which is searched for anywhere in a name.
    ///
    /// # Errors
    /// When it is no regular expression, or too large.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        Pattern::compile(text, text)
    }

    /// Compiles a pattern of a permission: an empty one fits nothing.
    ///
    /// # Errors
    /// When it is no regular expression, or too large.
    pub fn of_permission(text: &str) -> Result<Pattern, PatternError> {
        Pattern::with_variables(text, &[])
    }

    /// The same, in which each `{name}` stands for a value, which is taken literally; other braces are left as they are.
    ///
    /// # Errors
    /// When it is no regular expression, or too large.
    pub fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Pattern, PatternError> {
        let mut expanded = text.to_owned();
        for (name, value) in variables {
            expanded = expanded.replace(&format!("{{{name}}}"), &fancy_regex::escape(value));
        }
        Pattern::compile(text, if expanded.is_empty() { "^$" } else { &expanded })
    }

    fn compile(text: &str, expanded: &str) -> Result<Pattern, PatternError> {
        let error = |reason| PatternError { pattern: text.to_owned(), reason };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(error(format!("{} bytes where {PATTERN_BYTES_MAX} are the most", text.len())));
        }
        if expanded == EVERYTHING {
            return Ok(Pattern { text: text.to_owned(), regex: None });
        }
        let regex = RegexBuilder::new(&with_literal_braces(expanded))
            .backtrack_limit(BACKTRACK_MAX)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .build();
        let regex = regex.map_err(|fault| error(reason(&fault)))?;
        Ok(Pattern { text: text.to_owned(), regex: Some(regex) })
    }

    /// Whether it is found in a name.
    ///
    /// # Errors
    /// When that takes too many steps.
    pub fn matches(&self, name: &str) -> Result<bool, Undecided> {
        let Some(regex) = &self.regex else { return Ok(true) };
        steps::count(1 + name.len());
        regex.is_match(name).map_err(|_| {
            steps::count(BACKTRACK_MAX);
            GIVEN_UP.fetch_add(1, Ordering::Relaxed);
            Undecided { pattern: self.text.clone(), name: name.to_owned() }
        })
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
    let reason = match error {
        fancy_regex::Error::ParseError(position, error) => format!("{error}, at position {position}"),
        other => {
            // Of some patterns a picture is drawn, with what is wrong in its last line.
            let text = other.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    };
    // Some quote the pattern.
    let escaped = |letter: char| {
        if letter.is_control() { letter.escape_debug().to_string() } else { letter.to_string() }
    };
    reason.chars().map(escaped).collect()
}

/// A brace that begins no repetition is itself, as in Perl: `{client_id}` without a value, for instance.
fn with_literal_braces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '\\']) {
        steps::count(1 + at / 16);
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
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let low = digits(&text[1..]);
    let behind = &text[1 + low..];
    let high = behind.strip_prefix(',').map_or(0, |high| 1 + digits(high));
    steps::count(1 + (low + high) / 16);
    low > 0 && behind[high..].starts_with('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_looked_for_anywhere_and_know_what_perl_knows() {
        for (pattern, name, found) in [
            ("", "anything", true),
            ("b", "abc", true),
            ("^b", "abc", false),
            ("^(?!amq\\.).*", "orders", true),
            ("^(?!amq\\.).*", "amq.gen-1", false),
            ("^(a|b)\\1$", "aa", true),
            ("^(a|b)\\1$", "ab", false),
            ("^a{2}$", "aa", true),
            ("^a{2,}$", "aaa", true),
            ("^{client_id}$", "{client_id}", true),
            (r"^\{a\}$", "{a}", true),
            (r"^\p{Lu}", "Ä", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), Ok(found), "{pattern} in {name}");
        }
    }

    #[test]
    fn an_empty_permission_fits_nothing() {
        assert_eq!(Pattern::of_permission("").unwrap().matches("x"), Ok(false));
        assert_eq!(Pattern::of_permission("").unwrap().as_str(), "");
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused_in_one_line() {
        for pattern in ["(", "[a", "*", "(?<a", "(?:a{1000}){1000}", "(?\n", &"a".repeat(5000)] {
            let error = Pattern::new(pattern).map(|_| pattern).expect_err(pattern).to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{pattern:.20}: {error}");
        }
    }

    #[test]
    fn a_variable_is_taken_literally() {
        let pattern = Pattern::with_variables("^{username}[.]{other}$", &[("username", "a.b*")]).unwrap();
        assert_eq!((pattern.matches("a.b*.{other}"), pattern.matches("aab.{other}")), (Ok(true), Ok(false)));
        assert_eq!(pattern.as_str(), "^{username}[.]{other}$");
    }

    #[test]
    fn a_pattern_that_tries_for_ever_is_given_up_and_says_so() {
        let evil = Pattern::new(r"^(a+)(a+)(a+)\3\2\1[0-9]?$").unwrap();
        let before = given_up();
        let undecided = evil.matches(&("a".repeat(250) + "b")).unwrap_err();
        assert!(given_up() > before);
        let start = r"the pattern '^(a+)(a+)(a+)\3\2\1[0-9]?$' takes more than 100000 steps on 'aaa";
        assert!(undecided.to_string().starts_with(start));
    }
}
