//! Lists: which there are, what they show without being asked, and where they come from.

use super::super::client::Client;
use super::super::output::{Look, at_path, cell, write_json, write_table};
use super::super::path::path_with;
use super::super::{About, Failure};
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  leveret ctl list queues
  leveret ctl list queues --vhost shop --name '^order' --sort messages --reverse
  leveret ctl list queues --columns name,messages,message_stats.publish_details.rate
  leveret ctl list connections --json

Columns are the fields of the management API's answer; --json without --columns shows all of them.";

/// Lists what the broker has
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct List {
    /// What to list
    kind: Kind,
    /// Only what is in this vhost
    #[arg(long, short = 'V', value_name = "NAME")]
    vhost: Option<String>,
    /// Which columns, with commas between them; a dot leads into a field: message_stats.publish
    #[arg(long, short, value_name = "NAMES", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Only what has a name (or user, for permissions) that this regular expression matches
    #[arg(long, value_name = "PATTERN")]
    name: Option<Regex>,
    /// Sorts by this column
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
    /// Turns the order round
    #[arg(long)]
    reverse: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Whole values also on a terminal, where long ones are cut otherwise
    #[arg(long, conflicts_with = "json")]
    wide: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Queues,
    Exchanges,
    Bindings,
    Connections,
    Channels,
    Consumers,
    Users,
    Vhosts,
    Permissions,
    TopicPermissions,
    Policies,
    OperatorPolicies,
    Parameters,
    GlobalParameters,
    VhostLimits,
    UserLimits,
}

/// Where a list comes from.
struct Source {
    kind: Kind,
    /// Everything, below /api.
    all: &'static [&'static str],
    /// What is in a vhost; `*` is its name. `None` for what is in no vhost.
    in_vhost: Option<&'static [&'static str]>,
    /// What a table shows. The first column is what --name looks at.
    columns: &'static [&'static str],
}

/// Where each kind of list comes from.
const SOURCES: &[Source] = &[
    source(
        Kind::Queues,
        &["queues"],
        Some(&["queues", "*"]),
        &[
            "name",
            "vhost",
            "type",
            "state",
            "messages_ready",
            "messages_unacknowledged",
            "messages",
            "consumers",
            "policy",
        ],
    ),
    source(
        Kind::Exchanges,
        &["exchanges"],
        Some(&["exchanges", "*"]),
        &["name", "vhost", "type", "durable", "auto_delete", "internal", "policy"],
    ),
    source(
        Kind::Bindings,
        &["bindings"],
        Some(&["bindings", "*"]),
        &["source", "vhost", "destination_type", "destination", "routing_key", "arguments"],
    ),
    source(
        Kind::Connections,
        &["connections"],
        Some(&["vhosts", "*", "connections"]),
        &["name", "user_provided_name", "user", "vhost", "protocol", "ssl", "channels", "state"],
    ),
    source(
        Kind::Channels,
        &["channels"],
        Some(&["vhosts", "*", "channels"]),
        &[
            "name",
            "user",
            "vhost",
            "prefetch_count",
            "consumer_count",
            "messages_unacknowledged",
            "messages_unconfirmed",
            "confirm",
        ],
    ),
    source(
        Kind::Consumers,
        &["consumers"],
        Some(&["consumers", "*"]),
        &[
            "consumer_tag",
            "queue.vhost",
            "queue.name",
            "channel_details.name",
            "ack_required",
            "prefetch_count",
            "exclusive",
            "active",
        ],
    ),
    source(Kind::Users, &["users"], None, &["name", "tags", "limits"]),
    source(
        Kind::Vhosts,
        &["vhosts"],
        None,
        &["name", "description", "tags", "default_queue_type", "messages"],
    ),
    source(
        Kind::Permissions,
        &["permissions"],
        Some(&["vhosts", "*", "permissions"]),
        &["user", "vhost", "configure", "write", "read"],
    ),
    source(
        Kind::TopicPermissions,
        &["topic-permissions"],
        Some(&["vhosts", "*", "topic-permissions"]),
        &["user", "vhost", "exchange", "write", "read"],
    ),
    source(Kind::Policies, &["policies"], Some(&["policies", "*"]), POLICY_COLUMNS),
    source(Kind::OperatorPolicies, &["operator-policies"], Some(&["operator-policies", "*"]), POLICY_COLUMNS),
    source(Kind::Parameters, &["parameters"], None, &["name", "component", "vhost", "value"]),
    source(Kind::GlobalParameters, &["global-parameters"], None, &["name", "value"]),
    source(Kind::VhostLimits, &["vhost-limits"], Some(&["vhost-limits", "*"]), &["vhost", "value"]),
    source(Kind::UserLimits, &["user-limits"], None, &["user", "value"]),
];

const fn source(
    kind: Kind,
    all: &'static [&'static str],
    in_vhost: Option<&'static [&'static str]>,
    columns: &'static [&'static str],
) -> Source {
    Source { kind, all, in_vhost, columns }
}

impl Kind {
    fn source(self) -> &'static Source {
        SOURCES.iter().find(|source| source.kind == self).expect("a test holds that each kind has one")
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

const POLICY_COLUMNS: &[&str] = &["name", "vhost", "pattern", "apply-to", "priority", "definition"];

/// Fields that are there at times only.
const SOMETIMES: &[&str] =
    &["idle_since", "message_stats", "owner_pid_details", "policy", "default_queue_type"];

/// Fields that may have any fields in them, or at times none.
const FREE: &[&str] = &[
    "arguments",
    "client_properties",
    "definition",
    "effective_policy_definition",
    "limits",
    "message_stats",
    "metadata",
    "owner_pid_details",
    "value",
];

/// The fields of a value and of what is in them, as they are typed.
fn add_paths(known: &mut BTreeSet<String>, parent: &str, value: &Value) {
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        add_paths(known, &path, field);
        known.insert(path);
    }
}

impl List {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let source = self.kind.source();
        let shown: Option<Vec<String>> = match &self.columns {
            Some(columns) => Some(columns.clone()),
            None if self.json => None,
            None => Some(source.columns.iter().map(|&column| column.to_owned()).collect()),
        };
        let mut items = self.items(client, source, shown.as_deref())?;
        self.check_columns(client, source, &items)?;
        if let Some(pattern) = &self.name {
            items.retain(|item| pattern.is_match(&cell(at_path(item, source.columns[0]))));
        }
        match shown {
            Some(columns) if !self.json => {
                let look = if self.wide { Look::WIDE } else { Look::of_output() };
                write_table(out, &columns, &items, look)?;
            }
            columns => write_json(out, columns.as_deref(), &items)?,
        }
        Ok(())
    }

    /// Refuses a column that nothing has: a slip of the pen would look like an empty column, or an order that is none.
    fn check_columns(&self, client: &mut Client, source: &Source, items: &[Value]) -> Result<(), Failure> {
        let typed = self.columns.iter().flatten().chain(&self.sort);
        let is_known = |column: &String| {
            source.columns.contains(&column.as_str())
                || items.iter().any(|item| !at_path(item, column).is_null())
        };
        let unknown: Vec<&String> = typed.filter(|column| !is_known(column)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        // With all their fields, some of them.
        let parameters = [("page", "1"), ("page_size", "100")];
        let listed: Value = client
            .get(&path_with(&self.segments(source)?, &parameters))
            .about(|| format!("the {} can't be listed", self.kind.name()))?;
        let mut known: BTreeSet<String> = source.columns.iter().map(|&column| column.to_owned()).collect();
        known.extend(SOMETIMES.iter().map(|&column| column.to_owned()));
        for item in listed.get("items").unwrap_or(&listed).as_array().into_iter().flatten() {
            add_paths(&mut known, "", item);
        }
        for column in unknown {
            let is_below =
                |parent: &&str| column.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'));
            if !known.contains(column) && !FREE.iter().any(is_below) {
                return Err(Failure::Typed(self.no_such_column(column, &known)));
            }
        }
        Ok(())
    }

    fn no_such_column(&self, column: &str, known: &BTreeSet<String>) -> String {
        let near = known
            .iter()
            .map(|name| (strsim::jaro_winkler(name, column), name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let meant = near.map(|(_, name)| format!(": did you mean {name}?")).unwrap_or_default();
        let kind = self.kind.name();
        format!("{kind} have no column {column}{meant} (leveret ctl list {kind} --json shows what they have)")
    }

    /// The path below /api that is listed.
    fn segments<'a>(&'a self, source: &'a Source) -> Result<Vec<&'a str>, Failure> {
        match (&self.vhost, source.in_vhost) {
            (None, _) => Ok(source.all.to_vec()),
            (Some(vhost), Some(segments)) => {
                Ok(segments.iter().map(|&segment| if segment == "*" { vhost } else { segment }).collect())
            }
            (Some(_), None) => {
                let kind = self.kind.name();
                Err(Failure::Typed(format!("{kind} are in no vhost: leave --vhost out")))
            }
        }
    }

    fn items(
        &self,
        client: &mut Client,
        source: &Source,
        shown: Option<&[String]>,
    ) -> Result<Vec<Value>, Failure> {
        let segments = self.segments(source)?;
        // What is not shown need not come; what decides over showing must.
        let wanted = shown.map(|columns| [columns, &[source.columns[0].to_owned()]].concat().join(","));
        let mut parameters = Vec::new();
        if let Some(wanted) = &wanted {
            parameters.push(("columns", wanted.as_str()));
        }
        if let Some(sort) = &self.sort {
            parameters.push(("sort", sort));
        }
        if self.reverse {
            parameters.push(("sort_reverse", "true"));
        }
        client
            .get(&path_with(&segments, &parameters))
            .about(|| format!("the {} can't be listed", self.kind.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_list_comes_from_somewhere() {
        for kind in Kind::value_variants() {
            assert!(!kind.source().columns.is_empty(), "{kind:?}");
        }
    }
}
