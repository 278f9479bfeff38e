//! A login on its way. The outcome may come later: who failed often waits before its password is looked at, and some passwords are
//! checked elsewhere since that takes long. A session reads nothing more meanwhile.

use crate::broker::Broker;
use crate::broker::access::logins::{Login, LoginOutcome, WaitingLogin};
use crate::broker::delivery::Outbox;
use crate::message::Millis;
use parking_lot::Mutex;
use std::sync::Arc;

/// A login that has begun.
pub(crate) struct LoggingIn {
    /// Who wants in.
    pub(crate) login: Login,
    /// How it proves who it is, as the management API calls it.
    pub(crate) mechanism: String,
    /// What came of it, from elsewhere.
    outcome: Arc<Mutex<Option<LoginOutcome>>>,
    /// Its place while it waits.
    place: Option<WaitingLogin>,
}

impl LoggingIn {
    pub(crate) fn new(login: Login, mechanism: &str) -> LoggingIn {
        LoggingIn { login, mechanism: mechanism.to_owned(), outcome: Arc::default(), place: None }
    }

    /// Until when it waits.
    pub(crate) fn waits_until(&self) -> Option<Millis> {
        self.place.as_ref().map(|place| place.until)
    }

    /// It has its place among those that wait.
    pub(crate) fn wait(&mut self, place: WaitingLogin) {
        self.login.has_waited = true;
        self.place = Some(place);
    }

    /// Has the login looked at. What comes of it is said at once or later; then `outbox` is woken, and [`LoggingIn::take_outcome`] has it.
    pub(crate) fn attempt(
        &mut self,
        broker: &Arc<Broker>,
        outbox: &Arc<Outbox>,
        now: Millis,
    ) -> Option<LoginOutcome> {
        self.place = None;
        let (outcome, outbox) = (self.outcome.clone(), outbox.clone());
        let later = move |came| {
            *outcome.lock() = Some(came);
            outbox.wake();
        };
        broker.log_in(self.login.clone(), now, later).or_else(|| self.take_outcome())
    }

    /// What has come of it, if that is known.
    pub(crate) fn take_outcome(&mut self) -> Option<LoginOutcome> {
        self.outcome.lock().take()
    }
}
