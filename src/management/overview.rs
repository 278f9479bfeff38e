//! What the broker says of itself as a whole, and the cluster's name.

use super::answer::{Answer, ApiError};
use super::connections::visible;
use super::list::one;
use super::ranges::{Range, put_samples};
use super::request::Request;
use super::routes::{Needs, Route};
use super::{ListenerFacts, Management, auth, stats};
use crate::api::{self, Available, ClusterName};
use crate::broker::observe::stats::{MessageStats, TotalSample};
use crate::broker::topology::parameters::CLUSTER_NAME;
use crate::message::{Name, Value as Argument};
use serde_json::json;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/overview", Needs::Login, overview, "What the broker is, and what it holds in all")
        .answers::<api::Overview>(),
    Route::get("/api/whoami", Needs::Login, whoami, "The user that asks").answers::<api::WhoAmI>(),
    Route::get("/api/cluster-name", Needs::Login, cluster_name, "The cluster's name")
        .answers::<api::ClusterName>(),
    Route::put("/api/cluster-name", Needs::Administrator, set_cluster_name, "Gives the cluster another name")
        .takes::<api::ClusterName>(),
];

fn whoami(request: &Request) -> Result<Answer, ApiError> {
    let user = &request.user;
    Answer::of(&api::WhoAmI { name: user.name.clone(), tags: user.tags.clone() })
}

/// The cluster's name: the one that it was given, or the configured one.
pub(super) fn name_of_cluster(management: &Management) -> String {
    management.broker.cluster_name().unwrap_or_else(|| management.settings.cluster_name.clone())
}

fn cluster_name(request: &Request) -> Result<Answer, ApiError> {
    one(&ClusterName { name: name_of_cluster(&request.management) }, request)
}

fn set_cluster_name(request: &Request) -> Result<Answer, ApiError> {
    let ClusterName { name } = request.body_with(&["name"])?;
    request.broker().set_global_parameter(CLUSTER_NAME, Argument::from(name.as_str()))?;
    Ok(Answer::NoContent)
}

fn overview(request: &Request) -> Result<Answer, ApiError> {
    let management = &request.management;
    let settings = &management.settings;
    let samples = management.broker.samples();
    let totals = Totals::of(request)?;
    let lengths = (totals.total.ready, totals.total.unacked);
    let mut queue_totals = stats::lengths(lengths, &samples, |sample| (sample.ready, sample.unacked));
    if let Some(range) = Range::of(request)?
        && auth::is_monitor(&request.user)
    {
        put_samples(&mut queue_totals, range, &management.broker.lengths());
    }
    let connections = visible(request);
    let kept = ["global", "basic", "detailed"].map(|kind| (kind.to_owned(), json!([5])));
    let overview = api::Overview {
        management_version: settings.version.clone(),
        rates_mode: "basic".to_owned(),
        sample_retention_policies: kept.into_iter().collect(),
        exchange_types: exchange_types(management),
        product_version: settings.version.clone(),
        product_name: settings.product.clone(),
        rabbitmq_version: settings.version.clone(),
        leveret_version: env!("CARGO_PKG_VERSION").to_owned(),
        losses: management.broker.losses().count() as u64,
        cluster_name: name_of_cluster(management),
        release_series_support_status: "supported".to_owned(),
        disable_stats: false,
        enable_queue_totals: false,
        default_queue_type: "classic".to_owned(),
        message_stats: stats::total_stats(&totals.total.stats, &samples),
        churn_rates: churn_rates(management),
        queue_totals,
        object_totals: api::ObjectTotals {
            channels: connections.iter().map(|connection| u64::from(connection.channels())).sum(),
            connections: connections.len() as u64,
            ..totals.objects
        },
        statistics_db_event_queue: 0,
        node: request.node(),
        listeners: listeners(request),
        contexts: contexts(management, Some(request.node())),
    };
    one(&overview, request)
}

/// What is in the vhosts that the user sees.
#[derive(Default)]
struct Totals {
    total: TotalSample,
    objects: api::ObjectTotals,
}

impl Totals {
    fn of(request: &Request) -> Result<Totals, ApiError> {
        let mut totals = Totals::default();
        let by_vhost = request.broker().connections().stats_by_vhost();
        for vhost in request.vhosts()? {
            let stats: MessageStats = by_vhost.get(vhost.name()).copied().unwrap_or_default();
            totals.total.stats.add(&stats);
            totals.objects.exchanges += vhost.exchange_count() as u64;
            for queue in vhost.queues() {
                let counts = queue.counts();
                totals.objects.queues += 1;
                totals.total.ready += counts.ready as u64;
                totals.total.unacked += counts.unacked as u64;
                totals.objects.consumers += counts.consumers as u64;
            }
        }
        Ok(totals)
    }
}

pub(super) fn churn_rates(management: &Management) -> api::Counts {
    stats::churn_rates(&management.broker.churn_counts(), &management.broker.samples())
}

/// Something that is there.
pub(super) fn available(name: &str, description: &str) -> Available {
    Available { name: name.to_owned(), description: description.to_owned(), enabled: true }
}

pub(super) fn exchange_types(management: &Management) -> Vec<Available> {
    management.broker.exchange_types().names().map(|name| available(name, "")).collect()
}

fn listeners(request: &Request) -> Vec<api::Listener> {
    let listener = |facts: &ListenerFacts| api::Listener {
        node: request.node(),
        protocol: facts.protocol.to_owned(),
        ip_address: facts.address.ip().to_string(),
        port: facts.address.port(),
        socket_opts: [("nodelay".to_owned(), true.into())].into_iter().collect(),
    };
    request.settings().listeners.iter().map(listener).collect()
}

/// The listeners for HTTP.
pub(super) fn contexts(management: &Management, node: Option<Name>) -> Vec<api::Context> {
    let http = management.settings.listeners.iter().filter(|facts| facts.protocol.starts_with("http"));
    let context = |facts: &ListenerFacts| api::Context {
        description: "Leveret Management".to_owned(),
        path: "/".to_owned(),
        ip: facts.address.ip().to_string(),
        port: facts.address.port().to_string(),
        node: node.clone(),
    };
    http.map(context).collect()
}
