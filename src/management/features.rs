//! What RabbitMQ's tools ask about a broker's abilities. Some of it has one answer on one node.

use super::answer::{Answer, ApiError};
use super::list::list;
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, DeprecatedFeature, FeatureFlag, QuorumMember};
use crate::broker::queue::QueueDefinition;
use serde_json::Value;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/feature-flags", Needs::Login, feature_flags, "The feature flags, all of them enabled")
        .lists::<api::FeatureFlag>(),
    Route::put(
        "/api/feature-flags/{name}/enable",
        Needs::Administrator,
        enable,
        "Enables a feature flag, which it is already",
    ),
    Route::get(
        "/api/deprecated-features",
        Needs::Login,
        deprecated_features,
        "What the RabbitMQ of the version that is shown has deprecated",
    )
    .lists::<api::DeprecatedFeature>(),
    Route::get("/api/deprecated-features/used", Needs::Login, used, "The deprecated features in use")
        .lists::<api::DeprecatedFeature>(),
    Route::get("/api/extensions", Needs::Login, nothing, "Extensions of the web pages: none"),
    Route::get("/api/version", Needs::Login, version, "The version").answers::<str>(),
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
    )
    .answers::<Vec<api::QuorumMember>>(),
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

/// A feature that RabbitMQ has deprecated, from 3.13 on.
struct Deprecated {
    name: &'static str,
    /// Where the reason is given, behind [`ANNOUNCEMENTS`].
    section: &'static str,
    provided_by: &'static str,
    /// Its phase in RabbitMQ 3.13, which does not list all of them, and in 4.
    phases: [Option<&'static str>; 2],
    /// Whether it can be used here.
    is_there: bool,
}

const ANNOUNCEMENTS: &str = "https://blog.rabbitmq.com/posts/2021/08/4.0-deprecation-announcements/#";
const PERMITTED: Option<&str> = Some("permitted_by_default");
const DENIED: Option<&str> = Some("denied_by_default");
const REMOVED: Option<&str> = Some("removed");
const TRANSIENT_QUEUES: &str = "transient_nonexcl_queues";

const DEPRECATED: &[Deprecated] = &[
    Deprecated {
        name: "queue_master_locator",
        section: "",
        provided_by: "rabbit",
        phases: [None, DENIED],
        is_there: true,
    },
    Deprecated {
        name: "global_qos",
        section: "removal-of-global-qos",
        provided_by: "rabbit",
        phases: [PERMITTED, DENIED],
        is_there: true,
    },
    Deprecated {
        name: "management_metrics_collection",
        section: "disable-metrics-delivery-via-the-management-api--ui",
        provided_by: "rabbitmq_management_agent",
        phases: [PERMITTED, PERMITTED],
        is_there: true,
    },
    Deprecated {
        name: TRANSIENT_QUEUES,
        section: "removal-of-transient-non-exclusive-queues",
        provided_by: "rabbit",
        phases: [PERMITTED, PERMITTED],
        is_there: true,
    },
    Deprecated {
        name: "classic_queue_mirroring",
        section: "removal-of-classic-queue-mirroring",
        provided_by: "rabbit",
        phases: [PERMITTED, REMOVED],
        is_there: false,
    },
    Deprecated {
        name: "ram_node_type",
        section: "removal-of-ram-nodes",
        provided_by: "rabbit",
        phases: [PERMITTED, REMOVED],
        is_there: false,
    },
];

impl Deprecated {
    /// What is said of it, if the version that is shown lists it.
    fn describe(&self, version: &str) -> Option<DeprecatedFeature> {
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let phase = match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
            (4.., _) => self.phases[1],
            (3, 13..) => self.phases[0],
            _ => None,
        };
        let doc_url = match self.section {
            "" => String::new(),
            section => format!("{ANNOUNCEMENTS}{section}"),
        };
        Some(DeprecatedFeature {
            name: self.name.to_owned(),
            desc: String::new(),
            deprecation_phase: phase?.to_owned(),
            doc_url,
            provided_by: self.provided_by.to_owned(),
            state: None,
        })
    }
}

fn feature_flags(request: &Request) -> Result<Answer, ApiError> {
    let flag = |(name, text): &(&str, &str)| FeatureFlag {
        name: (*name).to_owned(),
        desc: (*text).to_owned(),
        doc_url: String::new(),
        state: "enabled".to_owned(),
        stability: "stable".to_owned(),
        provided_by: "rabbit".to_owned(),
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

fn deprecated_features(request: &Request) -> Result<Answer, ApiError> {
    let describe = |feature: &Deprecated| {
        let state = if feature.is_there { "permitted" } else { "denied" };
        let described = feature.describe(&request.settings().version)?;
        Some(DeprecatedFeature { state: Some(state.to_owned()), ..described })
    };
    list(DEPRECATED.iter().filter_map(describe).collect(), request)
}

/// Of queues RabbitMQ reports only whether one of these is in use.
fn used(request: &Request) -> Result<Answer, ApiError> {
    let is_transient = |queue: &QueueDefinition| !queue.durable && queue.exclusive_owner.is_none();
    let mut queues = request.broker().vhosts().into_iter().flat_map(|vhost| vhost.queues());
    let feature = DEPRECATED.iter().find(|feature| feature.name == TRANSIENT_QUEUES);
    let used = feature
        .filter(|_| queues.any(|queue| is_transient(queue.definition())))
        .and_then(|feature| feature.describe(&request.settings().version));
    list(used.into_iter().collect(), request)
}

fn version(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(request.settings().version.as_str().into()))
}

fn rebalance(_: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::NoContent)
}

fn quorum_status(request: &Request) -> Result<Answer, ApiError> {
    super::queues::find(request)?;
    let (raft_state, membership) = ("leader".to_owned(), "voter".to_owned());
    Answer::of(&[QuorumMember { node_name: request.node(), raft_state, membership }])
}
