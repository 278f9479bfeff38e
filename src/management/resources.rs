//! How much memory the broker may take before publishers are blocked, and how much of the disk has to stay free, changed while it
//! runs. RabbitMQ does that by its command alone; `leveret rabbitmqctl` does it so.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, ResourceLimit};
use crate::net::{self, MemoryWatch};
use serde_json::{Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/memory-limit",
        Needs::Monitoring,
        memory,
        "The bytes of memory above which publishers are blocked; null is none",
    ).answers::<api::ResourceLimit>(),
    Route::put(
        "/api/memory-limit",
        Needs::Administrator,
        set_memory,
        "Sets that limit, until the next start: the field bytes, or fraction of the memory that there is",
    ).takes::<api::ResourceLimit>(),
    Route::get(
        "/api/disk-limit",
        Needs::Monitoring,
        disk,
        "The bytes that have to stay free on the disk; null lets the size of the volume decide",
    ).answers::<api::ResourceLimit>(),
    Route::put(
        "/api/disk-limit",
        Needs::Administrator,
        set_disk,
        "Sets that limit, until the next start: the field bytes, or mem_relative, which is times the memory that there is",
    ).takes::<api::ResourceLimit>(),
];

/// A limit in terms of the memory that there is.
struct Relative {
    field: &'static str,
    max: f64,
    expected: &'static str,
}

const FRACTION: Relative = Relative { field: "fraction", max: 1.0, expected: "a number from 0.0 to 1.0" };
const MEM_RELATIVE: Relative = Relative { field: "mem_relative", max: 1e6, expected: "a number from 0.0 on" };

fn watch(request: &Request) -> Result<&MemoryWatch, ApiError> {
    request.settings().memory.as_deref().ok_or(ApiError::NotFound)
}

fn memory(request: &Request) -> Result<Answer, ApiError> {
    answer(watch(request)?.limit_bytes())
}

fn disk(request: &Request) -> Result<Answer, ApiError> {
    answer(request.settings().disk_limit.bytes())
}

fn answer(bytes: Option<u64>) -> Result<Answer, ApiError> {
    Answer::of(&ResourceLimit { bytes: json!(bytes), ..ResourceLimit::default() })
}

fn set_memory(request: &Request) -> Result<Answer, ApiError> {
    let limit: ResourceLimit = request.body()?;
    let bytes = wanted_bytes(&limit.bytes, &limit.fraction, &FRACTION)?;
    watch(request)?.set_limit(Some(bytes));
    tracing::warn!("the memory limit is {bytes} bytes from now on, set by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}

fn set_disk(request: &Request) -> Result<Answer, ApiError> {
    let limit: ResourceLimit = request.body()?;
    let bytes = wanted_bytes(&limit.bytes, &limit.mem_relative, &MEM_RELATIVE)?;
    request.settings().disk_limit.set(bytes);
    tracing::warn!("{bytes} bytes have to stay free from now on, set by user '{}'", request.user.name);
    Ok(Answer::NoContent)
}

/// The bytes that a request wants, which says them in one of two ways.
fn wanted_bytes(bytes: &Value, times: &Value, relative: &Relative) -> Result<u64, ApiError> {
    let Relative { field, max, expected } = relative;
    match (times, bytes) {
        (Value::Null, Value::Null) => {}
        (Value::Null, bytes) => {
            let wrong = || format!("bytes: expected a whole number of 0 or more, found {bytes}");
            return bytes.as_u64().ok_or_else(|| ApiError::bad_request(wrong()));
        }
        (times, Value::Null) => {
            let factor = times.as_f64().filter(|factor| (0.0..=*max).contains(factor));
            let wrong = || format!("{field}: expected {expected}, found {times}");
            let factor = factor.ok_or_else(|| ApiError::bad_request(wrong()))?;
            let total = net::total_bytes().map_err(|error| {
                ApiError::Internal(format!("the size of the memory can't be read, so set bytes: {error}"))
            })?;
            // Rounding by some bytes is no matter here.
            return Ok((total as f64 * factor) as u64);
        }
        _ => {}
    }
    Err(ApiError::bad_request(format!("expected one of the fields {field} and bytes")))
}
