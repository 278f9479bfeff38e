//! Declares a queue anew and keeps its messages, which wait in a queue beside it meanwhile. An interruption loses none:
//! what is where says how far it was, and the next time goes on from there. The bindings are noted in a global parameter until
//! they are restored.

use super::super::client::{Client, ClientError};
use super::super::path::{path, path_with};
use super::super::{About, Failure};
use super::act::ends;
use super::thing::{Id, Kind, Things};
use leveret::api::{Binding, Move, MoveReport, QueueDefinition, Setting};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What the name of the queue beside another one ends with. It begins as that one's, so that the same users may use it.
const BESIDE: &str = ".leveret-apply";

/// Messages that one request moves.
const MOVED_AT_ONCE: i64 = 10_000;

/// How often a queue is emptied again, since messages came before it could be deleted.
const ATTEMPTS_MAX: u32 = 100;

/// The arguments that the queue beside it has too. It has no limits: whatever is in it stays.
const KEPT_ARGUMENTS: [&str; 3] = ["x-queue-type", "x-dead-letter-exchange", "x-dead-letter-routing-key"];

/// The queue in which a queue's messages wait.
pub(super) fn beside(queue: &Id) -> Id {
    Id::new(Kind::Queue, &queue.vhost, &[&format!("{}{BESIDE}", queue.name())])
}

/// The queue whose messages wait in that one, if it is one of those.
pub(super) fn origin(beside: &Id) -> Option<Id> {
    let name = (beside.kind == Kind::Queue).then(|| beside.name().strip_suffix(BESIDE))??;
    Some(Id::new(Kind::Queue, &beside.vhost, &[name]))
}

/// Declares a queue as it is wanted, whether it is there, was just deleted, or is declared and lacks its messages.
pub(super) fn redeclare(
    client: &mut Client,
    queue: &Id,
    wanted: &Map<String, Value>,
    differs: bool,
    current: &Things,
) -> Result<(), Failure> {
    let beside = beside(queue);
    let failed = || {
        format!(
            "{queue} is not as the file has it; what it held is in {beside}, if that is there, and applying the file again goes on"
        )
    };
    if let (Some(known), true) = (current.get(queue), differs) {
        if !current.contains_key(&beside) {
            client.put(&place(&beside), &declaration_beside(known)).about(failed)?;
        }
        note_bindings(client, queue, current).about(failed)?;
        empty_and_delete(client, queue, &beside).about(failed)?;
    }
    client.put(&place(queue), wanted).about(failed)?;
    restore_bindings(client, queue).about(failed)?;
    empty_and_delete(client, &beside, queue).about(failed)?;
    match client.delete(&note(queue)) {
        Ok(()) | Err(ClientError::NotFound(_)) => Ok(()),
        Err(error) => Err(error).about(failed),
    }
}

fn place(queue: &Id) -> String {
    path(&["queues", &queue.vhost, queue.name()])
}

fn declaration_beside(known: &Map<String, Value>) -> QueueDefinition {
    let arguments = known.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default();
    QueueDefinition {
        durable: known.get("durable").and_then(Value::as_bool),
        arguments: arguments
            .into_iter()
            .filter(|(name, _)| KEPT_ARGUMENTS.contains(&name.as_str()))
            .collect(),
        ..QueueDefinition::default()
    }
}

/// Moves all messages out of a queue, and deletes it as soon as none has come meanwhile.
fn empty_and_delete(client: &mut Client, from: &Id, to: &Id) -> Result<(), ClientError> {
    let delete =
        path_with(&["queues", &from.vhost, from.name()], &[("if-empty", "true"), ("if-unused", "true")]);
    let mut attempt = 0;
    loop {
        match empty(client, from, to).and_then(|()| client.delete(&delete)) {
            Ok(()) | Err(ClientError::NotFound(_)) => return Ok(()),
            Err(ClientError::Refused { reason, .. })
                if reason.contains("not empty") && attempt < ATTEMPTS_MAX =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Moves all messages out of a queue. What the other one has no room for stays, and is reported.
fn empty(client: &mut Client, from: &Id, to: &Id) -> Result<(), ClientError> {
    let (target, limit) = (Some(to.name().to_owned()), Some(MOVED_AT_ONCE));
    let request = Move { target, limit, ..Move::default() };
    loop {
        let report: MoveReport =
            client.post(&path(&["queues", &from.vhost, from.name(), "move"]), &request)?;
        if let Some(count) = report.skipped.get("target_full") {
            let reason = format!("{to} is full and does not take {count} of the messages in {from}");
            return Err(ClientError::Refused { status: 400, reason });
        }
        if report.moved == 0 {
            return Ok(());
        }
    }
}

/// The parameter that says how a queue was bound.
fn note(queue: &Id) -> String {
    path(&["global-parameters", &format!("leveret-apply {} {}", queue.vhost, queue.name())])
}

/// A binding that is noted: where it is made, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Noted {
    path: String,
    body: Binding,
}

/// The bindings that are noted.
fn noted(client: &mut Client, queue: &Id) -> Result<Vec<Noted>, ClientError> {
    match client.get::<Setting>(&note(queue)) {
        // A parameter of another form notes nothing.
        Ok(note) => Ok(serde_json::from_value(note.value).unwrap_or_default()),
        Err(ClientError::NotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Those that were noted before stay: an earlier run may have been interrupted when not all were restored.
fn note_bindings(client: &mut Client, queue: &Id, current: &Things) -> Result<(), ClientError> {
    let mut bindings = noted(client, queue)?;
    for (id, fields) in current.iter().filter(|(id, _)| id.is_binding_of(queue)) {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let arguments = fields.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default();
        let body = Binding { routing_key: text("routing_key").to_owned(), arguments, ..Binding::default() };
        let binding = Noted { path: ends(id), body };
        if !bindings.contains(&binding) {
            bindings.push(binding);
        }
    }
    client.put(&note(queue), &json!({ "value": bindings })).map(drop)
}

fn restore_bindings(client: &mut Client, queue: &Id) -> Result<(), ClientError> {
    for Noted { path, body } in noted(client, queue)? {
        match client.post::<_, IgnoredAny>(&path, &body) {
            // The exchange is gone, and its bindings with it.
            Ok(_) | Err(ClientError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
