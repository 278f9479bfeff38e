//! How much memory the broker may take before publishers are blocked, changed while it runs. RabbitMQ does that by its command
//! alone; `leveret rabbitmqctl` does it so.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::net::{self, MemoryWatch};
use serde_json::{Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/memory-limit",
        Needs::Monitoring,
        limit,
        "The bytes of memory above which publishers are blocked; null is none",
    ),
    Route::put(
        "/api/memory-limit",
        Needs::Administrator,
        set_limit,
        "Sets that limit, until the next start: the field bytes, or fraction of the memory that there is",
    ),
];

fn watch(request: &Request) -> Result<&MemoryWatch, ApiError> {
    request.settings().memory.as_deref().ok_or(ApiError::NotFound)
}

fn limit(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(json!({ "bytes": watch(request)?.limit_bytes() })))
}

fn set_limit(request: &Request) -> Result<Answer, ApiError> {
    let fields = request.fields()?;
    let bytes = match (fields.0.get("fraction"), fields.0.get("bytes")) {
        (Some(fraction), None) => part_of_memory(fraction)?,
        (None, Some(bytes)) => bytes.as_u64().ok_or_else(|| {
            ApiError::bad_request(format!("bytes: expected a whole number of 0 or more, found {bytes}"))
        })?,
        _ => return Err(ApiError::bad_request("expected one of the fields fraction and bytes")),
    };
    watch(request)?.set_limit(Some(bytes));
    tracing::warn!("the memory limit is {bytes} bytes from now on, set by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}

fn part_of_memory(fraction: &Value) -> Result<u64, ApiError> {
    let part = fraction.as_f64().filter(|part| (0.0..=1.0).contains(part)).ok_or_else(|| {
        ApiError::bad_request(format!("fraction: expected a number from 0.0 to 1.0, found {fraction}"))
    })?;
    let total = net::total_bytes().map_err(|error| {
        ApiError::Internal(format!("the size of the memory can't be read, so set bytes: {error}"))
    })?;
    // Rounding by some bytes is no matter here.
    Ok((total as f64 * part) as u64)
}
