//! Vhosts, users and permissions of the configuration. The file adds and changes, and takes nothing away: what it says holds
//! after each start, whatever was changed meanwhile, and what it does not mention stays as it was kept.

use super::Faults;
use crate::broker::Broker;
use crate::broker::access::passwords::PasswordHash;
use crate::broker::access::permissions::Patterns;
use crate::broker::access::users::{User, Users};
use crate::broker::error::BrokerError;
use crate::broker::topology::administration::Put;
use crate::broker::topology::vhost_settings::VhostSettings;
use crate::config::{self, Config, Credentials};

pub(super) fn declare(broker: &Broker, config: &Config, is_in_use: bool, faults: &mut Faults) {
    broker.users().set_loopback_only(config.access.loopback_users.iter().map(|name| name.as_str().into()));
    broker.logins().track_sources(config.access.track_login_sources);
    broker.users().set_password_hash(config.access.password_hash);
    let new_vhosts = declare_vhosts(broker, config, faults);
    let has_new_guest = declare_users(broker, config, is_in_use, faults);
    for permission in &config.permissions {
        let is_built_in = permission.declared_at.is_none();
        // What was taken away from the built-in guest stays away.
        if is_built_in && !has_new_guest && !new_vhosts.contains(&permission.vhost) {
            continue;
        }
        if is_missing(broker, &permission.user, &permission.vhost) {
            continue;
        }
        faults.note(&permission.declared_at, declare_permission(broker, permission));
    }
    for permission in &config.topic_permissions {
        if !is_missing(broker, &permission.user, &permission.vhost) {
            faults.note(&permission.declared_at, declare_topic_permission(broker, permission));
        }
    }
}

/// Declares the vhosts, and says which of them are new. The built-in one is there until it is deleted.
fn declare_vhosts(broker: &Broker, config: &Config, faults: &mut Faults) -> Vec<String> {
    let is_first_start = broker.vhosts().is_empty();
    let mut new = Vec::new();
    for vhost in &config.vhosts {
        let is_built_in = vhost.declared_at.is_none();
        if is_built_in && !is_first_start && !is_used(config, &vhost.name) {
            continue;
        }
        if faults.note(&vhost.declared_at, declare_vhost(broker, vhost)) == Some(Put::Created) {
            new.push(vhost.name.clone());
        }
    }
    new
}

/// Whether the file declares anything in a vhost.
fn is_used(config: &Config, vhost: &str) -> bool {
    let exchanges = config.exchanges.iter().map(|exchange| &exchange.vhost);
    let queues = config.queues.iter().map(|queue| &queue.vhost);
    let bindings = config.bindings.iter().map(|binding| &binding.vhost);
    let policies = config.policies.iter().chain(&config.operator_policies).map(|policy| &policy.vhost);
    exchanges.chain(queues).chain(bindings).chain(policies).any(|name| name == vhost)
}

fn declare_vhost(broker: &Broker, vhost: &config::Vhost) -> Result<Put, BrokerError> {
    let change = |settings: &mut VhostSettings| {
        if let Some(description) = &vhost.description {
            settings.description.clone_from(description);
        }
        if let Some(tags) = &vhost.tags {
            settings.tags.clone_from(tags);
        }
        if let Some(of_vhost) = vhost.default_queue_type {
            settings.default_queue_type = Some(of_vhost);
        }
        settings.tracing = vhost.tracing.unwrap_or(settings.tracing);
        settings.limits.max_connections = vhost.max_connections.or(settings.limits.max_connections);
        settings.limits.max_queues = vhost.max_queues.or(settings.limits.max_queues);
    };
    if let Some(known) = broker.vhost(&vhost.name) {
        let mut settings = (*known.settings()).clone();
        change(&mut settings);
        if settings == *known.settings() {
            return Ok(Put::Updated);
        }
    }
    broker.put_vhost(&vhost.name, change).map(|(_, put)| put)
}

/// Declares the users, and says whether the built-in guest is among them: it is there until there are others.
///
/// Where a broker has served before, users are missing because they were deleted, or lost with their file: damaging the file must
/// not bring back a guest who administers.
fn declare_users(broker: &Broker, config: &Config, is_in_use: bool, faults: &mut Faults) -> bool {
    let is_first_start = broker.users().is_empty() && !is_in_use;
    let mut has_new_guest = false;
    for user in &config.users {
        if user.declared_at.is_none() {
            if !is_first_start {
                continue;
            }
            has_new_guest = true;
        }
        let known = broker.users().get(&user.name);
        let declared = declared_user(user, known.as_deref(), broker.users());
        if known.as_deref() != Some(&declared) {
            faults.note(&user.declared_at, broker.put_user(declared));
        }
    }
    if is_in_use && broker.users().is_empty() {
        tracing::error!(
            "there is no user, though a broker has served from this data directory: what was declared is lost, or every user \
             was deleted. Nobody is made by default; restore a backup, or declare users in the configuration"
        );
    }
    has_new_guest
}

/// The user as the file has it. What is kept of a password stays as it is if it fits.
fn declared_user(user: &config::User, known: Option<&User>, users: &Users) -> User {
    let password = match &user.credentials {
        Credentials::PasswordHash { hash, algorithm } => PasswordHash::encoded(hash, *algorithm)
            .expect("the configuration was checked to have a hash there"),
        Credentials::Password(password) => match known.filter(|known| users.fits(known, password)) {
            Some(known) => known.password.clone(),
            None => users.hash(password),
        },
    };
    let mut limits = known.map(|known| known.limits).unwrap_or_default();
    limits.max_connections = user.max_connections.or(limits.max_connections);
    limits.max_channels = user.max_channels.or(limits.max_channels);
    User { name: user.name.as_str().into(), password, tags: user.tags.clone(), limits }
}

/// Whether one that the file does not declare but means has been deleted: the built-in guest, or the built-in vhost.
fn is_missing(broker: &Broker, user: &str, vhost: &str) -> bool {
    let is_missing = broker.users().get(user).is_none() || broker.vhost(vhost).is_none();
    if is_missing {
        tracing::warn!(
            "what user '{user}' may do in vhost '{vhost}' is not declared, since one of them was deleted"
        );
    }
    is_missing
}

fn declare_permission(broker: &Broker, permission: &config::Permission) -> Result<(), BrokerError> {
    let config::Permission { user, vhost, configure, write, read, .. } = permission;
    let patterns = Patterns::new(configure, write, read)?;
    let known = broker.permissions().get(&user.as_str().into(), &vhost.as_str().into());
    if known.is_some_and(|known| *known == patterns) {
        return Ok(());
    }
    broker.set_permissions(user, vhost, patterns).map(drop)
}

fn declare_topic_permission(
    broker: &Broker,
    permission: &config::TopicPermission,
) -> Result<(), BrokerError> {
    let config::TopicPermission { user, vhost, exchange, write, read, .. } = permission;
    let (name, of_vhost) = (user.as_str().into(), vhost.as_str().into());
    let known = broker.permissions().get_topic(&name, &of_vhost, &exchange.as_str().into());
    if known.is_some_and(|known| known.write.as_str() == write && known.read.as_str() == read) {
        return Ok(());
    }
    broker.set_topic_permissions(user, vhost, exchange, (write, read)).map(drop)
}
