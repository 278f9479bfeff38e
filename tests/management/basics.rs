//! What holds for every path: logins, methods, bodies that are none, paths that are not there.

use crate::client::TestBroker;
use base64::Engine;
use leveret::broker::users::User;
use serde_json::json;

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
    for path in ["/api/nothing", "/nothing", "/api", "/"] {
        let answered = broker.ask("GET", path, "");
        assert_eq!(answered.status, 404, "{path}");
        assert_eq!(answered.json(), json!({ "error": "Object Not Found", "reason": "Not Found" }));
    }
    let wrong = broker.ask("DELETE", "/api/overview", "");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("HEAD, GET, OPTIONS")));
    let options = broker.ask("OPTIONS", "/api/overview", "");
    assert_eq!((options.status, options.header("allow")), (200, Some("HEAD, GET, OPTIONS")));
    assert_eq!(broker.ask("GET", "/api/whoami/", "").status, 200);
    let head = broker.ask("HEAD", "/api/whoami", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
