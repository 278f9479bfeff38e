//! Definitions: all that is declared and configured, as one document in RabbitMQ's form, out of the broker and into it.
//!
//! Importing adds and changes; it takes nothing away, and leaves queues and exchanges that are there as they are.

mod export;
mod import;

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::broker::Broker;
use crate::message::Millis;
use import::Import;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/definitions", Needs::Administrator, export_all, "All definitions, to save and import"),
    Route::post(
        "/api/definitions",
        Needs::Administrator,
        import_all,
        "Imports definitions: as the body, or as the file of a form",
    )
    .with_large_body(),
    Route::get("/api/definitions/{vhost}", Needs::Administrator, export_vhost, "The definitions of a vhost"),
    Route::post(
        "/api/definitions/{vhost}",
        Needs::Administrator,
        import_vhost,
        "Imports definitions into a vhost, whatever vhost they came from",
    )
    .with_large_body(),
];

fn export_all(request: &Request) -> Result<Answer, ApiError> {
    Ok(file(request, export::everything(request.broker(), request.settings())))
}

fn export_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost().map_err(|_| ApiError::bad_request("vhost_not_found"))?;
    Ok(file(request, export::of_vhost(request.broker(), &vhost, request.settings())))
}

/// A browser saves it under the name that is asked for.
fn file(request: &Request, content: Value) -> Answer {
    match request.query("download") {
        Some(name) => Answer::File { name: name.to_owned(), content },
        None => Answer::Json(content),
    }
}

fn import_all(request: &Request) -> Result<Answer, ApiError> {
    run(request, Import::into_all(request.broker(), request.settings().field_table_depth_max))
}

fn import_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost().map_err(|_| ApiError::NotThere("vhost_not_found".to_owned()))?;
    run(request, Import::into_vhost(request.broker(), request.settings().field_table_depth_max, vhost))
}

fn run(request: &Request, import: Import<'_>) -> Result<Answer, ApiError> {
    let document = parse(request.form_bytes("file").unwrap_or(&request.body.bytes))?;
    tracing::info!("user '{}' imports definitions", request.user.name);
    request.in_turn(|turn| request.broker().as_one_change(|| import.run(&document, turn)))?;
    Ok(match request.form_field("redirect") {
        Some(place) => Answer::SeeOther(place.to_owned()),
        None => Answer::NoContent,
    })
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    // No body at all imports nothing.
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(bytes)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| ApiError::bad_request("failed_to_parse_json"))
}

/// Why definitions in files can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory can't be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What a file has can't be imported.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong, and with what.
        reason: String,
    },
}

/// Imports definitions from a file, or from all files in a directory that end in `.json`, in the order of their names.
///
/// # Errors
/// When one can't be read or imported; what comes before it has been imported.
pub fn load(
    broker: &Broker,
    path: &Path,
    field_table_depth_max: usize,
    now: Millis,
) -> Result<(), LoadError> {
    for path in files(path)? {
        let text = fs::read(&path).map_err(|error| LoadError::Unreadable { path: path.clone(), error })?;
        let mut turn = crate::broker::Turn::at(now);
        let import = Import::into_all(broker, field_table_depth_max);
        let imported =
            parse(&text).and_then(|document| broker.as_one_change(|| import.run(&document, &mut turn)));
        broker.end_turn(&mut turn);
        imported.map_err(|error| LoadError::Refused { path: path.clone(), reason: error.to_string() })?;
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
