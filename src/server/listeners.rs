//! All the places where the broker listens.

use super::StartError;
use crate::config::{self, Config};
use crate::management::{ListenerFacts, Management};
use crate::metrics::Metrics;
use crate::net::{Descriptors, EventLoops, HttpListener, Listener, Serving, Shutdown, Tls, Transport};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Bound, and not yet served.
pub(super) struct Listeners {
    pub(super) amqp: Listener,
    amqps: Option<Listener>,
    pub(super) http: Option<HttpListener>,
    https: Option<HttpListener>,
    prometheus: Option<HttpListener>,
    prometheus_https: Option<HttpListener>,
}

impl Listeners {
    /// Binds all of them; those that speak TLS only if there is a certificate.
    pub(super) async fn bind(
        config: &Config,
        tls: Option<&Arc<Tls>>,
        serving: &Serving,
        descriptors: Descriptors,
    ) -> Result<Listeners, StartError> {
        let loops = Arc::new(EventLoops::start()?);
        let (listeners, max) = (&config.listeners, descriptors.http_connections as usize);
        let amqp = async |key, listener: &config::AmqpListener, tls| {
            let transport = Transport {
                proxy_protocol: listener.proxy_protocol,
                proxy_networks: listener.proxy_networks.clone().into(),
                tls,
            };
            let bound = Listener::bind(listener.bind, transport, serving.clone(), loops.clone());
            named(key, listener.bind, bound.await)
        };
        let http = async |key, listener: &config::Listener, tls| {
            if listener.is_off {
                return Ok(None);
            }
            named(key, listener.bind, HttpListener::bind(listener.bind, tls, max).await).map(Some)
        };
        Ok(Listeners {
            amqp: amqp("listeners.amqp.bind", &listeners.amqp, None).await?,
            amqps: match tls.cloned() {
                Some(tls) => Some(amqp("listeners.amqps.bind", &listeners.amqps, Some(tls)).await?),
                None => None,
            },
            http: http("listeners.http.bind", &listeners.http, None).await?,
            https: match tls.cloned() {
                Some(tls) => http("listeners.https.bind", &listeners.https, Some(tls)).await?,
                None => None,
            },
            prometheus: http("listeners.prometheus.bind", &listeners.prometheus, None).await?,
            prometheus_https: match tls.cloned() {
                Some(tls) => {
                    let key = "listeners.prometheus_https.bind";
                    http(key, &listeners.prometheus_https, Some(tls)).await?
                }
                None => None,
            },
        })
    }

    /// The sockets that listen, each with its protocol.
    pub(super) fn facts(&self) -> io::Result<Vec<ListenerFacts>> {
        let mut facts = vec![ListenerFacts { protocol: "amqp", address: self.amqp.address()? }];
        if let Some(amqps) = &self.amqps {
            facts.push(ListenerFacts { protocol: "amqp/ssl", address: amqps.address()? });
        }
        for (protocol, listener) in [
            ("http", &self.http),
            ("https", &self.https),
            ("http/prometheus", &self.prometheus),
            ("https/prometheus", &self.prometheus_https),
        ] {
            if let Some(listener) = listener {
                facts.push(ListenerFacts { protocol, address: listener.address()? });
            }
        }
        Ok(facts)
    }

    /// Serves until the shutdown begins, and until what was open by then is closed.
    pub(super) async fn run(self, management: &Management, metrics: &Metrics, shutdown: &Shutdown) {
        let over_tls = async {
            if let Some(listener) = self.amqps {
                listener.run(shutdown.clone()).await;
            }
        };
        let http = [
            (self.http, management.router()),
            (self.https, management.router()),
            (self.prometheus, metrics.router()),
            (self.prometheus_https, metrics.router()),
        ];
        let mut tasks = JoinSet::new();
        for (listener, router) in http {
            if let Some(listener) = listener {
                tasks.spawn(listener.run(router, shutdown.clone()));
            }
        }
        tokio::join!(self.amqp.run(shutdown.clone()), over_tls);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a task that serves HTTP failed, please report this: {error}");
            }
        }
    }
}

fn named<T>(key: &'static str, address: SocketAddr, bound: io::Result<T>) -> Result<T, StartError> {
    bound.map_err(|error| StartError::Listen { key, address, error })
}
