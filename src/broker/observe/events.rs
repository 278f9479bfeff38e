//! Events: what is created, changed and deleted in the broker, published to the topic exchange `amq.rabbitmq.event` with the keys and
//! headers of RabbitMQ's event exchange plugin. All of them pass one place: [`Events::tell`].
//!
//! The caller may hold the topology's lock, so events wait until the end of the turn, and are published then. Without a binding
//! there are no events, which costs a look at one flag.

use crate::broker::actor::Actor;
use crate::broker::dialect::{Dialect, Plain};
use crate::broker::exchange::{Binding, Destination, Exchange, ExchangeDefinition};
use crate::broker::memory::{MemoryAccount, MemoryUse};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::QueueDefinition;
use crate::broker::turn::Turn;
use crate::broker::vhost::VirtualHost;
use crate::broker::{Broker, Shared};
use crate::message::{ChannelNumber, ConnectionId, FieldTable, Message, Millis, Name, Properties, Value};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exchange that events are published to.
pub(crate) const EXCHANGE: &str = "amq.rabbitmq.event";

/// The user that RabbitMQ names where no user has acted.
const INTERNAL_USER: &str = "rmq-internal";

/// The node's name where none was set.
const DEFAULT_NODE_NAME: &str = "leveret@localhost";

/// Where events are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSettings {
    /// The vhost that has the exchange; `None` is no exchange, and no events.
    pub vhost: Option<Name>,
    /// Events of one turn; what comes beyond is dropped.
    pub waiting_max: usize,
}

impl Default for EventSettings {
    fn default() -> EventSettings {
        EventSettings { vhost: None, waiting_max: 10_000 }
    }
}

/// Who did what an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// RabbitMQ does not say.
    Unsaid,
    /// The broker itself.
    Broker,
    /// A user.
    User(Name),
    /// The user of a connection.
    Connection(ConnectionId),
}

impl From<Actor<'_>> for By {
    fn from(actor: Actor<'_>) -> By {
        match actor {
            Actor::Connection(id) => By::Connection(id),
            Actor::Operator(name) => By::User(name.into()),
            Actor::Broker => By::Broker,
        }
    }
}

/// The headers of an event besides the time and who did it.
pub type Headers = Vec<(&'static str, Value)>;

/// Something that happened.
#[derive(Debug)]
struct Event {
    key: &'static str,
    by: By,
    headers: FieldTable,
    bytes: usize,
}

/// The events that wait for the end of a turn; see the module.
#[derive(Debug, Default)]
pub struct Events {
    settings: EventSettings,
    is_heard: AtomicBool,
    /// Held while it is found out whether there are bindings, so that the last look is the one that counts.
    looking: Mutex<()>,
    are_waiting: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    dropped: u64,
}

impl Events {
    pub(in crate::broker) fn new(settings: EventSettings) -> Events {
        Events { settings, ..Events::default() }
    }

    /// Whether a vhost is the one that has the exchange.
    pub(in crate::broker) fn are_told_in(&self, vhost: &str) -> bool {
        self.settings.vhost.as_deref() == Some(vhost)
    }

    /// The topology of the vhost with the exchange has changed.
    pub(in crate::broker) fn look_for_bindings(&self, exchange: Option<&Exchange>) {
        let _looking = self.looking.lock();
        self.is_heard
            .store(exchange.is_some_and(|exchange| !exchange.bindings().is_empty()), Ordering::Release);
    }

    /// Whether anybody would hear of an event.
    pub fn are_heard(&self) -> bool {
        self.is_heard.load(Ordering::Acquire)
    }

    /// Tells an event at the end of the turn, if anybody hears it; only then `fields` is called.
    pub fn tell(&self, memory: &MemoryAccount, key: &'static str, by: By, fields: impl FnOnce() -> Headers) {
        if !self.are_heard() {
            return;
        }
        let headers: FieldTable = fields().into_iter().collect();
        let mut encoded = Vec::new();
        headers.encode(&mut encoded);
        let bytes = encoded.len() + size_of::<Event>();
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= self.settings.waiting_max {
            waiting.dropped += 1;
            return;
        }
        memory.add(MemoryUse::Outboxes, bytes.cast_signed() as i64);
        waiting.events.push_back(Event { key, by, headers, bytes });
        self.are_waiting.store(true, Ordering::Release);
    }

    fn take(&self) -> Waiting {
        let mut waiting = self.waiting.lock();
        self.are_waiting.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }
}

impl Broker {
    /// The events of this turn, and where they are published.
    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    /// Tells an event at the end of the turn, if anybody hears it.
    pub fn tell(&self, key: &'static str, by: By, fields: impl FnOnce() -> Headers) {
        self.shared.tell(key, by, fields);
    }

    /// Publishes what was told outside of a turn.
    pub fn tell_now(&self, now: Millis) {
        self.end_turn(&mut Turn::at(now));
    }

    /// What stands for a connection, or for one of its channels, where RabbitMQ has the name of a process.
    pub fn pid(&self, connection: ConnectionId, channel: ChannelNumber) -> Value {
        self.shared.pid(connection, channel)
    }

    /// Sets the node's name, which messages of the broker's own have. It is set once: others say nothing.
    pub fn set_node_name(&self, name: &str) {
        self.shared.node_name.get_or_init(|| name.into());
    }

    /// Name of the node, as events give it.
    pub fn node_name(&self) -> &str {
        self.shared.node_name()
    }

    /// Sets the words that the broker speaks in. They are set once: others say nothing.
    pub fn set_dialect(&self, dialect: impl Dialect + 'static) {
        self.shared.dialect.get_or_init(|| Box::new(dialect));
    }

    /// Publishes the events that wait. No lock of the core is held.
    #[inline]
    pub(in crate::broker) fn publish_events(&self, turn: &mut Turn) {
        // To publish one may end a queue, which is another event.
        while self.shared.events.are_waiting.load(Ordering::Acquire) {
            self.publish_waiting_events(turn);
        }
    }

    #[cold]
    fn publish_waiting_events(&self, turn: &mut Turn) {
        let Waiting { events, dropped } = self.shared.events.take();
        if dropped > 0 {
            tracing::warn!(
                "{dropped} events were dropped: more than {} came at once (events.waiting_max)",
                self.shared.events.settings.waiting_max
            );
        }
        let vhost = self.shared.events.settings.vhost.as_deref().and_then(|vhost| self.vhost(vhost));
        for event in events {
            self.shared.memory.add(MemoryUse::Outboxes, -(event.bytes.cast_signed() as i64));
            if let Some(vhost) = &vhost
                && let Some(exchange) = vhost.exchange(EXCHANGE)
            {
                let message = self.event_message(event, turn.now);
                let route = vhost.route(&exchange, &message);
                vhost.publish(&route, &mut vec![message], turn, &mut Vec::new());
            }
        }
        if let Some(vhost) = vhost {
            vhost.apply_effects(turn);
        }
    }

    fn event_message(&self, event: Event, now: Millis) -> Message {
        let Event { key, by, mut headers, .. } = event;
        headers.insert("timestamp_in_ms", Value::I64(now.cast_signed()));
        let user = match by {
            By::Unsaid => None,
            By::Broker => Some(INTERNAL_USER.into()),
            By::User(name) => Some(name),
            // One that has ended asked for nothing: what it had ends with it.
            By::Connection(id) => Some(
                self.connections
                    .find(id)
                    .map_or_else(|| INTERNAL_USER.into(), |live| live.facts().user.clone()),
            ),
        };
        if let Some(user) = user {
            headers.insert("user_who_performed_action", Value::from(&*user));
        }
        headers.sort();
        let properties = Properties {
            headers: Some(headers),
            delivery_mode: Some(2),
            timestamp: Some(now / 1000),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let message = Message::new(EXCHANGE, key.as_bytes(), &encoded, &[]);
        message.expect("properties that were just encoded are sound")
    }
}

impl Shared {
    /// The node's name, as messages of the broker's own have it.
    pub(in crate::broker) fn node_name(&self) -> &str {
        self.node_name.get().map_or(DEFAULT_NODE_NAME, |name| name)
    }

    pub(in crate::broker) fn dialect(&self) -> &dyn Dialect {
        self.dialect.get().map_or(&Plain, |dialect| &**dialect)
    }

    pub(in crate::broker) fn tell(&self, key: &'static str, by: By, fields: impl FnOnce() -> Headers) {
        self.events.tell(&self.memory, key, by, fields);
    }

    /// What stands for a connection, or for one of its channels, where RabbitMQ has the name of a process.
    pub(in crate::broker) fn pid(&self, connection: ConnectionId, channel: ChannelNumber) -> Value {
        text(&format!("<{}.{}.{channel}>", self.node_name(), connection.0))
    }
}

/// A number, as events have all of them.
pub fn number(number: impl Into<i64>) -> Value {
    Value::I64(number.into())
}

/// A text as a value of an event's headers.
pub fn text(text: &str) -> Value {
    Value::from(text)
}

impl VirtualHost {
    fn tell(&self, key: &'static str, by: Actor<'_>, fields: impl FnOnce() -> Headers) {
        self.shared().tell(key, by.into(), || {
            let mut fields = fields();
            fields.push(("vhost", text(self.name())));
            fields
        });
    }

    fn type_of(&self, queue: &QueueDefinition) -> Value {
        self.shared().dialect().queue_type(queue.queue_type)
    }

    pub(in crate::broker) fn tell_exchange_created(&self, definition: &ExchangeDefinition, by: Actor<'_>) {
        self.tell("exchange.created", by, || {
            vec![
                ("arguments", self.shared().dialect().arguments(&definition.arguments.decode())),
                ("auto_delete", Value::Bool(definition.auto_delete)),
                ("durable", Value::Bool(definition.durable)),
                ("internal", Value::Bool(definition.internal)),
                ("name", text(&definition.name)),
                // RabbitMQ tells of it before it looks for one.
                ("policy", text("")),
                ("type", text(&definition.kind)),
            ]
        });
    }

    pub(in crate::broker) fn tell_exchange_deleted(&self, definition: &ExchangeDefinition, by: Actor<'_>) {
        self.tell("exchange.deleted", by, || vec![("name", text(&definition.name))]);
    }

    pub(in crate::broker) fn tell_queue_created(&self, definition: &QueueDefinition, by: Actor<'_>) {
        self.tell("queue.created", by, || {
            let node = text(self.shared().node_name());
            let owner = definition.exclusive_owner.map(|id| self.shared().pid(id, 0));
            vec![
                ("arguments", self.shared().dialect().arguments(&definition.arguments.decode())),
                ("auto_delete", Value::Bool(definition.auto_delete)),
                ("durable", Value::Bool(definition.durable)),
                ("exclusive", Value::Bool(definition.exclusive_owner.is_some())),
                ("leader", node.clone()),
                ("members", Value::Array(vec![node])),
                ("name", text(&definition.name)),
                ("owner_pid", owner.unwrap_or_else(|| text(""))),
                ("type", self.type_of(definition)),
            ]
        });
    }

    pub(in crate::broker) fn tell_queue_deleted(&self, definition: &QueueDefinition, by: Actor<'_>) {
        self.tell("queue.deleted", by, || {
            vec![("name", text(&definition.name)), ("type", self.type_of(definition))]
        });
    }

    pub(in crate::broker) fn tell_queue_policy_updated(
        &self,
        queue: &QueueDefinition,
        policy: &Policy,
        by: Actor<'_>,
    ) {
        self.tell("queue.policy.updated", by, || {
            let mut told = said_of_policy(policy);
            told.extend([("name", text(&queue.name)), ("type", self.type_of(queue))]);
            told
        });
    }

    pub(in crate::broker) fn tell_queue_policy_cleared(&self, queue: &QueueDefinition, by: Actor<'_>) {
        self.tell("queue.policy.cleared", by, || {
            vec![("name", text(&queue.name)), ("type", self.type_of(queue))]
        });
    }

    pub(in crate::broker) fn tell_policy_set(&self, policy: &Policy, by: Actor<'_>) {
        self.tell("policy.set", by, || {
            let mut told = said_of_policy(policy);
            told.push(("name", text(&policy.name)));
            told
        });
    }

    pub(in crate::broker) fn tell_policy_cleared(&self, kind: PolicyKind, name: &str, by: Actor<'_>) {
        let key = match kind {
            PolicyKind::Policy => "policy.cleared",
            PolicyKind::Operator => "operator.policy.cleared",
        };
        self.tell(key, by, || vec![("name", text(name))]);
    }

    pub(in crate::broker) fn tell_binding(&self, key: &'static str, binding: &Binding, by: Actor<'_>) {
        self.tell(key, by, || {
            let (kind, name) = match &binding.destination {
                Destination::Queue(name) => ("queue", name),
                Destination::Exchange(name) => ("exchange", name),
            };
            vec![
                ("arguments", self.shared().dialect().arguments(&binding.arguments.decode())),
                ("destination_kind", text(kind)),
                ("destination_name", text(name)),
                ("routing_key", Value::LongStr(binding.routing_key.as_bytes().to_vec())),
                ("source_kind", text("exchange")),
                ("source_name", text(&binding.source)),
            ]
        });
    }
}

/// What events say of a policy besides its name.
fn said_of_policy(policy: &Policy) -> Headers {
    let fields = policy.fields();
    let said = ["apply-to", "definition", "pattern", "priority"].into_iter();
    said.filter_map(|name| Some((name, fields.field(name)?.clone()))).collect()
}

/// The event's exchange for a vhost, if that is the one which has it.
pub(in crate::broker) fn look(vhost: &VirtualHost, events: &Events) {
    if events.are_told_in(vhost.name()) {
        let exchange: Option<Arc<Exchange>> = vhost.exchange(EXCHANGE);
        events.look_for_bindings(exchange.as_deref());
    }
}
