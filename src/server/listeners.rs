//! All the places where the broker listens.

use super::StartError;
use crate::config::{self, Config};
use crate::management::{ListenerFacts, Management};
use crate::metrics::Metrics;
use crate::net::{
    Descriptors, EventLoops, HttpListener, Listener, Serving, Shutdown, Spoken, Tls, Transport,
};
use crate::protocol::Protocol;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The protocols that clients may speak.
pub(super) struct Protocols {
    pub(super) amqp: Arc<dyn Protocol>,
}

/// A place to listen for clients of a protocol.
struct Place<'a> {
    /// The setting that says where.
    key: &'static str,
    listener: &'a config::AmqpListener,
    protocol: &'a Arc<dyn Protocol>,
    over_tls: bool,
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
}

/// All places for clients: a further protocol has its rows here.
fn places<'a>(config: &'a config::Listeners, protocols: &'a Protocols) -> [Place<'a>; 2] {
    let amqp = &protocols.amqp;
    [
        Place { key: "listeners.amqp.bind", listener: &config.amqp, protocol: amqp, over_tls: false },
        Place { key: "listeners.amqps.bind", listener: &config.amqps, protocol: amqp, over_tls: true },
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
        let mut bound = Listeners { of_protocols: Vec::new(), of_pages: Vec::new() };
        let can_be_had = |over_tls: bool| !over_tls || tls.is_some();
        for Place { key, listener, protocol, over_tls } in places(listeners, protocols) {
            if !can_be_had(over_tls) {
                continue;
            }
            let transport = Transport {
                proxy_protocol: listener.proxy_protocol,
                proxy_networks: listener.proxy_networks.clone().into(),
                tls: tls.filter(|_| over_tls).cloned(),
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
            tasks.spawn(listener.run(router, shutdown.clone()));
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
