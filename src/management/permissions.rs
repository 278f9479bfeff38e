//! What users may do in vhosts, and with the routing keys of topic exchanges.

use super::answer::{Answer, ApiError};
use super::list::{list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::told::whose;
use crate::api;
use crate::broker::BrokerError;
use crate::broker::access::permissions::{Patterns, Permission, TopicPermission};

const PERMISSION: &str = "/api/permissions/{vhost}/{user}";
const TOPIC_PERMISSIONS: &str = "/api/topic-permissions/{vhost}/{user}";
const TOPIC_PERMISSION: &str = "/api/topic-permissions/{vhost}/{user}/{exchange}";

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/permissions", Needs::Administrator, permissions, "What users may do in vhosts")
        .lists::<api::Permission>(),
    Route::get(PERMISSION, Needs::Administrator, get_permission, "What a user may do in a vhost")
        .answers::<api::Permission>(),
    Route::put(PERMISSION, Needs::Administrator, put_permission, "Sets what a user may do in a vhost")
        .takes::<api::Permission>(),
    Route::delete(PERMISSION, Needs::Administrator, delete_permission, "Keeps a user out of a vhost"),
    Route::get(
        "/api/topic-permissions",
        Needs::Administrator,
        topic_permissions,
        "Which routing keys users may use, where that is restricted",
    )
    .lists::<api::TopicPermission>(),
    Route::get(
        TOPIC_PERMISSIONS,
        Needs::Administrator,
        topic_permissions_of_user,
        "Which routing keys a user may use in a vhost, where that is restricted",
    )
    .lists::<api::TopicPermission>(),
    Route::put(
        TOPIC_PERMISSIONS,
        Needs::Administrator,
        put_topic_permission,
        "Sets which routing keys a user may use with an exchange",
    )
    .takes::<api::TopicPermission>(),
    Route::delete(
        TOPIC_PERMISSIONS,
        Needs::Administrator,
        delete_topic_permissions,
        "Lets a user use all routing keys in a vhost",
    ),
    Route::get(
        TOPIC_PERMISSION,
        Needs::Administrator,
        topic_permissions_of_user,
        "Which routing keys a user may use with an exchange",
    )
    .lists::<api::TopicPermission>(),
    Route::delete(
        TOPIC_PERMISSION,
        Needs::Administrator,
        delete_topic_permissions,
        "Lets a user use all routing keys with an exchange",
    ),
];

/// A permission as lists and definitions have it.
pub(super) fn permission(permission: &Permission) -> api::Permission {
    let Permission { user, vhost, patterns } = permission;
    api::Permission {
        user: Some(user.clone()),
        vhost: Some(vhost.clone()),
        configure: Some(patterns.configure.as_str().to_owned()),
        write: Some(patterns.write.as_str().to_owned()),
        read: Some(patterns.read.as_str().to_owned()),
    }
}

/// A topic permission as lists and definitions have it.
pub(super) fn topic_permission(permission: &TopicPermission) -> api::TopicPermission {
    let TopicPermission { user, vhost, exchange, patterns } = permission;
    api::TopicPermission {
        user: Some(user.clone()),
        vhost: Some(vhost.clone()),
        exchange: Some(exchange.clone()),
        write: Some(patterns.write.as_str().to_owned()),
        read: Some(patterns.read.as_str().to_owned()),
    }
}

fn permissions(request: &Request) -> Result<Answer, ApiError> {
    list(request.broker().permissions().list().iter().map(permission).collect(), request)
}

fn get_permission(request: &Request) -> Result<Answer, ApiError> {
    one(&permission(&found(request)?), request)
}

/// The permission in the path.
fn found(request: &Request) -> Result<Permission, ApiError> {
    let (vhost, user) = (request.vhost()?, request.user_in_path()?);
    let patterns = request.broker().permissions().get(&user.name, vhost.name()).ok_or(ApiError::NotFound)?;
    Ok(Permission { user: user.name.clone(), vhost: vhost.name().clone(), patterns })
}

fn put_permission(request: &Request) -> Result<Answer, ApiError> {
    let wanted: api::Permission = request.body_with(&["configure", "write", "read"])?;
    check_both_there(request)?;
    let patterns = Patterns::new(
        said(&wanted.configure, "configure")?,
        said(&wanted.write, "write")?,
        said(&wanted.read, "read")?,
    )
    .map_err(BrokerError::from)?;
    let (user, vhost) = (request.parameter("user"), request.parameter("vhost"));
    let put = request.broker().set_permissions(user, vhost, patterns)?;
    request.told().permission(&found(request)?);
    Ok(put.into())
}

/// A field that is there, and may be null.
fn said<'a, T: AsRef<str>>(field: &'a Option<T>, name: &str) -> Result<&'a str, ApiError> {
    field.as_ref().map(AsRef::as_ref).ok_or_else(|| ApiError::bad_value("not_string", name))
}

fn check_both_there(request: &Request) -> Result<(), ApiError> {
    let broker = request.broker();
    match (broker.users().get(request.parameter("user")), broker.vhost(request.parameter("vhost"))) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err(ApiError::bad_request("vhost_or_user_not_found")),
    }
}

fn delete_permission(request: &Request) -> Result<Answer, ApiError> {
    let Permission { user, vhost, .. } = found(request)?;
    request.broker().clear_permissions(&user, &vhost)?;
    request.tell("permission.deleted", || whose(&user, &vhost));
    Ok(Answer::NoContent)
}

fn topic_permissions(request: &Request) -> Result<Answer, ApiError> {
    list(request.broker().permissions().list_topics().iter().map(topic_permission).collect(), request)
}

fn topic_permissions_of_user(request: &Request) -> Result<Answer, ApiError> {
    let mut found = found_topics(request)?;
    if let Some(exchange) = exchange(request) {
        found.retain(|item| *item.exchange == *exchange);
    }
    list(found.iter().map(topic_permission).collect(), request)
}

/// Those of the user in the vhost; there has to be one.
fn found_topics(request: &Request) -> Result<Vec<TopicPermission>, ApiError> {
    let (vhost, user) = (request.vhost()?, request.user_in_path()?);
    let mut found = request.broker().permissions().list_topics();
    found.retain(|item| item.user == user.name && item.vhost == *vhost.name());
    if found.is_empty() { Err(ApiError::NotFound) } else { Ok(found) }
}

/// The exchange in the path, if it has one.
fn exchange(request: &Request) -> Option<&str> {
    Some(request.parameter("exchange")).filter(|exchange| !exchange.is_empty())
}

fn put_topic_permission(request: &Request) -> Result<Answer, ApiError> {
    let wanted: api::TopicPermission = request.body_with(&["exchange", "write", "read"])?;
    check_both_there(request)?;
    let (user, vhost) = (request.parameter("user"), request.parameter("vhost"));
    let is_first = found_topics(request).is_err();
    request.broker().set_topic_permissions(
        user,
        vhost,
        said(&wanted.exchange, "exchange")?,
        (said(&wanted.write, "write")?, said(&wanted.read, "read")?),
    )?;
    let set =
        found_topics(request)?.into_iter().find(|set| wanted.exchange.as_deref() == Some(&*set.exchange));
    set.iter().for_each(|set| request.told().topic_permission(set));
    // As RabbitMQ has it: the second exchange of a user is a change of the first.
    Ok(if is_first { Answer::Created } else { Answer::NoContent })
}

fn delete_topic_permissions(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, user) = (request.vhost()?, request.user_in_path()?);
    found_topics(request)?;
    request.broker().clear_topic_permissions(&user.name, vhost.name(), exchange(request))?;
    request.tell("topic.permission.deleted", || whose(&user.name, vhost.name()));
    Ok(Answer::NoContent)
}
