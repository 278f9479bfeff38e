//! How users log in, and how often that was tried.

use super::answer::{Answer, ApiError};
use super::list::list;
use super::request::Request;
use super::routes::{Needs, Route};
use crate::broker::logins::{Attempts, Logins};
use serde_json::{Map, Value};

const ATTEMPTS: &str = "/api/auth/attempts/{node}";
const ATTEMPTS_BY_SOURCE: &str = "/api/auth/attempts/{node}/source";

pub(super) const ROUTES: &[Route] = &[
    Route::get(ATTEMPTS, Needs::Monitoring, attempts, "How often it was tried to log in"),
    Route::delete(ATTEMPTS, Needs::Monitoring, reset, "Counts attempts to log in from zero"),
    Route::get(
        ATTEMPTS_BY_SOURCE,
        Needs::Monitoring,
        attempts_by_source,
        "The same by address and user, if access.track_login_sources is set",
    ),
    Route::delete(ATTEMPTS_BY_SOURCE, Needs::Monitoring, reset, "Counts attempts to log in from zero"),
];

/// The counts of the node in the path, which has to be this one.
fn logins(request: &Request) -> Result<&Logins, ApiError> {
    if request.parameter("node") != request.settings().node_name {
        return Err(ApiError::NotFound);
    }
    Ok(request.broker().logins())
}

fn counts(attempts: &Attempts) -> [(&'static str, Value); 3] {
    [
        ("auth_attempts", attempts.all.into()),
        ("auth_attempts_failed", attempts.failed.into()),
        ("auth_attempts_succeeded", attempts.succeeded.into()),
    ]
}

fn object<const N: usize>(about: [(&str, &str); N], attempts: &Attempts) -> Value {
    let about = about.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text)));
    let counts = counts(attempts).into_iter().map(|(name, count)| (name.to_owned(), count));
    Value::Object(about.chain(counts).collect::<Map<_, _>>())
}

fn attempts(request: &Request) -> Result<Answer, ApiError> {
    let by_protocol = logins(request)?.attempts();
    let shown = by_protocol.iter().map(|(protocol, attempts)| object([("protocol", protocol)], attempts));
    list(shown.collect(), request)
}

fn attempts_by_source(request: &Request) -> Result<Answer, ApiError> {
    let by_source = logins(request)?.sources();
    let shown = by_source.iter().map(|(source, attempts)| {
        let about = [
            ("remote_address", source.address.as_str()),
            ("username", &source.user),
            ("protocol", source.protocol),
        ];
        object(about, attempts)
    });
    list(shown.collect(), request)
}

/// RabbitMQ resets all of it, whichever is asked for.
fn reset(request: &Request) -> Result<Answer, ApiError> {
    let logins = logins(request)?;
    logins.reset();
    logins.reset_sources();
    Ok(Answer::NoContent)
}
