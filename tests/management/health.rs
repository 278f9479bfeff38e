//! Health checks: what is answered while all is well, and what while it is not.

use leveret::broker::access::users::User;
use leveret::broker::alarms::Alarm;
use leveret::config::{ClientCertificates, Config, Engine, LoginFrom, Tls, TlsVersion};
use leveret_test_support::api_client::TestBroker;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn check(broker: &TestBroker, path: &str) -> (u16, Value) {
    let answered = broker.ask("GET", &format!("/api/health/checks/{path}"), "");
    (answered.status, answered.json())
}

#[test]
fn alarms_fail_their_checks_and_nothing_else() {
    let broker = TestBroker::start();
    let ok = (200, json!({ "status": "ok" }));
    let checks = ["alarms", "local-alarms", "virtual-hosts", "certificate-expiration/1/months"];
    for path in checks {
        assert_eq!(check(&broker, path), ok, "{path}");
    }
    broker.broker.alarms().raise(Alarm::Memory);
    broker.broker.alarms().raise(Alarm::Disk);
    let alarms = json!([
        { "node": "leveret@localhost", "resource": "disk space" },
        { "node": "leveret@localhost", "resource": "memory" },
    ]);
    for (path, place) in [("alarms", "in the cluster"), ("local-alarms", "on the node")] {
        let reason = format!("There are alarms in effect {place}");
        let failed = json!({ "alarms": alarms, "reason": reason, "status": "failed" });
        assert_eq!(check(&broker, path), (503, failed));
    }
    let node = broker.ask("GET", "/api/healthchecks/node", "");
    let reason = "resource alarm(s) in effect:[{resource_limit,disk,leveret@localhost},\
                  {resource_limit,memory,leveret@localhost}]";
    assert_eq!((node.status, node.json()), (503, json!({ "status": "failed", "reason": reason })));
    assert_eq!(check(&broker, "virtual-hosts"), ok);
    for path in ["/health/live", "/health/ready"] {
        let answered = broker.ask_with("GET", path, &[], "");
        assert_eq!(
            (answered.status, answered.json()),
            ok,
            "{path}: consumers go on, and nobody logs in for this"
        );
    }
    broker.broker.alarms().clear(Alarm::Memory);
    broker.broker.alarms().clear(Alarm::Disk);
    assert_eq!(check(&broker, "alarms"), ok);
    assert_eq!(broker.get("/api/healthchecks/node/leveret@localhost"), ok.1);
    assert_eq!(broker.ask("GET", "/api/healthchecks/node/other@localhost", "").status, 404);
}

#[test]
fn listeners_are_found_by_port_and_by_protocol() {
    let broker = TestBroker::start();
    let port = broker.amqp.port();
    assert_eq!(
        check(&broker, &format!("port-listener/{port}")),
        (200, json!({ "status": "ok", "port": port }))
    );
    let (status, missing) = check(&broker, "port-listener/1");
    assert_eq!((status, &missing["missing"]), (503, &json!(1)));
    assert!(missing["ports"].as_array().unwrap().contains(&json!(port)));
    let invalid = json!({ "error": "bad_request", "reason": "Invalid port" });
    assert_eq!(check(&broker, "port-listener/amqp"), (400, invalid));
    for (asked, protocol) in
        [("amqp", "amqp"), ("AMQP091", "amqp"), ("http", "http"), ("http%2Fprometheus", "http/prometheus")]
    {
        let found = json!({ "status": "ok", "protocol": protocol });
        assert_eq!(check(&broker, &format!("protocol-listener/{asked}")), (200, found), "{asked}");
    }
    let failed = json!({
        "status": "failed",
        "reason": "No active listener",
        "missing": "amqp/ssl",
        "protocols": ["amqp", "http", "http/prometheus"],
    });
    assert_eq!(check(&broker, "protocol-listener/amqps"), (503, failed));
}

#[test]
fn a_single_node_is_never_critical() {
    let broker = TestBroker::start();
    for path in ["node-is-mirror-sync-critical", "node-is-quorum-critical"] {
        let answer = json!({ "status": "ok", "reason": "single node cluster" });
        assert_eq!(check(&broker, path), (200, answer));
    }
    assert_eq!(check(&broker, "nothing").0, 404);
    assert_eq!(broker.ask("POST", "/api/health/checks/alarms", "").status, 405);
    assert_eq!(broker.ask_with("GET", "/api/health/checks/alarms", &[], "").status, 401);
}

#[test]
fn a_message_goes_round() {
    let broker = TestBroker::start();
    for _ in 0..2 {
        assert_eq!(broker.get("/api/aliveness-test/%2F"), json!({ "status": "ok" }));
    }
    let queue = broker.get("/api/queues/%2F/aliveness-test");
    assert_eq!((&queue["messages"], &queue["durable"]), (&json!(0), &json!(false)));
    assert_eq!(broker.ask("GET", "/api/aliveness-test/other", "").status, 404);
    broker.broker.put_user(User::with_password("probe", "p", [1; 4], vec!["monitoring".into()])).unwrap();
    let refused =
        broker.ask_with("GET", "/api/aliveness-test/%2F", &["Authorization: Basic cHJvYmU6cA=="], "");
    let reason = "User not authorised to access virtual host";
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (401, Some(reason)));
}

/// A certificate that ends on the second of January of that year.
fn write_certificate(folder: &Path, name: &str, year: i32) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 2);
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[test]
fn certificates_that_end_soon_are_told() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path(), "own", 2021);
    write_certificate(folder.path(), "authority", 2201);
    let file = |name: &str| folder.path().join(name);
    let mut config = Config::default();
    config.store.engine = Engine::Memory;
    config.tls = Some(Tls {
        certificate: file("own.pem"),
        key: file("own.key"),
        revocation_lists: None,
        ca_certificates: Some(file("authority.pem")),
        client_certificates: ClientCertificates::None,
        versions: vec![TlsVersion::V1_3],
        login_from: LoginFrom::CommonName,
        watch_interval_s: 0,
    });
    let broker = TestBroker::with(config);
    for (path, own, authority) in [
        ("1/days", json!(["2021-01-02 00:00:00"]), json!([])),
        ("1000/years", json!(["2021-01-02 00:00:00"]), json!(["2201-01-02 00:00:00"])),
    ] {
        let (status, failed) = check(&broker, &format!("certificate-expiration/{path}"));
        assert_eq!((status, &failed["reason"]), (503, &json!("Certificates expiring")));
        let expired = failed["expired"].as_array().unwrap();
        let protocols: Vec<_> = expired.iter().filter_map(|one| one["protocol"].as_str()).collect();
        assert_eq!(protocols, ["amqp/ssl", "https", "https/prometheus"]);
        for one in expired {
            assert_eq!((&one["certfile_expires_on"], &one["cacertfile_expires_on"]), (&own, &authority));
            assert_eq!(one["certfile"], file("own.pem").display().to_string());
            assert_eq!((&one["interface"], &one["node"]), (&json!("127.0.0.1"), &json!("leveret@localhost")));
        }
    }
    let none = check(&broker, "certificate-expiration/-10000/weeks");
    assert_eq!(none, (200, json!({ "status": "ok" })));
    for (path, reason) in [
        ("x/weeks", "Invalid expiration value."),
        ("1/week", "Time unit not recognised. Supported units: days, weeks, months, years."),
    ] {
        let answer = json!({ "error": "bad_request", "reason": reason });
        assert_eq!(check(&broker, &format!("certificate-expiration/{path}")), (400, answer));
    }
}
