//! What the log and the event exchange say of a connection: a line when it opens and one when it is closed, or one when it is refused.

use super::Common;
use crate::broker::observe::connections::{ConnectionFacts, TlsFacts};
use crate::broker::observe::events::{By, Headers, number, text};
use crate::message::Value;
use crate::protocol::CONNECTION_LOG;
use crate::rabbit::term;

/// How bad an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As the client or the operator wants it.
    Orderly,
    /// An operator should look at it.
    Faulty,
}

impl Common {
    /// The connection is open.
    pub(super) fn log_opened(&self, user: &str, vhost: &str, mechanism: &str) {
        let (id, name, peer) = (self.id.0, &*self.peer.name, self.peer.address.to_string());
        let tls = self.peer.tls.as_ref().map(|tls| tls.protocol.as_str());
        let protocol = "stream";
        tracing::info!(target: CONNECTION_LOG, id, name, user, vhost, peer, tls, mechanism, protocol, "connection opened");
    }

    /// A login has failed; `user` is who it claimed to be.
    pub(super) fn log_login_refused(&mut self, user: &str, mechanism: &str, reason: &str) {
        self.end_is_told = true;
        let (id, name, peer) = (self.id.0, &*self.peer.name, self.peer.address.to_string());
        tracing::warn!(target: CONNECTION_LOG, id, name, user, peer, mechanism, reason, "connection refused");
    }

    /// The connection ends: of that user in that vhost, if it was open. Only the first reason is logged.
    pub(super) fn log_closed(&mut self, end: End, open: Option<(&str, &str)>, reason: &str) {
        if std::mem::replace(&mut self.end_is_told, true) {
            return;
        }
        let (id, name, peer) = (self.id.0, &*self.peer.name, self.peer.address.to_string());
        match (open, end) {
            (Some((user, vhost)), End::Orderly) => {
                tracing::info!(target: CONNECTION_LOG, id, name, user, vhost, peer, reason, "connection closed");
            }
            (Some((user, vhost)), End::Faulty) => {
                tracing::warn!(target: CONNECTION_LOG, id, name, user, vhost, peer, reason, "connection closed");
            }
            // Port checks of load balancers come again and again.
            (None, End::Orderly) => {
                tracing::debug!(target: CONNECTION_LOG, id, name, peer, reason, "connection not used");
            }
            (None, End::Faulty) => {
                tracing::warn!(target: CONNECTION_LOG, id, name, peer, reason, "connection refused");
            }
        }
    }

    /// A login has succeeded, or failed with that `error`.
    pub(super) fn tell_login(&self, user: &str, mechanism: &str, error: Option<&str>) {
        let key = if error.is_some() { "user.authentication.failure" } else { "user.authentication.success" };
        self.protocol.broker.tell(key, By::Unsaid, || {
            let mut fields = vec![
                ("auth_mechanism", text(mechanism)),
                ("connection_name", text(&self.peer.name)),
                ("connection_type", text("network")),
                ("host", text(&self.peer.local_address.host)),
                ("name", text(user)),
                ("peer_host", text(&self.peer.address.host)),
                ("peer_port", number(self.peer.address.port)),
                ("protocol", text("stream")),
                ("ssl", Value::Bool(self.peer.tls.is_some())),
            ];
            fields.extend(error.map(|error| ("error", text(error))));
            fields
        });
    }

    /// The connection is open.
    pub(super) fn tell_opened(&self, facts: &ConnectionFacts) {
        self.protocol.broker.tell("connection.created", By::User(facts.user.clone()), || {
            let tls = facts.tls.as_ref();
            let of_tls = |field: fn(&TlsFacts) -> &str| text(tls.map(field).unwrap_or_default());
            let mut fields = self.which(facts);
            fields.extend([
                ("auth_mechanism", text(&facts.auth_mechanism)),
                ("host", text(&facts.local.host)),
                ("peer_host", text(&facts.peer.host)),
                ("peer_port", number(facts.peer.port)),
                ("port", number(facts.local.port)),
                ("protocol", text(facts.protocol)),
                ("ssl", Value::Bool(tls.is_some())),
                ("ssl_cipher", of_tls(|tls| &tls.cipher)),
                ("ssl_protocol", of_tls(|tls| &tls.protocol)),
                ("user", text(&facts.user)),
                ("vhost", text(&facts.vhost)),
            ]);
            fields
        });
    }

    /// The connection has ended.
    pub(super) fn tell_closed(&self, facts: &ConnectionFacts) {
        self.protocol.broker.tell("connection.closed", By::Unsaid, || self.which(facts));
    }

    fn which(&self, facts: &ConnectionFacts) -> Headers {
        vec![
            ("client_properties", term::arguments(&facts.client_properties.decode())),
            ("name", text(&facts.name)),
            ("node", text(self.protocol.broker.node_name())),
            ("pid", self.protocol.broker.pid(self.id, 0)),
        ]
    }
}
