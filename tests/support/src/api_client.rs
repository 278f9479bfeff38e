//! A broker in memory with its sockets, and the smallest client of HTTP that will do.

use leveret::broker::Broker;
use leveret::broker::exchange::ExchangeTypes;
use leveret::config::{Config, Engine};
use leveret::net::Shutdown;
use leveret::server::Server;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A broker that runs until it is dropped.
pub struct TestBroker {
    pub http: SocketAddr,
    pub amqp: SocketAddr,
    pub broker: Arc<Broker>,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    /// The headers' lines.
    pub headers: Vec<String>,
    pub body: String,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let with_name = self.headers.iter().filter_map(|line| line.split_once(": "));
        with_name.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// Keeps nothing.
pub fn in_memory() -> Config {
    let mut config = Config::default();
    config.store.engine = Engine::Memory;
    config
}

impl TestBroker {
    pub fn start() -> TestBroker {
        TestBroker::with(in_memory())
    }

    /// It listens on ports of the system's choice.
    pub fn with(mut config: Config) -> TestBroker {
        let listeners = &mut config.listeners;
        for bind in [
            &mut listeners.amqp.bind,
            &mut listeners.amqps.bind,
            &mut listeners.http.bind,
            &mut listeners.https.bind,
            &mut listeners.prometheus.bind,
            &mut listeners.prometheus_https.bind,
        ] {
            *bind = SocketAddr::from(([127, 0, 0, 1], 0));
        }
        let (told, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.unwrap().block_on(async {
                let server = Server::start(&config, ExchangeTypes::standard()).await.unwrap();
                let (http, amqp) = (server.http_address().unwrap(), server.address().unwrap());
                told.send((http, amqp, server.broker().clone(), server.shutdown())).unwrap();
                server.run().await.unwrap();
            });
        });
        let (http, amqp, broker, shutdown) = started.recv().expect("the broker starts");
        TestBroker { http, amqp, broker, shutdown, thread: Some(thread) }
    }

    /// Asks as the user guest.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answered {
        self.ask_with(method, path, &[AS_GUEST], body)
    }

    pub fn get(&self, path: &str) -> Value {
        let answered = self.ask("GET", path, "");
        assert_eq!(answered.status, 200, "GET {path}: {answered:?}");
        answered.json()
    }

    pub fn put(&self, path: &str, body: &str) -> Answered {
        self.ask("PUT", path, body)
    }

    /// Asks with these headers and no login but what they say.
    pub fn ask_with(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answered {
        ask(self.http, method, path, headers, body.as_bytes())
    }
}

/// The `Authorization` of the user guest.
pub const AS_GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=";

/// Asks a broker at that address.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answered {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.to_lowercase().starts_with("content-type:")) {
        request.push_str("Content-Type: application/json\r\n");
    }
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(&[request.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 65536];
    // RabbitMQ does not close every connection that it was asked to close.
    while !(is_whole(&answer) && method != "HEAD") {
        match stream.read(&mut piece).unwrap_or_else(|error| panic!("{method} {path}: {error}")) {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {answer:?}"));
    let mut lines = head.lines().map(str::to_owned);
    let status = lines.next().unwrap();
    let status = status.split(' ').nth(1).unwrap().parse().unwrap();
    Answered { status, headers: lines.collect(), body: body.to_owned() }
}

/// Whether all has come that a head promises.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
