//! Requests for an upgrade, good and bad, over a pipe in memory.

use super::*;
use crate::protocol::Accepted;
use crate::session::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A protocol that is only chosen here.
struct Named(&'static str);

impl Protocol for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn name_over_tls(&self) -> &'static str {
        self.0
    }

    fn title(&self) -> &'static str {
        self.0
    }

    fn open(&self, _: Accepted) -> Box<dyn Session> {
        unreachable!("no session is opened here")
    }
}

fn websocket(hosts: &[&str], origins: &[&str]) -> WebSocket {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let subprotocol = |name, names, first_bytes, is_text| Subprotocol {
        protocol: Arc::new(Named(name)),
        names,
        first_bytes,
        is_text,
    };
    WebSocket {
        node_name: "leveret@localhost".to_owned(),
        hosts: owned(hosts),
        origins: owned(origins),
        protocols: vec![
            subprotocol("binary", &["bin"], b"B", false),
            subprotocol("text", &["v2.text", "v1.text"], b"TX", true),
        ],
    }
}

/// The headers of a request that is accepted.
const UPGRADE_HEADERS: &str = "Host: localhost:15674\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What a request is answered with, and what is spoken then or why it was refused.
async fn ask(websocket: &WebSocket, request: &str) -> (String, Result<Option<&'static str>, String>) {
    let (mut client, broker) = tokio::io::duplex(1 << 20);
    client.write_all(request.as_bytes()).await.unwrap();
    let accepted = websocket.accept(broker, [127, 0, 0, 1].into()).await;
    let chosen = accepted.map_err(|error| error.to_string()).map(|(_, chosen)| match chosen {
        Chosen::Named(subprotocol) => Some(subprotocol.protocol.name()),
        Chosen::ByFirstByte => None,
    });
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    (answer, chosen)
}

async fn upgrade(websocket: &WebSocket, more: &str) -> (String, Result<Option<&'static str>, String>) {
    ask(websocket, &format!("GET /ws HTTP/1.1\r\n{UPGRADE_HEADERS}{more}\r\n")).await
}

#[tokio::test]
async fn the_best_protocol_that_is_offered_is_chosen() {
    let websocket = websocket(&[], &[]);
    let (answer, chosen) = upgrade(&websocket, "").await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    // The key and its answer of the specification, section 1.3.
    assert!(
        answer.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{answer}"
    );
    assert!(!answer.to_lowercase().contains("sec-websocket-protocol"), "{answer}");
    assert!(!answer.to_lowercase().contains("sec-websocket-extensions"), "{answer}");
    assert_eq!(chosen, Ok(None));
    for (offered, name, protocol) in [
        ("bin", "bin", "binary"),
        ("v1.text, v2.text", "v2.text", "text"),
        ("other,v1.text", "v1.text", "text"),
        ("v1.text\r\nSec-WebSocket-Protocol: bin", "bin", "binary"),
    ] {
        let more =
            format!("Sec-WebSocket-Protocol: {offered}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
        let (answer, chosen) = upgrade(&websocket, &more).await;
        assert!(answer.to_lowercase().contains(&format!("sec-websocket-protocol: {name}\r\n")), "{answer}");
        assert!(!answer.to_lowercase().contains("sec-websocket-extensions"), "{answer}");
        assert_eq!(chosen, Ok(Some(protocol)));
    }
    let (answer, chosen) = upgrade(&websocket, "Sec-WebSocket-Protocol: graphql-ws\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let reason = "none of the protocols [\"graphql-ws\"] is spoken here; known are bin, v2.text, v1.text";
    assert_eq!(chosen, Err(reason.to_owned()));
    assert!(answer.contains(reason), "{answer}");
}

#[test]
fn a_client_that_asks_for_none_is_known_by_its_first_byte() {
    let websocket = websocket(&[], &[]);
    for (first, protocol) in [(b'B', "binary"), (b'T', "text"), (b'X', "text"), (b'?', "binary")] {
        assert_eq!(websocket.by_first_byte(first).unwrap().protocol.name(), protocol);
    }
}

#[tokio::test]
async fn what_is_no_request_for_an_upgrade_is_answered_so() {
    let websocket = websocket(&[], &[]);
    let plain = "Host: localhost\r\n";
    let without = |header: &str| {
        let kept: Vec<&str> = UPGRADE_HEADERS.lines().filter(|line| !line.starts_with(header)).collect();
        kept.join("\r\n") + "\r\n"
    };
    for (status, line, headers) in [
        (404, "GET / HTTP/1.1", UPGRADE_HEADERS.to_owned()),
        (404, "GET /ws/ HTTP/1.1", UPGRADE_HEADERS.to_owned()),
        (405, "POST /ws HTTP/1.1", UPGRADE_HEADERS.to_owned()),
        (426, "GET /ws HTTP/1.1", plain.to_owned()),
        (426, "GET /ws HTTP/1.1", without("Upgrade")),
        (426, "GET /ws HTTP/1.1", without("Connection")),
        (426, "GET /ws HTTP/1.1", without("Sec-WebSocket-Version")),
        (426, "GET /ws HTTP/1.1", UPGRADE_HEADERS.replace("Version: 13", "Version: 8")),
        (426, "GET /ws HTTP/1.0", UPGRADE_HEADERS.to_owned()),
        (400, "GET /ws HTTP/1.1", without("Sec-WebSocket-Key")),
        (400, "GET /ws HTTP/1.1", UPGRADE_HEADERS.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")),
    ] {
        let (answer, chosen) = ask(&websocket, &format!("{line}\r\n{headers}\r\n")).await;
        let answer = answer.to_lowercase();
        let got = answer.split(' ').nth(1);
        assert_eq!(got, Some(status.to_string().as_str()), "{line} {headers} {answer}");
        assert!(chosen.is_err() && answer.contains("connection: close"), "{answer}");
        assert_eq!(
            status == 426,
            answer.contains("upgrade: websocket\r\nsec-websocket-version: 13"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let websocket = websocket(&[], &[]);
    let long = format!("GET /ws HTTP/1.1\r\n{UPGRADE_HEADERS}Cookie: {}\r\n\r\n", "c".repeat(HEAD_BYTES_MAX));
    for request in ["AMQP\0\0\x09\x01", &long] {
        let (answer, chosen) = ask(&websocket, request).await;
        assert!(chosen.is_err(), "{request} {answer}");
    }
    let early = format!("GET /ws HTTP/1.1\r\n{UPGRADE_HEADERS}\r\n\u{2}early");
    assert_eq!(
        ask(&websocket, &early).await.1,
        Err("the client sent more before its request was answered".to_owned())
    );
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_unless_they_are_listed() {
    let origin = |origin: &str| format!("Origin: {origin}\r\n");
    let websocket = websocket(&[], &["https://shop.example"]);
    for (is_let_in, from) in [
        (true, "http://localhost:15674"),
        (true, "https://shop.example"),
        (true, "HTTPS://SHOP.example"),
        (false, "http://shop.example"),
        (false, "https://evil.example"),
        (false, "http://localhost:8080"),
        (false, "null"),
    ] {
        let (answer, chosen) = upgrade(&websocket, &origin(from)).await;
        assert_eq!(chosen.is_ok(), is_let_in, "{from} {answer}");
        if !is_let_in {
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(answer.contains("; websocket.origins lists those that may"), "{answer}");
        }
    }
    // A name that a page's owner lets point to this machine.
    let rebound = UPGRADE_HEADERS.replace("localhost:15674", "evil.example:15674");
    let request = format!("GET /ws HTTP/1.1\r\n{rebound}Origin: http://evil.example:15674\r\n\r\n");
    let (_, chosen) = ask(&websocket, &request).await;
    assert!(chosen.is_err_and(|reason| reason.contains("access.http_hosts")));
    let any = super::tests::websocket(&[], &["*"]);
    assert!(upgrade(&any, &origin("https://evil.example")).await.1.is_ok());
}
