//! Saying again who it is on an open connection: a secret that runs out is renewed so.

use super::handshake::{answer, login, proven};
use super::input::Next;
use super::open::Open;
use super::{Common, Connection, Stage};
use crate::broker::access::logins::LoginOutcome;
use crate::client::LoggingIn;
use crate::message::Millis;
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, Malformed, key};

/// A login that renews one, and the correlation of its request.
pub(super) struct Renewal {
    logging_in: LoggingIn,
    correlation: u32,
}

impl Open {
    /// Takes a login of the same user by the same mechanism; no other is taken.
    pub(super) fn renew(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<Next, Malformed> {
        let (mechanism, response) = (fields.text()?, fields.bytes()?);
        if mechanism != self.mechanism {
            answer(key::SASL_AUTHENTICATE, correlation, Code::CannotChangeMechanism, common);
            return Ok(Next::HangUp(format!(
                "logged in again by {mechanism}, and by {} before",
                self.mechanism
            )));
        }
        match proven(mechanism, response, common) {
            Some(Ok((name, proof))) => {
                let logging_in = LoggingIn::new(login(name, proof, common), mechanism);
                self.renewal = Some(Box::new(Renewal { logging_in, correlation }));
                Ok(self.try_renewal(common, common.turn.now))
            }
            Some(Err(_)) | None => {
                answer(key::SASL_AUTHENTICATE, correlation, Code::SaslError, common);
                Ok(Next::HangUp("a login could not be read".to_owned()))
            }
        }
    }

    fn try_renewal(&mut self, common: &mut Common, now: Millis) -> Next {
        let Some(renewal) = &mut self.renewal else { return Next::GoOn };
        match renewal.logging_in.attempt(&common.protocol.broker, &common.outbox, now) {
            Some(outcome) => self.conclude_renewal(outcome, common),
            None => Next::GoOn,
        }
    }

    fn conclude_renewal(&mut self, outcome: LoginOutcome, common: &mut Common) -> Next {
        let Some(mut renewal) = self.renewal.take() else { return Next::GoOn };
        let (code, next) = match outcome {
            LoginOutcome::In(user) if user.name != self.user.name => {
                let reason = format!("logged in again as user '{}'", user.name);
                (Code::CannotChangeUser, Next::HangUp(reason))
            }
            LoginOutcome::In(user) => {
                self.user = user;
                (Code::Ok, Next::GoOn)
            }
            LoginOutcome::Wait(place) => {
                renewal.logging_in.wait(place);
                self.renewal = Some(renewal);
                return Next::GoOn;
            }
            LoginOutcome::Refused(refusal) => {
                let reason = refusal.of(&self.user.name);
                common.tell_login(&self.user.name, &self.mechanism, Some(&reason));
                (Code::AuthenticationFailure, Next::HangUp(reason))
            }
            LoginOutcome::TooMany => {
                let reason =
                    "a login was not looked at, since too many wait already after others have failed";
                (Code::AuthenticationFailure, Next::HangUp(reason.to_owned()))
            }
        };
        answer(key::SASL_AUTHENTICATE, renewal.correlation, code, common);
        next
    }

    /// When a login that waits is looked at.
    pub(super) fn renewal_at(&self) -> Option<Millis> {
        self.renewal.as_ref()?.logging_in.waits_until()
    }
}

impl Connection {
    /// Looks whether what came of a renewed login is known, or is due.
    pub(super) fn look_at_renewal(&mut self, now: Millis) {
        let Connection { common, stage: Stage::Open(open), .. } = self else { return };
        let is_due = open.renewal_at().is_some_and(|at| at <= now);
        let next = if is_due {
            open.try_renewal(common, now)
        } else {
            match open.renewal.as_mut().and_then(|renewal| renewal.logging_in.take_outcome()) {
                Some(outcome) => open.conclude_renewal(outcome, common),
                None => return,
            }
        };
        self.take_next(next, now);
    }
}
