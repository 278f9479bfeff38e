//! How much of the disk has to stay free, changed while the broker runs. RabbitMQ does that by its command alone;
//! `leveret rabbitmqctl` does it so.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::net;
use serde_json::{Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/disk-limit",
        Needs::Monitoring,
        limit,
        "The bytes that have to stay free on the disk; null lets the size of the volume decide",
    ),
    Route::put(
        "/api/disk-limit",
        Needs::Administrator,
        set_limit,
        "Sets that limit, until the next start: the field bytes, or mem_relative, which is times the memory that there is",
    ),
];

fn limit(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(json!({ "bytes": request.settings().disk_limit.bytes() })))
}

fn set_limit(request: &Request) -> Result<Answer, ApiError> {
    let fields = request.fields()?;
    let bytes = match (fields.0.get("mem_relative"), fields.0.get("bytes")) {
        (Some(times), None) => times_the_memory(times)?,
        (None, Some(bytes)) => bytes.as_u64().ok_or_else(|| {
            ApiError::bad_request(format!("bytes: expected a whole number of 0 or more, found {bytes}"))
        })?,
        _ => return Err(ApiError::bad_request("expected one of the fields mem_relative and bytes")),
    };
    request.settings().disk_limit.set(bytes);
    tracing::warn!("{bytes} bytes have to stay free from now on, set by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}

fn times_the_memory(times: &Value) -> Result<u64, ApiError> {
    let factor = times.as_f64().filter(|factor| (0.0..=1e6).contains(factor)).ok_or_else(|| {
        ApiError::bad_request(format!("mem_relative: expected a number from 0.0 on, found {times}"))
    })?;
    let total = net::total_bytes().map_err(|error| {
        ApiError::Internal(format!("the size of the memory can't be read, so set bytes: {error}"))
    })?;
    // Rounding by some bytes is no matter here.
    Ok((total as f64 * factor) as u64)
}
