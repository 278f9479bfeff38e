//! What was lost of what the store kept, and acknowledging that.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::iso8601;
use crate::api;
use crate::broker::observe::losses::in_words;
use crate::store::LossNote;

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/losses",
        Needs::Monitoring,
        losses,
        "What was found to be lost of what the store kept, until it is acknowledged",
    )
    .answers::<Vec<api::Loss>>(),
    Route::delete(
        "/api/losses",
        Needs::Administrator,
        acknowledge,
        "Acknowledges all losses: they are not reported any more",
    ),
];

fn shown(note: &LossNote) -> api::Loss {
    api::Loss {
        found_at: iso8601(note.at),
        what: note.what.clone(),
        lost: note.lost,
        of: note.of,
        text: in_words(note),
    }
}

fn losses(request: &Request) -> Result<Answer, ApiError> {
    Answer::of(&request.broker().losses().list().iter().map(shown).collect::<Vec<_>>())
}

fn acknowledge(request: &Request) -> Result<Answer, ApiError> {
    let count = request.broker().losses().acknowledge()?;
    tracing::info!("{count} losses acknowledged by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}
