//! Policies and operator policies: listed, set, deleted.

use super::answer::{Answer, ApiError};
use super::json::{table, table_from_json, value_to_json};
use super::list::{list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api;
use crate::broker::policy::{Policy, PolicyKind};
use crate::message::Name;
use crate::rabbit::{policy, unsupported};
use serde_json::Value;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/policies", Needs::Login, list_policies, "All policies").lists::<api::Policy>(),
    Route::get("/api/policies/{vhost}", Needs::SeeVhost, list_policies, "The policies of a vhost")
        .lists::<api::Policy>(),
    Route::get("/api/policies/{vhost}/{name}", Needs::Policymaker, get_policy, "A policy")
        .answers::<api::Policy>(),
    Route::put("/api/policies/{vhost}/{name}", Needs::Policymaker, put_policy, "Sets a policy")
        .takes::<api::Policy>(),
    Route::delete("/api/policies/{vhost}/{name}", Needs::Policymaker, delete_policy, "Deletes a policy"),
    Route::get("/api/operator-policies", Needs::Login, list_operator_policies, "All operator policies")
        .lists::<api::Policy>(),
    Route::get(
        "/api/operator-policies/{vhost}",
        Needs::SeeVhost,
        list_operator_policies,
        "The operator policies of a vhost",
    )
    .lists::<api::Policy>(),
    Route::get(OPERATOR_POLICY, Needs::Administrator, get_operator_policy, "An operator policy")
        .answers::<api::Policy>(),
    Route::put(OPERATOR_POLICY, Needs::Administrator, put_operator_policy, "Sets an operator policy")
        .takes::<api::Policy>(),
    Route::delete(
        OPERATOR_POLICY,
        Needs::Administrator,
        delete_operator_policy,
        "Deletes an operator policy",
    ),
];

const OPERATOR_POLICY: &str = "/api/operator-policies/{vhost}/{name}";

fn list_policies(request: &Request) -> Result<Answer, ApiError> {
    list_kind(PolicyKind::Policy, request)
}

fn list_operator_policies(request: &Request) -> Result<Answer, ApiError> {
    list_kind(PolicyKind::Operator, request)
}

fn get_policy(request: &Request) -> Result<Answer, ApiError> {
    get_kind(PolicyKind::Policy, request)
}

fn get_operator_policy(request: &Request) -> Result<Answer, ApiError> {
    get_kind(PolicyKind::Operator, request)
}

fn put_policy(request: &Request) -> Result<Answer, ApiError> {
    // RabbitMQ makes these reasons fit for a page of HTML, and those of operator policies not.
    put_kind(PolicyKind::Policy, request).map_err(escaped)
}

fn put_operator_policy(request: &Request) -> Result<Answer, ApiError> {
    put_kind(PolicyKind::Operator, request)
}

fn delete_policy(request: &Request) -> Result<Answer, ApiError> {
    delete_kind(PolicyKind::Policy, request)
}

fn delete_operator_policy(request: &Request) -> Result<Answer, ApiError> {
    delete_kind(PolicyKind::Operator, request)
}

fn list_kind(kind: PolicyKind, request: &Request) -> Result<Answer, ApiError> {
    let mut all = Vec::new();
    for vhost in request.vhosts()? {
        all.extend(vhost.policies(kind).iter().map(|policy| definition(vhost.name(), policy)));
    }
    list(all, request)
}

fn get_kind(kind: PolicyKind, request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let policy = vhost.policy(kind, request.parameter("name")).ok_or(ApiError::NotFound)?;
    one(&definition(vhost.name(), &policy), request)
}

fn put_kind(kind: PolicyKind, request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost().map_err(|_| ApiError::NotThere("vhost_not_found".to_owned()))?;
    // The broker itself judges the fields, whatever they are.
    let fields = request.fields(&["pattern", "definition"])?;
    let fields = table_from_json(&fields, request.settings().field_table_depth_max)?;
    let policy = policy::parse(kind, request.parameter("name"), &fields)?;
    let without_effect = unsupported::in_policy(&policy);
    let is_new = request.in_turn(|turn| vhost.set_policy(kind, policy, request.actor(), turn))?;
    for warning in &without_effect {
        tracing::warn!("in policy '{}' of vhost '{}' {warning}", request.parameter("name"), vhost.name());
    }
    Ok(if is_new { Answer::Created } else { Answer::NoContent }.warned(without_effect))
}

fn delete_kind(kind: PolicyKind, request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let (name, by) = (request.parameter("name"), request.actor());
    match request.in_turn(|turn| vhost.remove_policy(kind, name, by, turn))? {
        true => Ok(Answer::NoContent),
        false => Err(ApiError::NotFound),
    }
}

/// A policy as lists and definitions have it.
pub(super) fn definition(vhost: &Name, policy: &Policy) -> api::Policy {
    api::Policy {
        vhost: Some(vhost.clone()),
        name: Some(policy.name.clone()),
        pattern: policy.pattern.as_str().to_owned(),
        apply_to: policy.apply_to.name().to_owned(),
        definition: table(&policy.definition),
        priority: value_to_json(&policy.priority),
    }
}

/// The same refusal with its reason fit for HTML.
pub(super) fn escaped(error: ApiError) -> ApiError {
    match error {
        ApiError::BadRequest(Value::String(reason)) => {
            ApiError::bad_request(reason.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
        }
        other => other,
    }
}
