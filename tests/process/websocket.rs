//! AMQP over WebSocket, with the frames of another implementation, over plain sockets and TLS.

use leveret_conformance::{Arrived, ConnectionId, Transport};
use leveret_test_support::amqp_client::{Client, method, text};
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

const ON: (&str, &str) = ("LEVERET__LISTENERS__WEBSOCKET__BIND", "127.0.0.1:0");

/// How long the shortest look at a socket takes.
const LOOK: Duration = Duration::from_millis(1);

/// Connections over WebSocket, for the small client.
struct Web {
    address: String,
    subprotocol: Option<&'static str>,
    /// What comes before everything else.
    header: &'static [u8],
    /// Bytes of each message that is sent.
    message_bytes: usize,
    sockets: BTreeMap<ConnectionId, WebSocket<TcpStream>>,
    opened: usize,
}

impl Web {
    fn to(broker: &BrokerProcess) -> Web {
        Web::at(broker.address_of("ws").trim_end_matches("/ws").to_owned())
    }

    fn at(address: String) -> Web {
        let sockets = BTreeMap::new();
        Web { address, subprotocol: Some("amqp"), header: b"", message_bytes: usize::MAX, sockets, opened: 0 }
    }

    fn connect(&self) -> Result<WebSocket<TcpStream>, String> {
        let mut stream = TcpStream::connect(&self.address).map_err(|error| error.to_string())?;
        stream.write_all(self.header).map_err(|error| error.to_string())?;
        let mut request = format!("ws://{}/ws", self.address).into_client_request().unwrap();
        if let Some(name) = self.subprotocol {
            request.headers_mut().insert("Sec-WebSocket-Protocol", name.parse().unwrap());
        }
        let connected = tungstenite::client(request, stream);
        connected.map(|(socket, _)| socket).map_err(|error| error.to_string())
    }
}

impl Transport for Web {
    fn open(&mut self) -> Result<ConnectionId, String> {
        let socket = self.connect()?;
        self.opened += 1;
        self.sockets.insert(self.opened, socket);
        Ok(self.opened)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get_mut(&connection) {
            for bytes in bytes.chunks(self.message_bytes) {
                // A broker that is gone is seen by the reading side.
                let _ = socket.send(Message::binary(bytes.to_vec()));
            }
        }
    }

    fn receive(&mut self, connection: ConnectionId, wait: Duration, into: &mut Vec<u8>) -> Arrived {
        let Some(socket) = self.sockets.get_mut(&connection) else { return Arrived::Closed };
        socket.get_mut().set_read_timeout(Some(wait.max(LOOK))).unwrap();
        match socket.read() {
            Ok(Message::Binary(bytes)) => {
                into.extend_from_slice(&bytes);
                Arrived::Data
            }
            Ok(Message::Close(_)) => Arrived::Closed,
            Ok(other) => panic!("{other:?} came"),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Arrived::Quiet
            }
            Err(_) => Arrived::Closed,
        }
    }

    fn advance(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.sockets.remove(&connection);
    }

    fn exact(&self) -> bool {
        false
    }
}

/// What the management API answers.
fn get(broker: &BrokerProcess, path: &str) -> String {
    let mut stream = TcpStream::connect(broker.address_of_http()).unwrap();
    let login = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nConnection: close\r\n";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{login}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A message of that size goes to a queue and comes back.
fn work(transport: &mut Web, queue: &str, body_bytes: usize) {
    let mut client = Client::connect(transport).unwrap();
    client.open_channel(transport, 1).unwrap();
    client.call(transport, 1, &method("queue.declare", &[("queue", text(queue))])).unwrap();
    let body: Vec<u8> = (0..body_bytes).map(|number| (number % 251) as u8).collect();
    let mut bytes = Vec::new();
    client.put_publish(&mut bytes, 1, ("", queue), &[], &body);
    client.send_bytes(transport, &bytes);
    client.send(transport, 1, &method("basic.get", &[("queue", text(queue))]));
    let came = client.wait(transport).unwrap();
    let bodies: Vec<_> = came.into_iter().filter_map(|(_, _, content)| Some(content?.body)).collect();
    assert!(bodies == [body], "what came back is another one");
}

#[test]
fn amqp_works_however_it_is_cut_into_messages() {
    let broker = BrokerProcess::start_with("websocket-work", &[ON], None);
    let mut web = Web::to(&broker);
    work(&mut web, "whole", 3_000_000);
    web.message_bytes = 1000;
    work(&mut web, "cut", 100_000);
    web.message_bytes = 1;
    work(&mut web, "bytes", 100);
    web.subprotocol = None;
    work(&mut web, "by-first-byte", 100);
    web.subprotocol = Some("mqtt");
    assert!(web.connect().is_err_and(|error| error.contains("400")));
}

#[test]
fn the_listener_of_the_management_api_speaks_it_too() {
    // With room for one connection over HTTP: those over WebSocket do not take it.
    let one = ("LEVERET__LIMITS__HTTP_CONNECTIONS_MAX", "1");
    let broker = BrokerProcess::start_with("websocket-management", &[one], None);
    let mut web = Web::at(broker.address_of_http());
    work(&mut web, "over-http", 1_000_000);
    web.subprotocol = None;
    let mut clients = [(); 3].map(|()| Client::connect(&mut web).unwrap());
    let connections = get(&broker, "/api/connections");
    assert_eq!(connections.matches("\"protocol\":\"Web AMQP 0-9-1\"").count(), 4, "{connections}");
    for client in &mut clients {
        client.open_channel(&mut web, 1).unwrap();
    }
    web.subprotocol = Some("mqtt");
    assert!(web.connect().is_err_and(|error| error.contains("400")));
    assert!(get(&broker, "/ws").starts_with("HTTP/1.1 426 "));
}

#[test]
fn stomp_comes_as_text_where_it_is_text() {
    let broker = BrokerProcess::start_with("websocket-stomp", &[ON], None);
    let mut web = Web::to(&broker);
    for subprotocol in [Some("v12.stomp"), None] {
        web.subprotocol = subprotocol;
        let mut socket = web.connect().unwrap();
        let read = |socket: &mut WebSocket<TcpStream>| loop {
            match socket.read().unwrap() {
                // A line end behind a frame may come alone.
                Message::Text(text) if text.trim().is_empty() => {}
                message => return message,
            }
        };
        let connect = "CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0";
        socket.send(Message::text(connect)).unwrap();
        assert!(read(&mut socket).into_text().unwrap().starts_with("CONNECTED\n"));
        let connections = get(&broker, "/api/connections");
        assert!(connections.contains("\"protocol\":\"Web STOMP 1.2\""), "{connections}");
        socket.send(Message::text("SUBSCRIBE\nid:1\ndestination:/topic/web\n\n\0")).unwrap();
        for (body, is_text) in [("héllo".as_bytes(), true), (b"\xff\0\xfe", false)] {
            let head = format!("SEND\ndestination:/topic/web\ncontent-length:{}\n\n", body.len());
            socket.send(Message::binary([head.as_bytes(), body, b"\0"].concat())).unwrap();
            let message = read(&mut socket);
            assert_eq!(message.is_text(), is_text);
            let frame = message.into_data();
            assert!(frame.windows(body.len()).any(|part| part == body), "{frame:?}");
        }
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    }
}

#[test]
fn the_broker_closes_with_a_code() {
    let mut broker = BrokerProcess::start_with("websocket-close", &[ON], None);
    let mut web = Web::to(&broker);
    Client::connect(&mut web).unwrap();
    let mut socket = web.connect().unwrap();
    let close = |socket: &mut WebSocket<TcpStream>| loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
            Ok(_) => {}
            Err(error) => panic!("no close frame came before {error}"),
        }
    };
    // What is no AMQP is answered with what is, and the end.
    socket.send(Message::text("GET / HTTP/1.1\r\n\r\n")).unwrap();
    assert_eq!(close(&mut socket), Some(CloseCode::Normal));
    let mut socket = web.connect().unwrap();
    socket.send(Message::binary(&b"AMQP\0\0\x09\x01"[..])).unwrap();
    socket.get_mut().write_all(b"\x82\x01x").unwrap();
    assert_eq!(close(&mut socket), Some(CloseCode::Protocol));
    broker.wait_for_log("a frame is not masked, as those of clients have to be");
    // A stop closes AMQP first, which the client answers.
    web.sockets.clear();
    let mut socket = web.connect().unwrap();
    socket.send(Message::binary(&b"AMQP\0\0\x09\x01"[..])).unwrap();
    assert!(socket.read().unwrap().is_binary());
    broker.ask_to_stop();
    let connection_close = socket.read().unwrap().into_data();
    assert_eq!(connection_close[7..11], [0, 10, 0, 50]);
    socket.send(Message::binary(&b"\x01\0\0\0\0\0\x04\0\x0a\0\x33\xce"[..])).unwrap();
    assert_eq!(close(&mut socket), Some(CloseCode::Normal));
}

#[test]
fn what_is_refused_is_logged_and_clients_have_little_time() {
    let patience = ("LEVERET__LIMITS__HANDSHAKE_TIMEOUT_MS", "300");
    let broker = BrokerProcess::start_with("websocket-refused", &[ON, patience], None);
    let web = Web::to(&broker);
    let ask = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&web.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = Vec::new();
        // Bytes that were not read make the system end the connection with a reset.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let host = format!("Host: {}\r\n", web.address);
    assert!(ask(format!("GET /ws HTTP/1.1\r\n{host}\r\n").as_bytes()).starts_with("HTTP/1.1 426 "));
    broker.wait_for_log("no request for an upgrade to WebSocket");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let page = format!("GET /ws HTTP/1.1\r\n{host}{upgrade}Origin: https://evil.example\r\n\r\n");
    assert!(ask(page.as_bytes()).starts_with("HTTP/1.1 403 "));
    broker.wait_for_log("websocket.origins lists those that may");
    for unfinished in [&b"GET /ws HT"[..], format!("GET /ws HTTP/1.1\r\n{host}{upgrade}\r\n").as_bytes()] {
        ask(unfinished);
        broker.wait_for_log("no WebSocket after 300 ms");
    }
    // The broker serves others meanwhile.
    Client::connect(&mut Web::to(&broker)).unwrap();
}

#[test]
fn a_balancer_says_where_the_client_is() {
    let header = ("LEVERET__LISTENERS__WEBSOCKET__PROXY_PROTOCOL", "true");
    let broker = BrokerProcess::start_with("websocket-proxy", &[ON, header], None);
    let mut web = Web::to(&broker);
    web.header = b"PROXY TCP4 127.0.0.9 192.0.2.1 40001 15674\r\n";
    let _client = Client::connect(&mut web).unwrap();
    broker.wait_for_log("127.0.0.9:40001 -> 192.0.2.1:15674");
    let connections = get(&broker, "/api/connections");
    assert!(connections.contains("\"protocol\":\"Web AMQP 0-9-1\""), "{connections}");
    let overview = get(&broker, "/api/overview");
    assert!(overview.contains("\"protocol\":\"http/websocket\""), "{overview}");
}

#[test]
fn it_is_off_until_it_is_bound() {
    let folder = folder_of("websocket-off");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_leveret"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .env("LEVERET__LISTENERS__WEBSOCKETS__BIND", "127.0.0.1:0")
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("LEVERET__LISTENERS__WEBSOCKETS__BIND: needs a certificate"), "{said}");
    let broker = BrokerProcess::start("websocket-unbound");
    assert!(!broker.log().contains("ws://"));
}
