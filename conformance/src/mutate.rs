//! Cases that expect something else than they should: each must fail, or the case it was made of can't. Used by a broker's
//! own tests.

use crate::case::{Action, Broker, Case};
use crate::text::{Arg, Order, Term};

/// Every variant of a case in which one thing that it expects is another, with the line where that is. Only what is played
/// against `broker` is changed.
pub fn variants(case: &Case, broker: Broker) -> Vec<(usize, Case)> {
    let mut out = Vec::new();
    for (at, step) in case.steps.iter().enumerate() {
        let Action::Expect { place, count, unordered, args } = &step.action else { continue };
        if !step.is_for(broker) {
            continue;
        }
        let mut variant = |count: usize, args: Vec<Arg>| {
            let mut changed = case.clone();
            changed.steps[at].action = Action::Expect { place: *place, count, unordered: *unordered, args };
            out.push((step.line, changed));
        };
        for index in 1..args.len() {
            for other in others(&args[index]) {
                let mut args = args.clone();
                args.splice(index..=index, other);
                variant(*count, args);
            }
        }
        if *count > 1 {
            variant(count + 1, args.clone());
        }
    }
    out
}

/// What may stand in place of an argument; nothing in the place of a bit that is set.
fn others(arg: &Arg) -> Vec<Option<Arg>> {
    if arg
        .word()
        .is_some_and(|word| word.starts_with(|first: char| first.is_ascii_lowercase()) && !word.contains(':'))
    {
        return vec![None];
    }
    terms(&arg.term).into_iter().map(|term| Some(Arg { key: arg.key.clone(), term })).collect()
}

/// Other values than this one; none for what fits anything.
fn terms(term: &Term) -> Vec<Term> {
    match term {
        Term::Text { text, quoted } => vec![Term::Text { text: other_text(text, *quoted), quoted: *quoted }],
        Term::Capture { glob: Some(glob), name } => {
            vec![Term::Capture { name: name.clone(), glob: Some([b"not ", glob.as_slice()].concat()) }]
        }
        Term::Capture { .. } | Term::Optional(_) | Term::Open => Vec::new(),
        Term::Typed(b'V', _) => vec![plain("void")],
        Term::Typed(tag, inner) => {
            terms(inner).into_iter().map(|inner| Term::Typed(*tag, Box::new(inner))).collect()
        }
        Term::List(items) => {
            let mut out: Vec<Term> = changed(items, terms).into_iter().map(Term::List).collect();
            out.push(Term::List([items.as_slice(), &[plain("more")]].concat()));
            out
        }
        Term::Table(entries, order) => {
            let entry = |(name, term): &(Vec<u8>, Term)| {
                terms(term).into_iter().map(|term| (name.clone(), term)).collect::<Vec<_>>()
            };
            let mut out: Vec<Term> =
                changed(entries, entry).into_iter().map(|entries| Term::Table(entries, *order)).collect();
            if entries.is_empty() && *order == Order::Exact {
                out.push(Term::Table(vec![(b"more".to_vec(), plain("more"))], Order::Exact));
            }
            out
        }
    }
}

/// The list with one item changed, in every way that one can be.
fn changed<T: Clone>(items: &[T], others: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    for at in 0..items.len() {
        for other in others(&items[at]) {
            let mut items = items.to_vec();
            items[at] = other;
            out.push(items);
        }
    }
    out
}

fn plain(text: &str) -> Term {
    Term::Text { text: text.into(), quoted: false }
}

fn other_text(text: &[u8], quoted: bool) -> Vec<u8> {
    let known = String::from_utf8_lossy(text).into_owned();
    // Numbers stay numbers: 5 is 6, 50.20 is 50.21, 1-3 is 1-4, bytes:7 is bytes:8.
    let start = known.rfind(|last: char| !last.is_ascii_digit()).map_or(0, |at| at + 1);
    let number = known.get(start..).and_then(|digits| digits.parse::<u64>().ok());
    match (quoted, known.as_str(), number) {
        (false, "true", _) => b"false".to_vec(),
        (false, "false", _) => b"true".to_vec(),
        (false, _, Some(number)) => format!("{}{}", &known[..start], number.wrapping_add(1)).into_bytes(),
        _ => [text, b"~"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse;

    #[test]
    fn every_value_is_changed_and_nothing_that_fits_anything() {
        let args = parse("get-ok 50.20 tag=7 redelivered queue=? {headers={a=[i:1 x] b=V:}} \"m\"").unwrap();
        let counts: Vec<usize> = args[1..].iter().map(|arg| others(arg).len()).collect();
        assert_eq!(counts, [1, 1, 1, 0, 4, 1]);
        assert_eq!(others(&args[1])[0].as_ref().unwrap().word(), Some("50.21"));
        assert_eq!(others(&args[3]), [None]);
    }
}
