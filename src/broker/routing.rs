//! From an exchange to a set of queues: exchange-to-exchange bindings, alternate exchanges, CC and BCC, each queue once.

use super::delivery::Outbox;
use super::exchange::{Binding, Bindings, Destination, Envelope, Exchange, Matches};
use super::queue::QueueHandle;
use super::vhost::VirtualHost;
use crate::message::{ChannelNumber, ConsumerId, Message, Name, QueueId, Value};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Routing keys that begin so lead to a direct reply-to consumer.
pub const REPLY_TO_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Who waits for direct replies: a channel that consumes from `amq.rabbitmq.reply-to`.
#[derive(Clone, Debug)]
pub struct ReplyConsumer {
    /// The session's outbox.
    pub outbox: Arc<Outbox>,
    /// The channel.
    pub channel: ChannelNumber,
    /// The consumer.
    pub consumer: ConsumerId,
}

/// Where a message goes.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The queues, each once.
    pub queues: Vec<Arc<QueueHandle>>,
    /// The direct reply-to consumer, if its address was the routing key.
    pub reply: Option<ReplyConsumer>,
    /// The exchange that it starts from, which counts what goes this way.
    pub exchange: Option<Arc<Exchange>>,
    /// Whether every message with this key takes the same route until the topology changes.
    pub by_key_alone: bool,
}

impl Route {
    /// Counts messages that go this way, and says how many copies of them get into queues.
    pub fn count(&self, messages: usize) -> u64 {
        if let Some(exchange) = &self.exchange {
            exchange.counters().count(messages, self.queues.len());
        }
        (messages * self.queues.len()) as u64
    }

    /// Whether it leads nowhere.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.reply.is_none()
    }
}

/// Below this, looking through all is faster than a table.
const TABLE_FROM: usize = 16;

/// A route that is being found.
#[derive(Default)]
struct Finding {
    route: Route,
    /// The queues of the route, once they are many.
    known: HashSet<QueueId>,
}

impl Finding {
    fn add(&mut self, queue: Arc<QueueHandle>) {
        let queues = &mut self.route.queues;
        if queues.len() < TABLE_FROM {
            if !queues.iter().any(|other| Arc::ptr_eq(other, &queue)) {
                queues.push(queue);
            }
            return;
        }
        if self.known.is_empty() {
            self.known = queues.iter().map(|queue| queue.definition().id).collect();
        }
        if self.known.insert(queue.definition().id) {
            queues.push(queue);
        }
    }
}

impl VirtualHost {
    /// Finds the route of a message that is published to `exchange` with its routing key, CC and BCC.
    pub fn route(&self, exchange: &Arc<Exchange>, message: &Message) -> Route {
        let mut found = Finding::default();
        found.route.exchange = Some(exchange.clone());
        let copies = if message.has_copies() { copies(message) } else { Vec::new() };
        found.route.by_key_alone = copies.is_empty();
        let envelopes: Vec<Envelope<'_>> = std::iter::once(message.routing_key())
            .chain(copies.iter().map(Vec::as_slice))
            .map(|key| Envelope::new(key, message))
            .collect();
        let mut seen: BTreeSet<Name> = BTreeSet::new();
        let mut to_visit = vec![exchange.clone()];
        while let Some(exchange) = to_visit.pop() {
            if exchange.definition().name.is_empty() {
                self.route_by_queue_name(&envelopes, &mut found);
                continue;
            }
            if seen.insert(exchange.definition().name.clone()) {
                self.visit(&exchange, &envelopes, &mut found, &mut to_visit);
            }
        }
        found.route
    }

    /// The route of a message that was published some time ago, by the names it led to then: RabbitMQ keeps those too. A queue
    /// that is gone is no longer in it, one that has taken its name is, and the default exchange finds those that came meanwhile.
    pub fn route_again(&self, earlier: &Route, message: &Message) -> Route {
        match &earlier.exchange {
            Some(exchange) if exchange.definition().name.is_empty() => self.route(exchange, message),
            exchange => Route {
                queues: earlier
                    .queues
                    .iter()
                    .filter_map(|queue| self.queue(&queue.definition().name))
                    .collect(),
                reply: None,
                exchange: exchange.clone(),
                by_key_alone: false,
            },
        }
    }

    /// Follows the bindings of one exchange, or else goes to its alternate exchange.
    fn visit(
        &self,
        exchange: &Exchange,
        envelopes: &[Envelope<'_>],
        found: &mut Finding,
        to_visit: &mut Vec<Arc<Exchange>>,
    ) {
        let bindings = exchange.bindings();
        found.route.by_key_alone &= bindings.index().routes_by_key_alone();
        let matched = matched(&bindings, envelopes);
        for binding in &matched {
            match &binding.destination {
                Destination::Queue(name) => {
                    if let Some(queue) = self.queue(name) {
                        found.add(queue);
                    }
                }
                Destination::Exchange(name) => to_visit.extend(self.exchange(name)),
            }
        }
        if matched.is_empty()
            && let Some(alternate) = exchange.alternate_exchange()
        {
            match self.exchange(&alternate) {
                // The default exchange is no alternative: it would know the queue's name already.
                Some(alternate) if alternate.definition().name.is_empty() => {}
                Some(alternate) => to_visit.push(alternate),
                None => tracing::warn!(
                    "{} names the alternate exchange '{alternate}', which does not exist: unroutable messages are dropped",
                    exchange.definition().resource()
                ),
            }
        }
    }

    /// The default exchange: every queue is bound to it by its name (0-9-1 section 3.1.3.1).
    fn route_by_queue_name(&self, envelopes: &[Envelope<'_>], found: &mut Finding) {
        for envelope in envelopes {
            let Ok(name) = std::str::from_utf8(envelope.routing_key) else { continue };
            if let Some(token) = name.strip_prefix(REPLY_TO_PREFIX) {
                found.route.reply = self.shared().reply_consumer(token);
                found.route.by_key_alone = false;
            } else if let Some(queue) = self.queue(name) {
                found.add(queue);
            }
        }
    }
}

/// The bindings that one of the envelopes matches. Copies may be many, and bindings too: of several envelopes that match the
/// same binding only the first counts.
fn matched<'a>(bindings: &'a Bindings, envelopes: &[Envelope<'_>]) -> Vec<&'a Arc<Binding>> {
    let mut matched = Vec::new();
    let mut known: HashSet<*const Binding> = HashSet::new();
    for envelope in envelopes {
        let mut matches = Matches::default();
        bindings.index().route(envelope, &mut matches);
        if envelopes.len() == 1 {
            return matches.into_bindings();
        }
        matched
            .extend(matches.into_bindings().into_iter().filter(|binding| known.insert(Arc::as_ptr(binding))));
        if matched.len() == bindings.len() {
            break;
        }
    }
    matched
}

/// The routing keys in the headers CC and BCC.
pub(crate) fn copies(message: &Message) -> Vec<Vec<u8>> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let mut keys = Vec::new();
    for name in ["CC", "BCC"] {
        if let Some(Value::Array(values)) = headers.field(name) {
            keys.extend(values.iter().filter_map(|value| match value {
                Value::LongStr(key) if key != message.routing_key() => Some(key.clone()),
                _ => None,
            }));
        }
    }
    keys
}
