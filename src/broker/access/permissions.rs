//! What a user may do in a vhost: three patterns, matched against the names of queues and exchanges; and for topic exchanges
//! two more, matched against routing keys.

use crate::broker::error::{BrokerError, Resource, ResourceKind};
use crate::broker::exchange::Exchange;
use crate::message::Name;
use crate::pattern::{Pattern, PatternError, Undecided};
use dashmap::DashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use crate::vocabulary::Access;

/// The three patterns of one user in one vhost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    /// What may be made and deleted.
    pub configure: Pattern,
    /// What may be published to and bound.
    pub write: Pattern,
    /// What may be consumed from, purged and bound to.
    pub read: Pattern,
}

impl Patterns {
    /// Compiles the three patterns.
    ///
    /// # Errors
    /// When one is no regular expression.
    pub fn new(configure: &str, write: &str, read: &str) -> Result<Patterns, PatternError> {
        Ok(Patterns {
            configure: Pattern::of_permission(configure)?,
            write: Pattern::of_permission(write)?,
            read: Pattern::of_permission(read)?,
        })
    }

    fn allow(&self, access: Access, name: &str) -> Result<bool, Undecided> {
        match access {
            Access::Configure => self.configure.matches(name),
            Access::Write => self.write.matches(name),
            Access::Read => self.read.matches(name),
        }
    }

    /// Tries all three on a name.
    ///
    /// # Errors
    /// When one of them takes too many steps on it.
    pub(in crate::broker) fn try_on(&self, name: &str) -> Result<(), Undecided> {
        [&self.configure, &self.write, &self.read]
            .into_iter()
            .try_for_each(|pattern| pattern.matches(name).map(drop))
    }
}

/// The two patterns of one user for the routing keys of one topic exchange, with `{username}` and `{vhost}` replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPatterns {
    /// What may be published with.
    pub write: Pattern,
    /// What may be bound with.
    pub read: Pattern,
}

impl TopicPatterns {
    /// Compiles the patterns of that user in that vhost.
    ///
    /// # Errors
    /// When one is no regular expression.
    pub fn new(user: &str, vhost: &str, write: &str, read: &str) -> Result<TopicPatterns, PatternError> {
        let variables = [("username", user), ("vhost", vhost)];
        Ok(TopicPatterns {
            write: Pattern::with_variables(write, &variables)?,
            read: Pattern::with_variables(read, &variables)?,
        })
    }

    fn allow(&self, access: Access, routing_key: &str) -> Result<bool, Undecided> {
        match access {
            Access::Configure => Ok(true),
            Access::Write => self.write.matches(routing_key),
            Access::Read => self.read.matches(routing_key),
        }
    }
}

/// What a user may do in a vhost, as it is listed and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The user whose permissions these are.
    pub user: Name,
    /// The vhost that they are for.
    pub vhost: Name,
    /// What it may do.
    pub patterns: Arc<Patterns>,
}

/// What a user may do with the routing keys of an exchange, as it is listed and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermission {
    /// The user whose permissions these are.
    pub user: Name,
    /// The vhost that they are for.
    pub vhost: Name,
    /// The exchange, which need not be there.
    pub exchange: Name,
    /// What it may do.
    pub patterns: Arc<TopicPatterns>,
}

/// The permissions of all users.
#[derive(Debug, Default)]
pub struct Permissions {
    by_user_and_vhost: DashMap<(Name, Name), Arc<Patterns>>,
    topics: DashMap<(Name, Name, Name), Arc<TopicPatterns>>,
    version: AtomicU64,
}

impl Permissions {
    /// Sets what a user may do in a vhost, and says whether nothing was said of that before.
    pub(in crate::broker) fn set(&self, permission: Permission) -> bool {
        let Permission { user, vhost, patterns } = permission;
        let is_new = self.by_user_and_vhost.insert((user, vhost), patterns).is_none();
        self.changed();
        is_new
    }

    pub(in crate::broker) fn clear(&self, user: &Name, vhost: &Name) {
        self.by_user_and_vhost.remove(&(user.clone(), vhost.clone()));
        self.changed();
    }

    pub(in crate::broker) fn set_topic(&self, permission: TopicPermission) -> bool {
        let TopicPermission { user, vhost, exchange, patterns } = permission;
        let is_new = self.topics.insert((user, vhost, exchange), patterns).is_none();
        self.changed();
        is_new
    }

    pub(in crate::broker) fn clear_topic(&self, user: &Name, vhost: &Name, exchange: &Name) {
        self.topics.remove(&(user.clone(), vhost.clone(), exchange.clone()));
        self.changed();
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes with every permission, so that answers can be remembered.
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// All permissions, by user and vhost.
    pub fn list(&self) -> Vec<Permission> {
        let entries = self.by_user_and_vhost.iter();
        let mut list: Vec<_> = entries
            .map(|entry| {
                let ((user, vhost), patterns) = entry.pair();
                Permission { user: user.clone(), vhost: vhost.clone(), patterns: patterns.clone() }
            })
            .collect();
        list.sort_by(|a, b| (&a.user, &a.vhost).cmp(&(&b.user, &b.vhost)));
        list
    }

    /// All topic permissions, by user, vhost and exchange.
    pub fn list_topics(&self) -> Vec<TopicPermission> {
        let entries = self.topics.iter();
        let mut list: Vec<_> = entries
            .map(|entry| {
                let ((user, vhost, exchange), patterns) = entry.pair();
                TopicPermission {
                    user: user.clone(),
                    vhost: vhost.clone(),
                    exchange: exchange.clone(),
                    patterns: patterns.clone(),
                }
            })
            .collect();
        list.sort_by(|a, b| (&a.user, &a.vhost, &a.exchange).cmp(&(&b.user, &b.vhost, &b.exchange)));
        list
    }

    /// What a user may do in a vhost.
    pub fn get(&self, user: &Name, vhost: &Name) -> Option<Arc<Patterns>> {
        self.by_user_and_vhost.get(&(user.clone(), vhost.clone())).map(|patterns| patterns.clone())
    }

    /// What a user may do with the routing keys of an exchange. Without an entry it may do all that its permissions allow.
    pub fn get_topic(&self, user: &Name, vhost: &Name, exchange: &Name) -> Option<Arc<TopicPatterns>> {
        let key = (user.clone(), vhost.clone(), exchange.clone());
        self.topics.get(&key).map(|patterns| patterns.clone())
    }

    /// Checks once that the user may do that; for frequent checks there is [`Grants`].
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, user: &Name, access: Access, resource: &Resource) -> Result<(), BrokerError> {
        Grants::new(self, user, &resource.vhost).check(self, access, resource.kind, &resource.name)
    }

    /// Checks once that the user may use a routing key with an exchange; only those of topic exchanges are restricted.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_topic(
        &self,
        user: &Name,
        access: Access,
        exchange: &Exchange,
        routing_key: &[u8],
    ) -> Result<(), BrokerError> {
        Grants::new(self, user, &exchange.definition().vhost).check_topic(self, access, exchange, routing_key)
    }

    /// Whether the user may open the vhost at all.
    pub fn may_open(&self, user: &Name, vhost: &Name) -> bool {
        self.by_user_and_vhost.contains_key(&(user.clone(), vhost.clone()))
    }
}

/// Answers that a [`Grants`] remembers of each kind.
const REMEMBERED_MAX: usize = 16;

/// What one user may do in one vhost, for one connection: patterns are matched once for each name that is used often.
#[derive(Debug)]
pub struct Grants {
    user: Name,
    vhost: Name,
    version: u64,
    patterns: Option<Arc<Patterns>>,
    allowed: Vec<(Access, ResourceKind, Name)>,
    topics: Vec<(Name, Option<Arc<TopicPatterns>>)>,
}

impl Grants {
    /// What a user may do in a vhost now.
    pub fn new(permissions: &Permissions, user: &Name, vhost: &Name) -> Grants {
        let version = permissions.version();
        let patterns = permissions.get(user, vhost);
        let (user, vhost) = (user.clone(), vhost.clone());
        Grants { user, vhost, version, patterns, allowed: Vec::new(), topics: Vec::new() }
    }

    /// Forgets what it knows if permissions have changed.
    fn refresh(&mut self, permissions: &Permissions) {
        if permissions.version() != self.version {
            *self = Grants::new(permissions, &self.user, &self.vhost);
        }
    }

    /// Checks that the user may do that. The default exchange goes by the name `amq.default`.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(
        &mut self,
        permissions: &Permissions,
        access: Access,
        kind: ResourceKind,
        name: &str,
    ) -> Result<(), BrokerError> {
        self.refresh(permissions);
        let known = |allowed: &(Access, ResourceKind, Name)| {
            allowed.0 == access && allowed.1 == kind && *allowed.2 == *name
        };
        if self.allowed.iter().any(known) {
            return Ok(());
        }
        let full_name = if name.is_empty() { "amq.default" } else { name };
        let allowed = self.patterns.as_ref().is_some_and(|patterns| {
            let allowed = patterns.allow(access, full_name);
            let Grants { user, vhost, .. } = self;
            decided(allowed, format_args!("what user '{user}' may {access} in vhost '{vhost}'"))
        });
        if allowed {
            if self.allowed.len() == REMEMBERED_MAX {
                self.allowed.remove(0);
            }
            self.allowed.push((access, kind, name.into()));
            return Ok(());
        }
        let resource = Resource { kind, name: full_name.into(), vhost: self.vhost.clone() };
        let user = &self.user;
        Err(BrokerError::AccessRefused { access, resource, user: user.clone() })
    }

    /// Checks that the user may use a routing key with an exchange; only those of topic exchanges are restricted.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_topic(
        &mut self,
        permissions: &Permissions,
        access: Access,
        exchange: &Exchange,
        routing_key: &[u8],
    ) -> Result<(), BrokerError> {
        let definition = exchange.definition();
        if &*definition.kind != "topic" {
            return Ok(());
        }
        self.refresh(permissions);
        let exchange = &definition.name;
        let Some(patterns) = self.topic(permissions, exchange) else { return Ok(()) };
        let key = String::from_utf8_lossy(routing_key);
        let allowed = patterns.allow(access, &key);
        let Grants { user, vhost, .. } = self;
        let what = format_args!(
            "which topics of exchange '{exchange}' in vhost '{vhost}' user '{user}' may {access}"
        );
        if decided(allowed, what) {
            return Ok(());
        }
        Err(BrokerError::TopicRefused {
            access,
            topic: key.into_owned(),
            exchange: exchange.clone(),
            vhost: vhost.clone(),
            user: user.clone(),
        })
    }

    fn topic(&mut self, permissions: &Permissions, exchange: &Name) -> Option<Arc<TopicPatterns>> {
        let at = match self.topics.iter().position(|(name, _)| name == exchange) {
            Some(at) => at,
            None => {
                if self.topics.len() == REMEMBERED_MAX {
                    self.topics.remove(0);
                }
                let patterns = permissions.get_topic(&self.user, &self.vhost, exchange);
                self.topics.push((exchange.clone(), patterns));
                self.topics.len() - 1
            }
        };
        self.topics[at].1.clone()
    }
}

/// Whether a pattern matches; no where it takes too many steps, which is logged.
fn decided(allowed: Result<bool, Undecided>, what: fmt::Arguments<'_>) -> bool {
    allowed.unwrap_or_else(|undecided| {
        tracing::warn!("{what} can't be decided, so it is refused: {undecided}");
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::exchange::{ExchangeDefinition, ExchangeTypes};

    fn permission(configure: &str, write: &str, read: &str) -> Permission {
        let patterns = Arc::new(Patterns::new(configure, write, read).unwrap());
        Permission { user: "u".into(), vhost: "/".into(), patterns }
    }

    fn topic_permission(write: &str, read: &str) -> TopicPermission {
        let patterns = Arc::new(TopicPatterns::new("u", "/", write, read).unwrap());
        TopicPermission { user: "u".into(), vhost: "/".into(), exchange: "amq.topic".into(), patterns }
    }

    fn exchange(kind: &str) -> Exchange {
        let definition = ExchangeDefinition {
            vhost: "/".into(),
            name: "amq.topic".into(),
            kind: kind.into(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Default::default(),
        };
        Exchange::new(definition, &ExchangeTypes::standard()).unwrap()
    }

    fn grants(permissions: &Permissions) -> Grants {
        Grants::new(permissions, &"u".into(), &"/".into())
    }

    #[test]
    fn patterns_match_anywhere_and_empty_ones_never() {
        let permissions = Permissions::default();
        permissions.set(permission("", "^orders", "default$"));
        let mut grants = grants(&permissions);
        let mut check = |access, name| grants.check(&permissions, access, ResourceKind::Exchange, name);
        assert!(check(Access::Write, "orders.eu").is_ok());
        assert!(check(Access::Write, "my.orders").is_err());
        assert!(check(Access::Read, "").is_ok());
        let refusal = check(Access::Configure, "x").unwrap_err().to_string();
        assert_eq!(refusal, "configure access to exchange 'x' in vhost '/' refused for user 'u'");
    }

    #[test]
    fn what_was_allowed_is_forgotten_when_permissions_change() {
        let permissions = Permissions::default();
        permissions.set(permission("", "", "^q"));
        let mut grants = grants(&permissions);
        for number in 0..=REMEMBERED_MAX {
            let name = format!("q{number}");
            assert!(grants.check(&permissions, Access::Read, ResourceKind::Queue, &name).is_ok());
        }
        assert_eq!(grants.allowed.len(), REMEMBERED_MAX);
        permissions.clear(&"u".into(), &"/".into());
        assert!(grants.check(&permissions, Access::Read, ResourceKind::Queue, "q1").is_err());
    }

    #[test]
    fn topics_without_an_entry_are_free() {
        let permissions = Permissions::default();
        let mut grants = grants(&permissions);
        let (exchange, other) = (exchange("topic"), exchange("direct"));
        assert!(grants.check_topic(&permissions, Access::Write, &exchange, b"a").is_ok());
        permissions.set_topic(topic_permission("^{username}[.]", ""));
        let mut check =
            |access, key: &str| grants.check_topic(&permissions, access, &exchange, key.as_bytes());
        assert!(check(Access::Write, "u.a").is_ok());
        let refusal = check(Access::Write, "a").unwrap_err().to_string();
        let expected = "write access to topic 'a' in exchange 'amq.topic' in vhost '/' refused for user 'u'";
        assert_eq!(refusal, expected);
        assert!(check(Access::Read, "a").is_err());
        assert!(permissions.check_topic(&"u".into(), Access::Read, &exchange, b"a").is_err());
        assert!(permissions.check_topic(&"u".into(), Access::Read, &other, b"a").is_ok());
    }
}
