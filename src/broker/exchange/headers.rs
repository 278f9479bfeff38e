//! `headers`: a binding's arguments are matched with a message's headers, all of them or any.
//!
//! Every binding lies in the index under one of its arguments (`all`) or under each of them (`any`), by name and value. A
//! message looks up each of its headers and checks what it finds, so that bindings for other values cost nothing.

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::key_hash::{KeyHashSeed, KeyMap};
use super::types::{Envelope, ExchangeType, Matches};
use crate::broker::error::Refusal;
use crate::message::{EncodedTable, FieldTable, Value};
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The argument that says how to match.
const X_MATCH: &str = "x-match";

/// The index of a headers exchange.
#[derive(Debug, Default)]
pub struct Headers {
    by_criterion: KeyMap<u64, BindingSet<Mode>>,
    /// Those that ask for nothing, and so match everything.
    unconditional: BindingSet,
}

/// Up to this many arguments, looking through all of them again costs less than noting that it was done.
const FEW_ARGUMENTS: usize = 16;

/// Bindings that have been looked at.
type Seen = HashSet<*const Binding, KeyHashSeed>;

/// How a binding's arguments are to be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mode {
    /// Whether every argument must match, not just one.
    all: bool,
    /// Whether arguments whose names start with `x-` count too.
    with_x: bool,
}

impl Mode {
    fn of(arguments: &EncodedTable) -> Result<Mode, Refusal> {
        let (all, with_x) = match arguments.field(X_MATCH) {
            None => (true, false),
            Some(Value::LongStr(text)) => match text.as_slice() {
                b"all" => (true, false),
                b"any" => (false, false),
                b"all-with-x" => (true, true),
                b"any-with-x" => (false, true),
                _ => {
                    return Err(Refusal::Value {
                        fault: "Invalid x-match field value ".into(),
                        value: Value::LongStr(text),
                        wanted: "; expected all, any, all-with-x, or any-with-x",
                    });
                }
            },
            Some(value) => {
                return Err(Refusal::Value {
                    fault: format!("Invalid x-match field type {} (value ", value.type_name()),
                    value,
                    wanted: "); expected longstr",
                });
            }
        };
        Ok(Mode { all, with_x })
    }

    /// The arguments that count.
    fn criteria(self, arguments: &EncodedTable) -> impl Iterator<Item = (&[u8], Value)> {
        arguments
            .iter()
            .filter(move |(name, _)| *name != X_MATCH.as_bytes() && (self.with_x || !name.starts_with(b"x-")))
    }
}

/// A message's headers by name: of those with the same name, the first counts.
struct HeadersByName<'m>(Vec<(&'m [u8], &'m Value)>);

impl<'m> HeadersByName<'m> {
    fn new(headers: &'m FieldTable) -> HeadersByName<'m> {
        let mut fields: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value)).collect();
        fields.sort_by_key(|(name, _)| *name);
        fields.dedup_by_key(|(name, _)| *name);
        HeadersByName(fields)
    }

    fn satisfies(&self, (name, expected): &(&[u8], Value)) -> bool {
        let place = self.0.binary_search_by_key(name, |(name, _)| name);
        place.is_ok_and(|place| *expected == Value::Void || matches_value(expected, self.0[place].1))
    }
}

/// Whether a header's value is the expected one: RabbitMQ compares values and not their types, so a double of 1.0, a
/// timestamp of 1 and an integer of 1 are equal. Inside arrays and tables types count too.
fn matches_value(expected: &Value, value: &Value) -> bool {
    if let (Some(expected), Some(value)) = (whole(expected), whole(value)) {
        return expected == value;
    }
    if let (Some(expected), Some(value)) = (number(expected), number(value)) {
        return expected == value;
    }
    match (text(expected), text(value)) {
        (Some(expected), Some(value)) => expected == value,
        _ => expected == value,
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp(seconds) => Some((*seconds).into()),
        value => value.as_integer().map(Into::into),
    }
}

#[allow(clippy::cast_precision_loss)] // Numbers that large differ from a double anyway, as they do in RabbitMQ.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(number) => Some((*number).into()),
        Value::F64(number) => Some(*number),
        value => whole(value).map(|number| number as f64),
    }
}

fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::LongStr(bytes) | Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Where a binding lies that asks for this value: the same for all values that [`matches_value`] takes for equal.
fn place_of_value(name: &[u8], value: &Value) -> u64 {
    let hash = |kind: u32, content: &[u8]| KeyHashSeed.hash_one((name, kind, content));
    if let Some(number) = number(value) {
        // Plus zero: both zeroes are equal.
        return hash(1, &(number + 0.0).to_bits().to_le_bytes());
    }
    if let Some(text) = text(value) {
        return hash(2, text);
    }
    match value {
        Value::Bool(flag) => hash(3, &[u8::from(*flag)]),
        // Rare, so these are distinguished only when they are checked.
        other => hash(4, other.type_name().as_bytes()),
    }
}

/// Where a binding lies that asks for any value.
fn place_of_presence(name: &[u8]) -> u64 {
    KeyHashSeed.hash_one((name, 0u32))
}

fn place_of_criterion((name, expected): &(&[u8], Value)) -> u64 {
    match expected {
        Value::Void => place_of_presence(name),
        value => place_of_value(name, value),
    }
}

fn places(mode: Mode, arguments: &EncodedTable) -> Vec<u64> {
    let mut places: Vec<u64> =
        mode.criteria(arguments).map(|criterion| place_of_criterion(&criterion)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

impl Headers {
    /// Pushes those that lie at a place and match. One that lies at several places is pushed at the first one that it matches;
    /// `seen` are those with too many arguments to be looked at more than once.
    fn push_matching<'a>(
        &'a self,
        place: u64,
        headers: &HeadersByName<'_>,
        seen: &mut Seen,
        matches: &mut Matches<'a>,
    ) {
        let Some(found) = self.by_criterion.get(&place) else { return };
        for (binding, mode) in found.iter() {
            let mut looked_at = 0;
            let mut criteria = mode.criteria(&binding.arguments).inspect(|_| looked_at += 1);
            let is_match = if mode.all {
                criteria.all(|criterion| headers.satisfies(&criterion))
            } else if binding.arguments.iter().nth(FEW_ARGUMENTS).is_some() {
                seen.insert(Arc::as_ptr(binding)) && criteria.any(|criterion| headers.satisfies(&criterion))
            } else {
                let first = criteria.find(|criterion| headers.satisfies(criterion));
                first.is_some_and(|criterion| place_of_criterion(&criterion) == place)
            };
            drop(criteria);
            matches.count_work(looked_at);
            if is_match {
                matches.push(binding);
            }
        }
    }

    fn remove_at(&mut self, place: u64, binding: &Arc<Binding>) -> bool {
        let Some(set) = self.by_criterion.get_mut(&place) else { return false };
        let was_there = set.remove(binding);
        if set.is_empty() {
            self.by_criterion.remove(&place);
        }
        was_there
    }
}

impl ExchangeType for Headers {
    fn check_binding(&self, binding: &Binding) -> Result<(), Refusal> {
        Mode::of(&binding.arguments).map(|_| ())
    }

    fn bind(&mut self, binding: &Arc<Binding>) {
        let Ok(mode) = Mode::of(&binding.arguments) else { return };
        let mut places = places(mode, &binding.arguments);
        if mode.all {
            // The least crowded place, so that a common header such as a message's kind is no bottleneck.
            let crowd = |place: &u64| self.by_criterion.get(place).map_or(0, BindingSet::len);
            match places.iter().copied().min_by_key(crowd) {
                None => return self.unconditional.insert(binding, ()),
                Some(place) => places = vec![place],
            }
        }
        for place in places {
            self.by_criterion.entry(place).or_default().insert(binding, mode);
        }
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        let Ok(mode) = Mode::of(&binding.arguments) else { return };
        let places = places(mode, &binding.arguments);
        if mode.all && places.is_empty() {
            self.unconditional.remove(binding);
        }
        for place in places {
            let was_there = self.remove_at(place, binding);
            if mode.all && was_there {
                break;
            }
        }
    }

    fn ignores_routing_key(&self) -> bool {
        true
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        matches.push_all(&self.unconditional);
        if self.by_criterion.is_empty() {
            return;
        }
        let headers = HeadersByName::new(envelope.headers());
        let mut seen = Seen::default();
        for (name, value) in &headers.0 {
            self.push_matching(place_of_value(name, value), &headers, &mut seen, matches);
            self.push_matching(place_of_presence(name), &headers, &mut seen, matches);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Numbers, binding, binding_with, queue, routed_headers, table};
    use super::*;
    use crate::steps;

    /// Whether a binding with these arguments takes a message with these headers.
    fn is_match(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
        let mut exchange = Headers::default();
        exchange.bind(&binding_with("q", "", arguments));
        let routed = routed_headers(&exchange, &table(headers));
        assert!(routed.len() <= 1, "pushed twice for {headers:?}");
        !routed.is_empty()
    }

    fn text(value: &str) -> Value {
        Value::from(value)
    }

    #[test]
    fn all_arguments_or_any_of_them_must_match() {
        let order = [("kind", text("order")), ("region", text("eu")), ("extra", text("1"))];
        let other = [("kind", text("order")), ("region", text("us"))];
        let bare = [("region", text("eu"))];
        for (mode, expected) in [
            (None, [true, false, false]),
            (Some("all"), [true, false, false]),
            (Some("any"), [true, true, true]),
        ] {
            let mut arguments = vec![("kind", text("order")), ("region", text("eu"))];
            arguments.extend(mode.map(|mode| (X_MATCH, text(mode))));
            let seen = [&order[..], &other, &bare].map(|headers| is_match(&arguments, headers));
            assert_eq!(seen, expected, "{mode:?}");
            assert!(!is_match(&arguments, &[("kind", text("invoice"))]));
            assert!(!is_match(&arguments, &[]));
        }
    }

    #[test]
    fn names_that_start_with_x_count_only_when_asked_for() {
        let messages: [&[(&str, Value)]; 3] =
            [&[("a", text("1"))], &[("x-foo", text("2"))], &[("a", text("1")), ("x-foo", text("2"))]];
        for (mode, expected) in [
            ("all", [true, false, true]),
            ("any", [true, false, true]),
            ("all-with-x", [false, false, true]),
            ("any-with-x", [true, true, true]),
        ] {
            let arguments = [(X_MATCH, text(mode)), ("a", text("1")), ("x-foo", text("2"))];
            assert_eq!(messages.map(|headers| is_match(&arguments, headers)), expected, "{mode}");
        }
        assert!(!is_match(&[(X_MATCH, text("any-with-x"))], &[(X_MATCH, text("any-with-x"))]));
    }

    #[test]
    fn asking_for_nothing_is_always_all_and_never_any() {
        for headers in [&[][..], &[("a", text("1"))], &[("x-foo", text("1"))]] {
            for mode in ["all", "all-with-x"] {
                assert!(is_match(&[], headers) && is_match(&[(X_MATCH, text(mode))], headers));
            }
            for mode in ["any", "any-with-x"] {
                assert!(!is_match(&[(X_MATCH, text(mode))], headers));
            }
            assert!(is_match(&[("x-foo", text("2"))], headers));
            assert!(!is_match(&[(X_MATCH, text("any")), ("x-foo", text("1"))], headers));
        }
    }

    /// What RabbitMQ 3.10.8 was seen to do.
    #[test]
    fn values_are_compared_and_not_their_types() {
        let one_of = |value: Value| Value::Array(vec![value]);
        let examples = [
            (Value::I32(1), Value::I64(1), true),
            (Value::U8(200), Value::I16(200), true),
            (Value::I32(1), Value::I32(2), false),
            (Value::F32(1.5), Value::F64(1.5), true),
            (Value::F64(0.0), Value::F64(-0.0), true),
            (Value::F64(1.0), Value::I32(1), true),
            (Value::F64(1.5), Value::I32(1), false),
            (Value::I32(1), Value::Timestamp(1), true),
            (Value::I64(i64::MAX), Value::I64(i64::MAX - 1), false),
            (Value::Bool(true), Value::I32(1), false),
            (text("1"), Value::I32(1), false),
            (text("a"), Value::Bytes(b"a".to_vec()), true),
            (text("a"), text("A"), false),
            (text("a"), Value::Void, false),
            (Value::Void, text("anything"), true),
            (Value::Void, Value::Void, true),
            (one_of(Value::I32(1)), one_of(Value::I32(1)), true),
            (one_of(Value::I32(1)), one_of(Value::I64(1)), false),
        ];
        for (expected, value, equal) in examples {
            for mode in ["all", "any"] {
                let seen =
                    is_match(&[(X_MATCH, text(mode)), ("k", expected.clone())], &[("k", value.clone())]);
                assert_eq!(seen, equal, "{mode}: {expected:?} and {value:?}");
            }
        }
    }

    #[test]
    fn what_x_match_can_not_be_is_refused() {
        let refusal = |value: Value| {
            Headers::default()
                .check_binding(&binding_with("q", "", &[(X_MATCH, value)]))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refusal(text("v")),
            r#"Invalid x-match field value <<"v">>; expected all, any, all-with-x, or any-with-x"#
        );
        assert_eq!(
            refusal(Value::I32(5)),
            "Invalid x-match field type signedint (value 5); expected longstr"
        );
        assert_eq!(Headers::default().check_binding(&binding("q", "")), Ok(()));
    }

    fn generated(
        numbers: &mut Numbers,
        fields_max: usize,
        mut allowed: Vec<(&'static str, Value)>,
    ) -> FieldTable {
        let count = numbers.below(fields_max + 1).min(allowed.len());
        (0..count).map(|_| allowed.swap_remove(numbers.below(allowed.len()))).collect()
    }

    fn fields(numbers: &mut Numbers) -> Vec<(&'static str, Value)> {
        let value = |numbers: &mut Numbers| {
            [Value::I32(1), Value::I64(1), Value::I8(2), text("1"), text("2"), Value::Void][numbers.below(6)]
                .clone()
        };
        ["a", "b", "c", "x-d"].map(|name| (name, value(numbers))).into()
    }

    /// The rules in their plainest form.
    fn naive(arguments: &FieldTable, headers: &FieldTable) -> bool {
        let mode = arguments.field(X_MATCH).and_then(Value::as_str).unwrap_or("all");
        let mut seen = Vec::new();
        for (name, expected) in arguments.iter() {
            let name = name.to_string();
            if name != X_MATCH && (mode.ends_with("-with-x") || !name.starts_with("x-")) {
                seen.push(match headers.field(&name) {
                    None => false,
                    Some(_) if *expected == Value::Void => true,
                    Some(value) => {
                        (expected.as_integer(), expected.as_str()) == (value.as_integer(), value.as_str())
                            && *value != Value::Void
                    }
                });
            }
        }
        if mode.starts_with("all") { !seen.contains(&false) } else { seen.contains(&true) }
    }

    #[test]
    fn routes_as_the_plain_rules_say_while_bindings_come_and_go() {
        for seed in 0..40 {
            let mut numbers = Numbers(seed);
            let mut exchange = Headers::default();
            let mut bound: Vec<Arc<Binding>> = Vec::new();
            for step in 0..150 {
                if numbers.below(3) == 0 && !bound.is_empty() {
                    exchange.unbind(&bound.swap_remove(numbers.below(bound.len())));
                } else {
                    let fields = fields(&mut numbers);
                    let mut arguments = generated(&mut numbers, 3, fields);
                    let modes = [None, Some("all"), Some("any"), Some("all-with-x"), Some("any-with-x")];
                    if let Some(mode) = modes[numbers.below(5)] {
                        arguments.insert(X_MATCH, text(mode));
                    }
                    let new = binding(&format!("q{step}"), "");
                    let new = Arc::new(Binding { arguments: arguments.into(), ..(*new).clone() });
                    exchange.bind(&new);
                    bound.push(new);
                }
                let fields = fields(&mut numbers);
                let headers = generated(&mut numbers, 4, fields);
                let matching = bound.iter().filter(|binding| naive(&binding.arguments.decode(), &headers));
                let mut expected: Vec<_> = matching.map(queue).collect();
                expected.sort();
                assert_eq!(routed_headers(&exchange, &headers), expected, "seed {seed}, headers {headers:?}");
            }
            bound.iter().for_each(|binding| exchange.unbind(binding));
            assert!(exchange.by_criterion.is_empty() && exchange.unconditional.is_empty());
        }
    }

    #[test]
    fn bindings_and_messages_with_many_fields_cost_no_more_than_these() {
        const FIELDS: usize = 3000;
        let names: Vec<String> = (0..2 * FIELDS).map(|n| format!("k{n}")).collect();
        let fields = |range: std::ops::Range<usize>| {
            range.map(|n| (names[n].as_str(), Value::Void)).collect::<Vec<_>>()
        };
        let mut exchange = Headers::default();
        let mut any = fields(0..FIELDS);
        any.push((X_MATCH, text("any")));
        let (_, steps) = steps::of(|| (0..40).for_each(|_| exchange.bind(&binding_with("q", "", &any))));
        assert!(steps < 40 * 20 * FIELDS as u64, "{steps} steps to bind");
        let headers = table(&fields(FIELDS - 1..2 * FIELDS - 1));
        let (routed, steps) = steps::of(|| routed_headers(&exchange, &headers));
        assert_eq!(routed.len(), 40);
        assert!(steps < 40 * 3 * FIELDS as u64, "{steps} steps for a message");
    }
}
