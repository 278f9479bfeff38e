//! Who may log in.

use super::passwords::{HashingAlgorithm, PasswordHash};
use crate::message::Name;
use dashmap::DashMap;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
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
    /// Connections at once.
    pub max_connections: Option<i64>,
    /// Channels at once.
    pub max_channels: Option<i64>,
}

impl User {
    /// A user with that password, without limits.
    pub fn with_password(name: &str, password: &str, salt: [u8; 4], tags: Vec<String>) -> User {
        let password = PasswordHash::of(password, salt, HashingAlgorithm::default());
        User { name: name.into(), password, tags, limits: UserLimits::default() }
    }

    /// Nobody: without a name, a password, or tags.
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

/// Why somebody may not log in, for the log: the client is told less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// There is no such user, or it has another password.
    Credentials,
    /// An empty password.
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

/// All users.
#[derive(Debug, Default)]
pub struct Users {
    by_name: DashMap<Name, Arc<User>>,
    loopback_only: RwLock<BTreeSet<Name>>,
}

impl Users {
    /// Adds a user, or replaces the one of that name, and says whether it is new.
    pub(super) fn put(&self, user: User) -> bool {
        self.by_name.insert(user.name.clone(), Arc::new(user)).is_none()
    }

    pub(super) fn remove(&self, name: &str) {
        self.by_name.remove(name);
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

    /// Sets who may only log in from this machine.
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

    /// The user of that name and password.
    ///
    /// # Errors
    /// When there is none.
    pub fn authenticate(&self, name: &str, password: &[u8]) -> Result<Arc<User>, LoginRefusal> {
        if password.is_empty() {
            return Err(LoginRefusal::BlankPassword);
        }
        match self.get(name) {
            Some(user) if user.password.is_of(password) => Ok(user),
            Some(_) => Err(LoginRefusal::Credentials),
            None => {
                // It takes as long as for somebody who exists.
                PasswordHash::none().is_of(password);
                Err(LoginRefusal::Credentials)
            }
        }
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
    fn some_users_stay_on_this_machine() {
        let users = Users::default();
        users.set_loopback_only(["guest".into()]);
        assert_eq!(users.check_origin("guest", false), Err(LoginRefusal::LoopbackOnly));
        assert!(users.check_origin("guest", true).is_ok() && users.check_origin("shop", false).is_ok());
    }
}
