//! `leveret definitions`: what is declared, as RabbitMQ's documents have it.

mod convert;
mod toml;

use super::client::Client;
use super::path::path;
use super::target::Connect;
use super::{About, Failure};
use clap::{Args, Subcommand};
use leveret::api::{ImportNote, Imported};
use leveret::management::definitions::parse;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  leveret definitions export definitions.json
  leveret definitions import definitions.json
  leveret definitions export - --vhost shop | leveret definitions import - --vhost staging
  leveret definitions convert definitions.json > leveret.toml";

/// Exports, imports and converts definitions: users, vhosts, permissions, policies, exchanges, queues, bindings
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Definitions {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Writes the definitions of a running broker into a file, in RabbitMQ's form
    Export {
        /// The file; - is standard output
        file: PathBuf,
        /// Only what is in this vhost
        #[arg(long, short = 'V', value_name = "NAME")]
        vhost: Option<String>,
    },
    /// Adds what a file has to a running broker, and changes what differs; nothing is taken away
    Import {
        /// The file, as RabbitMQ or Leveret has exported it; - is standard input
        file: PathBuf,
        /// Into this vhost
        #[arg(long, short = 'V', value_name = "NAME")]
        vhost: Option<String>,
        /// Imports nothing if anything would be left out, changed, or without effect, and says what
        #[arg(long)]
        strict: bool,
    },
    /// Writes a file in RabbitMQ's form as one for leveret --config, to standard output; no broker is asked
    Convert {
        /// The file, as RabbitMQ or Leveret has exported it; - is standard input
        file: PathBuf,
    },
}

/// Does what was typed.
pub(super) fn run(definitions: &Definitions, out: &mut dyn Write) -> Result<(), Failure> {
    match &definitions.command {
        Command::Export { file, vhost } => export(&definitions.connect, file, vhost.as_deref(), out),
        Command::Import { file, vhost, strict } => {
            import(&definitions.connect, file, vhost.as_deref(), *strict, out)
        }
        Command::Convert { file } => convert_file(file, out),
    }
}

fn place(vhost: Option<&str>) -> String {
    match vhost {
        None => path(&["definitions"]),
        Some(vhost) => path(&["definitions", vhost]),
    }
}

fn export(connect: &Connect, file: &Path, vhost: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    let what = || "the definitions were not exported".to_owned();
    let document: Value =
        Client::new(connect).and_then(|mut client| client.get(&place(vhost))).about(what)?;
    let text = format!("{document:#}\n");
    if is_standard(file) {
        return Ok(out.write_all(text.as_bytes())?);
    }
    write_export(file, &text)
        .map_err(|error| Failure::State(format!("{} can't be written: {error}", file.display())))?;
    Ok(writeln!(
        out,
        "exported {} to {}",
        counted(|section| section_len(&document, section)),
        file.display()
    )?)
}

/// Writes definitions to a file: what is kept of passwords is in them, so it is its owner's alone.
pub(crate) fn write_export(file: &Path, text: &str) -> std::io::Result<()> {
    leveret::files::write(file, text.as_bytes())?;
    if leveret::files::readable_by_others(file).is_some() {
        crate::terminal::complain(format_args!(
            "leveret: {} was there before and can be read by every user of this machine, and so can what is kept of \
             passwords; `chmod go= {}` keeps them out",
            file.display(),
            file.display()
        ));
    }
    Ok(())
}

fn import(
    connect: &Connect,
    file: &Path,
    vhost: Option<&str>,
    strict: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let document = read(file)?;
    let what = || format!("nothing of {} was imported", name(file));
    let place = if strict { format!("{}?strict=true", place(vhost)) } else { place(vhost) };
    let answer: Option<Imported> =
        Client::new(connect).and_then(|mut client| client.post(&place, &document)).about(what)?;
    let Imported { notes } = answer.unwrap_or_default();
    for note in &notes {
        crate::terminal::complain(format_args!("leveret: {}", note.message));
    }
    let of_section = |section: &str| {
        let left_out = |note: &&ImportNote| note.section == section && note.outcome == "left_out";
        notes.iter().filter(left_out).count()
    };
    let imported = counted(|section| section_len(&document, section).saturating_sub(of_section(section)));
    let left_out = match counted(of_section) {
        nothing if nothing == NOTHING => String::new(),
        some => format!(", left out {some}"),
    };
    Ok(writeln!(out, "imported {imported} from {}{left_out}", name(file))?)
}

fn convert_file(file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let converted = convert::convert(&read(file)?)
        .map_err(|reason| Failure::State(format!("{} was not converted: {reason}", name(file))))?;
    for note in &converted.notes {
        crate::terminal::complain(format_args!("leveret: {note}"));
    }
    Ok(out.write_all(converted.text.as_bytes())?)
}

fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn name(file: &Path) -> String {
    if is_standard(file) { "standard input".to_owned() } else { file.display().to_string() }
}

/// The document in a file.
fn read(file: &Path) -> Result<Value, Failure> {
    let mut bytes = Vec::new();
    let read = if is_standard(file) {
        std::io::stdin().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    read.map_err(|error| Failure::State(format!("{} can't be read: {error}", name(file))))?;
    if bytes.is_empty() {
        return Err(Failure::State(format!("{} is empty", name(file))));
    }
    parse(&bytes).map_err(|error| Failure::State(format!("{} can't be read: {error}", name(file))))
}

const NOTHING: &str = "nothing";

fn section_len(document: &Value, section: &str) -> usize {
    document[section].as_array().map_or(0, Vec::len)
}

/// `3 users, 1 vhost`: how many there are of each section.
fn counted(count: impl Fn(&str) -> usize) -> String {
    let sections = [
        ("users", "user", "users"),
        ("vhosts", "vhost", "vhosts"),
        ("permissions", "permission", "permissions"),
        ("topic_permissions", "topic permission", "topic permissions"),
        ("parameters", "parameter", "parameters"),
        ("global_parameters", "global parameter", "global parameters"),
        ("policies", "policy", "policies"),
        ("exchanges", "exchange", "exchanges"),
        ("queues", "queue", "queues"),
        ("bindings", "binding", "bindings"),
    ];
    let said = sections.iter().filter_map(|(section, one, many)| match count(section) {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { NOTHING.to_owned() } else { said.join(", ") }
}
