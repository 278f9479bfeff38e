//! What a vhost may hold, and what all connections of a user together may use.

use super::answer::{Answer, ApiError};
use super::list::list;
use super::request::Request;
use super::routes::{Needs, Route};
use super::users::{limit_names, set_user_limit, user_limit};
use crate::api::{self, Table};
use crate::broker::VirtualHost;
use crate::broker::access::users::User;
use crate::broker::topology::vhost_settings::VhostLimits;
use serde_json::Value;

const OF_VHOST: &str = "/api/vhost-limits/{vhost}/{name}";
const OF_USER: &str = "/api/user-limits/{user}/{name}";

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/vhost-limits", Needs::Login, vhost_limits, "The limits of all vhosts")
        .lists::<api::VhostLimits>(),
    Route::get("/api/vhost-limits/{vhost}", Needs::SeeVhost, vhost_limits, "The limits of a vhost")
        .lists::<api::VhostLimits>(),
    Route::put(OF_VHOST, Needs::Administrator, put_vhost_limit, "Sets a limit of a vhost")
        .takes::<api::Setting>(),
    Route::delete(OF_VHOST, Needs::Administrator, delete_vhost_limit, "Takes a limit of a vhost away"),
    Route::get("/api/user-limits", Needs::Login, user_limits, "The limits of all users")
        .lists::<api::UserLimits>(),
    Route::get("/api/user-limits/{user}", Needs::Login, limits_of_user, "The limits of a user")
        .lists::<api::UserLimits>(),
    Route::put(OF_USER, Needs::Administrator, put_user_limit, "Sets a limit of a user")
        .takes::<api::Setting>(),
    Route::delete(OF_USER, Needs::Administrator, delete_user_limit, "Takes a limit of a user away"),
];

/// The limits that are set.
pub(super) fn named<const N: usize>(limits: [(&str, Option<i64>); N]) -> Table {
    limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.into()))).collect()
}

/// A limit's value, or what is wrong with it.
pub(super) fn check_is_number(name: &str, value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("{name} should be a number, actually was {}", term(value)))
}

/// An unknown limit, in RabbitMQ's words.
pub(super) fn unknown_limit(name: &str, value: &Value, of: &str) -> String {
    format!("Unrecognised terms [{{<<\"{name}\">>,{}}}] in {of}", term(value))
}

/// A value as Erlang prints it.
fn term(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("<<\"{text}\">>"))
}

/// The limits of a vhost that are set.
pub(super) fn of_vhost(limits: &VhostLimits) -> Table {
    named([("max-connections", limits.max_connections), ("max-queues", limits.max_queues)])
}

/// Sets a limit of a vhost by its name.
pub(super) fn set_vhost_limit(limits: &mut VhostLimits, name: &str, value: &Value) -> Result<(), ApiError> {
    let invalid = |fault| ApiError::bad_request(format!("Validation failed\n\n{fault}\n"));
    let limit = vhost_limit(limits, name).ok_or_else(|| invalid(unknown_limit(name, value, "limits")))?;
    *limit = Some(check_is_number(name, value).map_err(invalid)?);
    Ok(())
}

/// All limits of a vhost, as a parameter's value has them.
pub(super) fn vhost_limits_from_json(value: &Value) -> Result<VhostLimits, ApiError> {
    let mut limits = VhostLimits::default();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                set_vhost_limit(&mut limits, name, value)?;
            }
        }
        // How Erlang writes an object without fields.
        Value::Array(items) if items.is_empty() => {}
        other => {
            let fault = format!("limits not a list {}", term(other));
            return Err(ApiError::bad_request(format!("Validation failed\n\n{fault}\n")));
        }
    }
    Ok(limits)
}

/// The limit of that name.
pub(super) fn vhost_limit<'a>(limits: &'a mut VhostLimits, name: &str) -> Option<&'a mut Option<i64>> {
    match name {
        "max-connections" => Some(&mut limits.max_connections),
        "max-queues" => Some(&mut limits.max_queues),
        _ => None,
    }
}

fn vhost_limits(request: &Request) -> Result<Answer, ApiError> {
    let limited = |vhost: &VirtualHost| {
        let value = of_vhost(&vhost.settings().limits);
        (!value.is_empty()).then(|| api::VhostLimits { vhost: vhost.name().clone(), value })
    };
    list(request.vhosts()?.iter().filter_map(|vhost| limited(vhost)).collect(), request)
}

fn put_vhost_limit(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost().map_err(|_| ApiError::NotThere("vhost_not_found".to_owned()))?;
    let name = request.parameter("name");
    let value = value(request)?;
    set_vhost_limit(&mut VhostLimits::default(), name, &value)?;
    change_vhost_limit(request, &vhost, name, value.as_i64())
}

/// Clearing one that is not set, or unknown, is fine.
fn delete_vhost_limit(request: &Request) -> Result<Answer, ApiError> {
    change_vhost_limit(request, &*request.vhost()?, request.parameter("name"), None)
}

fn change_vhost_limit(
    request: &Request,
    vhost: &VirtualHost,
    name: &str,
    value: Option<i64>,
) -> Result<Answer, ApiError> {
    request.broker().put_vhost(vhost.name(), |settings| {
        if let Some(limit) = vhost_limit(&mut settings.limits, name) {
            *limit = value;
        }
    })?;
    request.told().vhost_limits(vhost.name(), &vhost.settings());
    Ok(Answer::NoContent)
}

fn user_limits(request: &Request) -> Result<Answer, ApiError> {
    let users = request.broker().users().list();
    list(users.iter().filter_map(|user| limited_user(user)).collect(), request)
}

fn limits_of_user(request: &Request) -> Result<Answer, ApiError> {
    list(limited_user(&*request.user_in_path()?).into_iter().collect(), request)
}

fn limited_user(user: &User) -> Option<api::UserLimits> {
    let value = limit_names(&user.limits);
    (!value.is_empty()).then(|| api::UserLimits { user: user.name.clone(), value })
}

fn put_user_limit(request: &Request) -> Result<Answer, ApiError> {
    let (user, name) = (request.parameter("user"), request.parameter("name"));
    let value = value(request)?;
    let mut set = Ok(());
    request.broker().set_user_limits(user, |limits| set = set_user_limit(limits, name, &value))?;
    if set.is_ok() {
        tell_user_limits(request, user);
    }
    set.map(|()| Answer::NoContent)
}

fn delete_user_limit(request: &Request) -> Result<Answer, ApiError> {
    let user = request.user_in_path()?;
    request.broker().set_user_limits(&user.name, |limits| {
        if let Some(limit) = user_limit(limits, request.parameter("name")) {
            *limit = None;
        }
    })?;
    tell_user_limits(request, &user.name);
    Ok(Answer::NoContent)
}

/// Tells of the limits of a user as they are now.
fn tell_user_limits(request: &Request, user: &str) {
    if let Some(user) = request.broker().users().get(user) {
        request.told().user_limits(&user);
    }
}

/// The `value` of the body, which may be null.
pub(super) fn value(request: &Request) -> Result<Value, ApiError> {
    Ok(request.body_with::<api::Setting>(&["value"])?.value)
}
