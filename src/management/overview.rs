//! What the broker says of itself as a whole.

use super::answer::{Answer, ApiError};
use super::list::one;
use super::request::Request;
use super::routes::{Needs, Route};
use super::{Management, auth};
use serde_json::{Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/overview", Needs::Login, overview, "What the broker is, and what it holds in all"),
    Route::get("/api/whoami", Needs::Login, whoami, "The user that asks"),
];

fn whoami(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(json!({ "name": &*request.user.name, "tags": request.user.tags })))
}

fn overview(request: &Request) -> Result<Answer, ApiError> {
    let management = &request.management;
    let settings = &management.settings;
    let vhosts = request.vhosts()?;
    let connections = management.broker.connections().list();
    let is_seen = |user: &str| auth::is_monitor(&request.user) || user == &*request.user.name;
    let connections: Vec<_> = connections.iter().filter(|c| is_seen(&c.facts().user)).collect();
    let (mut ready, mut unacked, mut consumers, mut queues, mut exchanges) = (0, 0, 0, 0, 0);
    for vhost in &vhosts {
        exchanges += vhost.exchange_count();
        for queue in vhost.queues() {
            let counts = queue.lock().counts();
            queues += 1;
            ready += counts.ready;
            unacked += counts.unacked;
            consumers += counts.consumers;
        }
    }
    one(
        json!({
            "management_version": settings.version,
            "rates_mode": "basic",
            "product_version": settings.version,
            "product_name": settings.product,
            "rabbitmq_version": settings.version,
            "cluster_name": settings.cluster_name,
            "node": settings.node_name,
            "queue_totals": {
                "messages": ready + unacked,
                "messages_ready": ready,
                "messages_unacknowledged": unacked,
            },
            "object_totals": {
                "channels": connections.iter().map(|connection| connection.channels()).sum::<u32>(),
                "connections": connections.len(),
                "consumers": consumers,
                "exchanges": exchanges,
                "queues": queues,
            },
            "listeners": listeners(management),
        }),
        request,
    )
}

pub(super) fn listeners(management: &Management) -> Vec<Value> {
    let settings = &management.settings;
    let listener = |facts: &super::ListenerFacts| {
        json!({
            "node": settings.node_name,
            "protocol": facts.protocol,
            "ip_address": facts.address.ip().to_string(),
            "port": facts.address.port(),
            "socket_opts": {},
        })
    };
    settings.listeners.iter().map(listener).collect()
}
