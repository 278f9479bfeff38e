//! Finding the one binding that matches among many that do not. Only fanout and the hashes, where all of them count, may take
//! longer with more.

use divan::Bencher;
use leveret::broker::exchange::{Binding, Destination, Envelope, ExchangeType, ExchangeTypes, Matches};
use leveret::message::{FieldTable, Message, Properties, Value};
use std::hint::black_box;
use std::sync::Arc;

const BINDINGS: [usize; 3] = [10, 1000, 100_000];

/// An exchange of a type, with that many bindings.
fn exchange(kind: &str, bindings: impl Iterator<Item = (String, FieldTable)>) -> Box<dyn ExchangeType> {
    let constructed = ExchangeTypes::standard().construct(kind, &FieldTable::default());
    let mut exchange = constructed.expect("the type is known").expect("it needs no arguments");
    for (number, (key, arguments)) in bindings.enumerate() {
        let binding = Binding {
            source: "x".into(),
            destination: Destination::Queue(format!("queue-{number}").into()),
            routing_key: key.as_str().into(),
            arguments: arguments.into(),
        };
        exchange.bind(&Arc::new(binding));
    }
    exchange
}

/// An exchange whose last binding has a key of its own.
fn by_key(kind: &str, count: usize, key: impl Fn(usize) -> String, last: &str) -> Box<dyn ExchangeType> {
    let others = (1..count).map(key).chain([last.to_owned()]);
    exchange(kind, others.map(|key| (key, FieldTable::default())))
}

/// Routes one message again and again.
fn route(bencher: Bencher<'_, '_>, exchange: &dyn ExchangeType, properties: &Properties) {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let message = Message::new("x", b"orders.eu.new", &encoded, b"").expect("it is small");
    let route = || {
        let envelope = Envelope::new(message.routing_key(), &message);
        let mut matches = Matches::default();
        exchange.route(&envelope, &mut matches);
        assert!(!black_box(&matches).bindings().is_empty());
    };
    // What a type puts off until the first message is no part of it.
    route();
    bencher.bench_local(route);
}

#[divan::bench(args = BINDINGS)]
fn direct(bencher: Bencher<'_, '_>, count: usize) {
    let exchange = by_key("direct", count, |number| format!("orders.eu.{number}"), "orders.eu.new");
    route(bencher, &*exchange, &Properties::default());
}

#[divan::bench(args = BINDINGS)]
fn fanout(bencher: Bencher<'_, '_>, count: usize) {
    route(bencher, &*by_key("fanout", count, |_| String::new(), ""), &Properties::default());
}

#[divan::bench(args = BINDINGS)]
fn topic(bencher: Bencher<'_, '_>, count: usize) {
    let exchange = by_key("topic", count, |number| format!("orders.{number}.*"), "orders.*.new");
    route(bencher, &*exchange, &Properties::default());
}

#[divan::bench(args = BINDINGS)]
fn headers(bencher: Bencher<'_, '_>, count: usize) {
    let table = |number: usize| -> FieldTable {
        [("x-match", Value::from("all")), ("customer", Value::from(format!("c-{number}").as_str()))]
            .into_iter()
            .collect()
    };
    let exchange = exchange("headers", (0..count).map(|number| (String::new(), table(number))));
    let headers: FieldTable = [("customer", Value::from("c-0"))].into_iter().collect();
    route(bencher, &*exchange, &Properties { headers: Some(headers), ..Properties::default() });
}

// Compiling 100,000 patterns takes longer than all else here together.
#[divan::bench(args = &BINDINGS[..2])]
fn x_glob(bencher: Bencher<'_, '_>, count: usize) {
    let exchange = by_key("x-glob", count, |number| format!("orders.{number}.*"), "orders.*.new");
    route(bencher, &*exchange, &Properties::default());
}

#[divan::bench(args = BINDINGS)]
fn x_consistent_hash(bencher: Bencher<'_, '_>, count: usize) {
    route(bencher, &*by_key("x-consistent-hash", count, |_| "1".to_owned(), "1"), &Properties::default());
}
