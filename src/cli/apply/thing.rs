//! What files declare and brokers have, in one form.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// What a thing is, in the order in which things are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Vhost,
    User,
    Permission,
    TopicPermission,
    Policy,
    OperatorPolicy,
    Exchange,
    Queue,
    Binding,
}

/// Which thing it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) kind: Kind,
    /// The vhost that it is in; empty for users. A vhost is in itself.
    pub(super) vhost: String,
    /// What identifies it: of a binding source, type and name of the destination, routing key and arguments.
    pub(super) names: Vec<String>,
}

/// What is said of each thing: fields as the management API has them.
pub(super) type Things = BTreeMap<Id, Map<String, Value>>;

impl Id {
    pub(super) fn new(kind: Kind, vhost: &str, names: &[&str]) -> Id {
        Id { kind, vhost: vhost.to_owned(), names: names.iter().map(|&name| name.to_owned()).collect() }
    }

    /// The identity of a binding.
    pub(super) fn binding(
        vhost: &str,
        source: &str,
        destination: (&str, &str),
        routing_key: &str,
        arguments: &Value,
    ) -> Id {
        let mut arguments = arguments.clone();
        arguments.sort_all_objects();
        let (kind, name) = destination;
        Id::new(Kind::Binding, vhost, &[source, kind, name, routing_key, &arguments.to_string()])
    }

    /// The user, exchange, queue, policy or source that it begins with.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Whether it is a binding from or to that queue or exchange.
    pub(super) fn is_binding_of(&self, other: &Id) -> bool {
        if self.kind != Kind::Binding || self.vhost != other.vhost {
            return false;
        }
        let [source, kind, destination, ..] = self.names.as_slice() else { return false };
        let own_kind = if other.kind == Kind::Queue { "queue" } else { "exchange" };
        let leads_to = kind == own_kind && destination == other.name();
        leads_to || (other.kind == Kind::Exchange && source == other.name())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, vhost) = (self.name(), &self.vhost);
        match (self.kind, self.names.as_slice()) {
            (Kind::Vhost, _) => write!(f, "vhost '{vhost}'"),
            (Kind::User, _) => write!(f, "user '{name}'"),
            (Kind::Permission, _) => write!(f, "permissions of user '{name}' in vhost '{vhost}'"),
            (Kind::TopicPermission, [user, exchange]) => {
                write!(f, "topic permissions of user '{user}' for exchange '{exchange}' in vhost '{vhost}'")
            }
            (Kind::Binding, [source, kind, destination, key, arguments]) => {
                write!(
                    f,
                    "binding of {kind} '{destination}' to exchange '{source}' in vhost '{vhost}' with key '{key}'"
                )?;
                if arguments == "{}" { Ok(()) } else { write!(f, " and {arguments}") }
            }
            (Kind::Policy, _) => write!(f, "policy '{name}' in vhost '{vhost}'"),
            (Kind::OperatorPolicy, _) => write!(f, "operator policy '{name}' in vhost '{vhost}'"),
            (Kind::Exchange, _) => write!(f, "exchange '{name}' in vhost '{vhost}'"),
            (Kind::Queue, _) => write!(f, "queue '{name}' in vhost '{vhost}'"),
            (Kind::TopicPermission | Kind::Binding, names) => write!(f, "{names:?} in vhost '{vhost}'"),
        }
    }
}
