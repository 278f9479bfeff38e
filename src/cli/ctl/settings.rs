//! Vhosts and their limits, policies, parameters.

use super::super::client::{Client, Put};
use super::super::path::path;
use super::super::vhosts;
use super::super::{About, Failure};
use super::{Setting, Vhost, setting, table};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use leveret::api::{self, Tags, VhostMetadata};
use leveret::vocabulary::ApplyTo;
use serde_json::Value;
use std::io::Write;

#[derive(Subcommand, Debug)]
pub(super) enum Vhosts {
    /// Adds a vhost, or changes what is said of one
    Add {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Words that group it with others, with commas between them
        #[arg(long, value_name = "TAGS")]
        tags: Option<String>,
        /// The type of queues whose declaration names none: classic, quorum or stream
        #[arg(long, value_name = "TYPE")]
        default_queue_type: Option<String>,
    },
    /// Deletes a vhost, with everything in it
    Delete {
        /// Its name
        name: String,
    },
    /// Has copies of all messages of a vhost sent to its exchange amq.rabbitmq.trace, or no longer
    Trace {
        /// Its name
        name: String,
        /// Whether
        #[arg(value_enum)]
        switch: Switch,
    },
    /// Says how much may be in a vhost; -1 is no limit
    Limit {
        /// Its name
        name: String,
        /// Connections at the same time
        #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
        max_connections: Option<i64>,
        /// Queues
        #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
        max_queues: Option<i64>,
    },
}

/// Whether something is so.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    Off,
}

const POLICY_EXAMPLES: &str = "\
Examples:
  leveret ctl policy set short '^tmp\\.' max-length=1000 overflow=reject-publish --apply-to queues
  leveret ctl policy set dead '^orders$' dead-letter-exchange=dlx --priority 5
  leveret ctl policy set bounds '.*' max-length-bytes=1000000000 --operator

Of the policies that match a name only the one of the highest priority applies, and one operator policy besides.";

#[derive(Subcommand, Debug)]
pub(super) enum Policy {
    /// Sets a policy for the queues and exchanges whose names a pattern matches
    #[command(after_help = POLICY_EXAMPLES)]
    Set {
        /// Its name
        name: String,
        /// A regular expression for names of queues and exchanges
        pattern: String,
        /// What it sets, such as max-length=1000
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = setting)]
        definition: Vec<Setting>,
        /// The higher one wins
        #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
        priority: i64,
        /// What it is for
        #[arg(long, default_value = ApplyTo::All.name(), value_parser = words_of_apply_to())]
        apply_to: String,
        #[command(flatten)]
        of: OfPolicy,
    },
    /// Clears a policy; what it set is no longer so
    Clear {
        /// Its name
        name: String,
        #[command(flatten)]
        of: OfPolicy,
    },
}

/// What a policy can be for.
fn words_of_apply_to() -> PossibleValuesParser {
    PossibleValuesParser::new(ApplyTo::NAMES.iter().map(|(word, _)| *word))
}

/// Of which kind a policy is, and where.
#[derive(Args, Debug)]
pub(super) struct OfPolicy {
    /// It is an operator policy, which bounds what others set
    #[arg(long)]
    operator: bool,
    #[command(flatten)]
    vhost: Vhost,
}

#[derive(Subcommand, Debug)]
pub(super) enum Parameter {
    /// Sets a runtime parameter, or without --component a global one: leveret ctl parameter set cluster_name '"eu"'
    Set {
        /// Its name
        name: String,
        /// Its value, as JSON
        value: String,
        #[command(flatten)]
        of: OfParameter,
    },
    /// Clears a runtime parameter, or without --component a global one
    Clear {
        /// Its name
        name: String,
        #[command(flatten)]
        of: OfParameter,
    },
}

/// Whose parameter it is.
#[derive(Args, Debug)]
pub(super) struct OfParameter {
    /// Whose parameter it is, such as federation-upstream
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    #[command(flatten)]
    vhost: Vhost,
}

impl Vhosts {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Vhosts::Add { name, description, tags, default_queue_type } => {
                let body = VhostMetadata {
                    description: description.clone(),
                    tags: tags.as_deref().map(Tags::from),
                    default_queue_type: default_queue_type.clone(),
                    ..VhostMetadata::default()
                };
                let put = client
                    .put(&path(&["vhosts", name]), &body)
                    .about(|| format!("vhost '{name}' was not added"))?;
                match put {
                    Put::Created => writeln!(out, "vhost '{name}' is added")?,
                    Put::Updated => writeln!(out, "vhost '{name}' was there already")?,
                }
            }
            Vhosts::Delete { name } => {
                client.delete(&path(&["vhosts", name])).about(|| {
                    format!("vhost '{name}' was not deleted (leveret ctl list vhosts shows what is there)")
                })?;
                writeln!(out, "vhost '{name}' is deleted")?;
            }
            Vhosts::Trace { name, switch } => {
                let (tracing, text) = match switch {
                    Switch::On => (true, "traced"),
                    Switch::Off => (false, "not traced"),
                };
                vhosts::set_tracing(client, name, tracing)
                    .about(|| format!("tracing of vhost '{name}' was not changed"))?;
                writeln!(out, "vhost '{name}' is {text}")?;
            }
            Vhosts::Limit { name, max_connections, max_queues } => {
                let limits = [("max-connections", *max_connections), ("max-queues", *max_queues)];
                set_limit(client, out, ("vhost", name), &limits)?;
            }
        }
        Ok(())
    }
}

/// Sets those limits of a user or vhost that are given.
pub(super) fn set_limit(
    client: &mut Client,
    out: &mut dyn Write,
    (kind, name): (&str, &str),
    limits: &[(&str, Option<i64>)],
) -> Result<(), Failure> {
    let given: Vec<(&str, i64)> =
        limits.iter().filter_map(|(limit, value)| value.map(|value| (*limit, value))).collect();
    if given.is_empty() {
        let options: Vec<String> = limits.iter().map(|(limit, _)| format!("--{limit}")).collect();
        return Err(Failure::Typed(format!("which limit? There are {}", options.join(" and "))));
    }
    for (limit, value) in given {
        client
            .put(&path(&[&format!("{kind}-limits"), name, limit]), &api::Setting { value: value.into() })
            .about(|| format!("{limit} of {kind} '{name}' was not set"))?;
        writeln!(out, "{limit} of {kind} '{name}' is {value}")?;
    }
    Ok(())
}

impl Policy {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Policy::Set { name, pattern, definition, priority, apply_to, of } => {
                let body = api::Policy {
                    pattern: pattern.clone(),
                    definition: table(definition),
                    priority: (*priority).into(),
                    apply_to: apply_to.clone(),
                    ..api::Policy::default()
                };
                client.put(&of.path(name), &body).about(|| format!("{} was not set", of.text(name)))?;
                writeln!(out, "{} is set", of.text(name))?;
            }
            Policy::Clear { name, of } => {
                client.delete(&of.path(name)).about(|| {
                    format!(
                        "{} was not cleared (leveret ctl list policies shows what is there)",
                        of.text(name)
                    )
                })?;
                writeln!(out, "{} is cleared", of.text(name))?;
            }
        }
        Ok(())
    }
}

impl OfPolicy {
    fn path(&self, name: &str) -> String {
        path(&[if self.operator { "operator-policies" } else { "policies" }, &self.vhost.name, name])
    }

    fn text(&self, name: &str) -> String {
        let kind = if self.operator { "operator policy" } else { "policy" };
        format!("{kind} '{name}' in vhost '{}'", self.vhost.name)
    }
}

impl Parameter {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Parameter::Set { name, value, of } => {
                let value: Value = serde_json::from_str(value).map_err(|error| {
                    Failure::Typed(format!(
                        "the value is no JSON: {error}; a text has quotes of its own: '\"text\"'"
                    ))
                })?;
                client
                    .put(&of.path(name), &api::Setting { value })
                    .about(|| format!("{} was not set", of.text(name)))?;
                writeln!(out, "{} is set", of.text(name))?;
            }
            Parameter::Clear { name, of } => {
                client.delete(&of.path(name)).about(|| format!("{} was not cleared", of.text(name)))?;
                writeln!(out, "{} is cleared", of.text(name))?;
            }
        }
        Ok(())
    }
}

impl OfParameter {
    fn path(&self, name: &str) -> String {
        match &self.component {
            Some(component) => path(&["parameters", component, &self.vhost.name, name]),
            None => path(&["global-parameters", name]),
        }
    }

    fn text(&self, name: &str) -> String {
        match &self.component {
            Some(component) => format!("parameter '{name}' of {component} in vhost '{}'", self.vhost.name),
            None => format!("global parameter '{name}'"),
        }
    }
}
