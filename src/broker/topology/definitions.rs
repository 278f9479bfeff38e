//! What the store's table of definitions holds: vhosts, exchanges, queues, bindings, users, permissions, policies and
//! parameters, each a field table under its own key.

mod access;

use super::parameters::ParameterKey;
use super::vhost_settings::VhostSettings;
use crate::broker::access::permissions::{Permission, TopicPermission};
use crate::broker::access::users::User;
use crate::broker::exchange::{Binding, Destination, ExchangeDefinition};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::{QueueDeclaration, QueueDefinition};
use crate::message::{DecodeError, FieldTable, Name, QueueId, ShortStr, Value};
use crate::store::DefinitionChanges;
use std::sync::Arc;

/// One durable definition, as it is kept in the store.
#[derive(Clone, Debug)]
pub enum Definition {
    /// A vhost with its settings.
    VirtualHost(Name, VhostSettings),
    /// A durable exchange.
    Exchange(ExchangeDefinition),
    /// A queue of a vhost, with its id.
    Queue(Name, QueueId, QueueDeclaration),
    /// A binding of a vhost.
    Binding(Name, Binding),
    /// A user with password hash, tags and limits.
    User(User),
    /// What a user may do in a vhost.
    Permission(Permission),
    /// What a user may do with the routing keys of an exchange.
    TopicPermission(TopicPermission),
    /// A policy of a vhost.
    Policy(Name, PolicyKind, Arc<Policy>),
    /// A runtime parameter of a vhost.
    Parameter(ParameterKey, Value),
    /// A runtime parameter of the whole broker.
    GlobalParameter(Name, Value),
}

/// Definitions of one kind are together, in the order in which they have to be restored.
const VHOST: u8 = b'1';
const EXCHANGE: u8 = b'2';
pub(super) const QUEUE: u8 = b'3';
const BINDING: u8 = b'4';
/// Of these no order matters, but that they come behind the vhosts.
const POLICY: u8 = b'P';
const OPERATOR_POLICY: u8 = b'O';
const PARAMETER: u8 = b'R';
const GLOBAL_PARAMETER: u8 = b'G';
const USER: u8 = b'a';
const PERMISSION: u8 = b'b';
const TOPIC_PERMISSION: u8 = b'c';

const KINDS: [u8; 11] = [
    VHOST,
    EXCHANGE,
    QUEUE,
    BINDING,
    POLICY,
    OPERATOR_POLICY,
    PARAMETER,
    GLOBAL_PARAMETER,
    USER,
    PERMISSION,
    TOPIC_PERMISSION,
];

/// What definitions of a kind are called: the kind is the first byte of their keys.
pub fn kind_name(kind: u8) -> &'static str {
    match kind {
        VHOST => "vhosts",
        EXCHANGE => "exchanges",
        QUEUE => "queues",
        BINDING => "bindings",
        POLICY => "policies",
        OPERATOR_POLICY => "operator_policies",
        PARAMETER => "parameters",
        GLOBAL_PARAMETER => "global_parameters",
        USER => "users",
        PERMISSION => "permissions",
        TOPIC_PERMISSION => "topic_permissions",
        _ => "settings",
    }
}

fn policy_kind(kind: PolicyKind) -> u8 {
    match kind {
        PolicyKind::Policy => POLICY,
        PolicyKind::Operator => OPERATOR_POLICY,
    }
}

impl Definition {
    /// What is kept of a queue's definition.
    pub fn queue(definition: &QueueDefinition) -> Definition {
        let declaration = QueueDeclaration {
            name: definition.name.clone(),
            durable: definition.durable,
            auto_delete: definition.auto_delete,
            exclusive_owner: None,
            arguments: definition.arguments.decode(),
        };
        Definition::Queue(definition.vhost.clone(), definition.id, declaration)
    }

    /// Sets it with those changes.
    pub fn put(&self, changes: &mut DefinitionChanges) {
        changes.put(&self.key(), &self.encode());
    }

    /// Removes it with those changes.
    pub fn remove(&self, changes: &mut DefinitionChanges) {
        changes.remove(&self.key());
    }

    /// The changes that set it alone.
    pub fn as_change(&self) -> DefinitionChanges {
        let mut changes = DefinitionChanges::default();
        self.put(&mut changes);
        changes
    }

    /// The changes that remove it alone.
    pub fn as_removal(&self) -> DefinitionChanges {
        let mut changes = DefinitionChanges::default();
        self.remove(&mut changes);
        changes
    }

    /// Where it stands in the table.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Definition::VirtualHost(name, _) => key(VHOST, &[name.as_bytes()]),
            Definition::User(user) => key(USER, &[user.name.as_bytes()]),
            Definition::Permission(Permission { user, vhost, .. }) => {
                key(PERMISSION, &[user.as_bytes(), vhost.as_bytes()])
            }
            Definition::TopicPermission(TopicPermission { user, vhost, exchange, .. }) => {
                key(TOPIC_PERMISSION, &[user.as_bytes(), vhost.as_bytes(), exchange.as_bytes()])
            }
            Definition::Exchange(exchange) => {
                key(EXCHANGE, &[exchange.vhost.as_bytes(), exchange.name.as_bytes()])
            }
            Definition::Queue(vhost, _, queue) => key(QUEUE, &[vhost.as_bytes(), queue.name.as_bytes()]),
            Definition::Policy(vhost, kind, policy) => {
                key(policy_kind(*kind), &[vhost.as_bytes(), policy.name.as_bytes()])
            }
            Definition::Parameter(ParameterKey { component, vhost, name }, _) => {
                key(PARAMETER, &[component.as_bytes(), vhost.as_bytes(), name.as_bytes()])
            }
            Definition::GlobalParameter(name, _) => key(GLOBAL_PARAMETER, &[name.as_bytes()]),
            Definition::Binding(vhost, binding) => {
                let mut arguments = Vec::new();
                binding.arguments.encode(&mut arguments);
                let (kind, destination) = destination_parts(&binding.destination);
                key(
                    BINDING,
                    &[
                        vhost.as_bytes(),
                        binding.source.as_bytes(),
                        kind.as_bytes(),
                        destination.as_bytes(),
                        binding.routing_key.as_bytes(),
                        &arguments,
                    ],
                )
            }
        }
    }

    /// Its value in the table.
    pub fn encode(&self) -> Vec<u8> {
        let table: FieldTable = match self {
            Definition::VirtualHost(name, settings) => access::vhost_table(name, settings),
            Definition::User(user) => access::user_table(user),
            Definition::Permission(permission) => access::permission_table(permission),
            Definition::TopicPermission(permission) => access::topic_permission_table(permission),
            Definition::Policy(vhost, _, policy) => {
                let mut fields = policy.fields();
                fields.insert("vhost", text(vhost));
                fields.insert("name", text(&policy.name));
                fields
            }
            Definition::Parameter(key, value) => fields([
                ("component", text(&key.component)),
                ("vhost", text(&key.vhost)),
                ("name", text(&key.name)),
                ("value", value.clone()),
            ]),
            Definition::GlobalParameter(name, value) => {
                fields([("name", text(name)), ("value", value.clone())])
            }
            Definition::Exchange(exchange) => fields([
                ("vhost", text(&exchange.vhost)),
                ("name", text(&exchange.name)),
                ("type", text(&exchange.kind)),
                ("auto_delete", Value::Bool(exchange.auto_delete)),
                ("internal", Value::Bool(exchange.internal)),
                ("arguments", Value::Table(exchange.arguments.decode())),
            ]),
            Definition::Queue(vhost, id, queue) => fields([
                ("vhost", text(vhost)),
                ("name", text(&queue.name)),
                ("id", Value::Timestamp(id.0)),
                ("auto_delete", Value::Bool(queue.auto_delete)),
                ("arguments", Value::Table(queue.arguments.clone())),
            ]),
            Definition::Binding(vhost, binding) => {
                let (kind, destination) = destination_parts(&binding.destination);
                fields([
                    ("vhost", text(vhost)),
                    ("source", text(&binding.source)),
                    ("destination_type", Value::from(kind)),
                    ("destination", text(destination)),
                    ("routing_key", Value::LongStr(binding.routing_key.as_bytes().to_vec())),
                    ("arguments", Value::Table(binding.arguments.decode())),
                ])
            }
        };
        let mut encoded = Vec::new();
        table.encode(&mut encoded);
        encoded
    }

    /// Reads a definition back; `None` for an entry that is not the core's.
    ///
    /// # Errors
    /// When the entry is damaged.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Option<Definition>, DecodeError> {
        let kind = key.first().copied().unwrap_or_default();
        if !KINDS.contains(&kind) {
            return Ok(None);
        }
        let table = FieldTable::decode(value, usize::MAX)?;
        let stored = Stored(&table);
        Ok(Some(match kind {
            VHOST => Definition::VirtualHost(stored.name("name")?, access::vhost_settings(&table)),
            USER => Definition::User(access::user(&table)?),
            PERMISSION => Definition::Permission(access::permission(&table)?),
            TOPIC_PERMISSION => Definition::TopicPermission(access::topic_permission(&table)?),
            EXCHANGE => Definition::Exchange(stored.exchange()?),
            QUEUE => stored.queue()?,
            BINDING => Definition::Binding(stored.name("vhost")?, stored.binding()?),
            PARAMETER => {
                let key = ParameterKey {
                    component: stored.name("component")?,
                    vhost: stored.name("vhost")?,
                    name: stored.name("name")?,
                };
                Definition::Parameter(key, stored.value())
            }
            GLOBAL_PARAMETER => Definition::GlobalParameter(stored.name("name")?, stored.value()),
            POLICY => stored.policy(PolicyKind::Policy)?,
            _ => stored.policy(PolicyKind::Operator)?,
        }))
    }
}

/// The table of a definition, as the store has it.
struct Stored<'a>(&'a FieldTable);

impl Stored<'_> {
    fn name(&self, field: &str) -> Result<Name, DecodeError> {
        self.0.field(field).and_then(Value::as_str).map(Into::into).ok_or(DecodeError::Truncated)
    }

    fn flag(&self, field: &str) -> bool {
        self.0.field(field) == Some(&Value::Bool(true))
    }

    fn arguments(&self) -> FieldTable {
        match self.0.field("arguments") {
            Some(Value::Table(arguments)) => arguments.clone(),
            _ => FieldTable::default(),
        }
    }

    fn value(&self) -> Value {
        self.0.field("value").cloned().unwrap_or(Value::Void)
    }

    fn exchange(&self) -> Result<ExchangeDefinition, DecodeError> {
        Ok(ExchangeDefinition {
            vhost: self.name("vhost")?,
            name: self.name("name")?,
            kind: self.name("type")?,
            durable: true,
            auto_delete: self.flag("auto_delete"),
            internal: self.flag("internal"),
            arguments: self.arguments().into(),
        })
    }

    fn queue(&self) -> Result<Definition, DecodeError> {
        let Some(Value::Timestamp(id)) = self.0.field("id") else {
            return Err(DecodeError::Truncated);
        };
        let declaration = QueueDeclaration {
            name: self.name("name")?,
            durable: true,
            auto_delete: self.flag("auto_delete"),
            exclusive_owner: None,
            arguments: self.arguments(),
        };
        Ok(Definition::Queue(self.name("vhost")?, QueueId(*id), declaration))
    }

    fn binding(&self) -> Result<Binding, DecodeError> {
        let Some(Value::LongStr(routing_key)) = self.0.field("routing_key") else {
            return Err(DecodeError::Truncated);
        };
        let destination = match &*self.name("destination_type")? {
            "exchange" => Destination::Exchange(self.name("destination")?),
            _ => Destination::Queue(self.name("destination")?),
        };
        Ok(Binding {
            source: self.name("source")?,
            destination,
            routing_key: ShortStr::from(routing_key.as_slice()),
            arguments: self.arguments().into(),
        })
    }

    fn policy(&self, kind: PolicyKind) -> Result<Definition, DecodeError> {
        let policy = Policy::read(&self.name("name")?, self.0).ok_or(DecodeError::Truncated)?;
        Ok(Definition::Policy(self.name("vhost")?, kind, Arc::new(policy)))
    }
}

fn destination_parts(destination: &Destination) -> (&'static str, &Name) {
    match destination {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    }
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> FieldTable {
    fields.into_iter().collect()
}

fn text(name: &str) -> Value {
    Value::from(name)
}

/// The kind, then each part behind its length, so that no two lists of parts make the same key.
fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(
            &u32::try_from(part.len()).expect("a name or a table is shorter than 4 GiB").to_be_bytes(),
        );
        key.extend_from_slice(part);
    }
    key
}

/// What stands under a key of the table, for the log: its kind, and the names in the key.
pub(super) fn described(key: &[u8]) -> String {
    let kind = key.first().map_or("definitions", |kind| kind_name(*kind));
    let mut described = format!("of the stored {}", kind.replace('_', " "));
    let mut rest = key.get(1..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let Some((part, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize) else {
            break;
        };
        described.push_str(&format!(" '{}'", String::from_utf8_lossy(part)));
        rest = behind;
    }
    described
}
