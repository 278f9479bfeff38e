//! Runtime parameters and global parameters: listed, set, deleted. RabbitMQ counts policies among the parameters; they are
//! listed as such and set elsewhere.

use super::answer::{Answer, ApiError};
use super::json::{value_from_json, value_to_json};
use super::limits::{self, vhost_limits_from_json};
use super::list::{list, one};
use super::policies::escaped;
use super::request::Request;
use super::routes::{Needs, Route};
use super::told::named;
use crate::api;
use crate::broker::VirtualHost;
use crate::broker::observe::events::text;
use crate::broker::policy::PolicyKind;
use crate::broker::topology::parameters::{CLUSTER_NAME, ParameterKey};
use crate::broker::topology::vhost_settings::VhostLimits;
use crate::message;
use crate::rabbit::{parameters, unsupported};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/parameters", Needs::Policymaker, list_parameters, "All runtime parameters")
        .lists::<api::Parameter>(),
    Route::get(
        "/api/parameters/{component}",
        Needs::Policymaker,
        list_parameters,
        "The runtime parameters of a component",
    )
    .lists::<api::Parameter>(),
    Route::get(
        "/api/parameters/{component}/{vhost}",
        Needs::Policymaker,
        list_parameters,
        "The runtime parameters of a component in a vhost",
    )
    .lists::<api::Parameter>(),
    Route::get(PARAMETER, Needs::Policymaker, get_parameter, "A runtime parameter")
        .answers::<api::Parameter>(),
    Route::put(PARAMETER, Needs::Policymaker, put_parameter, "Sets a runtime parameter")
        .takes::<api::Setting>(),
    Route::delete(PARAMETER, Needs::Policymaker, delete_parameter, "Deletes a runtime parameter"),
    Route::get("/api/global-parameters", Needs::Policymaker, list_global, "All global parameters")
        .lists::<api::GlobalParameter>(),
    Route::get(GLOBAL_PARAMETER, Needs::Policymaker, get_global, "A global parameter")
        .answers::<api::GlobalParameter>(),
    Route::put(GLOBAL_PARAMETER, Needs::Policymaker, put_global, "Sets a global parameter")
        .takes::<api::Setting>(),
    Route::delete(GLOBAL_PARAMETER, Needs::Policymaker, delete_global, "Deletes a global parameter"),
];

const PARAMETER: &str = "/api/parameters/{component}/{vhost}/{name}";
/// The component of limits of vhosts, and the name of its only parameter.
pub(super) const LIMITS: &str = "vhost-limits";
const LIMITS_NAME: &str = "limits";
const GLOBAL_PARAMETER: &str = "/api/global-parameters/{name}";

fn list_parameters(request: &Request) -> Result<Answer, ApiError> {
    let component = request.parameter("component");
    let vhosts = request.vhosts()?;
    let mut found = Vec::new();
    for (key, value) in request.broker().parameters() {
        let is_seen = vhosts.iter().any(|vhost| *vhost.name() == key.vhost);
        if is_seen && (component.is_empty() || component == &*key.component) {
            found.push(parameter(&key, &value));
        }
    }
    for vhost in &vhosts {
        // Among all parameters RabbitMQ lists operator policies, and no policies.
        if component == "policy" {
            found.extend(policies(vhost, PolicyKind::Policy, "policy"));
        } else if component.is_empty() || component == "operator_policy" {
            found.extend(policies(vhost, PolicyKind::Operator, "operator_policy"));
        }
        if component.is_empty() || component == LIMITS {
            found.extend(vhost_limits(vhost));
        }
    }
    list(found, request)
}

pub(super) fn policies(vhost: &VirtualHost, kind: PolicyKind, component: &str) -> Vec<api::Parameter> {
    let policies = vhost.policies(kind);
    let policies = policies.iter().map(|policy| {
        let key = ParameterKey {
            component: component.into(),
            vhost: vhost.name().clone(),
            name: policy.name.clone(),
        };
        parameter(&key, &message::Value::Table(policy.fields()))
    });
    policies.collect()
}

/// The limits of a vhost, which RabbitMQ keeps as a parameter.
pub(super) fn vhost_limits(vhost: &VirtualHost) -> Option<api::Parameter> {
    let limits = limits::of_vhost(&vhost.settings().limits);
    if limits.is_empty() {
        return None;
    }
    let (component, name) = (LIMITS.into(), LIMITS_NAME.into());
    Some(api::Parameter { component, vhost: Some(vhost.name().clone()), name, value: limits.into() })
}

/// Whether it is the limits of a vhost that the path names. They are no parameter in the broker.
fn is_limits(request: &Request) -> bool {
    request.parameter("component") == LIMITS && request.parameter("name") == LIMITS_NAME
}

fn get_parameter(request: &Request) -> Result<Answer, ApiError> {
    if is_limits(request) {
        return one(&vhost_limits(&*request.vhost()?).ok_or(ApiError::NotFound)?, request);
    }
    let key = key(request);
    let found = request.broker().parameters().into_iter().find(|(other, _)| *other == key);
    let (key, value) = found.ok_or(ApiError::NotFound)?;
    one(&parameter(&key, &value), request)
}

fn put_parameter(request: &Request) -> Result<Answer, ApiError> {
    request.vhost().map_err(|_| ApiError::NotThere("vhost_not_found".to_owned()))?;
    if is_limits(request) {
        // They bind policymakers too, so that one can't lift them by another path than that of limits.
        request.check_administrator()?;
        return put_limits(request);
    }
    let value = value(request)?;
    let key = key(request);
    if matches!(&*key.component, "policy" | "operator_policy") {
        return Err(ApiError::bad_request("policies may not be set using this method"));
    }
    let why = parameters::check(&key, &value).map_err(|error| escaped(error.into()))?;
    let told = (key.clone(), value.clone());
    let is_new = request.broker().set_parameter(key, value).map_err(|error| escaped(error.into()))?;
    parameters::report(&told.0);
    request.told().parameter(&told.0, &told.1);
    let warning = format!("the parameter is kept, and nothing acts on it: {why}");
    Ok(if is_new { Answer::Created } else { Answer::NoContent }.warned(vec![warning]))
}

/// Sets all limits of a vhost, and takes away those that are not said.
fn put_limits(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let limits = vhost_limits_from_json(&limits::value(request)?).map_err(escaped)?;
    let is_new = vhost_limits(&vhost).is_none();
    request.broker().put_vhost(vhost.name(), |settings| settings.limits = limits)?;
    request.told().vhost_limits(vhost.name(), &vhost.settings());
    Ok(if is_new { Answer::Created } else { Answer::NoContent })
}

fn delete_limits(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    vhost_limits(&vhost).ok_or(ApiError::NotFound)?;
    request.broker().put_vhost(vhost.name(), |settings| settings.limits = VhostLimits::default())?;
    request.tell("vhost.limits.cleared", || vec![("name", text(LIMITS_NAME)), ("vhost", text(vhost.name()))]);
    Ok(Answer::NoContent)
}

fn delete_parameter(request: &Request) -> Result<Answer, ApiError> {
    if is_limits(request) {
        request.check_administrator()?;
        return delete_limits(request);
    }
    let key = key(request);
    if !request.broker().remove_parameter(&key)? {
        return Err(ApiError::NotFound);
    }
    request.tell("parameter.cleared", || named(&key));
    Ok(Answer::NoContent)
}

fn key(request: &Request) -> ParameterKey {
    ParameterKey {
        component: request.parameter("component").into(),
        vhost: request.parameter("vhost").into(),
        name: request.parameter("name").into(),
    }
}

/// What the body says that the value is; null is a value too.
fn value(request: &Request) -> Result<message::Value, ApiError> {
    value_from_json(&limits::value(request)?, request.settings().field_table_depth_max)
}

/// A parameter as lists and definitions have it.
pub(super) fn parameter(key: &ParameterKey, value: &message::Value) -> api::Parameter {
    api::Parameter {
        component: key.component.clone(),
        vhost: Some(key.vhost.clone()),
        name: key.name.clone(),
        value: value_to_json(value),
    }
}

fn list_global(request: &Request) -> Result<Answer, ApiError> {
    let all = request.broker().global_parameters();
    list(all.iter().map(|(name, value)| global(name, value)).collect(), request)
}

fn get_global(request: &Request) -> Result<Answer, ApiError> {
    let name = request.parameter("name");
    let value = request.broker().global_parameter(name).ok_or(ApiError::NotFound)?;
    one(&global(name, &value), request)
}

/// The cluster's name has a path of its own too, and both are for administrators.
fn check_global(request: &Request) -> Result<(), ApiError> {
    if request.parameter("name") == CLUSTER_NAME { request.check_administrator() } else { Ok(()) }
}

fn put_global(request: &Request) -> Result<Answer, ApiError> {
    check_global(request)?;
    let value = value(request)?;
    let name = request.parameter("name");
    let told = value.clone();
    let is_new = request.broker().set_global_parameter(name, value)?;
    request.told().global_parameter(name, &told);
    let warning = |why| format!("the parameter is kept, and nothing acts on it: {why}");
    let warnings = unsupported::global_parameter(name).map(warning).into_iter().collect();
    Ok(if is_new { Answer::Created } else { Answer::NoContent }.warned(warnings))
}

fn delete_global(request: &Request) -> Result<Answer, ApiError> {
    check_global(request)?;
    let name = request.parameter("name");
    if !request.broker().remove_global_parameter(name)? {
        return Err(ApiError::NotFound);
    }
    request.tell("parameter.cleared", || vec![("component", text("global")), ("name", text(name))]);
    Ok(Answer::NoContent)
}

/// A global parameter as lists and definitions have it.
pub(super) fn global(name: &str, value: &message::Value) -> api::GlobalParameter {
    api::GlobalParameter { name: name.into(), value: value_to_json(value) }
}
