//! What is logged, changed while the broker runs.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::log::{self, LevelError};
use serde_json::json;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/log", Needs::Administrator, level, "What is logged: a level, or several by target"),
    Route::put(
        "/api/log",
        Needs::Administrator,
        set_level,
        "Sets the field level of what is logged, until the next start",
    ),
];

fn level(_: &Request) -> Result<Answer, ApiError> {
    let level = log::level().ok_or(ApiError::NotFound)?;
    Ok(Answer::Json(json!({ "level": level })))
}

fn set_level(request: &Request) -> Result<Answer, ApiError> {
    let fields = request.fields()?;
    fields.require(&["level"])?;
    let level = fields.text("level")?.unwrap_or_default();
    log::set_level(level).map_err(|error| match error {
        LevelError::Invalid => ApiError::bad_request(format!("level: {error}")),
        LevelError::NotOurs => ApiError::NotFound,
    })?;
    tracing::warn!("the log's level is {level:?} from now on, set by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}
