//! Health checks: RabbitMQ's, each about one thing, and two for those who run the process and do not log in: whether it lives,
//! and whether it is ready for clients.
//!
//! What lives but is not ready is stopping, or its store has failed; what does not live should be started again. An alarm is
//! neither: consumers go on, and that is what clears it.

use super::Management;
use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::iso8601;
use crate::broker::alarms::Alarm;
use crate::broker::error::Resource;
use crate::broker::permissions::Access;
use crate::broker::queue::{Got, QueueDeclaration};
use crate::message::{FieldTable, Message};
use crate::net::tls::CertificateFile;
use serde_json::{Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/health/live", Needs::Nothing, live, "Whether the process answers at all; needs no login")
        .at_once(),
    Route::get("/health/ready", Needs::Nothing, ready, "Whether clients are served; needs no login")
        .at_once(),
    Route::get("/api/health/checks/alarms", Needs::Login, alarms, "No alarm is in effect"),
    Route::get(
        "/api/health/checks/local-alarms",
        Needs::Login,
        local_alarms,
        "No alarm is in effect on this node",
    ),
    Route::get(
        "/api/health/checks/certificate-expiration/{within}/{unit}",
        Needs::Login,
        certificate_expiration,
        "No certificate ends within that number of days, weeks, months or years",
    ),
    Route::get(
        "/api/health/checks/port-listener/{port}",
        Needs::Login,
        port_listener,
        "Something listens on a port",
    ),
    Route::get(
        "/api/health/checks/protocol-listener/{protocol}",
        Needs::Login,
        protocol_listener,
        "A protocol is spoken somewhere",
    ),
    Route::get("/api/health/checks/virtual-hosts", Needs::Login, virtual_hosts, "All vhosts are up"),
    Route::get(
        "/api/health/checks/node-is-mirror-sync-critical",
        Needs::Login,
        single_node,
        "No queue would be lost with this node; there is no other",
    ),
    Route::get(
        "/api/health/checks/node-is-quorum-critical",
        Needs::Login,
        single_node,
        "No queue would lose its quorum with this node; there is no other",
    ),
    Route::get("/api/healthchecks/node", Needs::Login, node, "The node works: the check of old"),
    Route::get("/api/healthchecks/node/{name}", Needs::Login, node, "The node works: the check of old"),
    Route::get(
        "/api/aliveness-test/{vhost}",
        Needs::UseVhost,
        aliveness,
        "A message goes through the queue aliveness-test",
    ),
];

const ALIVENESS_QUEUE: &str = "aliveness-test";

fn ok() -> Result<Answer, ApiError> {
    Ok(Answer::Json(json!({ "status": "ok" })))
}

fn failed(reason: &str) -> Result<Answer, ApiError> {
    Ok(Answer::Unavailable(json!({ "status": "failed", "reason": reason })))
}

fn live(_: &Request) -> Result<Answer, ApiError> {
    ok()
}

fn ready(request: &Request) -> Result<Answer, ApiError> {
    match why_not_ready(&request.management) {
        Some(reason) => failed(reason),
        None => ok(),
    }
}

fn why_not_ready(management: &Management) -> Option<&'static str> {
    if management.settings.shutdown.has_begun() {
        return Some("the broker is stopping");
    }
    // What failed is in the log; the caller here need not have logged in.
    management.broker.journal().failure().map(|_| "the store has failed")
}

/// The alarms in effect, by the names that RabbitMQ has for them here and in the old check.
fn raised(request: &Request) -> impl Iterator<Item = (&'static str, &'static str)> {
    let alarms = request.broker().alarms();
    let all = [
        (Alarm::Disk, "disk space", "disk"),
        (Alarm::Memory, "memory", "memory"),
        (Alarm::Store, "store", "store"),
    ];
    all.into_iter().filter(|(alarm, ..)| alarms.is_raised(*alarm)).map(|(_, name, short)| (name, short))
}

fn alarms(request: &Request) -> Result<Answer, ApiError> {
    check_alarms(request, "There are alarms in effect in the cluster")
}

fn local_alarms(request: &Request) -> Result<Answer, ApiError> {
    check_alarms(request, "There are alarms in effect on the node")
}

fn check_alarms(request: &Request, reason: &str) -> Result<Answer, ApiError> {
    let node = &request.settings().node_name;
    let alarms: Vec<Value> =
        raised(request).map(|(name, _)| json!({ "node": node, "resource": name })).collect();
    if alarms.is_empty() {
        return ok();
    }
    Ok(Answer::Unavailable(json!({ "alarms": alarms, "reason": reason, "status": "failed" })))
}

fn node(request: &Request) -> Result<Answer, ApiError> {
    let node = &request.settings().node_name;
    let asked = request.parameter("name");
    if !asked.is_empty() && asked != node {
        return Err(ApiError::NotFound);
    }
    let alarms: Vec<String> =
        raised(request).map(|(_, name)| format!("{{resource_limit,{name},{node}}}")).collect();
    if alarms.is_empty() {
        return ok();
    }
    failed(&format!("resource alarm(s) in effect:[{}]", alarms.join(",")))
}

fn certificate_expiration(request: &Request) -> Result<Answer, ApiError> {
    const DAY_S: f64 = 86_400.0;
    let within: i64 = request
        .parameter("within")
        .parse()
        .map_err(|_| ApiError::bad_request("Invalid expiration value."))?;
    let unit_s = match request.parameter("unit") {
        "days" => DAY_S,
        "weeks" => 7.0 * DAY_S,
        "months" => 365.0 / 12.0 * DAY_S,
        "years" => 365.0 * DAY_S,
        _ => {
            let text = "Time unit not recognised. Supported units: days, weeks, months, years.";
            return Err(ApiError::bad_request(text));
        }
    };
    let Some(tls) = &request.settings().tls else { return ok() };
    let limit_s = request.now as f64 / 1000.0 + within as f64 * unit_s;
    let ends = |file: &CertificateFile| -> Vec<String> {
        let ends = file.expires_at_s.iter().copied().filter(|at| (*at as f64) < limit_s);
        ends.map(date_and_time).collect()
    };
    let (own, authorities) = (tls.certificate(), tls.ca_certificates());
    let own_ends = ends(&own);
    let authorities_end = authorities.as_ref().map(ends).unwrap_or_default();
    if own_ends.is_empty() && authorities_end.is_empty() {
        return ok();
    }
    let speak_tls = request.settings().listeners.iter().filter(|listener| listener.speaks_tls());
    let expired: Vec<Value> = speak_tls
        .map(|listener| {
            json!({
                "cacertfile": authorities.as_ref().map_or(String::new(), |file| file.path.display().to_string()),
                "cacertfile_expires_on": authorities_end,
                "certfile": own.path.display().to_string(),
                "certfile_expires_on": own_ends,
                "interface": listener.address.ip().to_string(),
                "node": request.settings().node_name,
                "port": listener.address.port(),
                "protocol": listener.protocol,
            })
        })
        .collect();
    let reason = "Certificates expiring";
    Ok(Answer::Unavailable(json!({ "status": "failed", "reason": reason, "expired": expired })))
}

/// Such as `2026-01-31 12:34:56`.
fn date_and_time(at_s: i64) -> String {
    let text = iso8601(u64::try_from(at_s).unwrap_or(0) * 1000);
    text[.."2026-01-31T12:34:56".len()].replace('T', " ")
}

fn port_listener(request: &Request) -> Result<Answer, ApiError> {
    let asked: i64 = request.parameter("port").parse().map_err(|_| ApiError::bad_request("Invalid port"))?;
    let ports: Vec<u16> =
        request.settings().listeners.iter().map(|listener| listener.address.port()).collect();
    if ports.iter().any(|port| i64::from(*port) == asked) {
        return Ok(Answer::Json(json!({ "status": "ok", "port": asked })));
    }
    let reason = "No active listener";
    Ok(Answer::Unavailable(json!({ "status": "failed", "reason": reason, "missing": asked, "ports": ports })))
}

fn protocol_listener(request: &Request) -> Result<Answer, ApiError> {
    let asked = request.parameter("protocol").to_lowercase();
    let protocol = match asked.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0_9_1" | "amqp10" | "amqp1.0" | "amqp1_0" => "amqp",
        "amqps" => "amqp/ssl",
        "mqtts" | "mqtt+ssl" => "mqtt/ssl",
        "stomps" | "stomp+ssl" => "stomp/ssl",
        other => other,
    };
    let mut protocols: Vec<&str> =
        request.settings().listeners.iter().map(|listener| listener.protocol).collect();
    protocols.dedup();
    if protocols.contains(&protocol) {
        return Ok(Answer::Json(json!({ "status": "ok", "protocol": protocol })));
    }
    let reason = "No active listener";
    Ok(Answer::Unavailable(
        json!({ "status": "failed", "reason": reason, "missing": protocol, "protocols": protocols }),
    ))
}

fn virtual_hosts(_: &Request) -> Result<Answer, ApiError> {
    // A vhost is there with all that is in it, or it is not there.
    ok()
}

fn single_node(_: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(json!({ "status": "ok", "reason": "single node cluster" })))
}

fn aliveness(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let resource = Resource::queue(vhost.name(), ALIVENESS_QUEUE);
    for access in [Access::Configure, Access::Write, Access::Read] {
        request.check_access(access, &resource)?;
    }
    let declaration = QueueDeclaration {
        name: ALIVENESS_QUEUE.into(),
        durable: false,
        auto_delete: false,
        exclusive_owner: None,
        arguments: FieldTable::default(),
    };
    let exchange = vhost.existing_exchange("").map_err(ApiError::of_method)?;
    let message = Message::new("", ALIVENESS_QUEUE.as_bytes(), &[0, 0], b"test_message")
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let came_back = request.in_turn(|turn| {
        let queue = vhost.declare_queue(declaration, turn).map_err(ApiError::of_method)?.untold();
        queue.check_get().map_err(ApiError::of_method)?;
        vhost.publish(&vhost.route(&exchange, &message), &mut vec![message], turn, &mut Vec::new());
        let got = vhost.get(&queue, true, turn);
        vhost.apply_effects(turn);
        Ok::<_, ApiError>(matches!(got, Got::Message { .. }))
    })?;
    if came_back { ok() } else { failed("the message did not come back") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::exchange::ExchangeTypes;
    use crate::broker::{Broker, BrokerLimits};
    use crate::clock::TestClock;
    use crate::management::ManagementSettings;
    use crate::message::{Position, QueueId};
    use crate::net::Shutdown;
    use crate::store::{Changes, Faults, FaultyStore, Journal, JournalOptions};
    use std::sync::Arc;

    fn management(store: FaultyStore, shutdown: Shutdown) -> Management {
        let (journal, recovered) = Journal::open(Box::new(store), JournalOptions::default(), |_| ()).unwrap();
        let (types, limits) = (ExchangeTypes::standard(), BrokerLimits::default());
        let broker = Broker::open(Arc::new(journal), recovered, types, limits, 0).unwrap();
        let settings = ManagementSettings { shutdown, ..ManagementSettings::default() };
        Management::new(Arc::new(broker), Arc::new(TestClock::at(0)), settings)
    }

    #[test]
    fn a_broker_that_stops_is_not_ready() {
        let shutdown = Shutdown::default();
        let management = management(FaultyStore::default(), shutdown.clone());
        assert_eq!(why_not_ready(&management), None);
        shutdown.begin();
        assert_eq!(why_not_ready(&management), Some("the broker is stopping"));
    }

    #[test]
    fn a_broker_whose_store_has_failed_is_not_ready() {
        let store = FaultyStore::default();
        let management = management(store.clone(), Shutdown::default());
        store.set_faults(Faults { appends_left: Some(0), ..Faults::default() });
        let mut changes = Changes::default();
        changes.settle(QueueId(1), Position(1));
        let journal = management.broker.journal();
        journal.append(&mut changes, None);
        assert!(journal.commit().is_err());
        assert_eq!(why_not_ready(&management), Some("the store has failed"));
    }
}
