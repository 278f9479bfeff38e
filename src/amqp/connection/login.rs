//! Logging in after start-ok.

use super::{Connection, Stage};
use crate::broker::access::logins::{Login, LoginOutcome, Proof};
use crate::client::LoggingIn;
use crate::message::Millis;

impl Connection {
    /// Begins to log in.
    pub(super) fn log_in(&mut self, name: String, proof: Proof, mechanism: &str, now: Millis) {
        let login = Login {
            protocol: "amqp091",
            name,
            proof,
            address: self.peer.address.host.clone(),
            is_loopback: self.peer.is_loopback,
            has_waited: false,
        };
        self.logging_in = Some(Box::new(LoggingIn::new(login, mechanism)));
        self.stage = Stage::LoggingIn;
        self.try_login(now);
    }

    /// Has the login looked at.
    pub(super) fn try_login(&mut self, now: Millis) {
        let Some(logging_in) = &mut self.logging_in else { return };
        if let Some(outcome) = logging_in.attempt(&self.amqp.broker, &self.outbox, now) {
            self.conclude_login(outcome, now);
        }
    }

    /// Looks whether an outcome has come from elsewhere.
    pub(super) fn take_login_outcome(&mut self, now: Millis) {
        let outcome = self.logging_in.as_mut().and_then(|logging_in| logging_in.take_outcome());
        if let Some(outcome) = outcome
            && self.stage == Stage::LoggingIn
        {
            self.conclude_login(outcome, now);
        }
    }

    fn conclude_login(&mut self, outcome: LoginOutcome, now: Millis) {
        let Some(mut logging_in) = self.logging_in.take() else { return };
        match outcome {
            LoginOutcome::In(user) => self.tune(user, &logging_in.mechanism),
            LoginOutcome::Refused(refusal) => {
                self.refuse_login(&logging_in.login.name, &logging_in.mechanism, refusal, now);
            }
            LoginOutcome::Wait(place) => {
                tracing::debug!("connection {} ({}): the login waits", self.id, self.peer.name);
                logging_in.wait(place);
                self.logging_in = Some(logging_in);
            }
            LoginOutcome::TooMany => {
                let reason =
                    "the login was not looked at, since too many wait already after others have failed";
                self.log_login_refused(&logging_in.login.name, &logging_in.mechanism, reason);
                self.stage = Stage::Closed;
            }
        }
    }
}
