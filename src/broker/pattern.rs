//! Patterns as operators write them for RabbitMQ: Perl's regular expressions, looked for anywhere in a name. Lookahead is in
//! daily use there (`^(?!amq\.).*`), so this is more than the regular expressions that are linear in time; what goes beyond
//! those is tried a bounded number of times.

use fancy_regex::{Regex, RegexBuilder};

/// Bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 4096;

/// Steps back while one name is looked at. Names have 255 bytes, so a pattern that needs more does harm.
const BACKTRACK_MAX: usize = 100_000;

/// Bytes that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// With what is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("{} bytes where {PATTERN_BYTES_MAX} are the most", text.len()));
        }
        let compiled = RegexBuilder::new(text)
            .backtrack_limit(BACKTRACK_MAX)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .build();
        let regex = compiled.map_err(|error| {
            // The last line says what; those before it draw where.
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
        })?;
        Ok(Pattern { regex })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// Whether it is found in a name. A name that takes too many steps does not match.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name).unwrap_or(false)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_looked_for_anywhere_and_know_lookahead() {
        for (pattern, name, found) in [
            ("", "anything", true),
            ("b", "abc", true),
            ("^b", "abc", false),
            ("^(?!amq\\.).*", "orders", true),
            ("^(?!amq\\.).*", "amq.gen-1", false),
            ("^(a|b)\\1$", "aa", true),
            ("^(a|b)\\1$", "ab", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), found, "{pattern} in {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused_in_one_line() {
        for pattern in ["(", "[a", "*", "(?<a", "(?:a{1000}){1000}", &"a".repeat(5000)] {
            let error = Pattern::new(pattern).map(|_| pattern).expect_err(pattern);
            assert!(!error.is_empty() && !error.contains('\n'), "{pattern:.20}: {error}");
        }
    }

    #[test]
    fn a_pattern_that_tries_for_ever_does_not_match() {
        let evil = Pattern::new("^(?=(a+)+$)(a+)+\\1b").unwrap();
        assert!(!evil.matches(&"a".repeat(255)));
    }
}
