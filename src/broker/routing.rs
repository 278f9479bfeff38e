//! From an exchange to a set of queues: exchange-to-exchange bindings, alternate exchanges, CC and BCC, each queue once.

use super::delivery::Outbox;
use super::exchange::{Binding, Destination, Envelope, Exchange, Matches};
use super::queue::{QueueHandle, QueueType};
use super::vhost::VirtualHost;
use crate::message::{ConsumerId, LinkId, Message, Name, QueueId, Value};
use crate::steps;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

/// Routing keys that begin so lead to a direct reply-to consumer.
pub const REPLY_TO_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// A consumer of direct replies: of a link that consumes from `amq.rabbitmq.reply-to`.
#[derive(Clone, Debug)]
pub struct ReplyConsumer {
    /// The outbox of its session, which replies go into.
    pub outbox: Arc<Outbox>,
    /// The link that consumes.
    pub link: LinkId,
    /// Which consumer of that link the reply is for.
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
    /// Whether one of the queues is a stream: those know of some publishers what they have of them.
    pub has_stream: bool,
    /// How many steps it took to find, roughly: of ten nanoseconds or so.
    pub work: usize,
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
#[derive(Debug, Default)]
struct Finding {
    route: Route,
    /// The queues of the route, once they are many.
    known: HashSet<QueueId>,
    /// Exchanges that have had their turn, or have it.
    seen: BTreeSet<Name>,
    to_visit: Vec<Arc<Exchange>>,
}

impl Finding {
    fn starting_at(exchange: &Arc<Exchange>) -> Finding {
        let route = Route { exchange: Some(exchange.clone()), ..Route::default() };
        Finding { route, to_visit: vec![exchange.clone()], ..Finding::default() }
    }

    fn next_exchange(&mut self) -> Option<Arc<Exchange>> {
        loop {
            let exchange = self.to_visit.pop()?;
            if is_default(&exchange) || self.seen.insert(exchange.definition().name.clone()) {
                return Some(exchange);
            }
        }
    }

    fn add(&mut self, queue: Arc<QueueHandle>) {
        self.route.has_stream |= queue.definition().queue_type == QueueType::Stream;
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

/// The route of a message with several keys, or one that leads to very many queues, which is found a part at a time: of keys there
/// may be thousands, and each may lead far.
#[derive(Debug, Default)]
pub struct Routing {
    /// Each once, the one that it was published with first.
    keys: Vec<Vec<u8>>,
    finding: Finding,
    /// Bindings that have matched and have yet to be followed.
    to_follow: VecDeque<Arc<Binding>>,
    /// The exchange whose turn it is.
    at: Option<Visit>,
}

/// How far an exchange has been asked.
#[derive(Debug)]
struct Visit {
    exchange: Arc<Exchange>,
    keys_done: usize,
    has_matched: bool,
}

impl Visit {
    fn of(exchange: Arc<Exchange>) -> Visit {
        Visit { exchange, keys_done: 0, has_matched: false }
    }
}

/// How many steps a part of a route takes, which is a millisecond or so.
const PART_STEPS: usize = 50_000;

/// More bindings than these are followed a part at a time.
const FOLLOWED_AT_ONCE: usize = 1000;

/// What it takes to find a queue by its name, in those steps.
const FOLLOW_STEPS: usize = 15;

/// A route, as far as it could be found at once.
#[derive(Debug)]
pub enum Found {
    /// All of it.
    Whole(Route),
    /// The rest has to be found with [`VirtualHost::go_on_routing`].
    Begun(Routing),
}

/// What a key takes apart from what it finds, in those steps.
const KEY_STEPS: usize = 10;

impl Routing {
    /// Nothing is found yet of the way from there.
    pub fn starting_at(exchange: &Arc<Exchange>, message: &Message) -> Routing {
        Routing::of(keys(message), Finding::starting_at(exchange), None)
    }

    fn of(keys: Vec<Vec<u8>>, finding: Finding, at: Option<Visit>) -> Routing {
        Routing { keys, finding, to_follow: VecDeque::new(), at }
    }

    /// The keys of CC and BCC.
    pub fn copies(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().skip(1).map(Vec::as_slice)
    }

    /// The route, as far as it was found.
    pub fn into_route(self) -> Route {
        self.finding.route
    }
}

impl VirtualHost {
    /// Finds the route of a message that is published to `exchange` with its routing key, CC and BCC.
    pub fn route(&self, exchange: &Arc<Exchange>, message: &Message) -> Route {
        match self.begin_route(exchange, message) {
            Found::Whole(route) => route,
            Found::Begun(mut routing) => {
                while !self.go_on_routing(&mut routing, message) {}
                routing.into_route()
            }
        }
    }

    /// Finds a route, or begins to when that takes long.
    pub fn begin_route(&self, exchange: &Arc<Exchange>, message: &Message) -> Found {
        if message.has_copies() {
            return Found::Begun(Routing::starting_at(exchange, message));
        }
        let mut found = Finding::starting_at(exchange);
        found.route.by_key_alone = true;
        let envelope = Envelope::new(message.routing_key(), message);
        while let Some(exchange) = found.next_exchange() {
            if is_default(&exchange) {
                self.route_by_queue_name(envelope.routing_key, &mut found);
                continue;
            }
            let bindings = exchange.bindings();
            let keys = || vec![message.routing_key().to_vec()];
            if !bindings.index().is_prepared() {
                return Found::Begun(Routing::of(keys(), found, Some(Visit::of(exchange.clone()))));
            }
            found.route.by_key_alone &= bindings.index().routes_by_key_alone();
            let mut matches = Matches::default();
            bindings.index().route(&envelope, &mut matches);
            found.route.work += matches.work();
            if matches.bindings().len() > steps::at_once(FOLLOWED_AT_ONCE) {
                let visit = Visit { exchange: exchange.clone(), keys_done: 1, has_matched: true };
                let mut routing = Routing::of(keys(), found, Some(visit));
                routing.to_follow.extend(matches.into_bindings().into_iter().cloned());
                return Found::Begun(routing);
            }
            if !self.follow(matches, &mut found) {
                self.go_to_alternate(&exchange, &mut found);
            }
        }
        Found::Whole(found.route)
    }

    /// Goes on finding a route for a millisecond or so, and says whether it is found.
    pub fn go_on_routing(&self, routing: &mut Routing, message: &Message) -> bool {
        let mut steps = 0;
        let Routing { keys, finding, to_follow, at } = routing;
        let part_steps = steps::at_once(PART_STEPS);
        while steps < part_steps {
            if let Some(binding) = to_follow.pop_front() {
                steps::count(FOLLOW_STEPS);
                steps += FOLLOW_STEPS;
                self.follow_one(&binding, finding);
                continue;
            }
            let Some(mut visit) = at.take().or_else(|| finding.next_exchange().map(Visit::of)) else {
                return true;
            };
            steps += self.visit(&mut visit, keys, message, part_steps - steps, (finding, to_follow));
            if visit.keys_done < keys.len() {
                *at = Some(visit);
            } else if !visit.has_matched {
                self.go_to_alternate(&visit.exchange, finding);
            }
        }
        false
    }

    /// Asks an exchange for some more keys, in about that many steps, and returns how many it took.
    fn visit(
        &self,
        visit: &mut Visit,
        keys: &[Vec<u8>],
        message: &Message,
        steps_max: usize,
        (found, to_follow): (&mut Finding, &mut VecDeque<Arc<Binding>>),
    ) -> usize {
        let is_default = is_default(&visit.exchange);
        let bindings = visit.exchange.bindings();
        let index = bindings.index();
        if !index.prepare() {
            return steps_max;
        }
        found.route.by_key_alone &= is_default || index.routes_by_key_alone();
        let mut matches = Matches::of_several_keys();
        let (mut of_keys, mut steps) = (0, 0);
        while steps < steps_max && visit.keys_done < keys.len() {
            let key = &keys[visit.keys_done];
            visit.keys_done += 1;
            if is_default {
                self.route_by_queue_name(key, found);
            } else {
                index.route(&Envelope::new(key, message), &mut matches);
                if index.ignores_routing_key() {
                    visit.keys_done = keys.len();
                }
            }
            of_keys += KEY_STEPS;
            steps = of_keys + matches.work();
        }
        let matched = matches.into_bindings();
        // The default exchange has no alternative.
        visit.has_matched |= is_default || !matched.is_empty();
        to_follow.extend(matched.into_iter().cloned());
        steps
    }

    /// Goes where bindings lead, and says whether there were any.
    fn follow(&self, matches: Matches<'_>, found: &mut Finding) -> bool {
        let matched = matches.into_bindings();
        matched.iter().for_each(|binding| self.follow_one(binding, found));
        !matched.is_empty()
    }

    fn follow_one(&self, binding: &Binding, found: &mut Finding) {
        match &binding.destination {
            Destination::Queue(name) => {
                if let Some(queue) = self.queue(name) {
                    found.add(queue);
                }
            }
            Destination::Exchange(name) => found.to_visit.extend(self.exchange(name)),
        }
    }

    /// What matches no binding goes to the alternate exchange.
    fn go_to_alternate(&self, exchange: &Exchange, found: &mut Finding) {
        let Some(alternate) = exchange.alternate_exchange() else { return };
        match self.exchange(&alternate) {
            // The default exchange is no alternative: it would know the queue's name already.
            Some(alternate) if is_default(&alternate) => {}
            Some(alternate) => found.to_visit.push(alternate),
            None => tracing::warn!(
                "{} names the alternate exchange '{alternate}', which does not exist: unroutable messages are dropped",
                exchange.definition().resource()
            ),
        }
    }

    /// The route of a message that was published some time ago, by the names it led to then: RabbitMQ keeps those too. A queue
    /// that is gone is no longer in it, one that has taken its name is, and the default exchange finds those that came meanwhile.
    pub fn route_again(&self, earlier: &Route, message: &Message) -> Route {
        match &earlier.exchange {
            Some(exchange) if exchange.definition().name.is_empty() => self.route(exchange, message),
            exchange => {
                let names = earlier.queues.iter().map(|queue| &queue.definition().name);
                let mut found = Finding {
                    route: Route { exchange: exchange.clone(), ..Route::default() },
                    ..Finding::default()
                };
                names.filter_map(|name| self.queue(name)).for_each(|queue| found.add(queue));
                found.route
            }
        }
    }

    /// The default exchange: every queue is bound to it by its name (0-9-1 section 3.1.3.1).
    fn route_by_queue_name(&self, routing_key: &[u8], found: &mut Finding) {
        let Ok(name) = std::str::from_utf8(routing_key) else { return };
        if let Some(token) = name.strip_prefix(REPLY_TO_PREFIX) {
            found.route.reply = self.shared().reply_consumer(token);
            found.route.by_key_alone = false;
        } else if let Some(queue) = self.queue(name) {
            found.add(queue);
        }
    }
}

fn is_default(exchange: &Exchange) -> bool {
    exchange.definition().name.is_empty()
}

/// A message's routing key and those in its headers CC and BCC, each once.
fn keys(message: &Message) -> Vec<Vec<u8>> {
    let listed = listed_keys(message);
    let mut known = HashSet::with_capacity(listed.len());
    let is_first: Vec<bool> = listed.iter().map(|key| known.insert(key.as_slice())).collect();
    listed.into_iter().zip(is_first).filter_map(|(key, is_first)| is_first.then_some(key)).collect()
}

/// A message's routing key and those in its headers CC and BCC, as they are listed there.
pub(super) fn listed_keys(message: &Message) -> Vec<Vec<u8>> {
    let mut keys = vec![message.routing_key().to_vec()];
    let Some(headers) = message.headers().filter(|_| message.has_copies()) else { return keys };
    for name in ["CC", "BCC"] {
        if let Some(Value::Array(values)) = headers.field(name) {
            for value in values {
                if let Value::LongStr(key) = value {
                    keys.push(key.clone());
                }
            }
        }
    }
    keys
}
