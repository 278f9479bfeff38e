//! Definitions: all that is declared and configured, as one document in RabbitMQ's form, out of the broker and into it.
//!
//! Importing adds and changes; it takes nothing away, and leaves queues and exchanges that are there as they are. A document is
//! read as a whole before anything of it is done: it is imported, but for what Leveret does not have, or refused.

mod document;
mod export;
mod note;
mod plan;
mod reading;

pub use document::{DocumentError, parse};
pub use note::{Entry, Note, Outcome, in_a_line};
pub use plan::{Plan, Step};
pub use reading::Options;

use super::answer::{Answer, ApiError};
use super::json::TOO_MANY_VALUES;
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, Imported};
use crate::broker::memory::MemoryUse;
use crate::broker::{Actor, Broker, BrokerError, Turn};
use crate::message::Millis;
use document::parse_counted;
use reading::Reading;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/definitions", Needs::Administrator, export_all, "All definitions, to save and import")
        .answers::<api::Definitions>(),
    Route::post(
        "/api/definitions",
        Needs::Administrator,
        import_all,
        "Imports definitions: as the body, or as the file of a form",
    )
    .takes::<api::Definitions>()
    .answers::<api::Imported>()
    .with_large_body(),
    Route::get("/api/definitions/{vhost}", Needs::Administrator, export_vhost, "The definitions of a vhost")
        .answers::<api::Definitions>(),
    Route::post(
        "/api/definitions/{vhost}",
        Needs::Administrator,
        import_vhost,
        "Imports definitions into a vhost, whatever vhost they came from",
    )
    .takes::<api::Definitions>()
    .answers::<api::Imported>()
    .with_large_body(),
];

fn export_all(request: &Request) -> Result<Answer, ApiError> {
    file(request, &export::everything(request.broker(), request.settings()))
}

fn export_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost().map_err(|_| ApiError::bad_request("vhost_not_found"))?;
    file(request, &export::of_vhost(request.broker(), &vhost, request.settings()))
}

/// A browser saves it under the name that is asked for.
fn file(request: &Request, content: &api::Definitions) -> Result<Answer, ApiError> {
    match request.query("download") {
        Some(name) => Ok(Answer::File { name: name.to_owned(), content: api::written(content) }),
        None => Answer::of(content),
    }
}

fn import_all(request: &Request) -> Result<Answer, ApiError> {
    run(request, Options::new(request.settings().field_table_depth_max))
}

fn import_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost().map_err(|_| ApiError::NotThere("vhost_not_found".to_owned()))?;
    let into = Some(vhost.name().clone());
    run(request, Options { into, ..Options::new(request.settings().field_table_depth_max) })
}

fn run(request: &Request, options: Options) -> Result<Answer, ApiError> {
    let strict = request.query_flag("strict");
    let options = Options { importer: Some(request.user.name.clone()), strict, ..options };
    let said = request.form_bytes("file").unwrap_or(&request.body.bytes);
    let (document, taken) = parse_counted(said).map_err(|error| {
        ApiError::bad_request(match error {
            DocumentError::TooManyValues { .. } => TOO_MANY_VALUES,
            _ => "failed_to_parse_json",
        })
    })?;
    let _held = request.broker().memory().hold(MemoryUse::HttpBodies, taken);
    tracing::info!("user '{}' imports definitions", request.user.name);
    let plan = read(request.broker(), &document, &options).map_err(ApiError::bad_request)?;
    let notes = request.in_turn(|turn| carry_out(plan, request.broker(), request.actor(), turn))?;
    match request.form_field("redirect") {
        Some(place) => Ok(Answer::SeeOther(place.to_owned())),
        None if notes.is_empty() => Ok(Answer::NoContent),
        None => Answer::of(&Imported { notes: notes.iter().map(Note::answer).collect() }),
    }
}

/// Reads a document for a broker, without changing anything.
///
/// # Errors
/// What is wrong with it, each fault in a line.
pub fn read(broker: &Broker, document: &Value, options: &Options) -> Result<Plan, String> {
    Reading::new(broker, options).read(document)
}

/// Does what was planned, and logs what there is to say of it.
fn carry_out(plan: Plan, broker: &Broker, by: Actor<'_>, turn: &mut Turn) -> Result<Vec<Note>, BrokerError> {
    let notes = broker.as_one_change(|| plan.carry_out(broker, by, turn))?;
    for note in notes.iter().take(LOGGED_MAX) {
        tracing::warn!("in the definitions {note}");
    }
    if notes.len() > LOGGED_MAX {
        tracing::warn!("and {} more entries of the definitions", notes.len() - LOGGED_MAX);
    }
    Ok(notes)
}

/// Notes that go into the log; the answer has all of them.
const LOGGED_MAX: usize = 1000;

/// Why definitions in files can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory can't be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What a file has can't be imported, and nothing of it was.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong, and with what.
        reason: String,
    },
}

/// Imports definitions from a file, or from all files in a directory that end in `.json`, in the order of their names.
///
/// # Errors
/// When one can't be read or imported; files before it have been imported.
pub fn load(
    broker: &Broker,
    path: &Path,
    field_table_depth_max: usize,
    now: Millis,
) -> Result<(), LoadError> {
    for path in files(path)? {
        let text = fs::read(&path).map_err(|error| LoadError::Unreadable { path: path.clone(), error })?;
        let refused = |reason| LoadError::Refused { path: path.clone(), reason };
        let document = parse(&text).map_err(|error| refused(error.to_string()))?;
        let plan = read(broker, &document, &Options::new(field_table_depth_max)).map_err(refused)?;
        let mut turn = Turn::at(now);
        let imported = carry_out(plan, broker, Actor::Broker, &mut turn);
        broker.end_turn(&mut turn);
        imported.map_err(|error| refused(error.to_string()))?;
        tracing::info!("imported the definitions in {}", path.display());
    }
    Ok(())
}

fn files(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}
