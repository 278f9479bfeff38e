//! Events of what is put: by a request for one thing, or by an import of many. Both say the same.

use crate::broker::access::permissions::{Permission, TopicPermission};
use crate::broker::access::users::User;
use crate::broker::observe::events::{Headers, number, text};
use crate::broker::queue::QueueType;
use crate::broker::topology::administration::Put;
use crate::broker::topology::parameters::ParameterKey;
use crate::broker::topology::vhost_settings::VhostSettings;
use crate::broker::{Actor, Broker};
use crate::message::Value;

/// Whose events they are: of a broker, and of who has put something there.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) broker: &'a Broker,
    pub(super) by: Actor<'a>,
}

impl Told<'_> {
    fn tell(self, key: &'static str, fields: impl FnOnce() -> Headers) {
        self.broker.tell(key, self.by.into(), fields);
    }

    /// A user with these tags; one without a password can't log in with one.
    pub(super) fn user(self, name: &str, put: Put, has_password: bool, tags: &[String]) {
        match put {
            Put::Created => self.tell("user.created", || vec![("name", text(name))]),
            Put::Updated => self.password(name, has_password),
        }
        self.tags(name, tags);
    }

    fn password(self, name: &str, has_password: bool) {
        let key = if has_password { "user.password.changed" } else { "user.password.cleared" };
        self.tell(key, || vec![("name", text(name))]);
    }

    fn tags(self, name: &str, tags: &[String]) {
        let tags = || Value::Array(tags.iter().map(|tag| text(tag)).collect());
        self.tell("user.tags.set", || vec![("name", text(name)), ("tags", tags())]);
    }

    /// A user that was imported: what has changed of the one that was `known`.
    pub(super) fn imported_user(self, known: Option<&User>, user: &User) {
        let has_password = !user.password.is_none();
        match known {
            None => self.user(&user.name, Put::Created, has_password, &user.tags),
            Some(known) => {
                if known.password != user.password {
                    self.password(&user.name, has_password);
                }
                if known.tags != user.tags {
                    self.tags(&user.name, &user.tags);
                }
            }
        }
        if known.map(|known| known.limits).unwrap_or_default() != user.limits {
            self.user_limits(user);
        }
    }

    /// The limits of a user.
    pub(super) fn user_limits(self, user: &User) {
        let limits = &user.limits;
        let is_limited = limits.max_connections.is_some() || limits.max_channels.is_some();
        self.tell(if is_limited { "user.limits.set" } else { "user.limits.cleared" }, || {
            let mut fields = vec![("name", text("limits")), ("username", text(&user.name))];
            fields.extend(limits.max_channels.map(|limit| ("max-channels", number(limit))));
            fields.extend(limits.max_connections.map(|limit| ("max-connections", number(limit))));
            fields
        });
    }

    /// A vhost.
    pub(super) fn vhost(self, name: &str, settings: &VhostSettings, put: Put) {
        let key = if put == Put::Created { "vhost.created" } else { "vhost.updated" };
        self.tell(key, || {
            let queue_type = settings.default_queue_type.map_or("undefined", QueueType::name);
            let tags = settings.tags.iter().map(|tag| text(tag)).collect();
            let node = (self.broker.node_name(), text("running"));
            vec![
                ("cluster_state", Value::Table([node].into_iter().collect())),
                ("default_queue_type", text(queue_type)),
                ("description", text(&settings.description)),
                ("name", text(name)),
                ("tags", Value::Array(tags)),
                ("tracing", Value::Bool(settings.tracing)),
            ]
        });
    }

    /// A vhost that was imported, which brings its limits along: what has changed of the one that was `known`.
    pub(super) fn imported_vhost(self, name: &str, known: Option<&VhostSettings>, settings: &VhostSettings) {
        let limits = known.map(|known| known.limits).unwrap_or_default();
        if known.is_none_or(|known| VhostSettings { limits: settings.limits, ..known.clone() } != *settings) {
            self.vhost(name, settings, if known.is_none() { Put::Created } else { Put::Updated });
        }
        if limits != settings.limits {
            self.vhost_limits(name, settings);
        }
    }

    /// The limits of a vhost.
    pub(super) fn vhost_limits(self, name: &str, settings: &VhostSettings) {
        self.tell("vhost.limits.set", || {
            let limits = &settings.limits;
            let mut fields = vec![("name", text("limits")), ("vhost", text(name))];
            fields.extend(limits.max_connections.map(|limit| ("max-connections", number(limit))));
            fields.extend(limits.max_queues.map(|limit| ("max-queues", number(limit))));
            fields
        });
    }

    /// What a user may do in a vhost.
    pub(super) fn permission(self, Permission { user, vhost, patterns }: &Permission) {
        self.tell("permission.created", || {
            let mut fields = whose(user, vhost);
            let said =
                [("configure", &patterns.configure), ("write", &patterns.write), ("read", &patterns.read)];
            fields.extend(said.map(|(name, pattern)| (name, text(pattern.as_str()))));
            fields
        });
    }

    /// Which routing keys a user may use with an exchange.
    pub(super) fn topic_permission(self, permission: &TopicPermission) {
        let TopicPermission { user, vhost, exchange, patterns } = permission;
        self.tell("topic.permission.created", || {
            let mut fields = whose(user, vhost);
            fields.push(("exchange", text(exchange)));
            let said = [("write", &patterns.write), ("read", &patterns.read)];
            fields.extend(said.map(|(name, pattern)| (name, text(pattern.as_str()))));
            fields
        });
    }

    /// A parameter of a vhost.
    pub(super) fn parameter(self, key: &ParameterKey, value: &Value) {
        self.tell("parameter.set", || {
            let mut fields = named(key);
            fields.push(("value", value.clone()));
            fields
        });
    }

    /// A global parameter.
    pub(super) fn global_parameter(self, name: &str, value: &Value) {
        self.tell("parameter.set", || {
            vec![("component", text("global")), ("name", text(name)), ("value", value.clone())]
        });
    }
}

/// What events say first of what a user may do in a vhost.
pub(super) fn whose(user: &str, vhost: &str) -> Headers {
    vec![("user", text(user)), ("vhost", text(vhost))]
}

/// What events say first of a parameter.
pub(super) fn named(key: &ParameterKey) -> Headers {
    vec![("component", text(&key.component)), ("name", text(&key.name)), ("vhost", text(&key.vhost))]
}
