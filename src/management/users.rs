//! Users, and what all connections of each may use.

use super::answer::{Answer, ApiError};
use super::limits::{self, check_is_number, unknown_limit};
use super::list::{list, one};
use super::permissions::{permission, topic_permission};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, BulkDelete, Table, Tags};
use crate::broker::access::passwords::{HashingAlgorithm, PasswordHash};
use crate::broker::access::users::{User, UserLimits, Users};
use crate::broker::observe::events::text;
use serde_json::Value;

const USER: &str = "/api/users/{user}";

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/users", Needs::Administrator, users, "All users").lists::<api::User>(),
    Route::get(
        "/api/users/without-permissions",
        Needs::Administrator,
        users_without_permissions,
        "The users who may not open any vhost",
    )
    .lists::<api::User>(),
    Route::post("/api/users/bulk-delete", Needs::Administrator, delete_users, "Deletes several users")
        .takes::<api::BulkDelete>(),
    Route::get(USER, Needs::Administrator, user, "A user").answers::<api::User>(),
    Route::put(USER, Needs::Administrator, put_user, "Adds a user, or changes one").takes::<api::User>(),
    Route::delete(USER, Needs::Administrator, delete_user, "Deletes a user and closes its connections"),
    Route::get(
        "/api/users/{user}/permissions",
        Needs::Administrator,
        permissions,
        "What a user may do, in each vhost that it may open",
    )
    .lists::<api::Permission>(),
    Route::get(
        "/api/users/{user}/topic-permissions",
        Needs::Administrator,
        topic_permissions,
        "Which routing keys a user may use, where that is restricted",
    )
    .lists::<api::TopicPermission>(),
];

/// A user as lists and definitions have it.
pub(super) fn definition(user: &User) -> api::User {
    api::User {
        name: Some(user.name.clone()),
        password_hash: Some(user.password.as_str().to_owned()),
        hashing_algorithm: Some(user.password.algorithm().name().to_owned()),
        tags: Some(Tags(user.tags.clone())),
        limits: limit_names(&user.limits),
        ..api::User::default()
    }
}

/// The limits of a user that are set.
pub(super) fn limit_names(limits: &UserLimits) -> Table {
    limits::named([("max-channels", limits.max_channels), ("max-connections", limits.max_connections)])
}

/// Sets a limit of a user by its name.
pub(super) fn set_user_limit(limits: &mut UserLimits, name: &str, value: &Value) -> Result<(), ApiError> {
    let limit = user_limit(limits, name)
        .ok_or_else(|| ApiError::bad_request(unknown_limit(name, value, "user-limits")))?;
    *limit = Some(check_is_number(name, value).map_err(ApiError::bad_request)?);
    Ok(())
}

/// The limit of that name.
pub(super) fn user_limit<'a>(limits: &'a mut UserLimits, name: &str) -> Option<&'a mut Option<i64>> {
    match name {
        "max-connections" => Some(&mut limits.max_connections),
        "max-channels" => Some(&mut limits.max_channels),
        _ => None,
    }
}

fn users(request: &Request) -> Result<Answer, ApiError> {
    list(request.broker().users().list().iter().map(|user| definition(user)).collect(), request)
}

fn users_without_permissions(request: &Request) -> Result<Answer, ApiError> {
    let permissions = request.broker().permissions().list();
    let mut users = request.broker().users().list();
    users.retain(|user| permissions.iter().all(|permission| permission.user != user.name));
    list(users.iter().map(|user| definition(user)).collect(), request)
}

fn user(request: &Request) -> Result<Answer, ApiError> {
    one(&definition(&*request.user_in_path()?), request)
}

fn permissions(request: &Request) -> Result<Answer, ApiError> {
    let user = request.user_in_path()?;
    let all = request.broker().permissions().list();
    list(all.iter().filter(|item| item.user == user.name).map(permission).collect(), request)
}

fn topic_permissions(request: &Request) -> Result<Answer, ApiError> {
    let user = request.user_in_path()?;
    let all = request.broker().permissions().list_topics();
    list(all.iter().filter(|item| item.user == user.name).map(topic_permission).collect(), request)
}

fn put_user(request: &Request) -> Result<Answer, ApiError> {
    let name = request.parameter("user");
    let wanted: api::User = request.body()?;
    let tags = tags(&wanted)?;
    let known = request.broker().users().get(name);
    let password = password(&wanted, known.as_deref(), request.broker().users())?;
    let has_password = !password.is_none();
    // Faults are reported before anything is changed.
    for (limit, value) in &wanted.limits {
        set_user_limit(&mut UserLimits::default(), limit, value)?;
    }
    let put = request.broker().change_user(name, |user| {
        user.tags = tags;
        user.password = password;
        for (name, value) in &wanted.limits {
            if let Some(limit) = user_limit(&mut user.limits, name) {
                *limit = value.as_i64();
            }
        }
    })?;
    let tags = request.broker().existing_user(name)?.tags.clone();
    request.told().user(name, put, has_password, &tags);
    tracing::info!("user '{name}' is changed by user '{}'", request.user.name);
    Ok(put.into())
}

/// A user's tags, also as RabbitMQ's oldest clients write them.
pub(super) fn tags(user: &api::User) -> Result<Vec<String>, ApiError> {
    match (&user.tags, &user.administrator) {
        (Some(tags), _) => Ok(tags.0.clone()),
        (None, Some(Value::Bool(true))) => Ok(vec!["administrator".to_owned()]),
        (None, Some(_)) => Ok(Vec::new()),
        (None, None) => Err(ApiError::bad_request("tags_not_present")),
    }
}

const UNUSABLE_ARGON2: &str = "password_hash is no hash of argon2id in the form $argon2id$v=19$m=..,t=..,p=..$SALT$DIGEST, or \
                               takes more than 64 MiB (m=65536), 10 passes or 4 lanes";

/// What is kept of a user's password: its hash as it was exported, or one of the password itself, the same as before if that
/// fits. Without either the user logs in without a password or not at all.
pub(super) fn password(
    user: &api::User,
    known: Option<&User>,
    users: &Users,
) -> Result<PasswordHash, ApiError> {
    match (user.password.as_deref(), user.password_hash.as_deref()) {
        (Some(_), Some(_)) => Err(ApiError::bad_request("both_password_and_password_hash_are_provided")),
        (Some(password), None) => match known.filter(|known| users.fits(known, password)) {
            Some(known) => Ok(known.password.clone()),
            None => Ok(users.hash(password)),
        },
        (None, Some(hash)) => {
            let algorithm = match user.hashing_algorithm.as_deref() {
                None => HashingAlgorithm::of_hash(hash),
                Some(algorithm) => HashingAlgorithm::named(algorithm)
                    .ok_or_else(|| ApiError::bad_value("unknown_hashing_algorithm", algorithm))?,
            };
            PasswordHash::encoded(hash, algorithm).ok_or_else(|| match algorithm {
                HashingAlgorithm::Argon2id => ApiError::bad_request(UNUSABLE_ARGON2),
                _ => ApiError::bad_value("not_base64", hash),
            })
        }
        (None, None) => Ok(PasswordHash::none()),
    }
}

fn delete_user(request: &Request) -> Result<Answer, ApiError> {
    let user = request.user_in_path()?;
    request.broker().delete_user(&user.name)?;
    request.tell("user.deleted", || vec![("name", text(&user.name))]);
    Ok(Answer::NoContent)
}

/// Deletes those that are listed in their order, up to one that is not there.
fn delete_users(request: &Request) -> Result<Answer, ApiError> {
    let BulkDelete { users } = request.body_with(&["users"])?;
    for user in users {
        request.broker().delete_user(&user)?;
        request.tell("user.deleted", || vec![("name", text(&user))]);
    }
    Ok(Answer::NoContent)
}
