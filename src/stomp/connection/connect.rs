//! CONNECT: the version, who it is, and the vhost. Guessing is slowed down where all logins are, before they are looked at.

use super::{Connection, Open, Stage, Version};
use crate::broker::VirtualHost;
use crate::broker::access::logins::{Login, LoginOutcome, Proof, WaitingLogin};
use crate::broker::access::permissions::Grants;
use crate::broker::access::users::{LoginRefusal, User};
use crate::broker::observe::connections::ConnectionCounts;
use crate::message::Millis;
use crate::stomp::error::StompError;
use crate::stomp::frame::{Command, Frame, HeadWriter, Headers};
use crate::stomp::heartbeat::Heartbeat;
use parking_lot::Mutex;
use std::sync::Arc;

pub(super) const VERSIONS: &str = "1.0,1.1,1.2";

/// A login that has begun, and what CONNECT said beside it.
pub(super) struct Connecting {
    login: Login,
    /// How it proves who it is, as the management API calls it.
    mechanism: &'static str,
    vhost: String,
    heartbeat: Vec<u8>,
    receipt: Option<Vec<u8>>,
    /// Whether the client sent no CONNECT, and expects no CONNECTED.
    is_implicit: bool,
    /// What came of it, from elsewhere.
    outcome: Arc<Mutex<Option<LoginOutcome>>>,
    /// Its place while it waits.
    place: Option<WaitingLogin>,
}

impl Connecting {
    /// Until when it waits.
    pub(super) fn waits_until(&self) -> Option<Millis> {
        self.place.as_ref().map(|place| place.until)
    }
}

impl Connection {
    /// Takes the first frame.
    pub(super) fn handle_first(&mut self, frame: &Frame<'_>, now: Millis) -> Result<(), StompError> {
        match frame.command {
            Command::Connect => self.connect(&frame.headers, false, now),
            _ => Err(StompError::new("Illegal command", "You must log in using CONNECT first")),
        }
    }

    /// Logs in the default user, for a client that sends no CONNECT.
    pub(super) fn connect_implicitly(&mut self, now: Millis) -> Result<(), StompError> {
        self.connect(&Headers::default(), true, now)
    }

    fn connect(&mut self, headers: &Headers<'_>, is_implicit: bool, now: Millis) -> Result<(), StompError> {
        let versions = headers.get("accept-version").unwrap_or(b"1.0");
        let version = highest(versions).ok_or_else(|| {
            StompError::new("Version mismatch", format!("Supported versions are {VERSIONS}\n"))
        })?;
        self.version = version;
        // Looked at before the login, so that a client hears of it either way.
        let heartbeat = value(headers, "heart-beat", version).unwrap_or(b"0,0").to_vec();
        Heartbeat::agree(&heartbeat, now)?;
        let settings = self.stomp.settings.clone();
        let text =
            |name| value(headers, name, version).map(|text| String::from_utf8_lossy(text).into_owned());
        let certificate = self.peer.tls.as_ref().and_then(|tls| tls.peer_certificate.as_ref());
        let default = settings.default_login.clone();
        let (name, proof, mechanism) = match (text("login"), certificate, default) {
            (Some(name), _, default) => {
                let password = value(headers, "passcode", version).map(<[u8]>::to_vec);
                let password = password.or(default.map(|(_, password)| password.into_bytes()));
                (name, Proof::Password(password.unwrap_or_default()), "stomp_headers")
            }
            // No user has an empty name, so that such a login fails, and counts, like all others.
            (None, Some(certificate), _) => {
                (certificate.login.clone().unwrap_or_default(), Proof::Checked, "ssl")
            }
            (None, None, Some((name, password))) => (name, Proof::Password(password.into_bytes()), "config"),
            (None, None, None) => (String::new(), Proof::Password(Vec::new()), "stomp_headers"),
        };
        let login = Login {
            protocol: "stomp",
            name,
            proof,
            address: self.peer.address.host.clone(),
            is_loopback: self.peer.is_loopback,
            has_waited: false,
        };
        self.connecting = Some(Box::new(Connecting {
            login,
            mechanism,
            vhost: text("host").unwrap_or_else(|| settings.default_vhost.clone()),
            heartbeat,
            receipt: headers.get("receipt").map(<[u8]>::to_vec),
            is_implicit,
            outcome: Arc::default(),
            place: None,
        }));
        self.stage = Stage::LoggingIn;
        self.try_login(now);
        Ok(())
    }

    /// Has the login looked at.
    pub(super) fn try_login(&mut self, now: Millis) {
        let Some(connecting) = &mut self.connecting else { return };
        connecting.place = None;
        let (outcome, outbox) = (connecting.outcome.clone(), self.outbox.clone());
        let later = move |came| {
            *outcome.lock() = Some(came);
            outbox.wake();
        };
        match self.stomp.broker.log_in(connecting.login.clone(), now, later) {
            Some(outcome) => self.conclude_login(outcome, now),
            None => self.take_login_outcome(now),
        }
    }

    /// Looks whether an outcome has come from elsewhere.
    pub(super) fn take_login_outcome(&mut self, now: Millis) {
        let outcome = self.connecting.as_ref().and_then(|connecting| connecting.outcome.lock().take());
        if let Some(outcome) = outcome
            && self.stage == Stage::LoggingIn
        {
            self.conclude_login(outcome, now);
        }
    }

    fn conclude_login(&mut self, outcome: LoginOutcome, now: Millis) {
        let Some(mut connecting) = self.connecting.take() else { return };
        match outcome {
            LoginOutcome::In(user) => {
                self.tell_login(&user.name, connecting.mechanism, None);
                if let Err(error) = self.open(&user, *connecting, now) {
                    self.fail(error, now);
                }
            }
            LoginOutcome::Refused(refusal) => self.refuse_login(&connecting, refusal, now),
            LoginOutcome::Wait(place) => {
                tracing::debug!("connection {} ({}): the login waits", self.id, self.peer.name);
                connecting.login.has_waited = true;
                connecting.place = Some(place);
                self.connecting = Some(connecting);
            }
            LoginOutcome::TooMany => {
                let reason =
                    "the login was not looked at, since too many wait already after others have failed";
                self.log_login_refused(&connecting.login.name, connecting.mechanism, reason);
                self.stage = Stage::Closed;
            }
        }
    }

    fn refuse_login(&mut self, connecting: &Connecting, refusal: LoginRefusal, now: Millis) {
        let name = &*connecting.login.name;
        let reason = refusal.of(name);
        self.log_login_refused(name, connecting.mechanism, &reason);
        self.tell_login(name, connecting.mechanism, Some(&reason));
        let body = match refusal {
            LoginRefusal::LoopbackOnly => "non-loopback access denied".to_owned(),
            _ => format!("Access refused for user '{name}'"),
        };
        let error = StompError::new("Bad CONNECT", body);
        self.fail(StompError { receipt: connecting.receipt.clone(), ..error }, now);
    }

    /// Opens the vhost.
    fn open(&mut self, user: &Arc<User>, connecting: Connecting, now: Millis) -> Result<(), StompError> {
        let Connecting { mechanism, vhost: name, heartbeat, receipt, is_implicit, .. } = connecting;
        let with_receipt = |error: StompError| StompError { receipt: receipt.clone(), ..error };
        let denied =
            || with_receipt(StompError::new("Bad CONNECT", format!("Virtual host '{name}' access denied")));
        let vhost = self.stomp.broker.vhost(&name).ok_or_else(denied)?;
        if !self.stomp.broker.permissions().may_open(&user.name, vhost.name()) {
            return Err(denied());
        }
        self.heartbeat = Heartbeat::agree(&heartbeat, now).map_err(with_receipt)?;
        let live = self.enter(user, &vhost, mechanism).map_err(with_receipt)?;
        let grants = Grants::new(self.stomp.broker.permissions(), &user.name, vhost.name());
        self.newcomer = None;
        self.parser.logged_in();
        self.log_opened(&user.name, &name, mechanism);
        self.open = Some(Open { vhost, user: user.clone(), grants, live });
        self.tell_opened();
        self.stage = Stage::Running;
        if !is_implicit {
            self.put_connected();
        }
        if let Some(receipt) = receipt {
            self.receipts.ask(receipt);
        }
        Ok(())
    }

    fn put_connected(&mut self) {
        let settings = self.stomp.settings.clone();
        let (sends, wants) = (self.heartbeat.send_ms, self.heartbeat.receive_ms);
        let mut head = HeadWriter::new("CONNECTED", &mut self.head);
        if !settings.hide_server_info {
            // Escapes are not read in this frame.
            head.plain("server", settings.server.as_bytes());
        }
        head.plain("session", self.session.as_bytes());
        head.plain("heart-beat", format!("{sends},{wants}").as_bytes());
        head.plain("version", self.version.name().as_bytes());
        head.end();
        self.put_frame(b"");
    }

    /// What a limit says of one more connection to a vhost.
    pub(super) fn check_counts(
        &self,
        user: &User,
        vhost: &VirtualHost,
        counts: ConnectionCounts,
    ) -> Result<(), StompError> {
        let max = vhost.settings().limits.max_connections.and_then(|max| usize::try_from(max).ok());
        if max.is_some_and(|max| counts.of_vhost >= max) {
            let body = "Connection refused: vhost connection limit reached";
            return Err(StompError::new("Bad CONNECT", body));
        }
        let check = self.stomp.broker.check_connection(user, vhost, counts);
        check.map_err(|error| StompError::new("Bad CONNECT", error.to_string()))
    }
}

/// The value of a header, which a client of the first version may begin with blanks.
fn value<'a>(headers: &'a Headers<'_>, name: &str, version: Version) -> Option<&'a [u8]> {
    let value = headers.get(name)?;
    Some(if version == Version::V1_0 { value.trim_ascii_start() } else { value })
}

/// The highest version that both ends speak.
fn highest(versions: &[u8]) -> Option<Version> {
    let known = |name: &[u8]| {
        let all = [Version::V1_0, Version::V1_1, Version::V1_2];
        all.into_iter().find(|version| version.name().as_bytes() == name.trim_ascii())
    };
    versions.split(|byte| *byte == b',').filter_map(known).max()
}
