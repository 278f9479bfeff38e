//! Who asks, and whether it may: HTTP's basic authentication against the broker's users, and their tags.

use super::answer::ApiError;
use super::routes::Needs;
use crate::broker::Broker;
use crate::broker::users::User;
use crate::message::Name;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The tags that open the API.
const TAGS: [&str; 4] = ["management", "policymaker", "monitoring", "administrator"];

/// The user that the request's header names.
pub(super) fn authenticate(
    broker: &Broker,
    headers: &HeaderMap,
    is_loopback: bool,
) -> Result<User, ApiError> {
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
    let user = broker.users().authenticate(&name, password.as_bytes()).ok_or(ApiError::LoginFailed)?;
    if &*user.name == "guest" && !is_loopback {
        return Err(ApiError::NotAuthorised("User can only log in via localhost".to_owned()));
    }
    if !TAGS.iter().any(|tag| user.has_tag(tag)) {
        return Err(ApiError::NotAuthorised("Not management user".to_owned()));
    }
    Ok(user)
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
        Needs::Monitoring => require(is_monitor(user)),
        Needs::Administrator => require(user.has_tag("administrator")),
        Needs::SeeVhost => check_vhost(broker, vhost, |vhost| sees_vhost(broker, user, vhost)),
        Needs::UseVhost => {
            check_vhost(broker, vhost, |vhost| broker.permissions().may_open(&user.name, vhost))
        }
        Needs::Policymaker => {
            require(user.has_tag("policymaker") || user.has_tag("administrator"))?;
            check_vhost(broker, vhost, |vhost| broker.permissions().may_open(&user.name, vhost))
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

fn require(may: bool) -> Result<(), ApiError> {
    if may { Ok(()) } else { Err(ApiError::NotAuthorised("Not administrator user".to_owned())) }
}
