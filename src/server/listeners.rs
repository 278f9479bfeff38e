//! All the places where the broker listens.

use super::StartError;
use crate::config::{self, Config};
use crate::management::{ListenerFacts, Management};
use crate::net::{HttpListener, Listener, Serving, Shutdown, Tls, Transport};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Bound, and not yet served.
pub(super) struct Listeners {
    pub(super) amqp: Listener,
    amqps: Option<Listener>,
    pub(super) http: HttpListener,
    https: Option<HttpListener>,
}

impl Listeners {
    /// Binds all of them; those that speak TLS only if there is a certificate.
    pub(super) async fn bind(
        config: &Config,
        tls: Option<&Arc<Tls>>,
        serving: &Serving,
    ) -> Result<Listeners, StartError> {
        let (listeners, max) = (&config.listeners, config.limits.http_connections_max as usize);
        let amqp = async |key, listener: &config::AmqpListener, tls| {
            let transport = Transport { proxy_protocol: listener.proxy_protocol, tls };
            named(key, listener.bind, Listener::bind(listener.bind, transport, serving.clone()).await)
        };
        let http = async |key, listener: &config::Listener, tls| {
            named(key, listener.bind, HttpListener::bind(listener.bind, tls, max).await)
        };
        Ok(Listeners {
            amqp: amqp("listeners.amqp.bind", &listeners.amqp, None).await?,
            amqps: match tls.cloned() {
                Some(tls) => Some(amqp("listeners.amqps.bind", &listeners.amqps, Some(tls)).await?),
                None => None,
            },
            http: http("listeners.http.bind", &listeners.http, None).await?,
            https: match tls.cloned() {
                Some(tls) => Some(http("listeners.https.bind", &listeners.https, Some(tls)).await?),
                None => None,
            },
        })
    }

    /// What listens where.
    pub(super) fn facts(&self) -> io::Result<Vec<ListenerFacts>> {
        let mut facts = vec![ListenerFacts { protocol: "amqp", address: self.amqp.address()? }];
        if let Some(amqps) = &self.amqps {
            facts.push(ListenerFacts { protocol: "amqp/ssl", address: amqps.address()? });
        }
        facts.push(ListenerFacts { protocol: "http", address: self.http.address()? });
        if let Some(https) = &self.https {
            facts.push(ListenerFacts { protocol: "https", address: https.address()? });
        }
        Ok(facts)
    }

    /// Serves until the shutdown begins, and until what was open by then is closed.
    pub(super) async fn run(self, management: &Management, shutdown: &Shutdown) {
        let over_tls = async {
            if let Some(listener) = self.amqps {
                listener.run(shutdown.clone()).await;
            }
        };
        let https = async {
            if let Some(listener) = self.https {
                listener.run(management.router(), shutdown.clone()).await;
            }
        };
        let http = self.http.run(management.router(), shutdown.clone());
        tokio::join!(self.amqp.run(shutdown.clone()), over_tls, http, https);
    }
}

fn named<T>(key: &'static str, address: SocketAddr, bound: io::Result<T>) -> Result<T, StartError> {
    bound.map_err(|error| StartError::Listen { key, address, error })
}
