//! What the log and the event exchange say of a connection: a line when it opens and one when it is closed, or one when it is
//! refused.

use super::subscribe::Subscription;
use super::{Connection, Open, Stage};
use crate::broker::observe::connections::{ConnectionFacts, TlsFacts};
use crate::broker::observe::events::{By, Headers, number, text};
use crate::message::{FieldTable, Value};
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

impl Connection {
    /// The connection is open.
    pub(super) fn log_opened(&self, user: &str, vhost: &str, mechanism: &str) {
        let (id, name, peer) = (self.id.0, &*self.peer.name, self.peer.address.to_string());
        let tls = self.peer.tls.as_ref().map(|tls| tls.protocol.as_str());
        let protocol = self.protocol();
        tracing::info!(target: CONNECTION_LOG, id, name, user, vhost, peer, tls, mechanism, protocol, "connection opened");
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
        let open = self.open.as_ref().map(|open| (&*open.user.name, &**open.vhost.name()));
        match (open, end) {
            (Some((user, vhost)), End::Orderly) => {
                tracing::info!(target: CONNECTION_LOG, id, name, user, vhost, peer, reason, "connection closed");
            }
            (Some((user, vhost)), End::Faulty) => {
                tracing::warn!(target: CONNECTION_LOG, id, name, user, vhost, peer, reason, "connection closed");
            }
            // Port checks of load balancers come again and again.
            (None, End::Orderly) if self.stage == Stage::Connecting => {
                tracing::debug!(target: CONNECTION_LOG, id, name, peer, reason, "connection not used");
            }
            (None, _) => {
                tracing::warn!(target: CONNECTION_LOG, id, name, peer, reason, "connection refused");
            }
        }
    }

    /// What is spoken, as the management API shows it.
    pub(super) fn protocol(&self) -> &'static str {
        use super::Version;
        match (self.version, self.peer.is_web) {
            (Version::V1_0, false) => "STOMP 1.0",
            (Version::V1_1, false) => "STOMP 1.1",
            (Version::V1_2, false) => "STOMP 1.2",
            (Version::V1_0, true) => "Web STOMP 1.0",
            (Version::V1_1, true) => "Web STOMP 1.1",
            (Version::V1_2, true) => "Web STOMP 1.2",
        }
    }

    /// A login has succeeded, or failed with that `error`.
    pub(super) fn tell_login(&self, user: &str, mechanism: &str, error: Option<&str>) {
        let key = if error.is_some() { "user.authentication.failure" } else { "user.authentication.success" };
        self.stomp.broker.tell(key, By::Unsaid, || {
            let mut fields = vec![
                ("auth_mechanism", text(mechanism)),
                ("connection_name", text(&self.peer.name)),
                ("connection_type", text("network")),
                ("host", text(&self.peer.local_address.host)),
                ("name", text(user)),
                ("peer_host", text(&self.peer.address.host)),
                ("peer_port", number(self.peer.address.port)),
                ("protocol", text(self.protocol())),
                ("ssl", Value::Bool(self.peer.tls.is_some())),
            ];
            fields.extend(error.map(|error| ("error", text(error))));
            fields
        });
    }

    /// The connection is open.
    pub(super) fn tell_opened(&self) {
        let Some(Open { live, .. }) = &self.open else { return };
        let facts = live.facts();
        self.stomp.broker.tell("connection.created", By::User(facts.user.clone()), || {
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
        self.stomp.broker.tell("connection.closed", By::Unsaid, || self.which(facts));
    }

    fn which(&self, facts: &ConnectionFacts) -> Headers {
        vec![
            ("client_properties", term::arguments(&facts.client_properties.decode())),
            ("name", text(&facts.name)),
            ("node", text(self.stomp.broker.node_name())),
            ("pid", self.stomp.broker.pid(self.id, 0)),
        ]
    }

    /// A consumer has come.
    pub(super) fn tell_consumer_created(&self, subscription: &Subscription, of_consumer: &FieldTable) {
        let Some(open) = &self.open else { return };
        self.stomp.broker.tell("consumer.created", By::User(open.user.name.clone()), || {
            let mut fields = self.which_consumer(subscription);
            fields.extend([
                ("ack_required", Value::Bool(!subscription.is_auto())),
                ("arguments", term::arguments(of_consumer)),
                ("exclusive", Value::Bool(false)),
                ("prefetch_count", number(subscription.prefetch_count)),
            ]);
            fields
        });
    }

    /// A consumer has ended.
    pub(super) fn tell_consumer_deleted(&self, subscription: &Subscription) {
        let Some(open) = &self.open else { return };
        let by = By::User(open.user.name.clone());
        self.stomp.broker.tell("consumer.deleted", by, || self.which_consumer(subscription));
    }

    fn which_consumer(&self, subscription: &Subscription) -> Headers {
        let queue = subscription.queue.definition();
        vec![
            ("channel", self.stomp.broker.pid(self.id, 0)),
            ("consumer_tag", text(&subscription.tag)),
            ("queue", text(&queue.name)),
            ("vhost", text(&queue.vhost)),
        ]
    }
}
