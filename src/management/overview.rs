//! What the broker says of itself as a whole, and the cluster's name.

use super::answer::{Answer, ApiError};
use super::connections::visible;
use super::list::one;
use super::ranges::{Range, put_samples};
use super::request::Request;
use super::routes::{Needs, Route};
use super::{ListenerFacts, Management, auth, stats};
use crate::broker::parameters::CLUSTER_NAME;
use crate::broker::stats::{MessageStats, TotalSample};
use crate::message::Value as Argument;
use serde_json::{Map, Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/overview", Needs::Login, overview, "What the broker is, and what it holds in all"),
    Route::get("/api/whoami", Needs::Login, whoami, "The user that asks"),
    Route::get("/api/cluster-name", Needs::Login, cluster_name, "The cluster's name"),
    Route::put("/api/cluster-name", Needs::Administrator, set_cluster_name, "Gives the cluster another name"),
];

fn whoami(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(json!({ "name": &*request.user.name, "tags": request.user.tags })))
}

/// The cluster's name: the one that it was given, or the configured one.
pub(super) fn name_of_cluster(management: &Management) -> String {
    management.broker.cluster_name().unwrap_or_else(|| management.settings.cluster_name.clone())
}

fn cluster_name(request: &Request) -> Result<Answer, ApiError> {
    one(json!({ "name": name_of_cluster(&request.management) }), request)
}

fn set_cluster_name(request: &Request) -> Result<Answer, ApiError> {
    let fields = request.fields()?;
    fields.require(&["name"])?;
    let name = fields.text("name")?.unwrap_or_default();
    request.broker().set_global_parameter(CLUSTER_NAME, Argument::from(name))?;
    Ok(Answer::NoContent)
}

fn overview(request: &Request) -> Result<Answer, ApiError> {
    let management = &request.management;
    let settings = &management.settings;
    let samples = management.broker.samples();
    let totals = Totals::of(request)?;
    let mut queue_totals = Map::new();
    let lengths = (totals.total.ready, totals.total.unacked);
    stats::put_lengths(&mut queue_totals, lengths, &samples, |sample| (sample.ready, sample.unacked));
    if let Some(range) = Range::of(request)?
        && auth::is_monitor(&request.user)
    {
        put_samples(&mut queue_totals, range, &management.broker.lengths());
    }
    let connections = visible(request);
    one(
        json!({
            "management_version": settings.version,
            "rates_mode": "basic",
            "sample_retention_policies": { "global": [5], "basic": [5], "detailed": [5] },
            "exchange_types": exchange_types(management),
            "product_version": settings.version,
            "product_name": settings.product,
            "rabbitmq_version": settings.version,
            "leveret_version": env!("CARGO_PKG_VERSION"),
            "cluster_name": name_of_cluster(management),
            "release_series_support_status": "supported",
            "disable_stats": false,
            "enable_queue_totals": false,
            "default_queue_type": "classic",
            "message_stats": stats::total_stats(&totals.total.stats, &samples),
            "churn_rates": churn_rates(management),
            "queue_totals": queue_totals,
            "object_totals": {
                "channels": connections.iter().map(|connection| connection.channels()).sum::<u32>(),
                "connections": connections.len(),
                "consumers": totals.consumers,
                "exchanges": totals.exchanges,
                "queues": totals.queues,
            },
            "statistics_db_event_queue": 0,
            "node": settings.node_name,
            "listeners": listeners(management),
            "contexts": contexts(management, true),
        }),
        request,
    )
}

/// What is in the vhosts that the user sees.
#[derive(Default)]
struct Totals {
    total: TotalSample,
    consumers: usize,
    queues: usize,
    exchanges: usize,
}

impl Totals {
    fn of(request: &Request) -> Result<Totals, ApiError> {
        let mut totals = Totals::default();
        let by_vhost = request.broker().connections().stats_by_vhost();
        for vhost in request.vhosts()? {
            let stats: MessageStats = by_vhost.get(vhost.name()).copied().unwrap_or_default();
            totals.total.stats.add(&stats);
            totals.exchanges += vhost.exchange_count();
            for queue in vhost.queues() {
                let counts = queue.counts();
                totals.queues += 1;
                totals.total.ready += counts.ready as u64;
                totals.total.unacked += counts.unacked as u64;
                totals.consumers += counts.consumers;
            }
        }
        Ok(totals)
    }
}

pub(super) fn churn_rates(management: &Management) -> Value {
    stats::churn_rates(&management.broker.churn_counts(), &management.broker.samples())
}

pub(super) fn exchange_types(management: &Management) -> Value {
    let types = management.broker.exchange_types().names();
    types.map(|name| json!({ "name": name, "description": "", "enabled": true })).collect()
}

fn listeners(management: &Management) -> Vec<Value> {
    let settings = &management.settings;
    let listener = |facts: &ListenerFacts| {
        json!({
            "node": settings.node_name,
            "protocol": facts.protocol,
            "ip_address": facts.address.ip().to_string(),
            "port": facts.address.port(),
            "socket_opts": { "nodelay": true },
        })
    };
    settings.listeners.iter().map(listener).collect()
}

/// The listeners for HTTP.
pub(super) fn contexts(management: &Management, with_node: bool) -> Value {
    let settings = &management.settings;
    let http = settings.listeners.iter().filter(|facts| facts.protocol.starts_with("http"));
    let context = |facts: &ListenerFacts| {
        let mut context = json!({
            "description": "Leveret Management",
            "path": "/",
            "ip": facts.address.ip().to_string(),
            "port": facts.address.port().to_string(),
        });
        if with_node {
            context["node"] = settings.node_name.as_str().into();
        }
        context
    };
    http.map(context).collect()
}
