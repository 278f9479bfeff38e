//! All the places where the broker listens.

use super::StartError;
use crate::config::{self, Config};
use crate::management::{ListenerFacts, Management};
use crate::metrics::Metrics;
use crate::net::{
    Descriptors, Entrance, EventLoops, HttpListener, Listener, Serving, Shutdown, Spoken, Tls, Transport,
    WebSocket,
};
use crate::protocol::Protocol;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The protocols that clients may speak.
pub(super) struct Protocols {
    pub(super) amqp: Arc<dyn Protocol>,
    pub(super) stomp: Arc<dyn Protocol>,
    pub(super) stream: Arc<dyn Protocol>,
    /// The stream protocol over TLS, which advertises another port.
    pub(super) stream_tls: Arc<dyn Protocol>,
    /// Them, and who may speak them, over WebSocket.
    pub(super) websocket: Arc<WebSocket>,
}

/// A place to listen for clients of a protocol.
struct Place<'a> {
    /// The setting that says where.
    key: &'static str,
    listener: &'a config::AmqpListener,
    protocol: &'a Arc<dyn Protocol>,
    over_tls: bool,
    over_websocket: bool,
}

/// A place to listen for HTTP.
struct HttpPlace<'a> {
    /// The setting that says where.
    key: &'static str,
    /// What RabbitMQ calls such a listener.
    name: &'static str,
    listener: &'a config::Listener,
    pages: Pages,
    over_tls: bool,
}

/// What is served over HTTP.
#[derive(Clone, Copy)]
enum Pages {
    Management,
    Metrics,
}

/// Bound, and not yet served.
pub(super) struct Listeners {
    of_protocols: Vec<Listener>,
    of_pages: Vec<(&'static str, Pages, HttpListener)>,
    /// For clients that speak WebSocket, at the listeners of the management API.
    entrance: Arc<Entrance>,
}

/// All places for clients: a further protocol has its rows here.
fn places<'a>(config: &'a config::Listeners, protocols: &'a Protocols) -> [Place<'a>; 8] {
    let Protocols { amqp, stomp, stream, stream_tls, .. } = protocols;
    let plain =
        |key, listener, protocol| Place { key, listener, protocol, over_tls: false, over_websocket: false };
    let over_tls = |place| Place { over_tls: true, ..place };
    let over_websocket = |place| Place { over_websocket: true, ..place };
    [
        plain("listeners.amqp.bind", &config.amqp, amqp),
        over_tls(plain("listeners.amqps.bind", &config.amqps, amqp)),
        over_websocket(plain("listeners.websocket.bind", &config.websocket, amqp)),
        over_tls(over_websocket(plain("listeners.websockets.bind", &config.websockets, amqp))),
        plain("listeners.stomp.bind", &config.stomp, stomp),
        over_tls(plain("listeners.stomps.bind", &config.stomps, stomp)),
        plain("listeners.stream.bind", &config.stream, stream),
        over_tls(plain("listeners.stream_tls.bind", &config.stream_tls, stream_tls)),
    ]
}

fn http_places(config: &config::Listeners) -> [HttpPlace<'_>; 4] {
    let place = |key, name, listener, pages| HttpPlace { key, name, listener, pages, over_tls: false };
    let over_tls = |key, name, listener, pages| HttpPlace { key, name, listener, pages, over_tls: true };
    [
        place("listeners.http.bind", "http", &config.http, Pages::Management),
        over_tls("listeners.https.bind", "https", &config.https, Pages::Management),
        place("listeners.prometheus.bind", "http/prometheus", &config.prometheus, Pages::Metrics),
        over_tls(
            "listeners.prometheus_https.bind",
            "https/prometheus",
            &config.prometheus_https,
            Pages::Metrics,
        ),
    ]
}

impl Listeners {
    /// Binds all of them; those that speak TLS only if there is a certificate.
    pub(super) async fn bind(
        config: &Config,
        protocols: &Protocols,
        tls: Option<&Arc<Tls>>,
        serving: &Serving,
        descriptors: Descriptors,
    ) -> Result<Listeners, StartError> {
        let loops = Arc::new(EventLoops::start()?);
        let (listeners, max) = (&config.listeners, descriptors.http_connections as usize);
        let entrance = Arc::new(Entrance::new(protocols.websocket.clone(), serving.clone()));
        let mut bound = Listeners { of_protocols: Vec::new(), of_pages: Vec::new(), entrance };
        let can_be_had = |over_tls: bool| !over_tls || tls.is_some();
        for Place { key, listener, protocol, over_tls, over_websocket } in places(listeners, protocols) {
            if listener.is_off || !can_be_had(over_tls) {
                continue;
            }
            let transport = Transport {
                proxy_protocol: listener.proxy_protocol,
                proxy_networks: listener.proxy_networks.clone().into(),
                tls: tls.filter(|_| over_tls).cloned(),
                websocket: over_websocket.then(|| protocols.websocket.clone()),
            };
            let spoken = Spoken { protocol: protocol.clone(), transport };
            let listening = Listener::bind(listener.bind, spoken, serving.clone(), loops.clone()).await;
            bound.of_protocols.push(named(key, listener.bind, listening)?);
        }
        for HttpPlace { key, name, listener, pages, over_tls } in http_places(listeners) {
            if listener.is_off || !can_be_had(over_tls) {
                continue;
            }
            let listening = HttpListener::bind(listener.bind, tls.filter(|_| over_tls).cloned(), max).await;
            bound.of_pages.push((name, pages, named(key, listener.bind, listening)?));
        }
        Ok(bound)
    }

    /// The sockets that listen, each with its protocol.
    pub(super) fn facts(&self) -> io::Result<Vec<ListenerFacts>> {
        let of_protocols = self.of_protocols.iter().map(|listener| (listener.name(), listener.address()));
        let of_pages = self.of_pages.iter().map(|(name, _, listener)| (*name, listener.address()));
        let facts = of_protocols.chain(of_pages);
        facts.map(|(protocol, address)| Ok(ListenerFacts { protocol, address: address? })).collect()
    }

    /// Where the first listens that is called so.
    pub(super) fn address(&self, name: &str) -> io::Result<SocketAddr> {
        let off = || io::Error::new(io::ErrorKind::NotConnected, format!("listeners.{name}.bind is \"off\""));
        Ok(self.facts()?.iter().find(|facts| facts.protocol == name).ok_or_else(off)?.address)
    }

    /// Serves until the shutdown begins, and until what was open by then is closed.
    pub(super) async fn run(self, management: &Management, metrics: &Metrics, shutdown: &Shutdown) {
        let mut tasks = JoinSet::new();
        for (_, pages, listener) in self.of_pages {
            let router = match pages {
                Pages::Management => management.router(),
                Pages::Metrics => metrics.router(),
            };
            let entrance = match pages {
                Pages::Management => Some(self.entrance.clone()),
                Pages::Metrics => None,
            };
            tasks.spawn(listener.run(router, entrance, shutdown.clone()));
        }
        for listener in self.of_protocols {
            tasks.spawn(listener.run(shutdown.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a listener's task failed, please report this: {error}");
            }
        }
    }
}

fn named<T>(key: &'static str, address: SocketAddr, bound: io::Result<T>) -> Result<T, StartError> {
    bound.map_err(|error| StartError::Listen { key, address, error })
}
