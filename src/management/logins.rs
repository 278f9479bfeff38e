//! How users log in, and how often that was tried.

use super::answer::{Answer, ApiError};
use super::list::list;
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, LoginAttempts};
use crate::broker::access::logins::{Attempts, Logins};

const ATTEMPTS: &str = "/api/auth/attempts/{node}";
const ATTEMPTS_BY_SOURCE: &str = "/api/auth/attempts/{node}/source";

pub(super) const ROUTES: &[Route] = &[
    Route::get(ATTEMPTS, Needs::Monitoring, attempts, "How often it was tried to log in")
        .lists::<api::LoginAttempts>(),
    Route::delete(ATTEMPTS, Needs::Monitoring, reset, "Counts attempts to log in from zero"),
    Route::get(
        ATTEMPTS_BY_SOURCE,
        Needs::Monitoring,
        attempts_by_source,
        "The same by address and user, if access.track_login_sources is set",
    )
    .lists::<api::LoginAttempts>(),
    Route::delete(ATTEMPTS_BY_SOURCE, Needs::Monitoring, reset, "Counts attempts to log in from zero"),
];

/// The counts of the node in the path, which has to be this one.
fn logins(request: &Request) -> Result<&Logins, ApiError> {
    if request.parameter("node") != request.settings().node_name {
        return Err(ApiError::NotFound);
    }
    Ok(request.broker().logins())
}

fn counted(protocol: &str, attempts: &Attempts) -> LoginAttempts {
    LoginAttempts {
        protocol: protocol.to_owned(),
        auth_attempts: attempts.all,
        auth_attempts_failed: attempts.failed,
        auth_attempts_succeeded: attempts.succeeded,
        ..LoginAttempts::default()
    }
}

fn attempts(request: &Request) -> Result<Answer, ApiError> {
    let by_protocol = logins(request)?.attempts();
    list(by_protocol.iter().map(|(protocol, attempts)| counted(protocol, attempts)).collect(), request)
}

fn attempts_by_source(request: &Request) -> Result<Answer, ApiError> {
    let by_source = logins(request)?.sources();
    let shown = by_source.iter().map(|(source, attempts)| LoginAttempts {
        remote_address: Some(source.address.clone()),
        username: Some(source.user.to_string()),
        ..counted(source.protocol, attempts)
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
