//! Logging in: who may, how often it was tried, and how long somebody who guesses has to wait.

use super::Broker;
use super::users::{LoginRefusal, User};
use crate::message::Millis;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Failures within this time count together.
const WINDOW_MS: u64 = 60_000;
/// So many failures from one address are answered at once.
const FREE_FAILURES: usize = 5;
/// How long the others are kept waiting: as long as RabbitMQ does.
const DELAY_MS: u64 = 3000;
/// Addresses, and sources of attempts, that are remembered; then the one that failed first is forgotten.
const REMEMBERED_MAX: usize = 4096;

/// Somebody who wants to log in.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// What it speaks, as RabbitMQ's metrics name it: `amqp091`, `http`.
    pub protocol: &'static str,
    /// The user's name.
    pub name: &'a str,
    /// How it proves to be that user.
    pub proof: Proof<'a>,
    /// Where it is.
    pub address: &'a str,
    /// Whether that is this machine.
    pub is_loopback: bool,
}

/// How somebody proves to be a user.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// By the password.
    Password(&'a [u8]),
    /// By something that was checked already, such as a certificate.
    Checked,
}

/// A login that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedLogin {
    /// Why, for the log.
    pub refusal: LoginRefusal,
    /// How long the answer should wait, in milliseconds: longer for who fails often.
    pub delay_ms: u64,
}

/// How often it was tried to log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// All in all.
    pub all: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
}

/// Where attempts came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The address.
    pub address: String,
    /// The user's name, which need not exist.
    pub user: String,
    /// What was spoken.
    pub protocol: &'static str,
}

/// Counts of logins. They begin at zero with each start.
#[derive(Debug, Default)]
pub struct Logins {
    counts: Mutex<BTreeMap<&'static str, Attempts>>,
    tracks_sources: AtomicBool,
    sources: Mutex<BTreeMap<Source, Attempts>>,
    failures: Mutex<Failures>,
    waiting: AtomicU32,
    waiting_max: u32,
}

/// When each address failed lately.
#[derive(Debug, Default)]
struct Failures {
    by_address: BTreeMap<String, VecDeque<Millis>>,
    /// The addresses by their last failure, which the oldest are forgotten by.
    by_time: BTreeSet<(Millis, String)>,
}

impl Failures {
    /// Notes a failure, and says how many there were lately.
    fn note(&mut self, address: &str, now: Millis) -> usize {
        let mut times = self.by_address.remove(address).unwrap_or_default();
        if let Some(last) = times.back() {
            self.by_time.remove(&(*last, address.to_owned()));
        }
        times.retain(|time| time + WINDOW_MS > now);
        if times.len() > FREE_FAILURES {
            times.pop_front();
        }
        times.push_back(now);
        let count = times.len();
        self.by_address.insert(address.to_owned(), times);
        self.by_time.insert((now, address.to_owned()));
        if self.by_address.len() > REMEMBERED_MAX
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.by_address.remove(&oldest);
        }
        count
    }
}

impl Logins {
    /// No logins yet. Of those that fail, `waiting_max` may wait for their answers at a time.
    pub(super) fn new(waiting_max: u32) -> Logins {
        Logins { waiting_max, ..Logins::default() }
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

    /// Starts counting again.
    pub fn reset(&self) {
        self.counts.lock().clear();
    }

    /// Starts counting by source again.
    pub fn reset_sources(&self) {
        self.sources.lock().clear();
    }

    /// A place among those that wait for the answer to a failed login, unless all are taken.
    pub fn wait(self: &Arc<Logins>) -> Option<WaitingLogin> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(WaitingLogin(self.clone()))
    }

    fn count(&self, login: &Login<'_>, succeeded: bool) {
        let add = |attempts: &mut Attempts| {
            attempts.all += 1;
            *(if succeeded { &mut attempts.succeeded } else { &mut attempts.failed }) += 1;
        };
        add(self.counts.lock().entry(login.protocol).or_default());
        if self.tracks_sources.load(Ordering::Relaxed) {
            let source = Source {
                address: login.address.to_owned(),
                user: login.name.to_owned(),
                protocol: login.protocol,
            };
            let mut sources = self.sources.lock();
            if sources.len() < REMEMBERED_MAX || sources.contains_key(&source) {
                add(sources.entry(source).or_default());
            }
        }
    }
}

/// A failed login that waits for its answer.
#[derive(Debug)]
pub struct WaitingLogin(Arc<Logins>);

impl Drop for WaitingLogin {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Broker {
    /// Logs somebody in, and counts that.
    ///
    /// # Errors
    /// When it may not.
    pub fn log_in(&self, login: &Login<'_>, now: Millis) -> Result<Arc<User>, FailedLogin> {
        let user = match login.proof {
            Proof::Password(password) => self.users().authenticate(login.name, password),
            Proof::Checked => self.users().get(login.name).ok_or(LoginRefusal::Credentials),
        };
        let user = user.and_then(|user| {
            self.users().check_origin(&user.name, login.is_loopback)?;
            Ok(user)
        });
        self.logins().count(login, user.is_ok());
        user.map_err(|refusal| {
            let failures = self.logins().failures.lock().note(login.address, now);
            FailedLogin { refusal, delay_ms: if failures > FREE_FAILURES { DELAY_MS } else { 0 } }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_often_waits() {
        let mut failures = Failures::default();
        for count in 1..=FREE_FAILURES + 1 {
            assert_eq!(failures.note("a", 1000), count);
        }
        assert_eq!(failures.note("a", 1000), FREE_FAILURES + 1);
        assert_eq!(failures.note("b", 1000), 1);
        assert_eq!(failures.note("a", 1000 + WINDOW_MS), 1);
        assert_eq!(failures.by_time.len(), failures.by_address.len());
    }

    #[test]
    fn addresses_are_forgotten_when_they_are_too_many() {
        let mut failures = Failures::default();
        for number in 0..=REMEMBERED_MAX {
            failures.note(&number.to_string(), number as u64);
        }
        assert_eq!(failures.by_address.len(), REMEMBERED_MAX);
        assert_eq!(failures.note("0", 1), 1);
    }

    #[test]
    fn only_so_many_wait() {
        let logins = Arc::new(Logins::new(1));
        let waiting = logins.wait();
        assert!(waiting.is_some() && logins.wait().is_none());
        drop(waiting);
        assert!(logins.wait().is_some());
    }

    #[test]
    fn attempts_are_counted_by_protocol_and_by_source_where_asked() {
        let logins = Logins::default();
        let login = Login {
            protocol: "amqp091",
            name: "u",
            proof: Proof::Password(b"p"),
            address: "127.0.0.1",
            is_loopback: true,
        };
        logins.count(&login, true);
        assert_eq!(logins.sources(), []);
        logins.track_sources(true);
        logins.count(&login, false);
        assert_eq!(logins.attempts(), [("amqp091", Attempts { all: 2, succeeded: 1, failed: 1 })]);
        let source = Source { address: "127.0.0.1".to_owned(), user: "u".to_owned(), protocol: "amqp091" };
        assert_eq!(logins.sources(), [(source, Attempts { all: 1, succeeded: 0, failed: 1 })]);
        logins.reset();
        assert_eq!(logins.attempts(), []);
    }
}
