//! From the protocol header to connection.open-ok (0-9-1 section 2.2.4), and the other methods of channel 0.

use super::{CAPABILITIES, Connection, End, Open, Stage};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::{self, Frame, put_method, put_raw_method};
use crate::amqp::method::{self, Method};
use crate::broker::access::logins::Proof;
use crate::broker::access::permissions::Grants;
use crate::broker::access::users::{LoginRefusal, User};
use crate::broker::observe::connections::CertificateFacts;
use crate::client::{amqplain, plain};
use crate::message::{FieldTable, Millis, Value};
use amq_protocol::protocol::connection::AMQPMethod::{
    Close, CloseOk, Open as OpenMethod, OpenOk, StartOk, Tune, TuneOk, UpdateSecret, UpdateSecretOk,
};
use amq_protocol::protocol::{AMQPClass, connection};
use bytes::{Buf, BytesMut};
use std::sync::Arc;

/// The protocol header of 0-9-1 (section 4.2.2).
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// That of 0-9, which is taken for 0-9-1.
const PROTOCOL_HEADER_0_9: &[u8; 8] = b"AMQP\x01\x01\x00\x09";

/// The least that a client may ask for (0-9-1 section 1.4.2.6).
const FRAME_MAX_MIN: u32 = 4096;

/// How long a client whose login failed waits for the end, without the capability authentication_failure_close: as in RabbitMQ, against
/// guessing.
const REFUSED_DELAY_MS: u64 = 3000;

/// The server property `platform`. It begins as RabbitMQ's does, since libraries that take the product for RabbitMQ look at
/// that too.
const PLATFORM: &str = "Erlang/OTP compatible, in Rust";

impl Connection {
    /// Takes the protocol header. Anything but ours is answered with ours, and the end (0-9-1 section 2.2.4).
    pub(super) fn handle_protocol_header(&mut self, input: &mut BytesMut) {
        let Some(header) = input.first_chunk::<8>() else {
            // A client that starts differently need not finish.
            if PROTOCOL_HEADER.starts_with(&input[..input.len().min(4)]) {
                return;
            }
            return self.refuse_protocol(input);
        };
        if header != PROTOCOL_HEADER && header != PROTOCOL_HEADER_0_9 {
            return self.refuse_protocol(input);
        }
        input.advance(8);
        self.stage = Stage::Starting;
        self.send_start();
    }

    fn refuse_protocol(&mut self, input: &mut BytesMut) {
        let hint = match &input[..] {
            [0x16, 0x03, ..] => ": it looks like TLS on the port for plain connections",
            [b'G', b'E', b'T', b' ', ..] => ": it looks like HTTP",
            [b'P', b'R', b'O', b'X', b'Y', b' ', ..] | [b'\r', b'\n', b'\r', b'\n', 0, ..] => {
                ": it looks like a header of the PROXY protocol, which is taken where the listener's proxy_protocol is set, and \
                 from its proxy_networks alone"
            }
            _ => "",
        };
        self.log_end(End::Faulty, &format!("this is not AMQP 0-9-1{hint}"));
        self.out.put(PROTOCOL_HEADER);
        self.stage = Stage::Closed;
        input.clear();
    }

    fn send_start(&mut self) {
        let settings = &self.amqp.settings;
        let capabilities = [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ];
        let capabilities: FieldTable =
            capabilities.into_iter().map(|name| (name, Value::Bool(true))).collect();
        let leveret_version = env!("CARGO_PKG_VERSION");
        let properties: FieldTable = [
            ("capabilities", Value::Table(capabilities)),
            ("cluster_name", Value::from(settings.cluster_name.as_str())),
            ("copyright", Value::from("Copyright the authors of Leveret")),
            ("information", Value::from("Leveret, a message broker. Licensed under the Apache License 2.0.")),
            ("platform", Value::from(PLATFORM)),
            ("product", Value::from(settings.product.as_str())),
            ("version", Value::from(settings.version.as_str())),
            ("leveret_version", Value::from(leveret_version)),
        ]
        .into_iter()
        .collect();
        let mut table = Vec::new();
        properties.encode(&mut table);
        let mut arguments = vec![0, 9];
        let mechanisms: &[u8] =
            if self.certificate().is_some() { b"PLAIN AMQPLAIN EXTERNAL" } else { b"PLAIN AMQPLAIN" };
        for text in [&table[..], mechanisms, b"en_US"] {
            arguments.extend_from_slice(&u32::try_from(text.len()).expect("these are short").to_be_bytes());
            arguments.extend_from_slice(text);
        }
        put_raw_method(&mut self.out, 0, (10, 10), [&arguments]);
    }

    /// Takes a frame of channel 0.
    pub(super) fn handle_connection_frame(
        &mut self,
        frame: &Frame<'_>,
        now: Millis,
    ) -> Result<(), AmqpError> {
        if frame.kind != frame::METHOD {
            let text = "content frame on channel 0";
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text).without_method());
        }
        let ids = method::ids(frame.payload);
        let depth_max = self.amqp.settings.content.field_table_depth_max;
        let result = method::decode(frame.payload, depth_max)
            .map_err(|fault| fault.error(frame.payload))
            .and_then(|method| self.handle_connection_method(method, now));
        result.map_err(|error| AmqpError { method: error.method.or(Some(ids)), ..error }.hard())
    }

    fn handle_connection_method(&mut self, method: Method, now: Millis) -> Result<(), AmqpError> {
        let AMQPClass::Connection(class) = method.class else { return Err(self.out_of_turn()) };
        match (self.stage, class) {
            (Stage::Starting, StartOk(start_ok)) => self.start_ok(&start_ok, method.table, now),
            (Stage::Tuning, TuneOk(tune_ok)) => self.tune_ok(&tune_ok, now),
            (Stage::Opening, OpenMethod(open)) => self.open(open.virtual_host.as_str()),
            (Stage::Running, UpdateSecret(_)) => {
                // Users kept here have no secret that runs out, so a new one is as good as the old.
                self.put(UpdateSecretOk(connection::UpdateSecretOk {}));
                Ok(())
            }
            (Stage::Running | Stage::Opening, Close(close)) => {
                let reason = format!("closed by the client: {} {}", close.reply_code, close.reply_text);
                self.log_end(End::Orderly, &reason);
                // Exclusive queues are gone before the client hears that its connection is.
                self.release();
                self.put(CloseOk(connection::CloseOk {}));
                self.stage = Stage::Closing { until: now + self.close_patience_ms() };
                Ok(())
            }
            _ => Err(self.out_of_turn()),
        }
    }

    fn out_of_turn(&self) -> AmqpError {
        let text = format!("unexpected method in connection state {}", self.stage.name());
        AmqpError::new(ReplyCode::ChannelError, text)
    }

    pub(super) fn put(&mut self, method: connection::AMQPMethod) {
        put_method(&mut self.out, 0, AMQPClass::Connection(method));
    }

    fn start_ok(
        &mut self,
        start_ok: &connection::StartOk,
        client_properties: FieldTable,
        now: Millis,
    ) -> Result<(), AmqpError> {
        if let Some(Value::Table(capabilities)) = client_properties.field("capabilities") {
            self.client_can =
                CAPABILITIES.map(|capability| capabilities.field(capability) == Some(&Value::Bool(true)));
        }
        self.client_properties = client_properties.into();
        let mechanism = start_ok.mechanism.as_str();
        let response = start_ok.response.as_bytes();
        let (name, password) = match (mechanism, self.certificate()) {
            ("PLAIN", _) => plain(response).map_err(|expected| malformed_response(mechanism, expected)),
            ("AMQPLAIN", _) => amqplain(response).map_err(|expected| malformed_response(mechanism, expected)),
            ("EXTERNAL", Some(certificate)) => {
                let login = certificate.login.clone();
                self.log_in_by_certificate(login, now);
                return Ok(());
            }
            (other, _) => {
                let text = format!("unknown authentication mechanism '{other}'");
                return Err(AmqpError::new(ReplyCode::CommandInvalid, text));
            }
        }?;
        self.log_in(name, Proof::Password(password), mechanism, now);
        Ok(())
    }

    /// The client's certificate, if it has shown one.
    fn certificate(&self) -> Option<&CertificateFacts> {
        self.peer.tls.as_ref()?.peer_certificate.as_ref()
    }

    /// SASL EXTERNAL: TLS has checked who it is.
    fn log_in_by_certificate(&mut self, login: Option<String>, now: Millis) {
        // No user has an empty name, so that such a login fails, and counts, like all others.
        self.log_in(login.unwrap_or_default(), Proof::Checked, "EXTERNAL", now);
    }

    pub(super) fn tune(&mut self, user: Arc<User>, mechanism: &str) {
        self.tell_login(&user.name, mechanism, None);
        self.user = Some(user);
        self.newcomer = None;
        self.auth_mechanism = mechanism.to_owned();
        let settings = &self.amqp.settings;
        let tune = connection::Tune {
            channel_max: settings.channel_max,
            frame_max: settings.frame_max,
            heartbeat: settings.heartbeat_s,
        };
        self.put(Tune(tune));
        self.stage = Stage::Tuning;
    }

    /// A client with that capability gets connection.close; the others just wait for the end.
    pub(super) fn refuse_login(&mut self, name: &str, mechanism: &str, refusal: LoginRefusal, now: Millis) {
        self.waiting = self.amqp.broker.logins().hold(&self.peer.address.host, now + REFUSED_DELAY_MS);
        let reason = match (mechanism, name) {
            ("EXTERNAL", "") => {
                "the certificate has no name of the kind that tls.login_from asks for".to_owned()
            }
            _ => refusal.of(name),
        };
        let unanswered = match self.waiting {
            Some(_) => "",
            None => "; not answered, since too many logins wait already",
        };
        self.log_login_refused(name, mechanism, &format!("{reason}{unanswered}"));
        self.tell_login(name, mechanism, Some(&reason));
        if self.waiting.is_none() {
            self.stage = Stage::Closed;
            return;
        }
        if self.client_can("authentication_failure_close") {
            let text = format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            );
            self.refusal = Some(AmqpError::new(ReplyCode::AccessRefused, text).hard().without_method());
            self.end_refused(now);
        } else {
            self.stage = Stage::Refused { until: now + REFUSED_DELAY_MS };
        }
    }

    /// Sends a client that its login failed, and gives it a moment to read that; without a text, it is the end.
    pub(super) fn end_refused(&mut self, now: Millis) {
        match self.refusal.take() {
            Some(error) => {
                self.put_close(&error);
                self.stage = Stage::Refused { until: now + REFUSED_DELAY_MS };
            }
            None => {
                self.waiting = None;
                self.stage = Stage::Closed;
            }
        }
    }

    /// Whether the client said that it has a capability.
    pub(super) fn client_can(&self, capability: &str) -> bool {
        CAPABILITIES.iter().zip(self.client_can).any(|(name, can)| can && *name == capability)
    }

    fn tune_ok(&mut self, tune_ok: &connection::TuneOk, now: Millis) -> Result<(), AmqpError> {
        let settings = self.amqp.settings.clone();
        if tune_ok.frame_max != 0 && tune_ok.frame_max < FRAME_MAX_MIN {
            let text = format!(
                "negotiated frame_max = {} is lower than the minimum allowed value ({FRAME_MAX_MIN})",
                tune_ok.frame_max
            );
            return Err(AmqpError::new(ReplyCode::NotAllowed, text));
        }
        check_tuned("frame_max", tune_ok.frame_max, settings.frame_max)?;
        check_tuned("channel_max", tune_ok.channel_max.into(), settings.channel_max.into())?;
        self.frame_max = match tune_ok.frame_max {
            0 => settings.frame_max as usize,
            frame_max => frame_max as usize,
        };
        self.channel_max = tune_ok.channel_max;
        self.heartbeat.start(tune_ok.heartbeat, now);
        self.stage = Stage::Opening;
        Ok(())
    }

    fn open(&mut self, name: &str) -> Result<(), AmqpError> {
        let user = self.user.clone().expect("who opens has logged in");
        let Some(vhost) = self.amqp.broker.vhost(name) else {
            return Err(AmqpError::new(ReplyCode::NotAllowed, format!("vhost {name} not found")));
        };
        let live = self.enter(&user, &vhost)?;
        self.answers.enter_progress_in(live.clone());
        let grants = Grants::new(self.amqp.broker.permissions(), &user.name, vhost.name());
        self.log_opened(&user.name, name);
        self.open = Some(Open { vhost, user, grants, live });
        self.tell_opened();
        self.put(OpenOk(connection::OpenOk {}));
        self.stage = Stage::Running;
        Ok(())
    }
}

/// A tuned value may not be above the server's; 0 is no limit, and so above every other.
fn check_tuned(name: &str, asked: u32, max: u32) -> Result<(), AmqpError> {
    if max == 0 || (asked != 0 && asked <= max) {
        return Ok(());
    }
    let no_limit = if asked == 0 && name == "channel_max" { " (no limit)" } else { "" };
    let text =
        format!("negotiated {name} = {asked}{no_limit} is higher than the maximum allowed value ({max})");
    Err(AmqpError::new(ReplyCode::NotAllowed, text))
}

fn malformed_response(mechanism: &str, expected: &str) -> AmqpError {
    AmqpError::new(ReplyCode::SyntaxError, format!("the {mechanism} response is not {expected}"))
}
