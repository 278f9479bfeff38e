//! What the log says of a connection: a line when it opens and one when it is closed, or one when it is refused.

use super::{Connection, Stage};
use crate::protocol::CONNECTION_LOG;

/// How bad an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As the client or the operator wants it.
    Orderly,
    /// An operator should look at it.
    Faulty,
}

impl Connection {
    /// The connection is open.
    pub(super) fn log_opened(&self, user: &str, vhost: &str) {
        let (id, name, peer) = (self.id.0, &*self.peer.name, self.peer.address.to_string());
        let tls = self.peer.tls.as_ref().map(|tls| tls.protocol.as_str());
        let mechanism = self.auth_mechanism.as_str();
        tracing::info!(target: CONNECTION_LOG, id, name, user, vhost, peer, tls, mechanism, "connection opened");
    }

    /// A login has failed; `user` is who it claimed to be.
    pub(super) fn log_login_refused(&mut self, user: &str, mechanism: &str, reason: &str) {
        self.end_is_told = true;
        let (id, name, peer) = (self.id.0, &*self.peer.name, self.peer.address.to_string());
        tracing::warn!(target: CONNECTION_LOG, id, name, user, peer, mechanism, reason, "connection refused");
    }

    /// The connection ends, or is about to. Only the first reason is logged. Called before anything is given back.
    pub(super) fn log_end(&mut self, end: End, reason: &str) {
        if std::mem::replace(&mut self.end_is_told, true) {
            return;
        }
        let (id, name, peer) = (self.id.0, &*self.peer.name, self.peer.address.to_string());
        let state = self.stage.name();
        let user = self.user.as_ref().map(|user| &*user.name);
        let vhost = self.open.as_ref().map(|open| &**open.vhost.name());
        match (vhost, end) {
            (Some(vhost), End::Orderly) => {
                tracing::info!(target: CONNECTION_LOG, id, name, user, vhost, peer, reason, "connection closed");
            }
            (Some(vhost), End::Faulty) => {
                tracing::warn!(target: CONNECTION_LOG, id, name, user, vhost, peer, reason, "connection closed");
            }
            // Port checks of load balancers come again and again.
            (None, End::Orderly) if self.stage == Stage::ProtocolHeader => {
                tracing::debug!(target: CONNECTION_LOG, id, name, peer, state, reason, "connection not used");
            }
            (None, _) => {
                tracing::warn!(target: CONNECTION_LOG, id, name, user, peer, state, reason, "connection refused");
            }
        }
    }
}
