//! What a user may do in a vhost: three patterns, matched against the names of queues and exchanges.

use super::error::{BrokerError, Resource};
use crate::message::Name;
use dashmap::DashMap;
use regex::Regex;
use std::fmt;
use std::sync::Arc;

/// What is done to a queue or an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Make it, delete it.
    Configure,
    /// Put messages in.
    Write,
    /// Take messages out.
    Read,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Configure => "configure",
            Access::Write => "write",
            Access::Read => "read",
        })
    }
}

/// The three patterns of one user in one vhost. They match anywhere in a name; an empty one matches none.
#[derive(Clone, Debug)]
pub struct Patterns {
    configure: Regex,
    write: Regex,
    read: Regex,
}

impl Patterns {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// When one is no regular expression.
    pub fn new(configure: &str, write: &str, read: &str) -> Result<Patterns, BrokerError> {
        let compile = |pattern: &str| {
            let pattern = if pattern.is_empty() { "^$" } else { pattern };
            Regex::new(pattern).map_err(|error| BrokerError::Precondition(error.to_string()))
        };
        Ok(Patterns { configure: compile(configure)?, write: compile(write)?, read: compile(read)? })
    }

    fn allow(&self, access: Access, name: &str) -> bool {
        match access {
            Access::Configure => self.configure.is_match(name),
            Access::Write => self.write.is_match(name),
            Access::Read => self.read.is_match(name),
        }
    }
}

/// The permissions of all users.
#[derive(Debug, Default)]
pub struct Permissions {
    by_user_and_vhost: DashMap<(Name, Name), Arc<Patterns>>,
}

impl Permissions {
    /// Sets what a user may do in a vhost.
    pub fn set(&self, user: &str, vhost: &str, patterns: Patterns) {
        self.by_user_and_vhost.insert((user.into(), vhost.into()), Arc::new(patterns));
    }

    /// Whether the user may open the vhost at all.
    pub fn may_open(&self, user: &Name, vhost: &Name) -> bool {
        self.by_user_and_vhost.contains_key(&(user.clone(), vhost.clone()))
    }

    /// Checks that the user may do that. The default exchange goes by the name `amq.default`.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, user: &Name, access: Access, resource: &Resource) -> Result<(), BrokerError> {
        let mut resource = resource.clone();
        if resource.name.is_empty() {
            resource.name = "amq.default".into();
        }
        let patterns = self.by_user_and_vhost.get(&(user.clone(), resource.vhost.clone()));
        if patterns.is_some_and(|patterns| patterns.allow(access, &resource.name)) {
            return Ok(());
        }
        Err(BrokerError::AccessRefused(format!("{access} access to {resource} refused for user '{user}'")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_anywhere_and_empty_ones_never() {
        let permissions = Permissions::default();
        let (user, vhost): (Name, Name) = ("u".into(), "/".into());
        permissions.set("u", "/", Patterns::new("", "^orders", "default$").unwrap());
        let check = |access, name| permissions.check(&user, access, &Resource::exchange(&vhost, name));
        assert!(check(Access::Write, "orders.eu").is_ok());
        assert!(check(Access::Write, "my.orders").is_err());
        assert!(check(Access::Read, "").is_ok());
        let refusal = check(Access::Configure, "x").unwrap_err().to_string();
        assert_eq!(refusal, "configure access to exchange 'x' in vhost '/' refused for user 'u'");
    }
}
