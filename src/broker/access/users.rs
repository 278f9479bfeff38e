//! Users: names, password hashes, tags, limits.

use super::passwords::{self, HashingAlgorithm, PasswordHash};
use crate::message::Name;
use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A user, with password hash, tags and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: Name,
    /// What is kept of the password.
    pub password: PasswordHash,
    /// Such as `administrator` or `impersonator`.
    pub tags: Vec<String>,
    /// What all connections of the user together may use.
    pub limits: UserLimits,
}

/// What all connections of one user together may use. `None` and what is below zero is no limit; 0 allows none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// The most connections at once; negative or `None` is no limit.
    pub max_connections: Option<i64>,
    /// The most channels of all these connections; negative or `None` is no limit.
    pub max_channels: Option<i64>,
}

impl User {
    /// A user with that password, without limits.
    pub fn with_password(name: &str, password: &str, salt: [u8; 4], tags: Vec<String>) -> User {
        let password = PasswordHash::of(password, salt, HashingAlgorithm::default());
        User { name: name.into(), password, tags, limits: UserLimits::default() }
    }

    /// A user without a name, a password, or tags, who can't log in.
    pub fn nobody() -> User {
        User {
            name: "".into(),
            password: PasswordHash::none(),
            tags: Vec::new(),
            limits: UserLimits::default(),
        }
    }

    /// Whether it has that tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|other| other == tag)
    }
}

/// Why a login was refused, for the log: the client learns less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// There is no such user, or it has another password.
    Credentials,
    /// The password is empty.
    BlankPassword,
    /// The user is one of `access.loopback_users`.
    LoopbackOnly,
}

impl LoginRefusal {
    /// What happened to the user of that name.
    pub fn of(self, name: &str) -> String {
        match self {
            LoginRefusal::Credentials => format!("user '{name}' - invalid credentials"),
            LoginRefusal::BlankPassword => {
                format!("user '{name}' attempted to log in with a blank password, which never does")
            }
            LoginRefusal::LoopbackOnly => {
                format!("user '{name}' can only connect via localhost, since access.loopback_users has it")
            }
        }
    }
}

/// All users, by name.
#[derive(Debug, Default)]
pub struct Users {
    by_name: DashMap<Name, Arc<User>>,
    loopback_only: RwLock<BTreeSet<Name>>,
    /// How new passwords are kept.
    password_hash: RwLock<HashingAlgorithm>,
    /// Passwords that take long to check and were right.
    verified: Verified,
    /// Held while a password takes long for an operator, so that it is one at a time.
    hashing: Mutex<()>,
}

impl Users {
    /// Adds a user, or replaces the one of that name, and says whether it is new.
    pub(in crate::broker) fn put(&self, user: User) -> bool {
        self.by_name.insert(user.name.clone(), Arc::new(user)).is_none()
    }

    pub(in crate::broker) fn remove(&self, name: &str) {
        self.by_name.remove(name);
        self.verified.forget(name);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// A user, by name.
    pub fn get(&self, name: &str) -> Option<Arc<User>> {
        self.by_name.get(name).map(|user| user.clone())
    }

    /// All users, by name.
    pub fn list(&self) -> Vec<Arc<User>> {
        let mut users: Vec<_> = self.by_name.iter().map(|user| user.clone()).collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// Sets the users who may only log in from this machine.
    pub fn set_loopback_only(&self, names: impl IntoIterator<Item = Name>) {
        *self.loopback_only.write() = names.into_iter().collect();
    }

    /// Whether a user may log in from where it is.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_origin(&self, name: &str, is_loopback: bool) -> Result<(), LoginRefusal> {
        if is_loopback || !self.loopback_only.read().contains(name) {
            return Ok(());
        }
        Err(LoginRefusal::LoopbackOnly)
    }

    /// Sets how new passwords are kept, and those that were kept in a weaker way after their next login.
    pub fn set_password_hash(&self, algorithm: HashingAlgorithm) {
        *self.password_hash.write() = algorithm;
    }

    /// How new passwords are kept.
    pub fn password_hash(&self) -> HashingAlgorithm {
        *self.password_hash.read()
    }

    /// What is kept of a new password. It may take long.
    pub fn hash(&self, password: &str) -> PasswordHash {
        let _hashing = self.hashing.lock();
        PasswordHash::new(password.as_bytes(), self.password_hash())
    }

    /// Whether a user has that password. It may take long.
    pub fn fits(&self, user: &User, password: &str) -> bool {
        let _hashing = self.hashing.lock();
        self.verified.knows(user, password.as_bytes()) || user.password.is_of(password.as_bytes())
    }

    /// What [`Users::authenticate`] says, if it can be said without taking long.
    pub(in crate::broker) fn authenticate_at_once(
        &self,
        name: &str,
        password: &[u8],
    ) -> Option<Result<Arc<User>, LoginRefusal>> {
        if password.is_empty() {
            return Some(Err(LoginRefusal::BlankPassword));
        }
        let user = self.get(name);
        let is_slow = user.as_ref().is_some_and(|user| user.password.algorithm().is_slow());
        match user {
            Some(user) if is_slow && self.verified.knows(&user, password) => Some(Ok(user)),
            Some(user) if !is_slow && user.password.is_of(password) => Some(Ok(user)),
            _ if is_slow || self.password_hash().is_slow() => None,
            _ => Some(self.authenticate(name, password)),
        }
    }

    /// The user of that name and password. It may take long.
    ///
    /// # Errors
    /// When there is none.
    pub fn authenticate(&self, name: &str, password: &[u8]) -> Result<Arc<User>, LoginRefusal> {
        if password.is_empty() {
            return Err(LoginRefusal::BlankPassword);
        }
        match self.get(name) {
            Some(user) if self.verified.knows(&user, password) => Ok(user),
            Some(user) if user.password.is_of(password) => {
                self.verified.note(&user, password);
                Ok(user)
            }
            // Checked like the password of a user who exists, so that the time shows nothing.
            Some(user) if user.password.algorithm().is_slow() => Err(LoginRefusal::Credentials),
            _ => {
                PasswordHash::of_nobody(self.password_hash()).is_of(password);
                Err(LoginRefusal::Credentials)
            }
        }
    }
}

/// Passwords that were right, as digests under a key that is this process's alone: a client that connects anew, or asks over HTTP
/// again and again, is not kept waiting each time. Only what takes long to check is in it.
#[derive(Default)]
struct Verified {
    key: RandomKey,
    digests: DashMap<Name, [u8; 32]>,
}

impl Verified {
    /// It is of what is kept of the password too, so that a changed one is unknown.
    fn digest(&self, user: &User, password: &[u8]) -> [u8; 32] {
        let kept = Sha256::digest(user.password.as_str());
        Sha256::new().chain_update(self.key.0).chain_update(kept).chain_update(password).finalize().into()
    }

    fn note(&self, user: &User, password: &[u8]) {
        if user.password.algorithm().is_slow() {
            self.digests.insert(user.name.clone(), self.digest(user, password));
        }
    }

    fn knows(&self, user: &User, password: &[u8]) -> bool {
        let Some(known) = self.digests.get(&user.name).map(|known| *known) else { return false };
        passwords::same(&known, &self.digest(user, password))
    }

    fn forget(&self, name: &str) {
        self.digests.remove(name);
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified").field("digests", &self.digests.len()).finish_non_exhaustive()
    }
}

struct RandomKey([u8; 32]);

impl Default for RandomKey {
    fn default() -> RandomKey {
        let [first, second] = [passwords::random_bytes(), passwords::random_bytes()];
        let mut key = [0; 32];
        key[..16].copy_from_slice(&first);
        key[16..].copy_from_slice(&second);
        RandomKey(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_logs_in() {
        let users = Users::default();
        users.put(User::with_password("guest", "secret", [1, 2, 3, 4], vec!["administrator".to_owned()]));
        users.put(User::with_password("blank", "", [1, 2, 3, 4], Vec::new()));
        users.put(User { password: PasswordHash::none(), ..(*users.get("blank").unwrap()).clone() });
        assert!(users.authenticate("guest", b"secret").is_ok_and(|user| user.has_tag("administrator")));
        for (name, password, refusal) in [
            ("guest", &b"Secret"[..], LoginRefusal::Credentials),
            ("guest", b"", LoginRefusal::BlankPassword),
            ("blank", b"", LoginRefusal::BlankPassword),
            ("other", b"secret", LoginRefusal::Credentials),
        ] {
            assert_eq!(users.authenticate(name, password).unwrap_err(), refusal, "{name}");
        }
    }

    #[test]
    fn what_takes_long_is_checked_once() {
        let users = Users::default();
        let slow = PasswordHash::new(b"secret", HashingAlgorithm::Argon2id);
        users.put(User { password: slow, ..User::with_password("slow", "x", [1; 4], Vec::new()) });
        users.put(User::with_password("fast", "secret", [1; 4], Vec::new()));
        let at_once =
            |name, password: &[u8]| users.authenticate_at_once(name, password).map(|user| user.is_ok());
        assert_eq!(at_once("slow", b"secret"), None);
        assert_eq!((at_once("fast", b"secret"), at_once("fast", b"wrong")), (Some(true), Some(false)));
        assert!(
            users.authenticate("slow", b"wrong").is_err() && users.authenticate("slow", b"secret").is_ok()
        );
        assert_eq!((at_once("slow", b"secret"), at_once("slow", b"wrong")), (Some(true), None));
        // A new password forgets the old one.
        let other = PasswordHash::new(b"other", HashingAlgorithm::Argon2id);
        users.put(User { password: other, ..(*users.get("slow").unwrap()).clone() });
        assert_eq!(at_once("slow", b"secret"), None);
        // The time that it takes shows neither which users exist nor how a password is kept.
        assert_eq!(at_once("nobody", b"secret"), Some(false));
        users.set_password_hash(HashingAlgorithm::Argon2id);
        assert_eq!((at_once("nobody", b"secret"), at_once("fast", b"wrong")), (None, None));
        assert_eq!(at_once("fast", b"secret"), Some(true));
    }

    #[test]
    fn some_users_stay_on_this_machine() {
        let users = Users::default();
        users.set_loopback_only(["guest".into()]);
        assert_eq!(users.check_origin("guest", false), Err(LoginRefusal::LoopbackOnly));
        assert!(users.check_origin("guest", true).is_ok() && users.check_origin("shop", false).is_ok());
    }
}
