//! Logging in after start-ok. The outcome may come later: who failed often waits before its password is looked at, and some
//! passwords are checked elsewhere since that takes long. Nothing more is read meanwhile.

use super::{Connection, Stage};
use crate::broker::access::logins::{Login, LoginOutcome, Proof, WaitingLogin};
use crate::message::Millis;
use parking_lot::Mutex;
use std::sync::Arc;

/// A login that has begun.
pub(super) struct LoggingIn {
    login: Login,
    mechanism: String,
    /// What came of it, from elsewhere.
    outcome: Arc<Mutex<Option<LoginOutcome>>>,
    /// Its place while it waits.
    place: Option<WaitingLogin>,
}

impl LoggingIn {
    /// Until when it waits.
    pub(super) fn waits_until(&self) -> Option<Millis> {
        self.place.as_ref().map(|place| place.until)
    }
}

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
        let mechanism = mechanism.to_owned();
        self.logging_in =
            Some(Box::new(LoggingIn { login, mechanism, outcome: Arc::default(), place: None }));
        self.stage = Stage::LoggingIn;
        self.try_login(now);
    }

    /// Has the login looked at.
    pub(super) fn try_login(&mut self, now: Millis) {
        let Some(logging_in) = &mut self.logging_in else { return };
        logging_in.place = None;
        let (outcome, outbox) = (logging_in.outcome.clone(), self.outbox.clone());
        let later = move |came| {
            *outcome.lock() = Some(came);
            outbox.wake();
        };
        match self.amqp.broker.log_in(logging_in.login.clone(), now, later) {
            Some(outcome) => self.conclude_login(outcome, now),
            None => self.take_login_outcome(now),
        }
    }

    /// Looks whether an outcome has come from elsewhere.
    pub(super) fn take_login_outcome(&mut self, now: Millis) {
        let outcome = self.logging_in.as_ref().and_then(|logging_in| logging_in.outcome.lock().take());
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
                logging_in.login.has_waited = true;
                logging_in.place = Some(place);
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
