//! A document of definitions, understood: each entry is tried on a [`Rehearsal`] and becomes a step of the plan, or what is wrong
//! with it is reported. Nothing changes meanwhile.
//!
//! What RabbitMQ has and Leveret does not is left out with a note; what no RabbitMQ would take either is a fault.

mod access;
mod settings;
mod topology;

use super::note::{Entry, Note, Outcome, in_a_line};
use super::plan::{Plan, Step};
use crate::api::{self, Form};
use crate::broker::topology::rehearsal::Rehearsal;
use crate::broker::{Broker, BrokerError};
use crate::management::answer::ApiError;
use crate::message::Name;
use crate::steps;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

/// How a document is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything goes into this vhost, and what is no vhost's is passed over; without it each entry says its own.
    pub into: Option<Name>,
    /// Who gets permissions in vhosts that are made.
    pub importer: Option<Name>,
    /// Refuses where something would be left out or has no effect.
    pub strict: bool,
    /// For a configuration file: what is wrong is left out rather than everything refused, and so is what the file has no
    /// place for; what says no vhost is in `/`.
    pub for_file: bool,
    /// How deep tables may be nested.
    pub field_table_depth_max: usize,
}

impl Options {
    /// Every entry says its vhost, and what is wrong refuses everything.
    pub fn new(field_table_depth_max: usize) -> Options {
        Options { into: None, importer: None, strict: false, for_file: false, field_table_depth_max }
    }

    /// What goes into a configuration file.
    pub fn for_file(field_table_depth_max: usize) -> Options {
        Options { for_file: true, ..Options::new(field_table_depth_max) }
    }
}

/// The most faults that are reported, of those for different reasons; the rest is counted.
const REPORTED_MAX: usize = 10;

/// What is wrong, a line for each reason with the first entry that has it. A document may have more faults than there is memory for.
#[derive(Default)]
struct Faults {
    lines: Vec<Reported>,
    unreported: usize,
}

/// A fault as it is reported: what is wrong, and where.
struct Reported {
    at: Option<String>,
    reason: String,
    /// How many other entries have it.
    others: usize,
}

impl Faults {
    fn add(&mut self, at: Option<String>, reason: String) {
        if let Some(known) = self.lines.iter_mut().find(|known| known.reason == reason) {
            known.others += 1;
        } else if self.lines.len() < REPORTED_MAX {
            self.lines.push(Reported { at, reason, others: 0 });
        } else {
            self.unreported += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn text(&self) -> String {
        let line = |Reported { at, reason, others }: &Reported| {
            let others = if *others > 0 { format!(" (and {others} more like it)") } else { String::new() };
            at.as_ref().map_or_else(|| format!("{reason}{others}"), |at| format!("{at}: {reason}{others}"))
        };
        let rest = (self.unreported > 0).then(|| format!("and {} more", self.unreported));
        self.lines.iter().map(line).chain(rest).collect::<Vec<_>>().join("\n")
    }
}

/// Why an entry does not become a step.
enum Fault {
    /// It can't here, and is left out.
    Lacking(String),
    /// It is wrong, for this reason.
    Wrong(String),
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Fault {
        Fault::Wrong(plain(error))
    }
}

impl From<api::Fault> for Fault {
    fn from(fault: api::Fault) -> Fault {
        match fault {
            api::Fault::Missing(_) | api::Fault::NotObject(_) => Fault::Wrong(fault.to_string()),
            other => ApiError::from(other).into(),
        }
    }
}

impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Fault {
        ApiError::from(error).into()
    }
}

/// A refusal in words for people.
fn plain(error: ApiError) -> String {
    let text = match error {
        ApiError::BadRequest(Value::String(reason))
        | ApiError::NotThere(reason)
        | ApiError::NotAuthorised(reason) => reason,
        ApiError::BadRequest(Value::Array(words)) => {
            let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let mut words: Vec<String> = words.iter().map(word).collect();
            if let Some(first) = words.first_mut() {
                *first = first.replace('_', " ");
            }
            words.join(": ")
        }
        other => other.to_string(),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.filter(|line| *line != "Validation failed").collect();
    lines.join("; ")
}

type Done = Result<(), Fault>;

/// The reading of one document; see the module.
pub(super) struct Reading<'a> {
    broker: &'a Broker,
    options: &'a Options,
    rehearsal: Rehearsal<'a>,
    /// Vhosts that can't be imported, and so nothing in them.
    lost_vhosts: BTreeSet<String>,
    plan: Plan,
    /// The entry that is being read.
    at: Option<Entry>,
    faults: Faults,
}

impl<'a> Reading<'a> {
    pub(super) fn new(broker: &'a Broker, options: &'a Options) -> Reading<'a> {
        Reading {
            broker,
            options,
            rehearsal: Rehearsal::new(broker),
            lost_vhosts: BTreeSet::new(),
            plan: Plan::default(),
            at: None,
            faults: Faults::default(),
        }
    }

    /// Reads all of a document.
    ///
    /// # Errors
    /// What is wrong with it, each fault in a line.
    pub(super) fn read(mut self, document: &Value) -> Result<Plan, String> {
        // In the order in which one needs the other.
        if self.options.into.is_none() {
            self.each(document, "users", "user", Reading::user);
            self.each(document, "vhosts", "vhost", Reading::vhost);
            self.each(document, "permissions", "permissions of user", Reading::permission);
            self.each(document, "topic_permissions", "topic permissions of user", Reading::topic_permission);
            self.each(document, "global_parameters", "global parameter", Reading::global_parameter);
        }
        self.each(document, "policies", "policy", Reading::policy);
        self.each(document, "parameters", "parameter", Reading::parameter);
        self.each(document, "exchanges", "exchange", Reading::exchange);
        self.each(document, "queues", "queue", Reading::queue);
        self.each(document, "bindings", "binding", Reading::binding);
        if self.options.strict {
            self.plan.notes.iter().for_each(|note| self.faults.add(None, note.to_string()));
        }
        if self.faults.is_empty() { Ok(self.plan) } else { Err(self.faults.text()) }
    }

    fn each<T: DeserializeOwned>(
        &mut self,
        document: &Value,
        section: &'static str,
        kind: &'static str,
        read: fn(&mut Reading<'a>, T) -> Done,
    ) {
        let items = match document.get(section) {
            None | Some(Value::Null) => return,
            Some(Value::Array(items)) => items,
            // How some versions of Erlang's libraries write an empty list.
            Some(Value::Object(fields)) if fields.is_empty() => return,
            Some(_) => return self.faults.add(None, format!("{section} is no list")),
        };
        for (index, item) in items.iter().enumerate() {
            steps::count(1);
            let Some(fields) = api::fields(item, Form::Pairs) else {
                let at = Some(format!("{section}[{index}]"));
                let reason = format!("it is no object: {}", shortened(&item.to_string()));
                self.faults.add(at, reason);
                continue;
            };
            self.at = Some(Entry::new(section, index, kind, &fields));
            let item = api::read(&Value::Object(fields), Form::Pairs).map_err(Fault::from);
            match item.and_then(|item| read(self, item)) {
                Ok(()) => {}
                Err(Fault::Lacking(reason)) => self.note(Outcome::LeftOut, reason),
                Err(Fault::Wrong(reason)) if self.options.for_file => {
                    self.note(Outcome::LeftOut, reason);
                }
                Err(Fault::Wrong(reason)) => {
                    let at = self.at.as_ref().map(Entry::to_string);
                    self.faults.add(at, in_a_line(&reason));
                }
            }
        }
    }

    /// Says something of the entry that is being read.
    fn note(&mut self, outcome: Outcome, reason: impl Into<String>) {
        if let Some(entry) = self.at.clone() {
            self.plan.notes.push(Note { entry, outcome, reason: reason.into() });
        }
    }

    /// The vhost that an entry is for.
    fn vhost_of(&mut self, said: &Option<Name>) -> Result<Name, Fault> {
        let said = match &self.options.into {
            Some(into) => Some(&**into),
            None => said.as_deref().or(self.options.for_file.then_some("/")),
        };
        let name = said.ok_or_else(|| {
            let text =
                "it says no vhost; an export of a single one is imported into one, with --vhost NAME or at /api/definitions/NAME";
            Fault::Wrong(text.to_owned())
        })?;
        if self.lost_vhosts.contains(name) {
            return Err(Fault::Lacking("its vhost is left out".to_owned()));
        }
        self.rehearsal.settings(name)?;
        Ok(name.into())
    }

    fn add(&mut self, step: Step) {
        self.plan.add(step);
    }
}

/// The beginning of a text that may be long.
fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 100;
    match text.char_indices().nth(CHARACTERS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// What has to be there.
fn needed<T>(field: Option<T>, name: &str) -> Result<T, Fault> {
    field.ok_or_else(|| api::Fault::Missing(name.to_owned()).into())
}
