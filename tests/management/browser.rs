//! What a page in the browser of a user who is logged in may not do, and what answers say to browsers.

use leveret_test_support::api_client::{AS_GUEST, TestBroker};

const EVIL: &str = "Origin: http://evil.example";

#[test]
fn a_foreign_page_changes_nothing_and_sees_nothing() {
    let broker = TestBroker::start();
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d.json\"\r\n\r\n\
                {\"vhosts\":[{\"name\":\"evil\"}]}\r\n--b--\r\n";
    let multipart = "Content-Type: multipart/form-data; boundary=b";
    for headers in [
        &[AS_GUEST, EVIL, multipart][..],
        &[AS_GUEST, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", multipart],
        &[AS_GUEST, "User-Agent: Mozilla/5.0", multipart],
    ] {
        let answered = broker.ask_with("POST", "/api/definitions", headers, form);
        assert_eq!(
            (answered.status, answered.json()["error"].as_str()),
            (403, Some("forbidden")),
            "{headers:?}"
        );
    }
    for (method, path, header) in [
        ("PUT", "/api/vhosts/evil", EVIL),
        ("DELETE", "/api/vhosts/%2F", "Origin: null"),
        ("GET", "/api/users", "Sec-Fetch-Site: same-site"),
    ] {
        assert_eq!(broker.ask_with(method, path, &[AS_GUEST, header], "").status, 403, "{method} {path}");
    }
    assert!(broker.broker.vhost("evil").is_none() && broker.broker.vhost("/").is_some());
    // The same form from a tool, or from a page of its own, is taken.
    assert_eq!(broker.ask_with("POST", "/api/definitions", &[AS_GUEST, multipart], form).status, 204);
    let own = [AS_GUEST, multipart, "User-Agent: Mozilla/5.0", "Origin: http://test"];
    assert_eq!(broker.ask_with("POST", "/api/definitions", &own, form).status, 204);
    assert!(broker.broker.vhost("evil").is_some());
}

#[test]
fn answers_say_that_they_are_data_and_are_not_to_be_kept() {
    let broker = TestBroker::start();
    for (method, path, headers, status, cached) in [
        ("GET", "/api/users", &[AS_GUEST][..], 200, Some("no-store")),
        ("GET", "/api/definitions", &[AS_GUEST], 200, Some("no-store")),
        ("PUT", "/api/vhosts/v", &[AS_GUEST], 201, Some("no-store")),
        ("GET", "/api/users", &[], 401, Some("no-store")),
        ("GET", "/api/users", &[AS_GUEST, EVIL], 403, Some("no-store")),
        ("GET", "/health/live", &[], 200, Some("no-cache")),
        ("GET", "/nowhere", &[], 404, Some("no-cache")),
        ("OPTIONS", "/api/users", &[], 200, None),
        ("POST", "/api/users", &[AS_GUEST], 405, None),
    ] {
        let answered = broker.ask_with(method, path, headers, "");
        assert_eq!(answered.status, status, "{method} {path}: {answered:?}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(answered.header(name), Some(value), "{method} {path}");
        }
        assert_eq!(answered.header("cache-control"), cached, "{method} {path}");
        let varies = answered
            .headers
            .iter()
            .any(|line| line.to_lowercase().starts_with("vary:") && line.contains("origin"));
        assert!(varies, "{method} {path}: {answered:?}");
    }
}
