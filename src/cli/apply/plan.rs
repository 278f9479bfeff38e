//! What has to be done so that a broker matches a file.

use super::super::output::printable;
use super::keep;
use super::thing::{Id, Kind, Things};
use leveret::broker::access::passwords::{HashingAlgorithm, PasswordHash};
use leveret::config::Config;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// What is done to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It is added.
    Add,
    /// It is changed in place.
    Change,
    /// It is deleted and made again, with the bindings and messages that it had.
    Replace,
    /// It is a queue whose messages still wait elsewhere, since replacing it was interrupted.
    Finish,
    /// It is deleted, since the file does not have it.
    Delete,
}

/// One thing, and what is done to it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) act: Act,
    pub(super) id: Id,
    /// As it should be; empty when it is deleted.
    pub(super) wanted: Map<String, Value>,
    /// What differs, in words.
    differences: Vec<String>,
    /// Why it can't be done.
    pub(super) blocked: Option<String>,
    /// Messages that are kept meanwhile.
    messages: u64,
}

/// All steps, in their order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

/// What may be deleted.
pub(super) struct Scope {
    prune: bool,
    has_vhosts: bool,
    has_users: bool,
    /// Vhosts in which things may be deleted: those of the file.
    vhosts: BTreeSet<String>,
    /// The user who applies.
    me: String,
}

impl Scope {
    pub(super) fn of(config: &Config, prune: bool, me: String) -> Scope {
        Scope {
            prune,
            has_vhosts: config.vhosts.iter().any(|vhost| vhost.declared_at.is_some()),
            has_users: config.users.iter().any(|user| user.declared_at.is_some()),
            vhosts: config.vhosts.iter().map(|vhost| vhost.name.clone()).collect(),
            me,
        }
    }

    fn may_delete(&self, id: &Id) -> bool {
        self.prune
            && match id.kind {
                Kind::Vhost => self.has_vhosts && !self.vhosts.contains(&id.vhost),
                Kind::User => self.has_users && id.name() != self.me,
                Kind::Permission | Kind::TopicPermission => {
                    self.has_users && id.name() != self.me && self.vhosts.contains(&id.vhost)
                }
                _ => self.vhosts.contains(&id.vhost),
            }
    }
}

impl Plan {
    pub(super) fn new(wanted: &Things, current: &Things, scope: &Scope) -> Plan {
        let mut steps = Vec::new();
        for (id, fields) in wanted {
            match current.get(id) {
                None => steps.push(step(Act::Add, id, fields.clone(), Vec::new())),
                Some(known) => {
                    let differences = differences(id.kind, fields, known);
                    if !differences.is_empty() {
                        steps.push(changed(id, fields, known, differences));
                    }
                }
            }
            if id.kind == Kind::Queue
                && let Some(beside) = current.get(&keep::beside(id))
            {
                finish(&mut steps, id, fields, count(beside, "messages"));
            }
        }
        let is_handled = |id: &Id| keep::origin(id).is_some_and(|origin| wanted.contains_key(&origin));
        let is_unknown = |id: &&Id| !wanted.contains_key(*id) && !is_handled(id) && scope.may_delete(id);
        let unknown = current.keys().rev().filter(is_unknown);
        for id in unknown {
            let mut step = step(Act::Delete, id, Map::new(), Vec::new());
            step.blocked = why_not_deleted(id, current);
            steps.push(step);
        }
        leave_out_what_goes_along(&mut steps);
        // With another password, or without its tag, that user could not go on.
        steps.sort_by_key(|step| step.id == Id::new(Kind::User, "", &[&scope.me]));
        Plan { steps }
    }

    /// A line that counts the steps.
    pub(super) fn summary(&self, dry_run: bool) -> String {
        let count = |acts: &[Act]| {
            self.steps.iter().filter(|step| step.blocked.is_none() && acts.contains(&step.act)).count()
        };
        let (add, change, delete) =
            (count(&[Act::Add]), count(&[Act::Change, Act::Replace, Act::Finish]), count(&[Act::Delete]));
        let would = if dry_run { "would be " } else { "" };
        format!("{add} {would}added, {change} {would}changed, {delete} {would}deleted")
    }
}

fn step(act: Act, id: &Id, wanted: Map<String, Value>, differences: Vec<String>) -> Step {
    Step { act, id: id.clone(), wanted, differences, blocked: None, messages: 0 }
}

/// Has the messages brought back that wait for a queue: as part of replacing it, or else as the only thing to do with it.
fn finish(steps: &mut Vec<Step>, id: &Id, wanted: &Map<String, Value>, messages: u64) {
    match steps.last_mut().filter(|step| step.id == *id) {
        Some(step) => {
            if step.act == Act::Add {
                step.act = Act::Finish;
            }
            step.messages += messages;
        }
        None => {
            let step = step(Act::Finish, id, wanted.clone(), Vec::new());
            steps.push(Step { messages, ..step });
        }
    }
}

fn count(fields: &Map<String, Value>, name: &str) -> u64 {
    fields.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn changed(
    id: &Id,
    wanted: &Map<String, Value>,
    known: &Map<String, Value>,
    differences: Vec<String>,
) -> Step {
    let act = match id.kind {
        Kind::Exchange | Kind::Queue => Act::Replace,
        _ => Act::Change,
    };
    let mut step = step(act, id, wanted.clone(), differences);
    if id.kind == Kind::Queue {
        step.blocked = why_used(known);
        step.messages = count(known, "messages");
    }
    step
}

/// Why a queue can't be declared anew.
fn why_used(queue: &Map<String, Value>) -> Option<String> {
    match (count(queue, "consumers"), count(queue, "messages_unacknowledged")) {
        (0, 0) => None,
        (0, 1) => Some("a client has not acknowledged 1 of its messages: let it".to_owned()),
        (0, unacked) => Some(format!("clients have not acknowledged {unacked} of its messages: let them")),
        (1, _) => Some("it has 1 consumer: stop it first".to_owned()),
        (consumers, _) => Some(format!("it has {consumers} consumers: stop them first")),
    }
}

/// Why a queue may not go.
fn why_kept(queue: &Map<String, Value>) -> Option<String> {
    match (count(queue, "messages"), count(queue, "consumers")) {
        (0, 0) => None,
        (0, 1) => Some("it has 1 consumer: stop it first".to_owned()),
        (0, consumers) => Some(format!("it has {consumers} consumers: stop them first")),
        (1, _) => Some("it holds 1 message: consume or purge first".to_owned()),
        (messages, _) => Some(format!("it holds {messages} messages: consume or purge first")),
    }
}

fn why_not_deleted(id: &Id, current: &Things) -> Option<String> {
    match id.kind {
        Kind::Queue => current.get(id).and_then(why_kept),
        Kind::Vhost => {
            let of_vhost = |(other, _): &(&Id, &Map<String, Value>)| other.vhost == id.vhost;
            let queues = current.iter().filter(of_vhost).filter(|(other, _)| other.kind == Kind::Queue);
            let kept = queues
                .filter_map(|(queue, fields)| why_kept(fields).map(|why| format!("of its {queue} {why}")));
            kept.map(|why| why.replacen("of its queue", "queue", 1)).next()
        }
        _ => None,
    }
}

/// A binding goes with its queue, and all things go with their vhost: it need not be said twice.
fn leave_out_what_goes_along(steps: &mut Vec<Step>) {
    let gone: Vec<Id> = steps
        .iter()
        .filter(|step| step.act == Act::Delete && step.blocked.is_none())
        .map(|step| step.id.clone())
        .collect();
    steps.retain(|step| {
        let goes_along = gone.iter().any(|other| match other.kind {
            Kind::Exchange | Kind::Queue => step.id.is_binding_of(other),
            Kind::User => {
                matches!(step.id.kind, Kind::Permission | Kind::TopicPermission)
                    && step.id.name() == other.name()
            }
            _ => false,
        });
        step.act != Act::Delete || !goes_along
    });
}

/// What differs of the fields that are wanted.
fn differences(kind: Kind, wanted: &Map<String, Value>, known: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in wanted {
        let current = known.get(name).unwrap_or(&Value::Null);
        match (kind, name.as_str()) {
            (Kind::Binding, _) => {}
            (Kind::User, "password" | "password_hash") => {
                if !is_password(wanted, known) {
                    found.push("another password".to_owned());
                }
            }
            (Kind::User, "hashing_algorithm") => {}
            (_, "limits") => differing_limits(value, current, &mut found),
            (Kind::Queue, "arguments") => {
                let (was, now) = (queue_arguments(current, known), queue_arguments(value, known));
                compare(name, &was, &now, &mut found);
            }
            (_, "arguments" | "definition") => compare(name, &as_object(current), value, &mut found),
            _ => compare(name, current, value, &mut found),
        }
    }
    found
}

fn compare(name: &str, was: &Value, now: &Value, found: &mut Vec<String>) {
    if was != now {
        found.push(printable(&format!("{name} {was} -> {now}")));
    }
}

/// RabbitMQ writes an empty object as a list at times.
fn as_object(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { Value::Object(Map::new()) }
}

fn differing_limits(wanted: &Value, known: &Value, found: &mut Vec<String>) {
    for (name, value) in wanted.as_object().into_iter().flatten() {
        // Without a limit is the same as below zero.
        let was = known.get(name).cloned().unwrap_or_else(|| (-1).into());
        compare(name, &was, value, found);
    }
}

/// A queue's arguments with its type, which need not be said.
fn queue_arguments(arguments: &Value, known: &Map<String, Value>) -> Value {
    let mut arguments = as_object(arguments);
    if arguments.get("x-queue-type").is_none() {
        arguments["x-queue-type"] = known.get("type").cloned().unwrap_or_default();
    }
    arguments
}

/// Whether the broker's user has the password, or the hash, that is wanted.
fn is_password(wanted: &Map<String, Value>, known: &Map<String, Value>) -> bool {
    let text = |fields: &Map<String, Value>, name: &str| {
        fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (hash, algorithm) = (text(known, "password_hash"), text(known, "hashing_algorithm"));
    match wanted.get("password").and_then(Value::as_str) {
        Some(password) => HashingAlgorithm::named(&algorithm)
            .and_then(|algorithm| PasswordHash::encoded(&hash, algorithm))
            .is_some_and(|hash| hash.is_of(password.as_bytes())),
        None => {
            text(wanted, "password_hash") == hash
                && (hash.is_empty() || text(wanted, "hashing_algorithm") == algorithm)
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (&self.blocked, self.act) {
            (Some(_), _) => '!',
            (None, Act::Add) => '+',
            (None, Act::Change | Act::Replace | Act::Finish) => '~',
            (None, Act::Delete) => '-',
        };
        write!(f, "{sign} {}", printable(&self.id.to_string()))?;
        if !self.differences.is_empty() {
            write!(f, ": {}", self.differences.join(", "))?;
        }
        match (&self.blocked, self.act) {
            (Some(why), Act::Delete) => write!(f, " can't be deleted, {why}"),
            (Some(why), _) => write!(f, "; it would have to be declared anew, and {why}"),
            (None, Act::Replace) => {
                write!(f, "; it is deleted and declared anew, with its bindings")?;
                match self.messages {
                    0 => Ok(()),
                    1 => write!(f, " and its message"),
                    messages => write!(f, " and its {messages} messages"),
                }
            }
            (None, Act::Finish) => write!(
                f,
                ": it is declared with its bindings, and gets the {} messages back that wait in {}",
                self.messages,
                printable(&keep::beside(&self.id).to_string())
            ),
            (None, _) => Ok(()),
        }
    }
}
