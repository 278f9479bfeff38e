//! What was lost of what the store kept, and acknowledging that.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::iso8601;
use crate::broker::losses::in_words;
use crate::store::LossNote;
use serde_json::{Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/losses",
        Needs::Monitoring,
        losses,
        "What was found to be lost of what the store kept, until it is acknowledged",
    ),
    Route::delete(
        "/api/losses",
        Needs::Administrator,
        acknowledge,
        "Acknowledges all losses: they are not told any more",
    ),
    Route::get(
        "/api/health/checks/losses",
        Needs::Login,
        check,
        "Nothing was lost of what the store kept, or it is acknowledged",
    ),
];

fn loss_json(note: &LossNote) -> Value {
    json!({
        "found_at": iso8601(note.at),
        "what": note.what,
        "lost": note.lost,
        "of": note.of,
        "text": in_words(note),
    })
}

fn losses(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(request.broker().losses().list().iter().map(loss_json).collect()))
}

fn acknowledge(request: &Request) -> Result<Answer, ApiError> {
    let count = request.broker().losses().acknowledge()?;
    tracing::info!("{count} losses are acknowledged by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}

fn check(request: &Request) -> Result<Answer, ApiError> {
    let notes = request.broker().losses().list();
    if notes.is_empty() {
        return Ok(Answer::Json(json!({ "status": "ok" })));
    }
    let reason = notes.iter().map(in_words).collect::<Vec<_>>().join("; ");
    Ok(Answer::Unavailable(json!({ "status": "failed", "reason": reason })))
}
