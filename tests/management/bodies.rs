//! How much of a request the broker takes, from which users, and in which form it answers.

use leveret::broker::memory::MemoryUse;
use leveret_test_support::api_client::{AS_GUEST, TestBroker, in_memory};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn each_route_takes_bodies_of_its_own_size() {
    let broker = TestBroker::start();
    let padded = |bytes: usize| format!("{{\"durable\":true,\"arguments\":{{}}{}}}", " ".repeat(bytes - 31));
    assert_eq!(broker.put("/api/queues/%2F/q", &padded(65_536)).status, 201);
    let refused = broker.put("/api/queues/%2F/q", &padded(65_537));
    assert_eq!((refused.status, refused.json()["error"].as_str()), (413, Some("payload_too_large")));
    // All of what is refused is taken from the socket, so that the answer gets through.
    assert_eq!(broker.ask("POST", "/api/queues/%2F/none/get", &padded(8 << 20)).status, 413);
    let published = format!(
        "{{\"routing_key\":\"q\",\"payload\":\"{}\",\"payload_encoding\":\"string\",\"properties\":{{}}}}",
        "x".repeat(1 << 20)
    );
    assert_eq!(broker.ask("POST", "/api/exchanges/%2F/amq.default/publish", &published).status, 200);
    assert_eq!(broker.ask("POST", "/api/definitions", &padded(1 << 20)).status, 204);
    assert_eq!(broker.ask("POST", "/api/definitions", &padded((32 << 20) + 1)).status, 413);
}

#[test]
fn what_would_take_far_more_memory_than_it_has_bytes_is_refused() {
    let broker = TestBroker::start();
    let zeros = format!("{{\"a\":[0{}]}}", ",0".repeat(30_000));
    let refused = broker.ask("POST", "/api/queues/%2F/none/get", &zeros);
    assert_eq!(
        (refused.status, refused.json()["reason"].as_str()),
        (400, Some("the body has too many values"))
    );
}

#[test]
fn bodies_count_in_the_account_of_memory_while_they_arrive() {
    let broker = TestBroker::start();
    let mut stream = TcpStream::connect(broker.http).unwrap();
    let begun = |path: &str, bytes: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: t\r\n{AS_GUEST}\r\nContent-Length: {bytes}\r\n\r\n")
    };
    stream.write_all(begun("/api/definitions", 40_000).as_bytes()).unwrap();
    stream.write_all(&[b' '; 30_000]).unwrap();
    let held = || broker.broker.memory().used_bytes(MemoryUse::HttpBodies);
    while held() < 30_000 {
        assert_eq!(broker.get("/api/whoami")["name"], "guest");
    }
    stream.write_all(&[b' '; 10_000]).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 400");
    drop(stream);
    while held() > 0 {
        assert_eq!(broker.get("/api/whoami")["name"], "guest");
    }
}

#[test]
fn who_says_nothing_keeps_nobody_from_asking() {
    let mut config = in_memory();
    config.limits.http_connections_max = 4;
    let broker = TestBroker::with(config);
    let idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(broker.http).unwrap()).collect();
    for path in ["/health/live", "/health/ready", "/api/overview"] {
        assert_eq!(broker.ask("GET", path, "").status, 200, "{path}");
    }
    drop(idle);
}

#[test]
fn a_long_answer_is_shorter_for_who_takes_gzip() {
    let broker = TestBroker::start();
    let length = |headers: &[&str]| -> usize {
        let mut stream = TcpStream::connect(broker.http).unwrap();
        let headers = headers.join("\r\n");
        let request =
            format!("GET /api/exchanges HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        assert!(text.starts_with("http/1.1 200") && text.contains("vary: accept-encoding"), "{text}");
        assert_eq!(text.contains("content-encoding: gzip"), headers.contains("gzip"), "{text}");
        answer.len() - head - 4
    };
    let (plain, short) = (length(&[AS_GUEST]), length(&[AS_GUEST, "Accept-Encoding: gzip"]));
    assert!(short * 4 < plain, "{short} of {plain} bytes");
}
