//! Dead letters: why messages are dead-lettered, and the history that they carry from then on in the header x-death.

use crate::broker::delivery::Entry;
use crate::broker::queue::{QueueDefinition, QueueSettings};
use crate::broker::turn::{Effect, Turn};
use crate::message::{FieldTable, Message, Millis, Value};
use std::sync::Arc;

/// Why a message was dead-lettered, as x-death calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// A consumer refused it.
    Rejected,
    /// It outlived its time.
    Expired,
    /// The queue was full.
    MaxLength,
    /// It was delivered in vain too often.
    DeliveryLimit,
}

impl DeathReason {
    /// The reason as x-death names it.
    pub fn name(self) -> &'static str {
        match self {
            DeathReason::Rejected => "rejected",
            DeathReason::Expired => "expired",
            DeathReason::MaxLength => "maxlen",
            DeathReason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message that is dead-lettered, with the settings that its queue had then.
#[derive(Debug)]
pub struct DeadLetter {
    /// The queue that it was in.
    pub queue: Arc<QueueDefinition>,
    /// What was in force there.
    pub settings: Arc<QueueSettings>,
    /// The message, as it was in the queue.
    pub entry: Entry,
    /// Why it was dead-lettered.
    pub reason: DeathReason,
}

impl DeadLetter {
    /// The message as it goes to the dead-letter exchange: with its history, without its expiration.
    pub fn letter(&self, now: Millis) -> Message {
        dead_lettered(&self.entry.message, &self.queue, &self.settings, self.reason, now)
    }
}

fn dead_lettered(
    message: &Message,
    queue: &QueueDefinition,
    settings: &QueueSettings,
    reason: DeathReason,
    now: Millis,
) -> Message {
    let exchange = settings.dead_letter_exchange.as_deref().unwrap_or_default();
    let mut properties = message.decode_properties();
    let mut headers = properties.headers.take().unwrap_or_default();
    if !message.is_dead_lettered() {
        // What a client wrote there is no history of ours.
        for name in HISTORY_HEADERS {
            headers.remove(name);
        }
    }
    let expiration = properties.expiration.take().map(|text| Value::LongStr(text.as_bytes().to_vec()));
    record_death(&mut headers, message, queue, reason, expiration, now);
    let routing_key = match &settings.dead_letter_routing_key {
        Some(key) => {
            headers.remove("CC");
            headers.remove("BCC");
            key.as_bytes()
        }
        None => message.routing_key(),
    };
    headers.sort();
    properties.headers = Some(headers);
    message.rewritten(exchange, routing_key, &properties).into_dead_letter()
}

const HISTORY_HEADERS: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

/// Adds a row for this queue and reason in front, or counts up the one there is and moves it to the front.
fn record_death(
    headers: &mut FieldTable,
    message: &Message,
    queue: &QueueDefinition,
    reason: DeathReason,
    expiration: Option<Value>,
    now: Millis,
) {
    let mut rows = match headers.remove("x-death") {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    let repeated = rows.iter().position(|row| is_row(row, &queue.name, Some(reason)));
    let row = match repeated.map(|at| rows.remove(at)) {
        Some(Value::Table(mut row)) => {
            let count = row.field("count").and_then(Value::as_integer).unwrap_or(0);
            row.insert("count", Value::I64(count + 1));
            row
        }
        _ => new_row(message, queue, reason, expiration, now),
    };
    rows.insert(0, Value::Table(row));
    headers.insert("x-death", Value::Array(rows));
    let exchange = Value::LongStr(message.exchange().to_vec());
    let facts = [
        ("exchange", exchange),
        ("queue", Value::from(&*queue.name)),
        ("reason", Value::from(reason.name())),
    ];
    for (what, value) in facts {
        let first = format!("x-first-death-{what}");
        if headers.field(&first).is_none() {
            headers.insert(first.as_str(), value.clone());
        }
        headers.insert(format!("x-last-death-{what}").as_str(), value);
    }
}

fn new_row(
    message: &Message,
    queue: &QueueDefinition,
    reason: DeathReason,
    expiration: Option<Value>,
    now: Millis,
) -> FieldTable {
    let mut routing_keys = vec![Value::LongStr(message.routing_key().to_vec())];
    if message.has_copies()
        && let Some(Value::Array(copies)) = message.headers().and_then(|mut headers| headers.remove("CC"))
    {
        routing_keys.extend(copies.into_iter().filter(|key| matches!(key, Value::LongStr(_))));
    }
    let mut row: FieldTable = [
        ("count", Value::I64(1)),
        ("reason", Value::from(reason.name())),
        ("queue", Value::from(&*queue.name)),
        ("time", Value::Timestamp(now / 1000)),
        ("exchange", Value::LongStr(message.exchange().to_vec())),
        ("routing-keys", Value::Array(routing_keys)),
    ]
    .into_iter()
    .collect();
    if let Some(expiration) = expiration {
        row.insert("original-expiration", expiration);
    }
    row
}

/// Says of a queue whether a dead letter would go round in a circle by coming there: it was dead-lettered there before, and no consumer
/// has rejected it since, so that nothing but the broker keeps it moving.
pub(in crate::broker) fn cycles(dead_letter: &Message, reason: DeathReason) -> impl Fn(&str) -> bool + use<> {
    let history = match reason {
        DeathReason::Rejected => None,
        _ => dead_letter.headers().and_then(|mut headers| headers.remove("x-death")),
    };
    let rows = match history {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    move |queue| {
        let last_there = rows.iter().position(|row| is_row(row, queue, None));
        last_there.is_some_and(|at| rows[..=at].iter().all(|row| !is_rejected(row)))
    }
}

fn is_row(row: &Value, queue: &str, reason: Option<DeathReason>) -> bool {
    let Value::Table(row) = row else { return false };
    row.field("queue").and_then(Value::as_str) == Some(queue)
        && reason.is_none_or(|reason| row.field("reason").and_then(Value::as_str) == Some(reason.name()))
}

fn is_rejected(row: &Value) -> bool {
    matches!(row, Value::Table(row) if row.field("reason").and_then(Value::as_str) == Some("rejected"))
}

/// What it takes to write a letter and to bring it into a queue, and to drop a message, in steps.
const LETTER_STEPS: usize = 200;
const DROP_STEPS: usize = 10;

/// Sends a message to the dead-letter exchange, or drops it where there is none.
pub(super) fn dead_letter(
    definition: &Arc<QueueDefinition>,
    settings: &Arc<QueueSettings>,
    entry: Entry,
    reason: DeathReason,
    turn: &mut Turn,
) {
    if settings.dead_letter_exchange.is_some() {
        turn.spend(LETTER_STEPS);
        let (queue, settings) = (definition.clone(), settings.clone());
        turn.effects.push(Effect::DeadLetter(DeadLetter { queue, settings, entry, reason }));
        return;
    }
    turn.spend(DROP_STEPS);
    if entry.journaled {
        turn.changes.settle(definition.id, entry.position);
    }
}
