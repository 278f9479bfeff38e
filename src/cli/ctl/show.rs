//! One thing with all its fields.

use super::super::client::Client;
use super::super::output::{cell, printable};
use super::super::path::path;
use super::super::{About, Failure};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::io::{self, Write};

/// Shows all fields of one queue, exchange, connection, channel, user, vhost or policy
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  leveret ctl show queue orders
  leveret ctl show queue orders --vhost shop --json
  leveret ctl show connection '127.0.0.1:51426 -> 127.0.0.1:5672'

What a field is called here, leveret ctl list --columns takes as well.")]
pub(super) struct Show {
    /// What kind of thing
    kind: Kind,
    /// Its name, as leveret ctl list shows it
    name: String,
    /// The vhost it is in, where it is in one
    #[arg(long, short = 'V', env = "LEVERET_VHOST", value_name = "NAME", default_value = "/")]
    vhost: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Queue,
    Exchange,
    Connection,
    Channel,
    User,
    Vhost,
    Policy,
}

impl Show {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let (list, is_in_vhost) = match self.kind {
            Kind::Queue => ("queues", true),
            Kind::Exchange => ("exchanges", true),
            Kind::Connection => ("connections", false),
            Kind::Channel => ("channels", false),
            Kind::User => ("users", false),
            Kind::Vhost => ("vhosts", false),
            Kind::Policy => ("policies", true),
        };
        let place = if is_in_vhost { vec![list, &self.vhost, &self.name] } else { vec![list, &self.name] };
        let thing: Value = client.get(&path(&place)).about(|| {
            let kind = self.kind.to_possible_value();
            let kind = kind.as_ref().map(|value| value.get_name()).unwrap_or_default();
            let vhost = if is_in_vhost { format!(" in vhost '{}'", self.vhost) } else { String::new() };
            let name = &self.name;
            format!("{kind} '{name}'{vhost} can't be shown (leveret ctl list {list} shows what is there)")
        })?;
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &thing).map_err(io::Error::from)?;
            return Ok(writeln!(out)?);
        }
        let mut lines = Vec::new();
        flatten("", &thing, &mut lines);
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, text) in lines {
            writeln!(out, "{}", format!("{name:<width$}  {text}").trim_end())?;
        }
        Ok(())
    }
}

/// Each field that is no object, with the path that leads to it.
fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (field, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(&format!("{name}{dot}{}", printable(field)), value, lines);
            }
        }
        other => lines.push((name.to_owned(), cell(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_within_fields_have_a_line_each() {
        let thing = json!({ "name": "q", "arguments": {}, "stats": { "n": 5, "rate": { "r": 0.5 } }, "tags": ["a"], "gone": null });
        let mut lines = Vec::new();
        flatten("", &thing, &mut lines);
        let lines: Vec<String> = lines.into_iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(lines, ["name=q", "arguments=", "stats.n=5", "stats.rate.r=0.5", "tags=a", "gone="]);
    }
}
