//! The commands that write definitions into files and read them.

use super::super::client::ClientError;
use super::super::path::path;
use super::{Call, Command, Done, Refusal, command, status};
use leveret::api::Imported;
use leveret::management::definitions::parse;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "export_definitions",
        (1, 1),
        export,
        "<file_path | \"-\"> [--format <json>] [--timeout <timeout>]",
    ),
    command(
        "import_definitions",
        (0, 1),
        import,
        "<file_path | \"-\"> [--format <json>] [--skip-if-unchanged] [--timeout <timeout>]",
    ),
];

/// The name of standard output and standard input.
const STANDARD: &str = "-";

fn check_format(call: &Call) -> Done {
    match call.typed.option("--format") {
        None | Some("json" | "JSON") => Ok(()),
        Some("erlang") => {
            Err(Refusal::Argument(": Format should be json, Erlang's terms are not known here".to_owned()))
        }
        Some(_) => Err(Refusal::Argument(": Format should be json".to_owned())),
    }
}

fn export(call: &mut Call) -> Done {
    check_format(call)?;
    let file = call.argument(0).to_owned();
    if file == STANDARD {
        let document: Value = call.client.get(&path(&["definitions"]))?;
        return Ok(write!(call.out, "{document}")?);
    }
    let directory = Path::new(&file).parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        return Err(Refusal::Argument(format!(": Directory {} does not exist", directory.display())));
    }
    call.banner(&format!("Exporting definitions in JSON to a file at \"{file}\" ..."))?;
    let document: Value = call.client.get(&path(&["definitions"]))?;
    crate::cli::definitions::write_export(Path::new(&file), &document.to_string())
        .map_err(|error| Refusal::Error(status::UNAVAILABLE, format!("{file} can't be written: {error}")))
}

fn import(call: &mut Call) -> Done {
    check_format(call)?;
    let file = call.typed.arguments.first().filter(|file| *file != STANDARD).cloned();
    let place = match &file {
        Some(file) if !Path::new(file).exists() => {
            return Err(Refusal::Argument(format!(": File {file} does not exist")));
        }
        Some(file) => format!("a file at \"{file}\""),
        None => "standard input".to_owned(),
    };
    call.banner(&format!("Importing definitions in JSON from {place} ..."))?;
    let document = document(&read(file.as_deref(), &place)?)?;
    match call.client.post::<_, Option<Imported>>(&path(&["definitions"]), &document) {
        Err(ClientError::Refused { reason, .. }) => Err(Refusal::Error(status::UNAVAILABLE, reason)),
        // It is all there now, where RabbitMQ has only begun: its words promise less.
        imported => {
            for note in imported?.unwrap_or_default().notes {
                crate::terminal::complain(format_args!("Warning: {}", note.message));
            }
            Ok(call.banner(
                "Successfully started definition import. This process is asynchronous and can take some time.",
            )?)
        }
    }
}

fn read(file: Option<&str>, place: &str) -> Result<Vec<u8>, Refusal> {
    let read = match file {
        Some(file) => std::fs::read(file),
        None => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
    };
    read.map_err(|error| Refusal::Error(status::DATA, format!("{place} can't be read: {error}")))
}

fn document(bytes: &[u8]) -> Result<Value, Refusal> {
    parse(bytes).map_err(|error| {
        let text = format!("Failed to deserialise input (format: JSON) (error: {error})");
        Refusal::Error(status::DATA, text)
    })
}
