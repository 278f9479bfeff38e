//! Who may log in. Passwords are kept as RabbitMQ keeps them: a salt and a digest, in base64.

use crate::message::Name;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dashmap::DashMap;
use sha2::{Digest, Sha256};

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The name.
    pub name: Name,
    /// Four bytes of salt, then SHA-256 of salt and password; base64. Empty: nobody logs in with it.
    pub password_hash: String,
    /// Such as `administrator` or `impersonator`.
    pub tags: Vec<String>,
}

impl User {
    /// A user with that password.
    pub fn with_password(name: &str, password: &str, salt: [u8; 4], tags: Vec<String>) -> User {
        User { name: name.into(), password_hash: hash(password.as_bytes(), salt), tags }
    }

    /// Whether it has that tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|other| other == tag)
    }

    fn has_password(&self, password: &[u8]) -> bool {
        let Ok(decoded) = STANDARD.decode(&self.password_hash) else { return false };
        let Some((salt, _)) = decoded.split_first_chunk::<4>() else { return false };
        // A blank password never logs in, as in RabbitMQ.
        !password.is_empty() && same(hash(password, *salt).as_bytes(), self.password_hash.as_bytes())
    }
}

fn hash(password: &[u8], salt: [u8; 4]) -> String {
    let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
    STANDARD.encode([&salt[..], &digest[..]].concat())
}

/// Compares in a time that does not tell where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// All users.
#[derive(Debug, Default)]
pub struct Users {
    by_name: DashMap<Name, User>,
}

impl Users {
    /// Adds a user, or replaces the one of that name.
    pub fn put(&self, user: User) {
        self.by_name.insert(user.name.clone(), user);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The user of that name, when something other than a password has shown who it is.
    pub fn get(&self, name: &str) -> Option<User> {
        self.by_name.get(name).map(|user| user.clone())
    }

    /// The user of that name and password.
    pub fn authenticate(&self, name: &str, password: &[u8]) -> Option<User> {
        self.by_name.get(name).filter(|user| user.has_password(password)).map(|user| user.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_logs_in() {
        let users = Users::default();
        users.put(User::with_password("guest", "secret", [1, 2, 3, 4], vec!["administrator".to_owned()]));
        users.put(User { name: "blank".into(), password_hash: String::new(), tags: Vec::new() });
        assert!(users.authenticate("guest", b"secret").is_some_and(|user| user.has_tag("administrator")));
        for (name, password) in
            [("guest", &b"Secret"[..]), ("guest", b""), ("blank", b""), ("other", b"secret")]
        {
            assert!(users.authenticate(name, password).is_none(), "{name}");
        }
    }

    #[test]
    fn a_hash_exported_from_rabbitmq_works() {
        // The example in RabbitMQ's guide to passwords: salt 90 8D C6 0A, password test12.
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR".to_owned();
        let users = Users::default();
        users.put(User { name: "simon".into(), password_hash: hash, tags: Vec::new() });
        assert!(users.authenticate("simon", b"test12").is_some());
    }
}
