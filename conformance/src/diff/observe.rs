//! What came, so that it can be compared: delivery tags, made-up names and times replaced, and the order of things that
//! no rule orders fixed. Called by `super::side`.

use crate::case::Place;
use crate::field::{Field, Table, Value};
use crate::frame::Item;
use crate::method::{Method, Wire};
use crate::names::{Names, fits};
use crate::show;
use std::collections::BTreeSet;

/// What a step brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// What came, in the language of cases.
    pub lines: Vec<String>,
    /// What each queue holds afterwards.
    pub counts: Vec<String>,
    pub(crate) seen: Vec<Seen>,
}

/// What the next steps can make use of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A message that may have to be acknowledged, by `tag`; all that came with it are known when `last` is.
    Delivered { place: Place, tag: u64, last: u64, consumer: Option<String> },
    /// The channel, or with channel 0 the connection, is closed.
    Ended(Place),
}

/// The delivery tags of a channel. Deliveries of two consumers may come in any order, so they are numbered anew, by
/// consumer.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// The broker's tag for each of ours, counted from 1.
    broker: Vec<u64>,
    /// The last of ours among which that one's order is not defined.
    last: Vec<u64>,
}

impl Tags {
    /// The broker's tag for one of ours. What is acknowledged together must not depend on an order that is not defined.
    pub(crate) fn of_broker(&self, ours: u64, multiple: bool) -> u64 {
        let Some(at) = usize::try_from(ours).ok().and_then(|ours| ours.checked_sub(1)) else { return ours };
        let found = if multiple { self.last.get(at) } else { self.broker.get(at) };
        found.copied().unwrap_or(ours)
    }
}

/// Publishes that wait for their confirms.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    pub(crate) on: bool,
    pub(crate) published: u64,
    done: BTreeSet<u64>,
}

impl Confirms {
    /// Whether confirms are still to come after those in the inbox.
    pub(crate) fn misses<'i>(&self, inbox: impl Iterator<Item = &'i Item>) -> bool {
        let mut done = self.done.clone();
        for item in inbox {
            let Item::Method(method, _) = item else { continue };
            match method.spec.name {
                "basic.ack" | "basic.nack" => {
                    done.extend(tags_confirmed(method, &done));
                }
                "channel.close" | "connection.close" => return false,
                _ => {}
            }
        }
        self.on && (done.len() as u64) < self.published
    }
}

fn tags_confirmed(method: &Method, done: &BTreeSet<u64>) -> Vec<u64> {
    let Some(Wire::Int(tag)) = method.arg("delivery_tag") else { return Vec::new() };
    if method.arg("multiple") == Some(&Wire::Bit(true)) {
        return (1..=*tag).filter(|tag| !done.contains(tag)).collect();
    }
    vec![*tag]
}

/// Joins publisher confirms into one line, as a broker may join them as it likes; gives back the rest.
pub(crate) fn without_confirms(
    items: Vec<Item>,
    confirms: &mut Confirms,
    mut say: impl FnMut(String),
) -> Vec<Item> {
    let (mut acks, mut nacks, mut rest) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for item in items {
        let set = match &item {
            Item::Method(method, None) if method.spec.name == "basic.ack" => &mut acks,
            Item::Method(method, None) if method.spec.name == "basic.nack" => &mut nacks,
            _ => {
                rest.push(item);
                continue;
            }
        };
        if let Item::Method(method, _) = &item {
            let tags = tags_confirmed(method, &confirms.done);
            for tag in tags {
                if !confirms.done.insert(tag) {
                    say(format!("confirms ack={tag} again"));
                }
                set.insert(tag);
            }
        }
    }
    let list = |tags: &BTreeSet<u64>| tags.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    if !acks.is_empty() {
        say(format!("confirms ack={}", list(&acks)));
    }
    if !nacks.is_empty() {
        say(format!("confirms nack={}", list(&nacks)));
    }
    rest
}

fn method_name(item: &Item) -> &str {
    match item {
        Item::Method(method, _) => method.spec.name,
        _ => "",
    }
}

fn argument<'i>(item: &'i Item, name: &str) -> Option<&'i Wire> {
    match item {
        Item::Method(method, _) => method.arg(name),
        _ => None,
    }
}

/// The consumer that an item is for.
fn consumer(item: &Item, names: &Names) -> String {
    match argument(item, "consumer_tag") {
        Some(Wire::Text(tag)) => names.contract(&String::from_utf8_lossy(tag)),
        _ => String::new(),
    }
}

/// Deliveries to replies' requesters are not counted: all have the tag 1.
fn counts_as_delivery(item: &Item, names: &Names) -> bool {
    match method_name(item) {
        "basic.get-ok" => true,
        "basic.deliver" => !consumer(item, names).starts_with("reply"),
        _ => false,
    }
}

/// A place as cases write it.
pub(crate) fn place((letter, channel): Place) -> String {
    match (letter, channel) {
        (letter, 0) => letter.to_string(),
        ('a', channel) => channel.to_string(),
        (letter, channel) => format!("{letter}{channel}"),
    }
}

/// The items of one channel in their fixed order, with our delivery tags.
pub(crate) fn arranged(
    place: Place,
    mut items: Vec<Item>,
    tags: &mut Tags,
    names: &Names,
) -> Vec<(Item, Option<Seen>)> {
    let of_consumers = |item: &Item| matches!(method_name(item), "basic.deliver" | "basic.cancel");
    let consumers: BTreeSet<String> =
        items.iter().filter(|item| of_consumers(item)).map(|item| consumer(item, names)).collect();
    if consumers.len() > 1 {
        items.sort_by_key(|item| match method_name(item) {
            "basic.deliver" => (1, consumer(item, names)),
            "basic.cancel" => (2, consumer(item, names)),
            _ => (0, String::new()),
        });
    }
    let first = tags.broker.len() as u64 + 1;
    let deliveries = items.iter().filter(|item| counts_as_delivery(item, names)).count() as u64;
    let mut next = first;
    let mut out = Vec::new();
    for mut item in items {
        let mut seen = None;
        if counts_as_delivery(&item, names) {
            let last = if consumers.len() > 1 { first + deliveries - 1 } else { next };
            let from = method_name(&item) == "basic.deliver";
            let consumer = from.then(|| consumer(&item, names));
            seen = Some(Seen::Delivered { place, tag: next, last, consumer });
            tags.broker.push(renumber(&mut item, next, first..first + deliveries));
            tags.last.push(last);
            next += 1;
        } else if method_name(&item) == "channel.close" || method_name(&item) == "connection.close" {
            seen = Some(Seen::Ended(place));
        }
        out.push((item, seen));
    }
    out
}

/// Puts our delivery tag in, unless the broker's is none that could have come; gives the broker's.
fn renumber(item: &mut Item, ours: u64, possible: std::ops::Range<u64>) -> u64 {
    if let Item::Method(method, _) = item {
        let at = method.spec.args.iter().position(|(name, _)| *name == "delivery_tag");
        if let Some(Wire::Int(tag)) = at.and_then(|at| method.args.get_mut(at)) {
            let broker = *tag;
            if possible.contains(&broker) {
                *tag = ours;
            }
            return broker;
        }
    }
    ours
}

/// A name that the broker made up, and what kind it is.
pub(crate) fn made_up(item: &Item) -> Option<(&'static str, &[u8])> {
    let (kind, argument_name, prefix): (_, _, &[u8]) = match method_name(item) {
        "queue.declare-ok" => ("gen", "queue", b"amq.gen-"),
        "basic.consume-ok" => ("ctag", "consumer_tag", b"amq.ctag-"),
        _ => return None,
    };
    match argument(item, argument_name) {
        Some(Wire::Text(made)) if made.starts_with(prefix) => Some((kind, made)),
        _ => None,
    }
}

/// How the headers of two brokers are compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct ComparedHeaders {
    /// Those that are left out; `*` at the end of one stands for anything.
    pub(crate) ignored: Vec<String>,
    /// RabbitMQ 4 passes headers on sorted by name, and once each: then both sides are made so.
    pub(crate) are_sorted: bool,
}

/// An item in the language of cases, without what is different in each run.
pub(crate) fn text(item: &Item, names: &Names, compared: &ComparedHeaders) -> String {
    let mut item = item.clone();
    if let Item::Method(_, Some(content)) = &mut item {
        let mut emptied = false;
        for (name, value) in &mut content.properties {
            match value {
                Wire::Table(headers) if *name == "headers" => {
                    let ignored =
                        |name: &[u8]| compared.ignored.iter().any(|glob| fits(glob.as_bytes(), name));
                    let before = headers.len();
                    headers.retain(|(name, _)| !ignored(name));
                    emptied |= headers.is_empty() && before > 0;
                    with_history(headers);
                    if compared.are_sorted {
                        headers.sort_by(|(one, _), (other, _)| one.cmp(other));
                        headers.dedup_by(|(later, _), (first, _)| later == first);
                    }
                }
                Wire::Text(text) if text.starts_with(b"amq.rabbitmq.reply-to.") => {
                    *text = b"amq.rabbitmq.reply-to.*".to_vec();
                }
                _ => {}
            }
        }
        content.properties.retain(|(name, _)| !(emptied && *name == "headers"));
    }
    names.contract(&show::item(&item))
}

/// Times of deaths are the clock's, and the order of fields is not defined.
fn with_history(headers: &mut Table) {
    let Some((_, Field { value: Value::List(rows), .. })) =
        headers.iter_mut().find(|(name, _)| name == b"x-death")
    else {
        return;
    };
    for row in rows {
        let Value::Table(fields) = &mut row.value else { continue };
        for (name, field) in fields.iter_mut() {
            if let (b"time", Value::Int(time)) = (name.as_slice(), &mut field.value) {
                *time = 0;
            }
        }
        fields.sort_by(|left, right| left.0.cmp(&right.0));
    }
    headers.sort_by(|left, right| left.0.cmp(&right.0));
}

/// What a passive declaration says of a queue.
pub(crate) fn count(queue: &[u8], answer: Option<&Item>, names: &Names) -> String {
    let queue = names.contract(&String::from_utf8_lossy(queue));
    let number = |name| match answer.and_then(|item| argument(item, name)) {
        Some(Wire::Int(number)) => *number,
        _ => 0,
    };
    match answer.map(method_name) {
        Some("queue.declare-ok") => {
            format!(
                "queue {queue}: {} ready, {} consumers",
                number("message_count"),
                number("consumer_count")
            )
        }
        Some("channel.close") => format!("queue {queue}: {}", number("reply_code")),
        _ => format!("queue {queue}: no answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{by_name, empty};

    fn delivery(consumer: &str, tag: u64) -> Item {
        let spec = by_name("basic.deliver").unwrap();
        let mut method = Method { spec, args: spec.args.iter().map(|(_, kind)| empty(*kind)).collect() };
        method.args[0] = Wire::Text(consumer.into());
        method.args[1] = Wire::Int(tag);
        Item::Method(method, None)
    }

    #[test]
    fn deliveries_of_two_consumers_are_put_in_order_and_their_tags_can_be_found_again() {
        let names = Names::new("run");
        let mut tags = Tags::default();
        let items = vec![delivery("c2", 1), delivery("c1", 2), delivery("c2", 3)];
        let out = arranged(('a', 1), items, &mut tags, &names);
        let shown: Vec<String> =
            out.iter().map(|(item, _)| text(item, &names, &ComparedHeaders::default())).collect();
        assert_eq!(
            shown,
            [
                "basic.deliver consumer_tag=c1 delivery_tag=1",
                "basic.deliver consumer_tag=c2 delivery_tag=2",
                "basic.deliver consumer_tag=c2 delivery_tag=3"
            ]
        );
        assert_eq!([1, 2, 3, 4].map(|tag| tags.of_broker(tag, false)), [2, 1, 3, 4]);
        assert_eq!([1, 3, 4].map(|tag| tags.of_broker(tag, true)), [3, 3, 4]);
    }

    #[test]
    fn confirms_are_joined() {
        let confirm = |tag, multiple| {
            let spec = by_name("basic.ack").unwrap();
            Item::Method(Method { spec, args: vec![Wire::Int(tag), Wire::Bit(multiple)] }, None)
        };
        let mut confirms = Confirms { on: true, published: 3, done: BTreeSet::new() };
        let mut said = Vec::new();
        let items = vec![confirm(2, false), confirm(3, true)];
        assert!(confirms.misses(items[..1].iter()) && !confirms.misses(items.iter()));
        assert!(without_confirms(items, &mut confirms, |text| said.push(text)).is_empty());
        assert_eq!(said, ["confirms ack=1,2,3"]);
        without_confirms(vec![confirm(3, false)], &mut confirms, |text| said.push(text));
        assert_eq!(said[1], "confirms ack=3 again");
    }
}
