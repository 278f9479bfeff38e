//! JSON that is built by bytes, so that changes to them are changes to values and not to syntax.

use super::input::Input;
use serde_json::{Map, Value};

/// Names and values that mean something to the broker.
const WORDS: &[&str] = &[
    "",
    "name",
    "vhost",
    "/",
    "q",
    "x",
    "guest",
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "global_parameters",
    "policies",
    "parameters",
    "exchanges",
    "queues",
    "bindings",
    "type",
    "durable",
    "auto_delete",
    "internal",
    "arguments",
    "source",
    "destination",
    "destination_type",
    "queue",
    "exchange",
    "routing_key",
    "value",
    "component",
    "pattern",
    "definition",
    "apply-to",
    "all",
    "priority",
    "configure",
    "write",
    "read",
    ".*",
    "^q",
    "(",
    "user",
    "password",
    "password_hash",
    "hashing_algorithm",
    "tags",
    "administrator",
    "limits",
    "max-connections",
    "max-queues",
    "vhost-limits",
    "operator_policy",
    "direct",
    "fanout",
    "topic",
    "headers",
    "x-consistent-hash",
    "x-glob",
    "x-queue-type",
    "classic",
    "quorum",
    "stream",
    "x-max-length",
    "x-max-length-bytes",
    "x-message-ttl",
    "x-expires",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-overflow",
    "reject-publish",
    "x-max-priority",
    "x-single-active-consumer",
    "x-delivery-limit",
    "alternate-exchange",
    "max-length",
    "message-ttl",
    "expires",
    "overflow",
    "dead-letter-exchange",
    "delivery-limit",
    "ha-mode",
    "hash-header",
    "x-match",
    "any",
    "amq.direct",
    "amq.topic",
    "properties",
    "delivery_mode",
    "payload",
    "payload_encoding",
    "string",
    "base64",
    "count",
    "ackmode",
    "ack_requeue_true",
    "encoding",
    "auto",
    "truncate",
    "metadata",
    "description",
    "tracing",
    "default_queue_type",
    "cluster_name",
    "rabbit_version",
    "product_name",
    "a\nb",
    "ä",
];

/// Values within values.
const DEPTH_MAX: usize = 12;

/// The value that the next bytes build.
pub(super) fn built(input: &mut Input<'_>) -> Value {
    value(input, DEPTH_MAX)
}

fn value(input: &mut Input<'_>, depth_max: usize) -> Value {
    let kind = input.byte().unwrap_or_default();
    let number = || i64::from(kind >> 3);
    match kind & 7 {
        0 => [Value::Null, Value::Bool(false), Value::Bool(true), Value::from("")]
            [usize::from(kind >> 3 & 3)]
        .clone(),
        1 => Value::from(number() - 2),
        2 => Value::from(1_i64 << number() << number()),
        3 => Value::from((number() - 8) as f64 / 4.0),
        4 => Value::from(word(input)),
        5 => Value::from(String::from_utf8_lossy(input.short()).into_owned()),
        _ if depth_max == 0 => Value::Null,
        6 => {
            (0..number()).map_while(|_| (!input.0.is_empty()).then(|| value(input, depth_max - 1))).collect()
        }
        _ => {
            let fields = (0..number()).map_while(|_| {
                (!input.0.is_empty()).then(|| (word(input).to_owned(), value(input, depth_max - 1)))
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

fn word(input: &mut Input<'_>) -> &'static str {
    WORDS[usize::from(input.byte().unwrap_or_default()) % WORDS.len()]
}

/// The bytes that build a value, as far as it has the words for it; for seeds.
pub fn bytes_of(value: &Value) -> Vec<u8> {
    let place = |text: &str| WORDS.iter().position(|word| *word == text).unwrap_or_default() as u8;
    match value {
        Value::Null => vec![0],
        Value::Bool(flag) => vec![(1 + u8::from(*flag)) << 3],
        Value::Number(number) => vec![1 | ((number.as_i64().unwrap_or(1).clamp(-2, 29) + 2) as u8) << 3],
        Value::String(text) if WORDS.contains(&text.as_str()) => vec![4, place(text)],
        Value::String(text) => {
            let text = &text.as_bytes()[..text.len().min(200)];
            [&[5, text.len() as u8], text].concat()
        }
        Value::Array(values) => {
            let values = &values[..values.len().min(31)];
            let inner = values.iter().flat_map(bytes_of);
            [6 | (values.len() as u8) << 3].into_iter().chain(inner).collect()
        }
        Value::Object(fields) => {
            let known = fields.iter().filter(|(name, _)| WORDS.contains(&name.as_str())).take(31);
            let known: Vec<_> = known.collect();
            let inner = known.iter().flat_map(|(name, value)| {
                [place(name)].into_iter().chain(bytes_of(value)).collect::<Vec<u8>>()
            });
            [7 | (known.len() as u8) << 3].into_iter().chain(inner).collect()
        }
    }
}
