//! Logging in: the check itself, counts of attempts, and how long guesses have to wait.
//!
//! Checking a password may take long on purpose ([`HashingAlgorithm::Argon2id`]), so it is done elsewhere then, and the outcome
//! comes later. What was right once is remembered as a digest in memory, so that only the first login of a user takes long.

mod throttle;

use super::passwords::{HashingAlgorithm, PasswordHash};
use super::users::{LoginRefusal, User};
use crate::broker::Broker;
use crate::message::Millis;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use throttle::{Admission, REMEMBERED_MAX, Throttle};

pub use throttle::WaitingLogin;

/// No user has a longer name, so it is not remembered.
const NAME_BYTES_MAX: usize = 255;

/// An attempt to log in.
#[derive(Clone)]
pub struct Login {
    /// The protocol, as RabbitMQ's metrics name it: `amqp091`, `http`.
    pub protocol: &'static str,
    /// The name that the client gave.
    pub name: String,
    /// The proof of being that user.
    pub proof: Proof,
    /// IP address that the client connects from, without its port.
    pub address: String,
    /// Whether that is this machine.
    pub is_loopback: bool,
    /// Whether the attempt has waited as long as [`LoginOutcome::Wait`] said.
    pub has_waited: bool,
}

/// The proof of being a user.
#[derive(Clone)]
pub enum Proof {
    /// The password.
    Password(Vec<u8>),
    /// Something that was checked already, such as a certificate.
    Checked,
}

/// What comes of a login.
#[derive(Debug)]
pub enum LoginOutcome {
    /// It is that user.
    In(Arc<User>),
    /// It may not, for that reason.
    Refused(LoginRefusal),
    /// It has to wait, and to be tried again then, with [`Login::has_waited`].
    Wait(WaitingLogin),
    /// It is not looked at, since too many wait already.
    TooMany,
}

/// Work that takes too long for an event loop.
pub type Work = Box<dyn FnOnce() + Send>;

/// Hands work that takes long to other threads; false when there is too much of it already.
pub type Workers = Box<dyn Fn(Work) -> bool + Send + Sync>;

/// How often it was tried to log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How many there were.
    pub all: u64,
    /// How many of them succeeded.
    pub succeeded: u64,
    /// How many of them failed.
    pub failed: u64,
}

/// Where attempts came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// IP address that the client connects from, without its port.
    pub address: String,
    /// The user's name, which need not exist.
    pub user: String,
    /// The protocol, as in [`Login::protocol`].
    pub protocol: &'static str,
}

/// Counts of logins, which begin at zero with each start, and what slows them down.
pub struct Logins {
    counts: Mutex<BTreeMap<&'static str, Attempts>>,
    tracks_sources: AtomicBool,
    sources: Mutex<BTreeMap<Source, Attempts>>,
    throttle: Throttle,
    workers: OnceLock<Workers>,
}

impl Logins {
    /// Without attempts yet. After `free` recent failures attempts wait, at most `waiting_max` at a time.
    pub(in crate::broker) fn new(waiting_max: u32, free: usize) -> Logins {
        Logins {
            counts: Mutex::default(),
            tracks_sources: AtomicBool::default(),
            sources: Mutex::default(),
            throttle: Throttle::new(waiting_max, free),
            workers: OnceLock::new(),
        }
    }

    /// Sets where passwords with slow hashes are checked; until then the calling thread does it. The first call counts.
    pub fn hand_work_to(&self, workers: Workers) {
        // A second one has nothing to add.
        let _ = self.workers.set(workers);
    }

    /// Does something that takes long, or has it done; false when there is too much to do already.
    fn work(&self, work: Work) -> bool {
        match self.workers.get() {
            Some(workers) => workers(work),
            None => {
                work();
                true
            }
        }
    }

    /// Sets whether attempts are also counted by address and user.
    pub fn track_sources(&self, tracks: bool) {
        self.tracks_sources.store(tracks, Ordering::Relaxed);
    }

    /// How often it was tried over each protocol.
    pub fn attempts(&self) -> Vec<(&'static str, Attempts)> {
        self.counts.lock().iter().map(|(protocol, attempts)| (*protocol, *attempts)).collect()
    }

    /// How often it was tried from where, if that is counted.
    pub fn sources(&self) -> Vec<(Source, Attempts)> {
        self.sources.lock().iter().map(|(source, attempts)| (source.clone(), *attempts)).collect()
    }

    /// Counts attempts from zero again.
    pub fn reset(&self) {
        self.counts.lock().clear();
    }

    /// Starts counting by source again.
    pub fn reset_sources(&self) {
        self.sources.lock().clear();
    }

    /// A place for a client whose login failed and that is kept waiting until then, unless all are taken.
    pub fn hold(&self, address: &str, until: Millis) -> Option<WaitingLogin> {
        self.throttle.hold(address, until)
    }

    fn count(&self, login: &Login, succeeded: bool) {
        let add = |attempts: &mut Attempts| {
            attempts.all += 1;
            *(if succeeded { &mut attempts.succeeded } else { &mut attempts.failed }) += 1;
        };
        add(self.counts.lock().entry(login.protocol).or_default());
        if self.tracks_sources.load(Ordering::Relaxed) && login.name.len() <= NAME_BYTES_MAX {
            let source =
                Source { address: login.address.clone(), user: login.name.clone(), protocol: login.protocol };
            let mut sources = self.sources.lock();
            if sources.len() < REMEMBERED_MAX || sources.contains_key(&source) {
                add(sources.entry(source).or_default());
            }
        }
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// Says for the audit that it was refused.
    fn tell_refused(&self, reason: &str) {
        let (user, address, protocol) = (&*self.name, &*self.address, self.protocol);
        tracing::warn!(target: "leveret::audit", user, address, protocol, reason, "login refused");
    }
}

impl Broker {
    /// Tries to log in, and counts it. `None` when the password is checked elsewhere: then `later` is called with what came of
    /// it. Otherwise it is dropped.
    pub fn log_in(
        self: &Arc<Self>,
        login: Login,
        now: Millis,
        later: impl FnOnce(LoginOutcome) + Send + 'static,
    ) -> Option<LoginOutcome> {
        let password = match &login.proof {
            Proof::Password(password) => password,
            Proof::Checked => {
                let user = self.users().get(&login.name).ok_or(LoginRefusal::Credentials);
                return Some(self.conclude(&login, user, now));
            }
        };
        if let Some(outcome) = self.hold_up(&login, now) {
            return Some(outcome);
        }
        if let Some(user) = self.users().authenticate_at_once(&login.name, password) {
            return Some(self.conclude(&login, user, now));
        }
        let broker = self.clone();
        let is_taken = self.logins().work(Box::new(move || later(broker.check(&login, now))));
        (!is_taken).then_some(LoginOutcome::TooMany)
    }

    /// What keeps an attempt from being looked at.
    fn hold_up(&self, login: &Login, now: Millis) -> Option<LoginOutcome> {
        if login.has_waited {
            return None;
        }
        match self.logins().throttle.admit(&login.address, &login.name, now) {
            Admission::Now => None,
            Admission::Wait(place) => Some(LoginOutcome::Wait(place)),
            Admission::TooMany => {
                self.logins().count(login, false);
                login.tell_refused("too many logins wait already");
                Some(LoginOutcome::TooMany)
            }
        }
    }

    /// Checks a password, however long that takes. The attempts before this one may have failed meanwhile.
    fn check(self: &Arc<Self>, login: &Login, now: Millis) -> LoginOutcome {
        if let Some(outcome) = self.hold_up(login, now) {
            return outcome;
        }
        let Proof::Password(password) = &login.proof else { return LoginOutcome::TooMany };
        let user = self.users().authenticate(&login.name, password);
        self.conclude(login, user, now)
    }

    /// Notes what came of an attempt.
    fn conclude(
        self: &Arc<Self>,
        login: &Login,
        user: Result<Arc<User>, LoginRefusal>,
        now: Millis,
    ) -> LoginOutcome {
        let user = user.and_then(|user| {
            self.users().check_origin(&user.name, login.is_loopback)?;
            Ok(user)
        });
        let logins = self.logins();
        logins.count(login, user.is_ok());
        match (user, &login.proof) {
            (Ok(user), Proof::Password(password)) => {
                logins.throttle.succeeded(&login.address, &login.name, now);
                self.take_over(&user, password);
                LoginOutcome::In(user)
            }
            (Ok(user), Proof::Checked) => LoginOutcome::In(user),
            (Err(refusal), proof) => {
                // A certificate can't be guessed.
                login.tell_refused(&refusal.of(&login.name));
                if matches!(proof, Proof::Password(_)) {
                    logins.throttle.failed(&login.address, &login.name, now);
                }
                LoginOutcome::Refused(refusal)
            }
        }
    }

    /// Keeps a password that was right as `access.password_hash` says, if that is the stronger way.
    fn take_over(self: &Arc<Self>, user: &Arc<User>, password: &[u8]) {
        let algorithm = self.users().password_hash();
        if user.password.algorithm() >= algorithm {
            return;
        }
        let (broker, user, password) = (self.clone(), user.clone(), password.to_vec());
        let is_taken = self.logins().work(Box::new(move || broker.hash_again(&user, &password, algorithm)));
        if !is_taken {
            tracing::debug!("a password is taken over at a later login, since too many are checked now");
        }
    }

    fn hash_again(&self, user: &User, password: &[u8], algorithm: HashingAlgorithm) {
        let is_as_it_was = |current: &User| current.password == user.password;
        if !self.users().get(&user.name).is_some_and(|current| is_as_it_was(&current)) {
            return;
        }
        let hash = PasswordHash::new(password, algorithm);
        match self.replace_password(user, hash) {
            Ok(()) => {
                tracing::info!("the password of user '{}' is kept as {} now", user.name, algorithm.name())
            }
            Err(error) => {
                tracing::warn!(
                    "the password of user '{}' could not be kept as {}: {error}",
                    user.name,
                    algorithm.name()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_protocol_and_by_source_where_asked() {
        let logins = Logins::new(1, 5);
        let login = Login {
            protocol: "amqp091",
            name: "u".to_owned(),
            proof: Proof::Password(b"p".to_vec()),
            address: "127.0.0.1".to_owned(),
            is_loopback: true,
            has_waited: false,
        };
        logins.count(&login, true);
        assert_eq!(logins.sources(), []);
        logins.track_sources(true);
        logins.count(&login, false);
        logins.count(&Login { name: "u".repeat(NAME_BYTES_MAX + 1), ..login.clone() }, false);
        assert_eq!(logins.attempts(), [("amqp091", Attempts { all: 3, succeeded: 1, failed: 2 })]);
        let source = Source { address: "127.0.0.1".to_owned(), user: "u".to_owned(), protocol: "amqp091" };
        assert_eq!(logins.sources(), [(source, Attempts { all: 1, succeeded: 0, failed: 1 })]);
        logins.reset();
        assert_eq!(logins.attempts(), []);
    }
}
