//! What holds for every path: logins, methods, bodies that are none, paths that are not there.

use base64::Engine;
use leveret::broker::access::users::User;
use leveret_test_support::api_client::TestBroker;
use serde_json::{Value, json};

#[test]
fn who_asks_has_to_log_in() {
    let broker = TestBroker::start();
    assert_eq!(broker.get("/api/whoami"), json!({ "name": "guest", "tags": ["administrator"] }));
    let nobody = broker.ask_with("GET", "/api/whoami", &[], "");
    assert_eq!((nobody.status, nobody.body.as_str()), (401, ""));
    assert_eq!(nobody.header("www-authenticate"), Some("Basic realm=\"RabbitMQ Management\""));
    for wrong in ["Basic Z3Vlc3Q6d3Jvbmc=", "Basic %%%", "Bearer Z3Vlc3Q6Z3Vlc3Q=", "Basic"] {
        let refused = broker.ask_with("GET", "/api/whoami", &[&format!("Authorization: {wrong}")], "");
        assert_eq!(refused.status, 401, "{wrong}");
        assert_eq!(refused.json(), json!({ "error": "not_authorized", "reason": "Login failed" }));
    }
    broker.broker.put_user(User::with_password("app", "p", [1; 4], Vec::new())).unwrap();
    let login = base64::engine::general_purpose::STANDARD.encode("app:p");
    let refused = broker.ask_with("GET", "/api/whoami", &[&format!("Authorization: Basic {login}")], "");
    assert_eq!(refused.json(), json!({ "error": "not_authorised", "reason": "Not management user" }));
}

#[test]
fn what_is_not_there_is_said_as_rabbitmq_says_it() {
    let broker = TestBroker::start();
    for path in ["/api/nothing", "/nothing", "/cli/rabbitmqadmin"] {
        let answered = broker.ask("GET", path, "");
        assert_eq!(answered.status, 404, "{path}");
        assert_eq!(answered.json(), json!({ "error": "Object Not Found", "reason": "Not Found" }));
    }
    for path in ["/api/queues/%2F/%FF", "/api/queues/%FF", "/api/users/%C3"] {
        let answered = broker.ask("GET", path, "");
        assert_eq!((answered.status, answered.body.contains("Object Not Found")), (404, true), "{path}");
    }
    let wrong = broker.ask("DELETE", "/api/overview", "");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("HEAD, GET, OPTIONS")));
    let options = broker.ask("OPTIONS", "/api/overview", "");
    assert_eq!((options.status, options.header("allow")), (200, Some("HEAD, GET, OPTIONS")));
    assert_eq!(broker.ask("GET", "/api/whoami/", "").status, 200);
    let head = broker.ask("HEAD", "/api/whoami", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

/// The paths of all that is said.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let dot = if path.is_empty() { "" } else { "." };
            paths(value, &format!("{path}{dot}{name}"), found);
        }),
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn a_column_alone_says_what_it_says_among_all() {
    let broker = TestBroker::start();
    for (queue, body) in [("idle", "{}"), ("used", r#"{"durable":true,"arguments":{"x-max-length":5}}"#)] {
        assert_eq!(broker.put(&format!("/api/queues/%2F/{queue}"), body).status, 201);
    }
    let policy = r#"{"pattern":"^used","definition":{"max-length":7}}"#;
    assert_eq!(broker.put("/api/policies/%2F/p", policy).status, 201);
    let message = r#"{"routing_key":"used","properties":{},"payload":"x","payload_encoding":"string"}"#;
    assert_eq!(broker.ask("POST", "/api/exchanges/%2F/amq.default/publish", message).status, 200);
    let all = broker.get("/api/queues?sort=name");
    let mut found = Vec::new();
    paths(&all[1], "", &mut found);
    assert!(
        found.len() > 40 && found.contains(&"message_stats.publish_details.rate".to_owned()),
        "{found:?}"
    );
    for path in found {
        let alone = broker.get(&format!("/api/queues?columns={path}&sort=name"));
        for (alone, all) in alone.as_array().unwrap().iter().zip(all.as_array().unwrap()) {
            let at =
                |value: &Value| path.split('.').try_fold(value.clone(), |at, name| at.get(name).cloned());
            let (alone, all) = (at(alone), at(all));
            if path.ends_with(".rate") || path == "oldest_message_age_ms" {
                // They move while the test looks.
                assert_eq!(alone.is_some(), all.is_some(), "{path}");
            } else {
                assert_eq!(alone, all, "{path}");
            }
        }
        let sorted = broker.ask("GET", &format!("/api/queues?sort={path}"), "");
        assert_eq!(sorted.status, 200, "{path}");
    }
}

#[test]
fn a_browser_gets_a_page_with_all_that_can_be_asked() {
    let broker = TestBroker::start();
    for path in ["/", "/api", "/api/", "/api/index.html"] {
        let answer = broker.ask_with("GET", path, &[], "");
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        assert!(answer.body.contains("<code>/api/queues/{vhost}/{name}</code>"), "{path}");
    }
}
