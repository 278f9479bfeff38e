//! The events of a connection: who logs in, what opens and closes. The fields are those of RabbitMQ's event exchange.

use super::{Connection, Open};
use crate::broker::observe::connections::{CertificateFacts, ConnectionFacts, TlsFacts};
use crate::broker::observe::events::{By, Headers, number, text};
use crate::message::{ChannelNumber, Value};
use crate::rabbit::term;
use core::net::IpAddr;

impl Connection {
    /// A login has succeeded, or failed with that `error`.
    pub(super) fn tell_login(&self, user: &str, mechanism: &str, error: Option<&str>) {
        let key = if error.is_some() { "user.authentication.failure" } else { "user.authentication.success" };
        self.amqp.broker.tell(key, By::Unsaid, || {
            let mut fields = vec![
                ("auth_mechanism", text(mechanism)),
                ("connection_name", text(&self.peer.name)),
                ("connection_type", text("network")),
                ("host", address(&self.peer.local_address.host)),
                ("name", text(user)),
                ("peer_host", address(&self.peer.address.host)),
                ("peer_port", number(self.peer.address.port)),
                ("protocol", text("{0,9,1}")),
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
        self.amqp.broker.tell("connection.created", By::User(facts.user.clone()), || {
            let mut fields = self.which(facts);
            fields.extend(what_is_agreed(facts));
            fields
        });
    }

    /// The connection has ended.
    pub(super) fn tell_closed(&self, facts: &ConnectionFacts) {
        self.amqp.broker.tell("connection.closed", By::Unsaid, || self.which(facts));
    }

    fn which(&self, facts: &ConnectionFacts) -> Headers {
        let properties = facts.client_properties.decode();
        let mut fields = vec![
            ("client_properties", term::arguments(&properties)),
            ("name", text(&facts.name)),
            ("node", text(self.amqp.broker.node_name())),
            ("pid", self.amqp.broker.pid(self.id, 0)),
        ];
        let given = properties.field("connection_name").filter(|name| name.as_str().is_some());
        fields.extend(given.map(|name| ("user_provided_name", name.clone())));
        fields
    }

    /// A channel has been opened.
    pub(super) fn tell_channel_opened(&self, channel: ChannelNumber) {
        let Some(Open { live, .. }) = &self.open else { return };
        let (facts, broker) = (live.facts(), &self.amqp.broker);
        broker.tell("channel.created", By::User(facts.user.clone()), || {
            vec![
                ("connection", broker.pid(self.id, 0)),
                ("name", text(&format!("{} ({channel})", facts.name))),
                ("number", number(channel)),
                ("pid", broker.pid(self.id, channel)),
                ("user", text(&facts.user)),
                ("vhost", text(&facts.vhost)),
            ]
        });
    }

    /// A channel has been closed, with its consumers.
    pub(super) fn tell_channel_closed(&self, channel: ChannelNumber) {
        let Some(Open { live, .. }) = &self.open else { return };
        let broker = &self.amqp.broker;
        broker.tell("channel.closed", By::User(live.facts().user.clone()), || {
            vec![("consumer_count", number(0)), ("pid", broker.pid(self.id, channel))]
        });
    }
}

fn what_is_agreed(facts: &ConnectionFacts) -> Headers {
    let tls = facts.tls.as_ref();
    let of_tls = |field: fn(&TlsFacts) -> &str| text(tls.map(field).unwrap_or_default());
    let certificate = tls.and_then(|tls| tls.peer_certificate.as_ref());
    let of_certificate =
        |field: fn(&CertificateFacts) -> &str| text(certificate.map(field).unwrap_or_default());
    vec![
        ("auth_mechanism", text(&facts.auth_mechanism)),
        ("channel_max", number(facts.channel_max)),
        ("connected_at", Value::I64(facts.connected_at.cast_signed())),
        ("frame_max", number(facts.frame_max)),
        ("host", address(&facts.local.host)),
        ("peer_cert_issuer", of_certificate(|certificate| &certificate.issuer)),
        ("peer_cert_subject", of_certificate(|certificate| &certificate.subject)),
        ("peer_cert_validity", of_certificate(|certificate| &certificate.validity)),
        ("peer_host", address(&facts.peer.host)),
        ("peer_port", number(facts.peer.port)),
        ("port", number(facts.local.port)),
        ("protocol", text("{0,9,1}")),
        ("ssl", Value::Bool(tls.is_some())),
        ("ssl_cipher", of_tls(|tls| &tls.cipher)),
        ("ssl_hash", of_tls(|tls| &tls.hash)),
        ("ssl_key_exchange", of_tls(|tls| &tls.key_exchange)),
        ("ssl_protocol", of_tls(|tls| &tls.protocol)),
        ("timeout", number(facts.heartbeat_s)),
        ("type", text("network")),
        ("user", text(&facts.user)),
        ("vhost", text(&facts.vhost)),
    ]
}

/// An address as Erlang prints it: `{127,0,0,1}`.
fn address(host: &str) -> Value {
    let parts: Vec<String> = match host.parse() {
        Ok(IpAddr::V4(address)) => address.octets().iter().map(u8::to_string).collect(),
        Ok(IpAddr::V6(address)) => address.segments().iter().map(u16::to_string).collect(),
        Err(_) => return text(host),
    };
    text(&format!("{{{}}}", parts.join(",")))
}
