//! Policies and parameters: what RabbitMQ 3.10.8 answered to the requests in `policies.txt`, and who may ask.

use base64::Engine;
use leveret::broker::access::permissions::Patterns;
use leveret::broker::access::users::User;
use leveret_test_support::api_client::TestBroker;
use serde_json::Value;

/// A paragraph for each request: the request, then the status and the body, if there is one.
const CONVERSATION: &str = include_str!("policies.txt");

#[test]
fn requests_are_answered_as_rabbitmq_answers_them() {
    let broker = TestBroker::start();
    let mut faults = Vec::new();
    for paragraph in CONVERSATION.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let (request, expected) = paragraph.trim().split_once('\n').unwrap();
        let mut parts = request.splitn(3, ' ');
        let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
        let answered = broker.ask(method, &format!("/api{path}"), parts.next().unwrap_or_default());
        let (status, body) = expected.split_once(' ').unwrap_or((expected, "null"));
        let expected: Value = serde_json::from_str(body).unwrap();
        let body = if answered.body.is_empty() { Value::Null } else { answered.json() };
        if answered.status.to_string() != status || body != expected {
            faults.push(format!("{request}\n  {} {body}\n  should be {status} {expected}", answered.status));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn policies_are_for_policymakers_and_operator_policies_for_administrators() {
    let broker = TestBroker::start();
    let ask = |tag: &str, method: &str, path: &str, body: &str| {
        let tags = vec![tag.to_owned()];
        broker.broker.put_user(User::with_password("app", "p", [1; 4], tags)).unwrap();
        let login = base64::engine::general_purpose::STANDARD.encode("app:p");
        broker.ask_with(method, path, &[&format!("Authorization: Basic {login}")], body).status
    };
    let policy = r#"{"pattern":"^q","definition":{"max-length":1}}"#;
    let of_all_kinds = |tag: &str| {
        let put = |path: &str| ask(tag, "PUT", path, policy);
        [
            put("/api/policies/%2F/p"),
            put("/api/operator-policies/%2F/p"),
            ask(tag, "GET", "/api/parameters", ""),
        ]
    };
    assert_eq!(of_all_kinds("management"), [401, 401, 401]);
    assert_eq!(of_all_kinds("policymaker"), [401, 401, 200], "it has no permissions in the vhost");
    assert_eq!(of_all_kinds("administrator"), [201, 201, 200]);
    broker.broker.set_permissions("app", "/", Patterns::new(".*", ".*", ".*").unwrap()).unwrap();
    assert_eq!(of_all_kinds("policymaker"), [204, 401, 200]);
    assert_eq!(of_all_kinds("management"), [401, 401, 401]);
}

#[test]
fn what_binds_policymakers_is_not_theirs_to_lift() {
    let broker = TestBroker::start();
    let tags = vec!["policymaker".to_owned()];
    broker.broker.put_user(User::with_password("app", "p", [1; 4], tags)).unwrap();
    broker.broker.set_permissions("app", "/", Patterns::new(".*", ".*", ".*").unwrap()).unwrap();
    assert_eq!(broker.put("/api/vhost-limits/%2F/max-queues", r#"{"value":3}"#).status, 204);
    let login = base64::engine::general_purpose::STANDARD.encode("app:p");
    let ask = |method: &str, path: &str, body: &str| {
        broker.ask_with(method, path, &[&format!("Authorization: Basic {login}")], body).status
    };
    let limits = "/api/parameters/vhost-limits/%2F/limits";
    for (method, path, body) in [
        ("PUT", "/api/vhost-limits/%2F/max-queues", r#"{"value":-1}"#),
        ("DELETE", "/api/vhost-limits/%2F/max-queues", ""),
        ("PUT", limits, r#"{"value":{"max-queues":-1}}"#),
        ("DELETE", limits, ""),
        ("PUT", "/api/cluster-name", r#"{"name":"other"}"#),
        ("PUT", "/api/global-parameters/cluster_name", r#"{"value":"other"}"#),
        ("DELETE", "/api/global-parameters/cluster_name", ""),
        ("PUT", "/api/operator-policies/%2F/o", r#"{"pattern":"","definition":{"max-length":1}}"#),
        ("POST", "/api/definitions/%2F", r#"{"queues":[]}"#),
        ("PUT", "/api/vhosts/%2F", r#"{"description":"mine"}"#),
    ] {
        assert_eq!(ask(method, path, body), 401, "{method} {path}");
    }
    assert_eq!(broker.get(limits)["value"], serde_json::json!({ "max-queues": 3 }));
    assert_eq!(
        ask("PUT", "/api/parameters/federation-upstream/%2F/limits", r#"{"value":{"uri":"amqp://x"}}"#),
        201
    );
    // An administrator may.
    assert_eq!(broker.put(limits, r#"{"value":{"max-queues":4}}"#).status, 204);
    assert_eq!(broker.ask("DELETE", limits, "").status, 204);
}

#[test]
fn a_pattern_that_takes_too_many_steps_is_refused_where_it_is_set() {
    let broker = TestBroker::start();
    let name = "a".repeat(200) + "b";
    let evil =
        serde_json::json!({"pattern": r"^(a+)(a+)(a+)\3\2\1$", "definition": {"max-length": 5}}).to_string();
    assert_eq!(
        broker.ask("PUT", "/api/policies/%2F/early", &evil).status,
        201,
        "nothing is there that it is tried on"
    );
    assert_eq!(broker.ask("PUT", &format!("/api/queues/%2F/{name}"), "{}").status, 201);
    let queue = broker.ask("GET", &format!("/api/queues/%2F/{name}"), "").json();
    assert_eq!((&queue["policy"], &queue["name"]), (&Value::Null, &Value::from(name.as_str())));

    let refused = broker.ask("PUT", "/api/policies/%2F/late", &evil);
    let text = format!("takes more than 100000 steps on '{name}'");
    assert!(refused.status == 400 && refused.body.contains(&text), "{} {}", refused.status, refused.body);
    assert_eq!(broker.ask("GET", "/api/policies/%2F/late", "").status, 404);

    let evil =
        serde_json::json!({"configure": ".*", "write": r"^(a+)(a+)(a+)\3\2\1$", "read": ".*"}).to_string();
    let refused = broker.ask("PUT", "/api/permissions/%2F/guest", &evil);
    assert!(refused.status == 400 && refused.body.contains(&text), "{} {}", refused.status, refused.body);
    let permissions = broker.ask("GET", "/api/permissions/%2F/guest", "").json();
    assert_eq!(permissions["write"], ".*");
}
