//! WebSocket on a listener for HTTP: a request for an upgrade turns its connection into one for clients, which counts with those
//! of the other listeners from then on, and gives its place among those for HTTP back.

use super::{Connection, PeerAddress, Stream};
use crate::net::drive::bell::Bell;
use crate::net::listen::{Admitted, origin, peer_of, split};
use crate::net::websocket::{Beginning, Chosen};
use crate::net::{Serving, Shutdown, WebSocket, canonical, tls};
use crate::protocol::log_refused;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::any;
use axum::{Extension, Router};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Lets clients that speak WebSocket in.
pub struct Entrance {
    websocket: Arc<WebSocket>,
    serving: Serving,
}

/// The upgrade of a connection, if one of its requests asked for that.
#[derive(Clone, Default)]
pub(super) struct Upgrading(Arc<Mutex<Option<(OnUpgrade, Chosen)>>>);

impl Upgrading {
    pub(super) fn take(&self) -> Option<(OnUpgrade, Chosen)> {
        self.0.lock().take()
    }
}

impl Entrance {
    /// For what is offered there, within the limits of the listeners for clients.
    pub fn new(websocket: Arc<WebSocket>, serving: Serving) -> Entrance {
        Entrance { websocket, serving }
    }

    /// What answers requests for an upgrade.
    pub(super) fn router(&self) -> Router {
        let websocket = self.websocket.clone();
        let answer = move |peer: ConnectInfo<PeerAddress>,
                           Extension(upgrading): Extension<Upgrading>,
                           mut request: Request| async move {
            let ConnectInfo(PeerAddress(peer)) = peer;
            match websocket.answer_or_refuse(&mut request, peer.ip()) {
                (answer, Ok(accepted)) => {
                    *upgrading.0.lock() = Some(accepted);
                    answer.map(axum::body::Body::new)
                }
                (answer, Err(reason)) => {
                    log_refused(&peer, &reason);
                    answer.map(axum::body::Body::new)
                }
            }
        };
        Router::<()>::new().route(
            WebSocket::PATH,
            any(async move |peer, upgrading, request| -> Response {
                answer.clone()(peer, upgrading, request).await
            }),
        )
    }

    /// Serves a connection that is upgraded, until either end closes it.
    pub(super) async fn serve(&self, upgraded: (OnUpgrade, Chosen), peer: SocketAddr, shutdown: &Shutdown) {
        let Some(admitted) = self.serving.admit(peer, Some(origin(peer))) else { return };
        let Admitted { newcomer, counted: _counted, left } = admitted;
        let bell = Arc::new(Bell::new(Arc::default()));
        let accepted_at = self.serving.clock.now();
        let served = async {
            let (upgrade, chosen) = upgraded;
            let upgraded = upgrade.await.map_err(io::Error::other)?;
            let parts: Parts<TokioIo<Connection>> =
                upgraded.downcast().map_err(|_| io::Error::other("the upgraded stream is another one"))?;
            let stream = parts.io.into_inner().stream;
            let patience = Duration::from_millis(self.serving.limits.handshake_timeout_ms);
            let too_late = |_| io::Error::from(io::ErrorKind::TimedOut);
            match stream {
                Stream::Plain(stream) => {
                    let local = canonical(stream.local_addr()?);
                    let beginning = Beginning { peer: peer_of(peer, local), newcomer, bell, accepted_at };
                    let opened = self.websocket.begin(split(stream), chosen);
                    let opened = tokio::time::timeout(patience, opened).await.map_err(too_late)??;
                    opened.drive(beginning, &self.serving, shutdown).await
                }
                Stream::Tls(stream) => {
                    let local = canonical(stream.get_ref().0.reader().local_addr()?);
                    let beginning = Beginning { peer: peer_of(peer, local), newcomer, bell, accepted_at };
                    let opened = self.websocket.begin(tls::split(*stream), chosen);
                    let opened = tokio::time::timeout(patience, opened).await.map_err(too_late)??;
                    opened.drive(beginning, &self.serving, shutdown).await
                }
                Stream::Greeting(_) => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        tokio::select! {
            biased;
            served = served => {
                if let Err(error) = served {
                    tracing::debug!("connection from {peer} ended: {error}");
                }
            }
            Ok(()) = left => self.serving.log_left(&peer),
        }
    }
}
