//! What RabbitMQ's tools ask about a broker's abilities. Some of it has one answer on one node.

use super::answer::{Answer, ApiError};
use super::list::list;
use super::request::Request;
use super::routes::{Needs, Route};
use serde_json::{Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/feature-flags", Needs::Login, feature_flags, "The feature flags, all of them enabled"),
    Route::put(
        "/api/feature-flags/{name}/enable",
        Needs::Administrator,
        enable,
        "Enables a feature flag, which it is already",
    ),
    Route::get("/api/deprecated-features", Needs::Login, nothing, "Features that will go: none"),
    Route::get("/api/deprecated-features/used", Needs::Login, nothing, "Such features in use: none"),
    Route::get("/api/extensions", Needs::Login, nothing, "Extensions of the web pages: none"),
    Route::get("/api/version", Needs::Login, version, "The version"),
    Route::post(
        "/api/rebalance/queues",
        Needs::Administrator,
        rebalance,
        "Spreads queues over the nodes, of which there is one",
    ),
    Route::get(
        "/api/queues/quorum/{vhost}/{name}/status",
        Needs::SeeVhost,
        quorum_status,
        "The members of a quorum queue",
    ),
];

/// The flags of RabbitMQ that stand for what is there, and what they are for.
const FLAGS: &[(&str, &str)] = &[
    ("classic_mirrored_queue_version", "Versions of classic queues can be set by policies"),
    ("direct_exchange_routing_v2", "Direct exchanges look routing keys up in a table"),
    ("drop_unroutable_metric", "Dropped unroutable messages are counted"),
    ("empty_basic_get_metric", "basic.get on empty queues is counted"),
    ("feature_flags_v2", "Feature flags of the second kind"),
    ("implicit_default_bindings", "Bindings to the default exchange are implied"),
    ("listener_records_in_ets", "Listeners are kept in memory"),
    ("maintenance_mode_status", "The state of maintenance is shown"),
    ("quorum_queue", "Queues of the type quorum"),
    ("tracking_records_in_ets", "Connections are counted in memory"),
    ("user_limits", "Limits on a user's connections and channels"),
    ("virtual_host_metadata", "Descriptions and tags of vhosts"),
];

fn feature_flags(request: &Request) -> Result<Answer, ApiError> {
    let flag = |(name, text): &(&str, &str)| {
        json!({
            "name": name,
            "desc": text,
            "doc_url": "",
            "state": "enabled",
            "stability": "stable",
            "provided_by": "rabbit",
        })
    };
    list(FLAGS.iter().map(flag).collect(), request)
}

fn enable(request: &Request) -> Result<Answer, ApiError> {
    let name = request.parameter("name");
    if FLAGS.iter().any(|(flag, _)| *flag == name) {
        return Ok(Answer::NoContent);
    }
    Err(ApiError::bad_request("unsupported"))
}

fn nothing(request: &Request) -> Result<Answer, ApiError> {
    list(Vec::<Value>::new(), request)
}

fn version(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(request.settings().version.as_str().into()))
}

fn rebalance(_: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::NoContent)
}

fn quorum_status(request: &Request) -> Result<Answer, ApiError> {
    super::queues::find(request)?;
    let node = request.settings().node_name.as_str();
    Ok(Answer::Json(json!([{ "Node Name": node, "Raft State": "leader", "Membership": "voter" }])))
}
