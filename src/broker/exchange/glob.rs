//! `x-glob`: binding keys are shell patterns over the words of a routing key, such as `orders.{eu,us}.**`.
//!
//! | Pattern | Stands for |
//! |---|---|
//! | `*` | any bytes but `.`, or none |
//! | `**` as a whole word | any words: at least one at the end of a pattern, else also none. In a longer word it is `*` |
//! | `?` | one byte but `.` |
//! | `[a-z_]`, `[!a-z]` | one of these ASCII characters; any other byte but `.` |
//! | `{a,b.*}` | either pattern; they may be nested and empty |
//! | `\` | the next character as it is |
//!
//! The patterns are compiled together, [`SEGMENT`] at a time, when the first message after a change needs them: one segment in a turn.

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::key_hash::KeyMap;
use super::types::{Envelope, ExchangeType, Matches};
use crate::broker::error::Refusal;
use crate::message::ShortStr;
use crate::steps;
use globset::{Candidate, GlobBuilder, GlobSet};
use std::sync::{Arc, OnceLock};

/// How many patterns are compiled together: as many as make up for compiling them all anew when one of them changes.
const SEGMENT: usize = 64;

/// The index of a glob exchange.
#[derive(Debug, Default)]
pub struct Glob {
    /// Each different pattern and those bound with it, in no order.
    patterns: Vec<(ShortStr, BindingSet)>,
    places: KeyMap<ShortStr, usize>,
    /// One for every [`SEGMENT`] patterns, empty since the last change of one of them.
    segments: Vec<OnceLock<Segment>>,
}

/// What a pattern takes to compile, in steps of some ten nanoseconds.
const COMPILE_STEPS: usize = 1500;

/// Compiled patterns, each set with the place of its first one in the segment. One set, unless that would grow too large.
type Segment = Vec<(usize, GlobSet)>;

impl Glob {
    fn segment(&self, number: usize) -> &Segment {
        self.segments[number].get_or_init(|| {
            let end = self.patterns.len().min((number + 1) * SEGMENT);
            let mut segment = Segment::new();
            Glob::compile(&self.patterns[number * SEGMENT..end], 0, &mut segment);
            segment
        })
    }

    fn compile(patterns: &[(ShortStr, BindingSet)], first: usize, segment: &mut Segment) {
        steps::count(COMPILE_STEPS * patterns.len());
        let globs =
            patterns.iter().map(|(pattern, _)| compile(pattern).expect("only sound patterns are taken in"));
        match GlobSet::new(globs) {
            Ok(set) => segment.push((first, set)),
            Err(_) if patterns.len() > 1 => {
                let (left, right) = patterns.split_at(patterns.len() / 2);
                Glob::compile(left, first, segment);
                Glob::compile(right, first + left.len(), segment);
            }
            Err(error) => tracing::error!("the binding key '{}' matches nothing: {error}", patterns[0].0),
        }
    }
}

/// Turns a binding key into a glob over translated keys, see [`translated`].
fn compile(pattern: &ShortStr) -> Result<globset::Glob, Refusal> {
    let refusal = |why: &str| {
        Refusal::Because(format!(
            "The binding key '{pattern}' is no glob pattern: {why}. Correct the pattern and bind again"
        ))
    };
    let text = std::str::from_utf8(pattern.as_bytes()).map_err(|_| refusal("it is not UTF-8"))?;
    let parse = |text: &str| {
        let mut builder = GlobBuilder::new(text);
        builder.literal_separator(true).backslash_escape(true).empty_alternates(true);
        builder.build().map_err(|error| refusal(&error.kind().to_string()))
    };
    parse(text)?;
    let mut translated = translated_pattern(text).map_err(refusal)?;
    if translated.ends_with("**/") && translated.trim_end_matches("**/").is_empty() {
        // The crate takes the separator for a part of the asterisks, and nothing but these for anything at all.
        translated.push_str("{,}");
    }
    parse(&translated)
}

/// The crate's separator is `/`, and its shortcuts go wrong with a last word of `..`. So dots become slashes, slashes become
/// a control character that hardly anyone uses, and that becomes a dot.
fn translated(byte: u8) -> u8 {
    match byte {
        b'.' => b'/',
        b'/' => 1,
        1 => b'.',
        other => other,
    }
}

/// Translates a sound pattern.
fn translated_pattern(pattern: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '[' => translate_class(&mut rest, &mut out)?,
            '\\' => {
                out.push('\\');
                out.extend(rest.next().map(translated_letter));
            }
            other => out.push(translated_letter(other)),
        }
    }
    Ok(out)
}

fn translated_letter(letter: char) -> char {
    u8::try_from(letter).map_or(letter, |byte| if byte.is_ascii() { translated(byte).into() } else { letter })
}

/// Translates a class, whose opening bracket has been read. A range may hold a translated character without naming it, so the
/// class is written anew, member by member; and a negated one gets the separator, which it would else match.
fn translate_class(rest: &mut std::str::Chars<'_>, out: &mut String) -> Result<(), &'static str> {
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    let members = class_members(rest)?;
    let is_member = |byte: &u8| members & 1 << byte != 0;
    let letters = (0..128).filter(is_member).map(|byte| char::from(translated(byte)));
    if !negated {
        let escaped: Vec<String> = letters.map(|letter| format!("\\{letter}")).collect();
        out.push_str(&format!("{{{}}}", escaped.join(",")));
        return Ok(());
    }
    // The closing bracket is a member only when it comes first, the hyphen only when it comes last.
    out.push_str(if is_member(&b']') { "[!]/" } else { "[!/" });
    out.extend(letters.filter(|letter| !matches!(letter, ']' | '/' | '-')));
    out.push_str(if is_member(&b'-') { "-]" } else { "]" });
    Ok(())
}

/// Reads a class up to its closing bracket; the bits of its members are set.
fn class_members(rest: &mut std::str::Chars<'_>) -> Result<u128, &'static str> {
    let mut members = 0;
    let mut is_first = true;
    while let Some(low) = rest.next() {
        if low == ']' && !is_first {
            break;
        }
        is_first = false;
        let range = rest.as_str().strip_prefix('-').and_then(|after| after.chars().next());
        let high = range.filter(|high| *high != ']').unwrap_or(low);
        if high != low || range == Some(low) {
            rest.nth(1);
        }
        if !low.is_ascii() || !high.is_ascii() {
            return Err("only ASCII characters can stand in brackets; use {a,b} for others");
        }
        (low as u8..=high as u8).for_each(|byte| members |= 1 << byte);
    }
    Ok(members)
}

impl ExchangeType for Glob {
    fn check_binding(&self, binding: &Binding) -> Result<(), Refusal> {
        compile(&binding.routing_key).map(|_| ())
    }

    fn bind(&mut self, binding: &Arc<Binding>) {
        let pattern = &binding.routing_key;
        if let Some(place) = self.places.get(pattern) {
            return self.patterns[*place].1.insert(binding, ());
        }
        if compile(pattern).is_err() {
            return;
        }
        let place = self.patterns.len();
        let mut bindings = BindingSet::default();
        bindings.insert(binding, ());
        self.patterns.push((pattern.clone(), bindings));
        self.places.insert(pattern.clone(), place);
        self.segments.resize_with(self.patterns.len().div_ceil(SEGMENT), OnceLock::new);
        self.segments[place / SEGMENT].take();
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        let Some(&place) = self.places.get(&binding.routing_key) else { return };
        let bindings = &mut self.patterns[place].1;
        bindings.remove(binding);
        if !bindings.is_empty() {
            return;
        }
        self.places.remove(&binding.routing_key);
        self.patterns.swap_remove(place);
        self.segments[place / SEGMENT].take();
        self.segments[self.patterns.len() / SEGMENT].take();
        self.segments.truncate(self.patterns.len().div_ceil(SEGMENT));
        if let Some((moved, _)) = self.patterns.get(place) {
            self.places.insert(moved.clone(), place);
        }
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        let key: Vec<u8> = envelope.routing_key.iter().map(|byte| translated(*byte)).collect();
        let candidate = Candidate::from_bytes(&key);
        let mut found = Vec::new();
        for (number, patterns) in self.patterns.chunks(SEGMENT).enumerate() {
            for (first, set) in self.segment(number) {
                set.matches_candidate_into(&candidate, &mut found);
                found.iter().for_each(|place| matches.push_all(&patterns[first + place].1));
            }
        }
    }

    fn routes_by_key_alone(&self) -> bool {
        true
    }

    fn is_prepared(&self) -> bool {
        self.segments.iter().all(|segment| segment.get().is_some())
    }

    fn prepare(&self) -> bool {
        if let Some(number) = self.segments.iter().position(|segment| segment.get().is_none()) {
            self.segment(number);
        }
        self.is_prepared()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Numbers, binding, binding_with, routed};
    use super::*;
    use crate::message::Value;

    fn is_match(pattern: &str, key: &str) -> bool {
        let mut exchange = Glob::default();
        let binding = binding("q", pattern);
        assert_eq!(exchange.check_binding(&binding), Ok(()));
        exchange.bind(&binding);
        !routed(&exchange, key).is_empty()
    }

    #[test]
    fn patterns_are_a_shell_s_with_dots_between_words() {
        let examples: &[(&str, &[&str], &[&str])] = &[
            ("orders.eu", &["orders.eu"], &["orders/eu", "orders.us", "orders"]),
            (
                "orders.*",
                &["orders.eu", "orders.", "orders.a/b"],
                &["orders", "orders.eu.new", "x.orders.eu"],
            ),
            ("orders.{eu,us}.**", &["orders.eu.new", "orders.us.a.b"], &["orders.eu", "orders.uk.new"]),
            ("**.failed", &["failed", "a.failed", "a.b.failed"], &["a.failed.b", "afailed"]),
            ("a.**.b", &["a.b", "a.x.b", "a.x.y.b"], &["ab", "a.x"]),
            ("**", &["", "a", "a.b", "a/b"], &[]),
            ("**.", &["", ".", "a.", "a.b."], &["a", "a.b", ".a"]),
            ("**.**.", &["", ".", "a.b."], &["a", "a.b"]),
            ("*", &["", "a", "a/b"], &["a.b"]),
            ("a**", &["a", "ab"], &["a.b"]),
            ("log.?", &["log.a", "log./"], &["log.", "log..", "log.ab"]),
            ("host-[0-9a]", &["host-7", "host-a"], &["host-b", "host-", "host-77"]),
            ("[!0-9]x", &["ax", "/x", "-x"], &["1x", ".x"]),
            ("{,v1.}jobs", &["jobs", "v1.jobs"], &["v2.jobs"]),
            ("{a,b.{c,d}}", &["a", "b.c", "b.d"], &["b", "c"]),
            (r"\*.\{", &["*.{"], &["a.{", r"\*.{"]),
            ("", &[""], &["a", "."]),
        ];
        for (pattern, matching, others) in examples {
            for (keys, expected) in [(matching, true), (others, false)] {
                keys.iter()
                    .for_each(|key| assert_eq!(is_match(pattern, key), expected, "{pattern} and {key:?}"));
            }
        }
    }

    #[test]
    fn slashes_and_dots_are_told_apart_everywhere() {
        assert!(is_match("a/b.c", "a/b.c") && !is_match("a/b.c", "a.b/c"));
        assert!(is_match(r"a\.b\/c", "a.b/c"));
        assert!(is_match("a[/]b", "a/b") && !is_match("a[/]b", "a.b"));
        assert!(is_match("a[.]b", "a.b") && !is_match("a[.]b", "a/b"));
        assert!(is_match("a[+--]b", "a,b") && !is_match("a[+--]b", "a.b"));
        assert!(is_match("a[+-.]b", "a.b") && !is_match("a[+-.]b", "a/b"));
        assert!(is_match("a[/-0]b", "a/b") && !is_match("a[/-0]b", "a.b"));
        assert!(is_match("a[*-0]b", "a.b") && is_match("a[*-0]b", "a/b"));
        assert!(is_match("**.//", "a.//") && is_match("**...", "a...") && is_match("*./", "a./"));
    }

    #[test]
    fn classes_can_hold_every_character() {
        for member in (0..128).map(char::from).filter(|letter| !matches!(letter, '!' | '^')) {
            let mut exchange = Glob::default();
            exchange.bind(&binding("in", &format!("a[{member}]b")));
            exchange.bind(&binding("out", &format!("a[!{member}]b")));
            for other in (0..128).map(char::from) {
                let expected: &[&str] = match other {
                    _ if other == member => &["in"],
                    '.' => &[],
                    _ => &["out"],
                };
                assert_eq!(routed(&exchange, format!("a{other}b")), expected, "{member:?} and {other:?}");
            }
        }
        assert!(is_match("[]!^-]", "]") && is_match("[]!^-]", "!") && is_match("[]!^-]", "-"));
        assert!(!is_match("[!]!^-]", "]") && is_match("[^]!^-]", "a"));
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        for (pattern, why) in [
            ("orders.{eu", "unclosed alternate group"),
            ("orders.eu}", "unopened alternate group"),
            ("[a-", "unclosed character class"),
            ("[z-a]", "invalid range; 'z' > 'a'"),
            ("a\\", "dangling '\\'"),
            ("[äö]", "only ASCII characters can stand in brackets; use {a,b} for others"),
        ] {
            let mut exchange = Glob::default();
            let text = exchange.check_binding(&binding("q", pattern)).unwrap_err().to_string();
            let start = format!("The binding key '{pattern}' is no glob pattern: ");
            assert!(text.starts_with(&start) && text.contains(why), "{text}");
            exchange.bind(&binding("q", pattern));
            exchange.unbind(&binding("q", pattern));
            assert!(exchange.patterns.is_empty());
        }
        let not_text = Binding { routing_key: b"\xff"[..].into(), ..(*binding("q", "")).clone() };
        assert!(
            Glob::default().check_binding(&not_text).unwrap_err().to_string().contains("it is not UTF-8")
        );
    }

    #[test]
    fn keys_are_bytes() {
        let mut exchange = Glob::default();
        exchange.bind(&binding("q", "a.*"));
        assert_eq!(routed(&exchange, b"a.\xff\x00"), ["q"]);
    }

    #[test]
    fn bindings_come_and_go_over_many_segments() {
        let mut exchange = Glob::default();
        let mut numbers = Numbers(7);
        let mut bound: Vec<_> =
            (0..5 * SEGMENT).map(|n| binding(&format!("q{n:03}"), &format!("k{n}.*"))).collect();
        bound.iter().for_each(|binding| exchange.bind(binding));
        while !bound.is_empty() {
            let gone = bound.swap_remove(numbers.below(bound.len()));
            exchange.unbind(&gone);
            assert!(routed(&exchange, gone.routing_key.to_string()).is_empty());
            if bound.len() % 40 == 0 {
                for binding in &bound {
                    assert_eq!(routed(&exchange, binding.routing_key.to_string()).len(), 1);
                }
            }
        }
        assert!(exchange.patterns.is_empty() && exchange.places.is_empty() && exchange.segments.is_empty());
    }

    #[test]
    fn unbinding_takes_out_that_binding_alone() {
        let mut exchange = Glob::default();
        let same =
            [binding("a", "k.*"), binding("b", "k.*"), binding_with("a", "k.*", &[("n", Value::I32(1))])];
        same.iter().for_each(|binding| exchange.bind(binding));
        assert_eq!(routed(&exchange, "k.1"), ["a", "a", "b"]);
        exchange.unbind(&same[2]);
        assert_eq!(routed(&exchange, "k.1"), ["a", "b"]);
        exchange.unbind(&same[0]);
        assert_eq!(routed(&exchange, "k.1"), ["b"]);
    }

    #[test]
    fn the_longest_patterns_fit_into_a_segment() {
        let longest = ["?", "*", "**.", "[!a]", "[ -~]", "{a,b}", "[!.]*{x,?}"]
            .map(|part| part.repeat(250 / part.len()));
        let mut exchange = Glob::default();
        for n in 0..SEGMENT {
            exchange.bind(&binding("q", &format!("{}{n}", longest[n % longest.len()])));
        }
        assert_eq!(routed(&exchange, format!("{}0", "x".repeat(250))), ["q"]);
        assert_eq!(exchange.segments[0].get().map(Vec::len), Some(1));
    }
}
