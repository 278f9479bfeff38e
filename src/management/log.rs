//! What is logged, changed while the broker runs.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, LogLevel};
use crate::log::{self, LevelError};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/log", Needs::Administrator, level, "What is logged: a level, or several by target")
        .answers::<api::LogLevel>(),
    Route::put(
        "/api/log",
        Needs::Administrator,
        set_level,
        "Sets the field level of what is logged, until the next start",
    )
    .takes::<api::LogLevel>(),
];

fn level(_: &Request) -> Result<Answer, ApiError> {
    let level = log::level().ok_or(ApiError::NotFound)?;
    Answer::of(&LogLevel { level })
}

fn set_level(request: &Request) -> Result<Answer, ApiError> {
    let LogLevel { level } = request.body_with(&["level"])?;
    log::set_level(&level).map_err(|error| match error {
        LevelError::Invalid => ApiError::bad_request(format!("level: {error}")),
        LevelError::NotOurs => ApiError::NotFound,
    })?;
    tracing::warn!("the log's level is {level:?} from now on, set by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}
