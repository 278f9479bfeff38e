//! Health checks: RabbitMQ's, each about one thing, and two for those who run the process and do not log in: whether it lives,
//! and whether it is ready for clients.
//!
//! What lives but is not ready is stopping, or its store has failed; what does not live should be started again. An alarm is
//! neither: consumers go on, and that is what clears it.

use super::Management;
use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::written;
use crate::api::{self, ExpiringCertificate, Health, RaisedAlarm};
use crate::broker::access::permissions::Access;
use crate::broker::alarms::Alarm;
use crate::broker::error::Resource;
use crate::broker::observe::losses::in_words;
use crate::broker::queue::{Got, QueueDeclaration};
use crate::message::{FieldTable, Message};
use crate::net::tls::CertificateFile;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/health/live", Needs::Nothing, live, "Whether the process answers at all; needs no login")
        .answers::<api::Health>()
        .at_once(),
    Route::get("/health/ready", Needs::Nothing, ready, "Whether clients are served; needs no login")
        .answers::<api::Health>()
        .at_once(),
    Route::get("/api/health/checks/alarms", Needs::Login, alarms, "No alarm is in effect")
        .answers::<api::Health>(),
    Route::get(
        "/api/health/checks/losses",
        Needs::Login,
        losses,
        "Nothing was lost of what the store kept, or it is acknowledged",
    )
    .answers::<api::Health>(),
    Route::get(
        "/api/health/checks/local-alarms",
        Needs::Login,
        local_alarms,
        "No alarm is in effect on this node",
    )
    .answers::<api::Health>(),
    Route::get(
        "/api/health/checks/certificate-expiration/{within}/{unit}",
        Needs::Login,
        certificate_expiration,
        "No certificate ends within that number of days, weeks, months or years",
    )
    .answers::<api::Health>(),
    Route::get(
        "/api/health/checks/port-listener/{port}",
        Needs::Login,
        port_listener,
        "Something listens on a port",
    )
    .answers::<api::Health>(),
    Route::get(
        "/api/health/checks/protocol-listener/{protocol}",
        Needs::Login,
        protocol_listener,
        "A protocol is spoken somewhere",
    )
    .answers::<api::Health>(),
    Route::get("/api/health/checks/virtual-hosts", Needs::Login, virtual_hosts, "All vhosts are up")
        .answers::<api::Health>(),
    Route::get(
        "/api/health/checks/node-is-mirror-sync-critical",
        Needs::Login,
        single_node,
        "No queue would be lost with this node; there is no other",
    )
    .answers::<api::Health>(),
    Route::get(
        "/api/health/checks/node-is-quorum-critical",
        Needs::Login,
        single_node,
        "No queue would lose its quorum with this node; there is no other",
    )
    .answers::<api::Health>(),
    Route::get("/api/healthchecks/node", Needs::Login, node, "The node works: the check of old")
        .answers::<api::Health>(),
    Route::get("/api/healthchecks/node/{name}", Needs::Login, node, "The node works: the check of old")
        .answers::<api::Health>(),
    Route::get(
        "/api/aliveness-test/{vhost}",
        Needs::UseVhost,
        aliveness,
        "A message goes through the queue aliveness-test",
    )
    .answers::<api::Health>(),
];

const NO_LISTENER: &str = "No active listener";
const ALIVENESS_QUEUE: &str = "aliveness-test";

fn ok() -> Result<Answer, ApiError> {
    fine(Health::default())
}

/// All is well, and what else there is to say.
fn fine(health: Health) -> Result<Answer, ApiError> {
    Answer::of(&Health { status: "ok".to_owned(), ..health })
}

/// Something is wrong, and what else there is to say.
fn failed(reason: &str, health: Health) -> Result<Answer, ApiError> {
    let (status, reason) = ("failed".to_owned(), Some(reason.to_owned()));
    Ok(Answer::Unavailable(Box::new(Health { status, reason, ..health })))
}

fn losses(request: &Request) -> Result<Answer, ApiError> {
    let notes = request.broker().losses().list();
    match notes.is_empty() {
        true => ok(),
        false => failed(&notes.iter().map(in_words).collect::<Vec<_>>().join("; "), Health::default()),
    }
}

fn live(_: &Request) -> Result<Answer, ApiError> {
    ok()
}

fn ready(request: &Request) -> Result<Answer, ApiError> {
    match why_not_ready(&request.management) {
        Some(reason) => failed(reason, Health::default()),
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
    let alarm = |(name, _): (&str, _)| RaisedAlarm { node: request.node(), resource: name.to_owned() };
    let alarms: Vec<RaisedAlarm> = raised(request).map(alarm).collect();
    if alarms.is_empty() {
        return ok();
    }
    failed(reason, Health { alarms: Some(alarms), ..Health::default() })
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
    failed(&format!("resource alarm(s) in effect:[{}]", alarms.join(",")), Health::default())
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
    let expired = speak_tls.map(|listener| ExpiringCertificate {
        cacertfile: authorities.as_ref().map_or(String::new(), |file| file.path.display().to_string()),
        cacertfile_expires_on: authorities_end.clone(),
        certfile: own.path.display().to_string(),
        certfile_expires_on: own_ends.clone(),
        interface: listener.address.ip().to_string(),
        node: request.node(),
        port: listener.address.port(),
        protocol: listener.protocol.to_owned(),
    });
    failed("Certificates expiring", Health { expired: Some(expired.collect()), ..Health::default() })
}

/// Such as `2026-01-31 12:34:56`.
fn date_and_time(at_s: i64) -> String {
    written(u64::try_from(at_s).unwrap_or(0).saturating_mul(1000), "%Y-%m-%d %H:%M:%S")
}

fn port_listener(request: &Request) -> Result<Answer, ApiError> {
    let asked: i64 = request.parameter("port").parse().map_err(|_| ApiError::bad_request("Invalid port"))?;
    let ports: Vec<u16> =
        request.settings().listeners.iter().map(|listener| listener.address.port()).collect();
    if let Some(port) = ports.iter().copied().find(|port| i64::from(*port) == asked) {
        return fine(Health { port: Some(port), ..Health::default() });
    }
    failed(NO_LISTENER, Health { missing: asked.into(), ports: Some(ports), ..Health::default() })
}

fn protocol_listener(request: &Request) -> Result<Answer, ApiError> {
    let asked = request.parameter("protocol").to_lowercase();
    let protocol = match asked.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0_9_1" | "amqp10" | "amqp1.0" | "amqp1_0" => "amqp",
        "amqps" => "amqp/ssl",
        "mqtts" | "mqtt+ssl" => "mqtt/ssl",
        "stomps" | "stomp+ssl" => "stomp/ssl",
        "streams" | "stream+ssl" => "stream/ssl",
        other => other,
    };
    let mut protocols: Vec<&str> =
        request.settings().listeners.iter().map(|listener| listener.protocol).collect();
    protocols.dedup();
    if protocols.contains(&protocol) {
        return fine(Health { protocol: Some(protocol.to_owned()), ..Health::default() });
    }
    let protocols = Some(protocols.into_iter().map(str::to_owned).collect());
    failed(NO_LISTENER, Health { missing: protocol.into(), protocols, ..Health::default() })
}

fn virtual_hosts(_: &Request) -> Result<Answer, ApiError> {
    // A vhost is there with all that is in it, or it is not there.
    ok()
}

fn single_node(_: &Request) -> Result<Answer, ApiError> {
    fine(Health { reason: Some("single node cluster".to_owned()), ..Health::default() })
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
        let queue = vhost
            .declare_queue(declaration, request.actor(), turn)
            .map_err(ApiError::of_method)?
            .into_value();
        queue.check_get().map_err(ApiError::of_method)?;
        vhost.publish(&vhost.route(&exchange, &message), &mut vec![message], turn, &mut Vec::new());
        let got = vhost.get(&queue, true, turn);
        vhost.apply_effects(turn);
        Ok::<_, ApiError>(matches!(got, Got::Message { .. }))
    })?;
    if came_back { ok() } else { failed("the message did not come back", Health::default()) }
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
