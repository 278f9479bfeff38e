//! From the first frame to an open vhost: properties, the login, tuning. Each step has its time.

use super::input::Next;
use super::open::Open;
use super::{Common, Connection, Stage};
use crate::broker::access::logins::{Login, LoginOutcome, Proof, WaitingLogin};
use crate::broker::access::users::{LoginRefusal, User};
use crate::client::{LoggingIn, amqplain, plain};
use crate::message::{FieldTable, Millis, Value};
use crate::stream_protocol::StreamSettings;
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, Frame, FrameWriter, Malformed, key};
use std::sync::Arc;

/// How long a client whose login failed waits for the answer: as in RabbitMQ, against guessing.
const REFUSED_DELAY_MS: u64 = 3000;

/// What the client is to do next.
enum Step {
    /// Say who it is.
    Authenticate,
    /// Wait for what comes of its login, which is answered with that correlation.
    LogIn(Box<LoggingIn>, u32),
    /// It was refused, and hears that a while later.
    Refused { answer: Vec<u8>, place: WaitingLogin },
    /// Take the frame size and the heartbeat, or smaller ones.
    Tune,
    /// Name its vhost.
    Open,
    /// It has: the connection is made of this.
    Done(Box<Open>),
}

/// A connection that is not open yet.
pub(super) struct Handshake {
    step: Step,
    /// Until when the client may take for the step.
    until: Millis,
    pub(super) client_properties: FieldTable,
    pub(super) user: Option<Arc<User>>,
    pub(super) mechanism: String,
    pub(super) frame_max: u32,
    pub(super) heartbeat_s: u16,
}

impl Handshake {
    pub(super) fn new(settings: &StreamSettings, now: Millis) -> Handshake {
        Handshake {
            step: Step::Authenticate,
            until: now + settings.login_timeout_ms,
            client_properties: FieldTable::default(),
            user: None,
            mechanism: String::new(),
            frame_max: settings.frame_max,
            heartbeat_s: settings.heartbeat_s,
        }
    }

    /// Whether nothing else is read: the login is being looked at, or was refused.
    pub(super) fn is_logging_in(&self) -> bool {
        matches!(self.step, Step::LogIn(..) | Step::Refused { .. })
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Millis {
        match &self.step {
            Step::Refused { place, .. } => place.until,
            Step::LogIn(logging_in, _) => {
                logging_in.waits_until().map_or(self.until, |at| at.min(self.until))
            }
            _ => self.until,
        }
    }

    /// Takes a frame.
    pub(super) fn handle(
        &mut self,
        frame: &Frame<'_>,
        mut fields: Fields<'_>,
        common: &mut Common,
        now: Millis,
    ) -> Result<Next, Malformed> {
        match (&self.step, frame.key) {
            (_, key::PEER_PROPERTIES) => self.peer_properties(fields, common)?,
            (_, key::SASL_HANDSHAKE) => offer_mechanisms(fields.u32()?, common),
            (Step::Authenticate, key::SASL_AUTHENTICATE) => {
                let correlation = fields.u32()?;
                return self.authenticate(correlation, fields, common, now);
            }
            (Step::Tune, key::TUNE | TUNE_RESPONSE) => {
                let (frame_max, heartbeat) = (fields.u32()?, fields.u32()?);
                self.frame_max = smaller(self.frame_max, frame_max);
                let heartbeat = u16::try_from(heartbeat).unwrap_or(u16::MAX);
                self.heartbeat_s = smaller(self.heartbeat_s.into(), heartbeat.into()) as u16;
                self.go_on_with(Step::Open, common, now);
            }
            (Step::Open, key::OPEN) => return self.open(fields, common),
            (_, key::CLOSE) => {
                let correlation = fields.u32()?;
                let code = fields.u16()?;
                return Ok(Next::AnswerClose(correlation, format!("{code} {}", fields.text()?)));
            }
            (_, key::HEARTBEAT) => {}
            (_, other) => {
                return Ok(Next::HangUp(format!(
                    "a frame with key {other:#06x} before the connection is open"
                )));
            }
        }
        Ok(Next::GoOn)
    }

    fn go_on_with(&mut self, step: Step, common: &Common, now: Millis) {
        self.step = step;
        self.until = now + common.protocol.settings.login_timeout_ms;
    }

    fn peer_properties(&mut self, mut fields: Fields<'_>, common: &mut Common) -> Result<(), Malformed> {
        let correlation = fields.u32()?;
        let given = fields.map()?;
        self.client_properties = given.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        let settings = &common.protocol.settings;
        let own = [
            ("cluster_name", &*settings.cluster_name),
            ("copyright", "Copyright the authors of Leveret"),
            ("information", "Leveret, a message broker. Licensed under the Apache License 2.0."),
            ("platform", "Erlang/OTP compatible, in Rust"),
            ("product", &*settings.product),
            ("version", &*settings.version),
            ("leveret_version", env!("CARGO_PKG_VERSION")),
        ];
        let mut answer = FrameWriter::response(key::PEER_PROPERTIES, correlation);
        answer.u16(Code::Ok.number()).map(own.into_iter()).put(&mut common.out);
        Ok(())
    }

    fn authenticate(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
        now: Millis,
    ) -> Result<Next, Malformed> {
        let mechanism = fields.text()?;
        let response = fields.bytes()?;
        let Some(proven) = proven(mechanism, response, common) else {
            answer(key::SASL_AUTHENTICATE, correlation, Code::MechanismNotSupported, common);
            return Ok(Next::HangUp(format!("unknown authentication mechanism '{mechanism}'")));
        };
        let (name, proof) = match proven {
            Ok(proven) => proven,
            Err(expected) => {
                answer(key::SASL_AUTHENTICATE, correlation, Code::SaslError, common);
                return Ok(Next::HangUp(format!("the {mechanism} response is not {expected}")));
            }
        };
        mechanism.clone_into(&mut self.mechanism);
        let logging_in = LoggingIn::new(login(name, proof, common), mechanism);
        self.go_on_with(Step::LogIn(Box::new(logging_in), correlation), common, now);
        Ok(self.try_login(common, now))
    }

    /// Has the login looked at.
    fn try_login(&mut self, common: &mut Common, now: Millis) -> Next {
        let Step::LogIn(logging_in, _) = &mut self.step else { return Next::GoOn };
        match logging_in.attempt(&common.protocol.broker, &common.outbox, now) {
            Some(outcome) => self.conclude_login(outcome, common, now),
            None => Next::GoOn,
        }
    }

    /// Looks whether an outcome has come from elsewhere.
    pub(super) fn take_login_outcome(&mut self, common: &mut Common, now: Millis) -> Next {
        let Step::LogIn(logging_in, _) = &mut self.step else { return Next::GoOn };
        match logging_in.take_outcome() {
            Some(outcome) => self.conclude_login(outcome, common, now),
            None => Next::GoOn,
        }
    }

    fn conclude_login(&mut self, outcome: LoginOutcome, common: &mut Common, now: Millis) -> Next {
        let Step::LogIn(logging_in, correlation) = &mut self.step else { return Next::GoOn };
        let correlation = *correlation;
        match outcome {
            LoginOutcome::In(user) => {
                common.tell_login(&user.name, &self.mechanism, None);
                self.user = Some(user);
                answer(key::SASL_AUTHENTICATE, correlation, Code::Ok, common);
                let mut tune = FrameWriter::new(key::TUNE, 1);
                tune.u32(self.frame_max).u32(self.heartbeat_s.into()).put(&mut common.out);
                self.go_on_with(Step::Tune, common, now);
                Next::GoOn
            }
            LoginOutcome::Refused(refusal) => {
                let name = logging_in.login.name.clone();
                self.refuse_login(&name, refusal, correlation, common, now)
            }
            LoginOutcome::Wait(place) => {
                tracing::debug!("connection {} ({}): the login waits", common.id, common.peer.name);
                logging_in.wait(place);
                Next::GoOn
            }
            LoginOutcome::TooMany => Next::HangUp(
                "the login was not looked at, since too many wait already after others have failed"
                    .to_owned(),
            ),
        }
    }

    fn refuse_login(
        &mut self,
        name: &str,
        refusal: LoginRefusal,
        correlation: u32,
        common: &mut Common,
        now: Millis,
    ) -> Next {
        let reason = refusal.of(name);
        common.log_login_refused(name, &self.mechanism, &reason);
        common.tell_login(name, &self.mechanism, Some(&reason));
        let code = match refusal {
            LoginRefusal::LoopbackOnly => Code::AuthenticationFailureLoopback,
            _ => Code::AuthenticationFailure,
        };
        let mut answer = FrameWriter::response(key::SASL_AUTHENTICATE, correlation);
        let answer = answer.u16(code.number()).finish();
        let logins = common.protocol.broker.logins();
        match logins.hold(&common.peer.address.host, now + REFUSED_DELAY_MS) {
            Some(place) => {
                self.step = Step::Refused { answer, place };
                Next::GoOn
            }
            None => Next::HangUp(reason),
        }
    }

    /// Opens the vhost.
    fn open(&mut self, mut fields: Fields<'_>, common: &mut Common) -> Result<Next, Malformed> {
        let correlation = fields.u32()?;
        let name = fields.text()?;
        let Some(user) = self.user.clone() else {
            return Ok(Next::HangUp("no user has logged in".to_owned()));
        };
        match Open::enter(self, &user, name, common) {
            Ok(open) => {
                let (host, port) = common.advertised();
                let port = port.to_string();
                let own = [("advertised_host", &*host), ("advertised_port", &*port)];
                let mut answer = FrameWriter::response(key::OPEN, correlation);
                answer.u16(Code::Ok.number()).map(own.into_iter()).put(&mut common.out);
                self.step = Step::Done(Box::new(open));
                Ok(Next::GoOn)
            }
            Err(reason) => {
                answer(key::OPEN, correlation, Code::VhostAccessFailure, common);
                Ok(Next::HangUp(reason))
            }
        }
    }

    /// Does what is due.
    fn check_deadline(&mut self, common: &mut Common, now: Millis) -> Next {
        if self.deadline() > now {
            return Next::GoOn;
        }
        match &mut self.step {
            Step::Refused { answer, .. } => {
                common.out.put(answer);
                Next::HangUp("the login was refused".to_owned())
            }
            Step::LogIn(..) if self.until > now => self.try_login(common, now),
            _ => {
                let patience_ms = common.protocol.settings.login_timeout_ms;
                Next::HangUp(format!("not open after {patience_ms} ms"))
            }
        }
    }
}

/// Tune as a response, which some clients send.
const TUNE_RESPONSE: u16 = key::TUNE | key::RESPONSE;

/// The smaller of two limits, where 0 is none.
fn smaller(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        _ => one.min(other),
    }
}

/// Answers a request with a code alone.
pub(super) fn answer(key: u16, correlation: u32, code: Code, common: &mut Common) {
    FrameWriter::response(key, correlation).u16(code.number()).put(&mut common.out);
}

/// Says by which mechanisms a client may log in.
pub(super) fn offer_mechanisms(correlation: u32, common: &mut Common) {
    let mechanisms: &[&str] = match common.certificate_login() {
        Some(_) => &["PLAIN", "AMQPLAIN", "EXTERNAL"],
        None => &["PLAIN", "AMQPLAIN"],
    };
    let mut answer = FrameWriter::response(key::SASL_HANDSHAKE, correlation);
    answer.u16(Code::Ok.number()).count(mechanisms.len());
    for mechanism in mechanisms {
        answer.text(mechanism);
    }
    answer.put(&mut common.out);
}

/// Who says to be who, and how that is proven; `None` where the mechanism is not known, or what should have been said.
pub(super) fn proven(
    mechanism: &str,
    response: &[u8],
    common: &Common,
) -> Option<Result<(String, Proof), &'static str>> {
    let by_password = |(name, password)| (name, Proof::Password(password));
    match (mechanism, common.certificate_login()) {
        ("PLAIN", _) => Some(plain(response).map(by_password)),
        ("AMQPLAIN", _) => Some(amqplain(response).map(by_password)),
        // No user has an empty name, so that such a login fails, and counts, like all others.
        ("EXTERNAL", Some(login)) => Some(Ok((login.unwrap_or_default(), Proof::Checked))),
        _ => None,
    }
}

/// An attempt to log in over this connection.
pub(super) fn login(name: String, proof: Proof, common: &Common) -> Login {
    Login {
        protocol: "stream",
        name,
        proof,
        address: common.peer.address.host.clone(),
        is_loopback: common.peer.is_loopback,
        has_waited: false,
    }
}

impl Common {
    /// The name in the client's certificate, if it has shown one.
    fn certificate_login(&self) -> Option<Option<String>> {
        Some(self.peer.tls.as_ref()?.peer_certificate.as_ref()?.login.clone())
    }

    /// Where clients are to connect to for a stream.
    pub(super) fn advertised(&self) -> (String, u16) {
        let settings = &self.protocol.settings;
        let local = &self.peer.local_address;
        let host = settings.advertised_host.clone().unwrap_or_else(|| local.host.clone());
        (host, settings.advertised_port.unwrap_or(local.port))
    }
}

impl Connection {
    /// Looks whether what the handshake waited for has come.
    pub(super) fn look_at_handshake(&mut self, now: Millis) {
        let Stage::Handshake(handshake) = &mut self.stage else { return };
        let next = handshake.take_login_outcome(&mut self.common, now);
        self.take_next(next, now);
    }

    /// Does what is due of the handshake.
    pub(super) fn check_handshake(&mut self, now: Millis) {
        let Stage::Handshake(handshake) = &mut self.stage else { return };
        let next = handshake.check_deadline(&mut self.common, now);
        self.take_next(next, now);
    }

    /// The handshake may be done.
    pub(super) fn go_on_from_handshake(&mut self, now: Millis) {
        let Stage::Handshake(handshake) = &mut self.stage else { return };
        if handshake.user.is_some() {
            self.newcomer = None;
        }
        if !matches!(handshake.step, Step::Done(_)) {
            return;
        }
        if let Step::Done(open) = std::mem::replace(&mut handshake.step, Step::Open) {
            self.common.heartbeat.start(handshake.heartbeat_s, now);
            self.stage = Stage::Open(open);
        }
    }
}
