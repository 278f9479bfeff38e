//! What an operator changes while the broker runs: users, permissions, vhosts and their limits. All of it applies at once, to open
//! connections too, and is durable when the ticket of [`Broker::last_change`] is answered; the caller answers then. A change with
//! all that goes with it happens as one.

use super::definitions::Definition;
use super::vhost_settings::VhostSettings;
use crate::broker::Broker;
use crate::broker::access::passwords::PasswordHash;
use crate::broker::access::permissions::{Patterns, Permission, TopicPatterns, TopicPermission};
use crate::broker::access::users::{User, UserLimits};
use crate::broker::actor::Actor;
use crate::broker::error::BrokerError;
use crate::broker::turn::Turn;
use crate::broker::vhost::VirtualHost;
use crate::message::Name;
use crate::pattern::PatternError;
use crate::store::DefinitionChanges;
use std::sync::Arc;

/// What became of something that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was none of that name.
    Created,
    /// It was there, and is now as it was put.
    Updated,
}

impl Put {
    fn new(is_new: bool) -> Put {
        if is_new { Put::Created } else { Put::Updated }
    }
}

impl Broker {
    /// Adds a user, or changes the one of that name.
    ///
    /// # Errors
    /// When the store failed.
    pub fn put_user(&self, user: User) -> Result<Put, BrokerError> {
        let _changing = self.changing.lock();
        self.shared.define(Definition::User(user.clone()).as_change())?;
        Ok(Put::new(self.users.put(user)))
    }

    /// Changes the user of that name, or adds one, at first without a way to log in.
    ///
    /// # Errors
    /// When the store failed.
    pub fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) -> Result<Put, BrokerError> {
        let _changing = self.changing.lock();
        let known = self.users.get(name);
        let mut user =
            known.as_deref().cloned().unwrap_or_else(|| User { name: name.into(), ..User::nobody() });
        change(&mut user);
        self.shared.define(Definition::User(user.clone()).as_change())?;
        Ok(Put::new(self.users.put(user)))
    }

    /// Keeps the same password of a user otherwise, unless it has been changed since.
    ///
    /// # Errors
    /// When there is no such user, or the store failed.
    pub(in crate::broker) fn replace_password(
        &self,
        before: &User,
        password: PasswordHash,
    ) -> Result<(), BrokerError> {
        let _changing = self.changing.lock();
        let user = self.existing_user(&before.name)?;
        if user.password != before.password {
            return Ok(());
        }
        let user = User { password, ..(*user).clone() };
        self.shared.define(Definition::User(user.clone()).as_change())?;
        self.users.put(user);
        Ok(())
    }

    /// A user that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn existing_user(&self, name: &str) -> Result<Arc<User>, BrokerError> {
        self.users.get(name).ok_or_else(|| BrokerError::NoSuchUser(name.into()))
    }

    /// Changes what all connections of a user together may use.
    ///
    /// # Errors
    /// When there is no such user, or the store failed.
    pub fn set_user_limits(
        &self,
        name: &str,
        change: impl FnOnce(&mut UserLimits),
    ) -> Result<(), BrokerError> {
        let _changing = self.changing.lock();
        let mut user = (*self.existing_user(name)?).clone();
        change(&mut user.limits);
        self.shared.define(Definition::User(user.clone()).as_change())?;
        self.users.put(user);
        Ok(())
    }

    /// Deletes a user with its permissions, and has its connections closed.
    ///
    /// # Errors
    /// When there is no such user, or the store failed.
    pub fn delete_user(&self, name: &str) -> Result<(), BrokerError> {
        let changing = self.changing.lock();
        let user = self.existing_user(name)?;
        let mut removals = DefinitionChanges::default();
        self.forget_permissions(|of_user, _| *of_user == user.name, &mut removals);
        Definition::User((*user).clone()).remove(&mut removals);
        self.users.remove(name);
        self.shared.define(removals)?;
        drop(changing);
        tracing::info!("user '{name}' is deleted");
        self.connections.ask_to_close(|facts| facts.user == user.name, &format!("user '{name}' is deleted"));
        Ok(())
    }

    /// Sets what a user may do in a vhost.
    ///
    /// # Errors
    /// When either is not there, a pattern takes too many steps on a name of the vhost, or the store failed.
    pub fn set_permissions(&self, user: &str, vhost: &str, patterns: Patterns) -> Result<Put, BrokerError> {
        let in_vhost = self.existing_vhost(vhost)?;
        in_vhost.try_names(|name| patterns.try_on(name)).map_err(PatternError::from)?;
        let _changing = self.changing.lock();
        let (user, vhost) = (self.existing_user(user)?, self.existing_vhost(vhost)?);
        let permission =
            Permission { user: user.name.clone(), vhost: vhost.name().clone(), patterns: Arc::new(patterns) };
        self.shared.define(Definition::Permission(permission.clone()).as_change())?;
        let is_new = self.permissions.set(permission);
        vhost.topology_changed();
        Ok(Put::new(is_new))
    }

    /// Takes away all that a user may do in a vhost.
    ///
    /// # Errors
    /// When either is not there, or the store failed.
    pub fn clear_permissions(&self, user: &str, vhost: &str) -> Result<(), BrokerError> {
        let _changing = self.changing.lock();
        let (user, vhost) = (self.existing_user(user)?, self.existing_vhost(vhost)?);
        if let Some(patterns) = self.permissions.get(&user.name, vhost.name()) {
            let permission = Permission { user: user.name.clone(), vhost: vhost.name().clone(), patterns };
            let mut removals = DefinitionChanges::default();
            self.forget_permission(permission, &mut removals);
            self.shared.define(removals)?;
        }
        Ok(())
    }

    /// Sets which routing keys a user may use with a topic exchange, which need not be there.
    ///
    /// # Errors
    /// When user or vhost is not there, a pattern is none, or the store failed.
    pub fn set_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        (write, read): (&str, &str),
    ) -> Result<Put, BrokerError> {
        let _changing = self.changing.lock();
        let (user, vhost) = (self.existing_user(user)?, self.existing_vhost(vhost)?);
        let permission = TopicPermission {
            user: user.name.clone(),
            vhost: vhost.name().clone(),
            exchange: exchange.into(),
            patterns: Arc::new(TopicPatterns::new(&user.name, vhost.name(), write, read)?),
        };
        self.shared.define(Definition::TopicPermission(permission.clone()).as_change())?;
        let is_new = self.permissions.set_topic(permission);
        vhost.topology_changed();
        Ok(Put::new(is_new))
    }

    /// Lets a user use all routing keys again: with one exchange of a vhost, or with all.
    ///
    /// # Errors
    /// When user or vhost is not there, or the store failed.
    pub fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), BrokerError> {
        let _changing = self.changing.lock();
        let (user, vhost) = (self.existing_user(user)?, self.existing_vhost(vhost)?);
        let mut removals = DefinitionChanges::default();
        for permission in self.permissions.list_topics() {
            let is_meant = permission.user == user.name
                && permission.vhost == *vhost.name()
                && exchange.is_none_or(|exchange| exchange == &*permission.exchange);
            if is_meant {
                self.forget_topic_permission(permission, &mut removals);
            }
        }
        self.shared.define(removals).map(drop)
    }

    fn forget_permissions(&self, which: impl Fn(&Name, &Name) -> bool, removals: &mut DefinitionChanges) {
        for permission in self.permissions.list() {
            if which(&permission.user, &permission.vhost) {
                self.forget_permission(permission, removals);
            }
        }
        for permission in self.permissions.list_topics() {
            if which(&permission.user, &permission.vhost) {
                self.forget_topic_permission(permission, removals);
            }
        }
    }

    fn forget_permission(&self, permission: Permission, removals: &mut DefinitionChanges) {
        self.permissions.clear(&permission.user, &permission.vhost);
        self.forget_routes(&permission.vhost);
        Definition::Permission(permission).remove(removals);
    }

    fn forget_topic_permission(&self, permission: TopicPermission, removals: &mut DefinitionChanges) {
        self.permissions.clear_topic(&permission.user, &permission.vhost, &permission.exchange);
        self.forget_routes(&permission.vhost);
        Definition::TopicPermission(permission).remove(removals);
    }

    /// A remembered route is not checked again, so it has to go when permissions change.
    fn forget_routes(&self, vhost: &str) {
        if let Some(vhost) = self.vhost(vhost) {
            vhost.topology_changed();
        }
    }

    /// Makes a vhost, unless it is there.
    ///
    /// # Errors
    /// When the store failed.
    pub fn add_vhost(&self, name: &str) -> Result<Arc<VirtualHost>, BrokerError> {
        match self.vhost(name) {
            Some(vhost) => Ok(vhost),
            None => self.put_vhost(name, |_| ()).map(|(vhost, _)| vhost),
        }
    }

    /// Makes a vhost, or changes what is said of the one of that name.
    ///
    /// # Errors
    /// When there are as many as there may be, or the store failed.
    pub fn put_vhost(
        &self,
        name: &str,
        change: impl FnOnce(&mut VhostSettings),
    ) -> Result<(Arc<VirtualHost>, Put), BrokerError> {
        let _changing = self.changing.lock();
        if let Some(vhost) = self.vhost(name) {
            let mut settings = (*vhost.settings()).clone();
            change(&mut settings);
            self.shared
                .define(Definition::VirtualHost(vhost.name().clone(), settings.clone()).as_change())?;
            vhost.set_settings(settings);
            return Ok((vhost, Put::Updated));
        }
        let max = self.shared.limits.vhosts_max;
        if max > 0 && self.vhosts.len() >= max {
            return Err(BrokerError::VhostLimitReached { name: name.into(), max });
        }
        let name: Name = name.into();
        let mut settings = VhostSettings::default();
        change(&mut settings);
        self.shared.define(Definition::VirtualHost(name.clone(), settings.clone()).as_change())?;
        let vhost = Arc::new(VirtualHost::new(name.clone(), settings, self.shared.clone()));
        self.vhosts.insert(name, vhost.clone());
        Ok((vhost, Put::Created))
    }

    /// A vhost that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn existing_vhost(&self, name: &str) -> Result<Arc<VirtualHost>, BrokerError> {
        self.vhost(name).ok_or_else(|| BrokerError::NoSuchVhost(name.into()))
    }

    /// Deletes a vhost with all that is in it, and has its connections closed.
    ///
    /// # Errors
    /// When there is no such vhost, or the store failed.
    pub fn delete_vhost(&self, name: &str, actor: Actor<'_>, turn: &mut Turn) -> Result<(), BrokerError> {
        let _changing = self.changing.lock();
        let vhost = self.existing_vhost(name)?;
        self.vhosts.remove(name);
        tracing::info!("vhost '{name}' is deleted");
        let reason = format!("vhost '{name}' is deleted");
        self.connections.ask_to_close(|facts| facts.vhost == *vhost.name(), &reason);
        let mut removals = DefinitionChanges::default();
        vhost.delete_everything(&mut removals, actor, turn)?;
        self.forget_permissions(|_, of_vhost| of_vhost == vhost.name(), &mut removals);
        self.forget_parameters(vhost.name(), &mut removals);
        Definition::VirtualHost(vhost.name().clone(), (*vhost.settings()).clone()).remove(&mut removals);
        self.shared.define(removals).map(drop)
    }
}
