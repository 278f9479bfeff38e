//! Each type of exchange against a naive model of it: bindings come and go, messages are routed, the results are equal.

use super::glob;
use super::input::Input;
use leveret::broker::exchange::{Binding, Destination, Envelope, ExchangeType, ExchangeTypes, Matches};
use leveret::message::{FieldTable, Message, Properties, Value};
use std::sync::Arc;

/// Messages of one input: each may cost as much as there are bindings, and the work is to grow with the bytes.
const MESSAGES_MAX: usize = 16;

/// Levels of tables in arguments and headers.
const DEPTH_MAX: usize = 4;

/// What is to be true of a route.
type Model = fn(&Bound<'_>, &Published<'_>, &[usize]);

const MODELS: [(&str, Model); 8] = [
    ("direct", direct),
    ("fanout", fanout),
    ("topic", topic),
    ("headers", headers),
    ("x-glob", globs),
    ("x-consistent-hash", one_whatever_the_order),
    ("x-modulus-hash", one_whatever_the_order),
    ("x-random", one),
];

/// The bindings that there are, oldest first.
struct Bound<'a> {
    bindings: &'a [Arc<Binding>],
    kind: &'static str,
    arguments: &'a FieldTable,
}

/// A message, and the key that it is routed by: its own, or one of its copies'.
struct Published<'a> {
    message: &'a Message,
    key: &'a [u8],
    headers: &'a FieldTable,
}

impl Published<'_> {
    fn is_copy(&self) -> bool {
        self.key != self.message.routing_key()
    }
}

/// The first byte says of what type the exchange is, a table what it was declared with. Each of the others that follow says in
/// its lowest two bits whether something is bound (twice), unbound or published, in the next three where it is bound to or how
/// many bindings before the last one goes, and in the highest two whether a table belongs to it and whether a copy is routed.
pub(super) fn exchanges(data: &[u8]) {
    let mut input = Input(data);
    let Some(first) = input.byte() else { return };
    let (kind, model) = MODELS[usize::from(first) % MODELS.len()];
    let arguments = table(&mut input, first & 0x80 != 0);
    let types = ExchangeTypes::standard();
    let Some(Ok(mut exchange)) = types.construct(kind, &arguments) else { return };
    let mut bindings: Vec<Arc<Binding>> = Vec::new();
    let mut messages = 0;
    while let Some(step) = input.byte() {
        let number = usize::from(step >> 2 & 7);
        match step & 3 {
            0 | 1 => bind(&mut *exchange, &mut bindings, &binding(&mut input, step, number)),
            2 if !bindings.is_empty() => {
                let gone = bindings.remove(bindings.len() - 1 - number % bindings.len());
                exchange.unbind(&gone);
            }
            2 => {}
            _ => {
                messages += 1;
                if messages > MESSAGES_MAX {
                    break;
                }
                let (key, headers) = (input.short(), table(&mut input, step & 0x80 != 0));
                let other: &[u8] = if step & 0x40 != 0 { b"published" } else { key };
                let message = message(other, &headers);
                let bound = Bound { bindings: &bindings, kind, arguments: &arguments };
                let published = Published { message: &message, key, headers: &headers };
                model(&bound, &published, &routed(&*exchange, &bound, &published));
            }
        }
    }
    // Nothing of them stays behind.
    bindings.drain(..).for_each(|binding| exchange.unbind(&binding));
    let message = message(b"a", &FieldTable::default());
    let mut matches = Matches::default();
    exchange.route(&Envelope::new(b"a", &message), &mut matches);
    assert!(matches.bindings().is_empty(), "{kind}: all that was bound is unbound");
}

fn table(input: &mut Input<'_>, is_there: bool) -> FieldTable {
    let bytes = if is_there { input.long() } else { &[] };
    FieldTable::decode(bytes, DEPTH_MAX).unwrap_or_default()
}

fn binding(input: &mut Input<'_>, step: u8, number: usize) -> Binding {
    let name = format!("q{}", number / 2).as_str().into();
    Binding {
        source: "x".into(),
        destination: if number.is_multiple_of(2) {
            Destination::Queue(name)
        } else {
            Destination::Exchange(name)
        },
        routing_key: input.short().into(),
        arguments: table(input, step & 0x80 != 0).into(),
    }
}

/// What an exchange does before its type hears of a binding: it knows all that there are, and asks whether it may be.
fn bind(exchange: &mut dyn ExchangeType, bindings: &mut Vec<Arc<Binding>>, binding: &Binding) {
    let is_known = bindings.iter().any(|known| **known == *binding);
    if !is_known && exchange.check_binding(binding).is_ok() {
        bindings.push(Arc::new(binding.clone()));
        exchange.bind(&bindings[bindings.len() - 1]);
    }
}

fn message(key: &[u8], headers: &FieldTable) -> Message {
    let headers = (!headers.is_empty()).then(|| headers.clone());
    let mut encoded = Vec::new();
    Properties { headers, ..Properties::default() }.encode(&mut encoded);
    Message::new("x", key, &encoded, b"").unwrap()
}

/// The bindings that it goes to, by their places, in order.
fn routed(exchange: &dyn ExchangeType, bound: &Bound<'_>, published: &Published<'_>) -> Vec<usize> {
    let mut matches = Matches::default();
    exchange.route(&Envelope::new(published.key, published.message), &mut matches);
    let place = |found: &&Arc<Binding>| bound.bindings.iter().position(|binding| Arc::ptr_eq(binding, found));
    let mut places: Vec<usize> = matches.bindings().iter().map(|found| place(found).unwrap()).collect();
    places.sort_unstable();
    places
}

fn check(
    bound: &Bound<'_>,
    published: &Published<'_>,
    routed: &[usize],
    is_match: impl Fn(&Binding) -> bool,
) {
    let places = (0..bound.bindings.len()).filter(|place| is_match(&bound.bindings[*place]));
    let expected: Vec<usize> = places.collect();
    assert_eq!(
        routed, expected,
        "{} with {:?}, key {:?}, headers {:?}",
        bound.kind, bound.bindings, published.key, published.headers
    );
}

fn direct(bound: &Bound<'_>, published: &Published<'_>, routed: &[usize]) {
    check(bound, published, routed, |binding| binding.routing_key.as_bytes() == published.key);
}

fn fanout(bound: &Bound<'_>, published: &Published<'_>, routed: &[usize]) {
    check(bound, published, routed, |_| true);
}

fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() { Vec::new() } else { key.split(|byte| *byte == b'.').collect() }
}

fn topic(bound: &Bound<'_>, published: &Published<'_>, routed: &[usize]) {
    let key = words(published.key);
    check(bound, published, routed, |binding| {
        // Whether the pattern so far stands for the first so many words.
        let mut reached = vec![false; key.len() + 1];
        reached[0] = true;
        for word in words(binding.routing_key.as_bytes()) {
            if word == b"#" {
                let first = reached.iter().position(|is_reached| *is_reached).unwrap_or(reached.len());
                reached[first..].fill(true);
                continue;
            }
            for count in (0..key.len()).rev() {
                reached[count + 1] = reached[count] && (word == b"*" || word == key[count]);
            }
            reached[0] = false;
        }
        reached[key.len()]
    });
}

fn headers(bound: &Bound<'_>, published: &Published<'_>, routed: &[usize]) {
    check(bound, published, routed, |binding| {
        let arguments = binding.arguments.decode();
        let mode = arguments.field("x-match").and_then(Value::as_str).unwrap_or("all");
        let counts =
            |name: &[u8]| name != b"x-match" && (mode.ends_with("-with-x") || !name.starts_with(b"x-"));
        let mut criteria =
            arguments.iter().filter(|(name, _)| counts(name.as_bytes())).map(|(name, wanted)| {
                let found = published.headers.iter().find(|(other, _)| other.as_bytes() == name.as_bytes());
                found.is_some_and(|(_, value)| *wanted == Value::Void || is_same(wanted, value))
            });
        if mode.starts_with("any") { criteria.any(|is_met| is_met) } else { criteria.all(|is_met| is_met) }
    });
}

/// Values are the same when they are equal as numbers or as texts, whatever their types.
#[allow(clippy::cast_precision_loss)]
fn is_same(wanted: &Value, value: &Value) -> bool {
    let whole = |value: &Value| match value {
        Value::Timestamp(seconds) => Some(i128::from(*seconds)),
        other => other.as_integer().map(i128::from),
    };
    let number = |value: &Value| match value {
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        other => whole(other).map(|whole| whole as f64),
    };
    match (wanted, value) {
        (Value::LongStr(one) | Value::Bytes(one), Value::LongStr(other) | Value::Bytes(other)) => {
            one == other
        }
        _ => match (whole(wanted), whole(value)) {
            (Some(one), Some(other)) => one == other,
            _ => match (number(wanted), number(value)) {
                (Some(one), Some(other)) => one == other,
                _ => wanted == value,
            },
        },
    }
}

/// Each pattern matches as it does alone; those that the plain rules are enough for match by those.
fn globs(bound: &Bound<'_>, published: &Published<'_>, routed: &[usize]) {
    check(bound, published, routed, |binding| {
        match glob::is_match(binding.routing_key.as_bytes(), published.key) {
            Some(is_match) => is_match,
            None => {
                let alone = [Arc::new(binding.clone())];
                let alone = Bound { bindings: &alone, ..*bound };
                !self::routed(&*anew(&alone, false), &alone, published).is_empty()
            }
        }
    });
}

/// An exchange with the same bindings, taken in again from the first or from the last one.
fn anew(bound: &Bound<'_>, is_reversed: bool) -> Box<dyn ExchangeType> {
    let mut exchange = ExchangeTypes::standard().construct(bound.kind, bound.arguments).unwrap().unwrap();
    match is_reversed {
        false => bound.bindings.iter().for_each(|binding| exchange.bind(binding)),
        true => bound.bindings.iter().rev().for_each(|binding| exchange.bind(binding)),
    }
    exchange
}

/// One binding takes it, but no copy.
fn one(bound: &Bound<'_>, published: &Published<'_>, routed: &[usize]) {
    let expected = usize::from(!bound.bindings.is_empty() && !published.is_copy());
    assert_eq!(routed.len(), expected, "{} with {:?}", bound.kind, bound.bindings);
}

/// One takes it, and leads where the one does that takes it when the bindings came in another order.
fn one_whatever_the_order(bound: &Bound<'_>, published: &Published<'_>, routed: &[usize]) {
    one(bound, published, routed);
    let destination =
        |places: &[usize]| places.first().map(|place| bound.bindings[*place].destination.clone());
    let expected = destination(routed);
    for is_reversed in [false, true] {
        let again = self::routed(&*anew(bound, is_reversed), bound, published);
        assert_eq!(destination(&again), expected, "{} with {:?}", bound.kind, bound.bindings);
    }
}
