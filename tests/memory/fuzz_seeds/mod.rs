//! Small inputs that the fuzz targets start from, made by hand; `write_seeds` writes them out.

mod disk;
mod http;
mod text;

use leveret::message::{FieldTable, Value};

/// The target, the name of the file, and what is in it.
pub(crate) type Seed = (&'static str, String, Vec<u8>);

/// All seeds that are made by hand.
pub(crate) fn all() -> Vec<Seed> {
    [
        disk::journal(),
        disk::log(),
        exchanges(),
        http::definitions(),
        http::management(),
        text::certificates(),
        text::config(),
        text::patterns(),
        text::proxy_headers(),
    ]
    .concat()
}

/// A piece behind a byte that says how long it is.
fn short(piece: &[u8]) -> Vec<u8> {
    [&[u8::try_from(piece.len()).unwrap()], piece].concat()
}

/// A piece behind two bytes that say how long it is.
fn long(piece: &[u8]) -> Vec<u8> {
    [&u16::try_from(piece.len()).unwrap().to_be_bytes()[..], piece].concat()
}

fn table(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut encoded = Vec::new();
    fields.iter().cloned().collect::<FieldTable>().encode(&mut encoded);
    long(&encoded)
}

const BIND: u8 = 0;
const UNBIND: u8 = 2;
const PUBLISH: u8 = 3;
const WITH_TABLE: u8 = 0x80;
const AS_COPY: u8 = 0x40;

/// An exchange of the type with that number, with bindings by key and by arguments, and messages.
fn exchange(kind: u8, keys: &[&str], arguments: &[&[(&str, Value)]], published: &[&str]) -> Vec<u8> {
    let mut seed = vec![kind];
    for (number, key) in keys.iter().enumerate() {
        seed.push(BIND | (number as u8 & 7) << 2);
        seed.extend(short(key.as_bytes()));
    }
    for (number, fields) in arguments.iter().enumerate() {
        seed.push(BIND | (number as u8 & 7) << 2 | WITH_TABLE);
        seed.extend(short(b""));
        seed.extend(table(fields));
    }
    for (number, key) in published.iter().enumerate() {
        seed.push(PUBLISH);
        seed.extend(short(key.as_bytes()));
        if let Some(fields) = arguments.get(number) {
            seed.push(PUBLISH | WITH_TABLE);
            seed.extend(short(key.as_bytes()));
            seed.extend(table(fields));
        }
        seed.push(UNBIND | 1 << 2);
    }
    seed.push(PUBLISH | AS_COPY);
    seed.extend(short(b"a.b"));
    seed
}

fn exchanges() -> Vec<Seed> {
    let text = Value::from;
    let criteria: &[&[(&str, Value)]] = &[
        &[("x-match", text("any")), ("kind", text("order")), ("n", Value::I32(1))],
        &[("x-match", text("all-with-x")), ("x-a", Value::F64(1.0)), ("b", Value::Void)],
        &[("kind", text("order")), ("n", Value::Timestamp(1)), ("l", Value::Array(vec![Value::Bool(true)]))],
    ];
    let topics = ["a.b", "a.*", "#", "*.#.b", "#.a.#.b", "", ".", "a.#.*"];
    let globs = ["a.*", "a.**.b", "**", "{a,b.{c,**}}", "[!a-c]x.?", r"\*.\{", "a**", "**.b"];
    let keys = ["a.b", "a", "", "a.x.y.b", "dx.z"];
    let seeds = [
        ("direct", exchange(0, &["a", "b", "a", ""], &[], &keys)),
        ("fanout", exchange(1, &["a", "b"], criteria, &keys)),
        ("topic", exchange(2, &topics, &[], &keys)),
        ("headers", exchange(3, &["a"], criteria, &keys)),
        ("glob", exchange(4, &globs, &[], &keys)),
        ("consistent-hash", exchange(5, &["1", "2", "10", "1", "4294967295", "+3", "0"], &[], &keys)),
        ("modulus-hash", exchange(6, &["a", "b", "c"], criteria, &keys)),
        ("random", exchange(7, &["a", "b", "c"], &[], &keys)),
    ];
    seeds.map(|(name, seed)| ("exchanges", name.to_owned(), seed)).into()
}
