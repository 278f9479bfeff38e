//! Authentication and authorisation: HTTP's basic authentication against the broker's users, and their tags.

use super::Management;
use super::answer::ApiError;
use super::routes::Needs;
use crate::broker::Broker;
use crate::broker::access::logins::{Login, LoginOutcome, Proof};
use crate::broker::access::users::{LoginRefusal, User};
use crate::message::Name;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The tags that open the API.
const TAGS: [&str; 4] = ["management", "policymaker", "monitoring", "administrator"];

/// The user that the request's header names.
///
/// # Errors
/// When there is none, or it may not use the API. After repeated failures an attempt waits first.
pub(super) async fn authenticate(
    management: &Management,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Arc<User>, ApiError> {
    let header = headers.get(header::AUTHORIZATION).ok_or(ApiError::LoginNeeded)?;
    let (name, password) = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok())
        .and_then(|decoded| String::from_utf8(decoded).ok())
        .and_then(|text| text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned())))
        .ok_or(ApiError::LoginFailed)?;
    let login = Login {
        protocol: "http",
        name,
        proof: Proof::Password(password.into_bytes()),
        address: peer.to_string(),
        is_loopback: peer.is_loopback(),
        has_waited: false,
    };
    let user = log_in(management, login).await?;
    if !TAGS.iter().any(|tag| user.has_tag(tag)) {
        return Err(ApiError::NotAuthorised("Not management user".to_owned()));
    }
    Ok(user)
}

/// Logs a user in, after the wait that failures may have caused. A client that hangs up meanwhile ends this.
async fn log_in(management: &Management, mut login: Login) -> Result<Arc<User>, ApiError> {
    loop {
        let now = management.clock.now();
        let (tell, told) = tokio::sync::oneshot::channel();
        // The receiver is gone when the client is.
        let later = move |outcome| drop(tell.send(outcome));
        let outcome = match management.broker.log_in(login.clone(), now, later) {
            Some(outcome) => outcome,
            None => {
                told.await.map_err(|_| ApiError::Internal("the password could not be checked".to_owned()))?
            }
        };
        match outcome {
            LoginOutcome::In(user) => return Ok(user),
            LoginOutcome::Refused(refusal) => return Err(refused(&login, refusal)),
            LoginOutcome::TooMany => {
                tracing::warn!(
                    "HTTP access denied from {}: the login of user '{}' was not looked at, since too many wait already after \
                     others have failed",
                    login.address,
                    login.name
                );
                return Err(ApiError::TooManyLogins);
            }
            LoginOutcome::Wait(place) => {
                tokio::time::sleep(Duration::from_millis(place.until.saturating_sub(now))).await;
                login.has_waited = true;
            }
        }
    }
}

fn refused(login: &Login, refusal: LoginRefusal) -> ApiError {
    tracing::warn!("HTTP access denied from {}: {}", login.address, refusal.of(&login.name));
    match refusal {
        LoginRefusal::LoopbackOnly => {
            ApiError::NotAuthorised("User can only log in via localhost".to_owned())
        }
        LoginRefusal::Credentials | LoginRefusal::BlankPassword => ApiError::LoginFailed,
    }
}

/// Checks that the user may do what a route does; `vhost` is the one in its path.
pub(super) fn authorise(
    broker: &Broker,
    user: &User,
    needs: Needs,
    vhost: Option<&str>,
) -> Result<(), ApiError> {
    match needs {
        Needs::Nothing | Needs::Login => Ok(()),
        Needs::Monitoring => require(is_monitor(user), "Not monitor user"),
        Needs::Administrator => require(user.has_tag("administrator"), "Not administrator user"),
        Needs::SeeVhost => check_vhost(broker, vhost, |vhost| sees_vhost(broker, user, vhost)),
        Needs::UseVhost => {
            check_vhost(broker, vhost, |vhost| broker.permissions().may_open(&user.name, vhost))
        }
        Needs::Policymaker => {
            // A vhost that is not there is the handler's to say.
            let vhost = vhost.and_then(|name| broker.vhost(name));
            let is_let_in = vhost.is_none_or(|vhost| broker.permissions().may_open(&user.name, vhost.name()));
            if user.has_tag("administrator") || user.has_tag("policymaker") && is_let_in {
                return Ok(());
            }
            Err(ApiError::NotAuthorised("User not authorised to access object".to_owned()))
        }
    }
}

/// Whether the user sees what belongs to others.
pub(super) fn is_monitor(user: &User) -> bool {
    user.has_tag("monitoring") || user.has_tag("administrator")
}

/// Whether the user sees what is in a vhost.
pub(super) fn sees_vhost(broker: &Broker, user: &User, vhost: &Name) -> bool {
    is_monitor(user) || broker.permissions().may_open(&user.name, vhost)
}

fn check_vhost(broker: &Broker, vhost: Option<&str>, may: impl Fn(&Name) -> bool) -> Result<(), ApiError> {
    // Some paths are about all vhosts, or one: the handler shows what the user sees.
    let Some(vhost) = vhost else { return Ok(()) };
    let vhost = broker.vhost(vhost).ok_or(ApiError::NotFound)?;
    if may(vhost.name()) {
        return Ok(());
    }
    Err(ApiError::NotAuthorised("User not authorised to access virtual host".to_owned()))
}

fn require(may: bool, otherwise: &str) -> Result<(), ApiError> {
    if may { Ok(()) } else { Err(ApiError::NotAuthorised(otherwise.to_owned())) }
}
