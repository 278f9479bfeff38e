//! A virtual host: its exchanges and queues by name, and the way of a message through them.
//!
//! Lock order: topology, then one exchange's bindings, then one queue, then an outbox. Never two queues at once: what one
//! queue wants of another comes back as an effect, see [`VirtualHost::apply_effects`].

use super::Shared;
use super::dead_lettering::{LetterQueue, Letters};
use super::exchange::predeclared::{self, PREDECLARED};
use super::exchange::{Binding, Exchange};
use super::observe::events;
use super::observe::lengths::Lengths;
use super::observe::stats::{MessageStats, Samples, TotalSample, count};
use super::policy::Policies;
use super::queue::{Got, PageRequest, QueueDefinition, QueueHandle, QueueType};
use super::routing::Route;
use super::sequencing::LeftOut;
use super::timer::Deadline;
use super::topology::Topology;
use super::topology::vhost_settings::VhostSettings;
use super::turn::{Effect, Turn};
use crate::message::{Lsn, Message, Millis, Name, Position, QueueId};
use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Exchanges, queues and policies under one name, apart from those of other vhosts.
#[derive(Debug)]
pub struct VirtualHost {
    name: Name,
    shared: Arc<Shared>,
    exchanges: DashMap<Name, Arc<Exchange>>,
    queues: DashMap<Name, Arc<QueueHandle>>,
    pub(super) topology: Mutex<Topology>,
    pub(super) policies: RwLock<Arc<Policies>>,
    /// Held while policies change and are applied to all objects, which may take long.
    pub(super) policing: Mutex<()>,
    settings: Mutex<Arc<VhostSettings>>,
    /// What the settings say of tracing, for who publishes and delivers.
    is_traced: AtomicBool,
    version: AtomicU64,
    /// Dead letters that wait for the timer.
    pub(super) letters: Mutex<LetterQueue>,
    samples: Mutex<Samples<TotalSample>>,
    lengths: Mutex<Lengths>,
}

/// How often basic.get looks for a message that has to be read back.
const PAGED_GET_ATTEMPTS: usize = 8;

/// What it takes to delete a queue, in steps.
const DELETE_STEPS: usize = 500;

/// Messages that have their places in the queues of a route and are not in them yet.
#[derive(Debug)]
pub struct Staged {
    /// For each queue the position of the first message; the others follow.
    pub(super) first: Vec<Position>,
    pub(super) messages: Vec<Message>,
    /// What streams do not take of them.
    pub(super) left_out: Option<Box<LeftOut>>,
}

impl VirtualHost {
    pub(super) fn new(name: Name, settings: VhostSettings, shared: Arc<Shared>) -> VirtualHost {
        let vhost = VirtualHost {
            name: name.clone(),
            shared,
            exchanges: DashMap::new(),
            queues: DashMap::new(),
            topology: Mutex::default(),
            policies: RwLock::default(),
            policing: Mutex::default(),
            is_traced: AtomicBool::new(settings.tracing),
            settings: Mutex::new(Arc::new(settings)),
            version: AtomicU64::new(0),
            letters: Mutex::default(),
            samples: Mutex::default(),
            lengths: Mutex::default(),
        };
        let of_events = vhost.shared.events.are_told_in(&name).then_some((events::EXCHANGE, "topic", true));
        for known in PREDECLARED.into_iter().chain(of_events) {
            let exchange = Exchange::new(predeclared::definition(&name, known), &vhost.shared.exchange_types);
            vhost.insert_exchange(Arc::new(exchange.expect("the standard types are registered")));
        }
        vhost
    }

    /// The vhost's name, `/` for the default one.
    pub fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The type of queues that are declared without one.
    pub fn default_queue_type(&self) -> QueueType {
        let of_vhost = self.settings.lock().default_queue_type;
        of_vhost.unwrap_or_else(|| *self.shared.default_queue_type.lock())
    }

    /// What can be changed of it.
    pub fn settings(&self) -> Arc<VhostSettings> {
        self.settings.lock().clone()
    }

    pub(super) fn set_settings(&self, settings: VhostSettings) {
        let tracing = settings.tracing;
        *self.settings.lock() = Arc::new(settings);
        if self.is_traced.swap(tracing, Ordering::AcqRel) != tracing {
            tracing::info!("vhost '{}' is {} traced", self.name, if tracing { "now" } else { "no longer" });
            // Publishers look again: a route that is remembered is one that nobody traces.
            self.topology_changed();
        }
    }

    /// Whether what is published and delivered is copied to `amq.rabbitmq.trace`.
    pub fn is_traced(&self) -> bool {
        self.is_traced.load(Ordering::Acquire)
    }

    /// An exchange, by name.
    pub fn exchange(&self, name: &str) -> Option<Arc<Exchange>> {
        self.exchanges.get(name).map(|exchange| exchange.clone())
    }

    /// A queue, by name.
    pub fn queue(&self, name: &str) -> Option<Arc<QueueHandle>> {
        self.queues.get(name).map(|queue| queue.clone())
    }

    /// Tries something on the name of each exchange and queue.
    pub(super) fn try_names<E>(&self, attempt: impl Fn(&str) -> Result<(), E>) -> Result<(), E> {
        self.exchanges().iter().try_for_each(|exchange| attempt(&exchange.definition().name))?;
        self.queues().iter().try_for_each(|queue| attempt(&queue.definition().name))
    }

    /// How many exchanges there are, with those that every vhost has.
    pub fn exchange_count(&self) -> usize {
        self.exchanges.len()
    }

    /// How many queues there are.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// All exchanges, in no order.
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.exchanges.iter().map(|exchange| exchange.clone()).collect()
    }

    /// All queues, in no order.
    pub fn queues(&self) -> Vec<Arc<QueueHandle>> {
        self.queues.iter().map(|queue| queue.clone()).collect()
    }

    /// All bindings but those to the default exchange, which are implied.
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.exchanges().iter().flat_map(|e| e.bindings().iter().cloned().collect::<Vec<_>>()).collect()
    }

    /// How fast its messages move.
    pub fn samples(&self) -> Samples<TotalSample> {
        *self.samples.lock()
    }

    /// How many messages there were in it.
    pub fn lengths(&self) -> Lengths {
        self.lengths.lock().clone()
    }

    /// Takes a sample of all that is in it; `stats` is what its clients have done.
    pub(super) fn sample(&self, stats: MessageStats, now: Millis) -> TotalSample {
        let mut total = TotalSample { stats, ..TotalSample::default() };
        for queue in self.queues() {
            let counts = queue.sample(now);
            total.ready += counts.ready as u64;
            total.unacked += counts.unacked as u64;
        }
        for exchange in self.exchanges() {
            exchange.sample(now);
        }
        self.samples.lock().take(now, total);
        self.lengths.lock().note(now, total.length());
        total
    }

    /// Changes whenever a route, or a permission to use it, may change, so that channels can remember routes.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn topology_changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        events::look(self, &self.shared.events);
    }

    pub(super) fn insert_exchange(&self, exchange: Arc<Exchange>) {
        exchange.count_in(&self.shared.memory);
        if self.exchanges.insert(exchange.definition().name.clone(), exchange).is_none() {
            self.shared.exchanges.fetch_add(1, Ordering::Relaxed);
        }
        self.topology_changed();
    }

    pub(super) fn remove_exchange(&self, name: &str) {
        if let Some((_, exchange)) = self.exchanges.remove(name) {
            self.shared.exchanges.fetch_sub(1, Ordering::Relaxed);
            self.shared.retired.lock().exchanges.add(&exchange.counters().stats());
        }
        self.topology_changed();
    }

    pub(super) fn insert_queue(&self, queue: Arc<QueueHandle>) {
        if self.queues.insert(queue.definition().name.clone(), queue).is_none() {
            self.shared.queues.fetch_add(1, Ordering::Relaxed);
        }
        self.topology_changed();
    }

    pub(super) fn remove_queue(&self, name: &str) {
        if let Some((_, queue)) = self.queues.remove(name) {
            self.shared.queues.fetch_sub(1, Ordering::Relaxed);
            count(&self.shared.churn.queue_deleted);
            let stats = queue.stats();
            let mut retired = self.shared.retired.lock();
            retired.queues.entry(queue.definition().queue_type).or_default().add(&stats);
        }
        self.topology_changed();
    }

    /// Puts messages, all of the same route, into their queues; `messages` is empty afterwards. The indices of those that a
    /// queue refused go into `refused`, more than once where several did. Returns the record of the journal that those which
    /// it keeps will be in.
    pub fn publish(
        &self,
        route: &Route,
        messages: &mut Vec<Message>,
        turn: &mut Turn,
        refused: &mut Vec<usize>,
    ) -> Option<Lsn> {
        let staged = self.stage_published(route, std::mem::take(messages), turn);
        let record = turn.append_to(&self.shared.journal);
        *messages = self.deliver(route, staged, turn, refused);
        record
    }

    /// Hands what the turn has changed so far to the journal, and returns the record that it will be in, if there was anything.
    pub fn append(&self, turn: &mut Turn) -> Option<Lsn> {
        turn.append_to(&self.shared.journal)
    }

    /// Gives messages their places in the queues of their route, and writes them into the turn's changes: their content once
    /// for all queues. The journal has to hear of that before [`VirtualHost::deliver`], so that it knows all that queues hold.
    pub fn stage(&self, route: &Route, messages: Vec<Message>, turn: &mut Turn) -> Staged {
        let first = route.queues.iter().map(|queue| queue.reserve(messages.len())).collect();
        let staged = Staged { first, messages, left_out: None };
        journal(route, &staged, turn);
        staged
    }

    /// Puts staged messages into their queues, and returns the emptied list.
    pub fn deliver(
        &self,
        route: &Route,
        staged: Staged,
        turn: &mut Turn,
        refused: &mut Vec<usize>,
    ) -> Vec<Message> {
        if staged.left_out.is_some() {
            return self.deliver_some(route, staged, turn, refused);
        }
        let Staged { first, mut messages, .. } = staged;
        self.reply(route, &messages, turn);
        let Some((last, others)) = route.queues.split_last() else {
            messages.clear();
            return messages;
        };
        for (queue, first) in others.iter().zip(&first) {
            let refused_before = refused.len();
            queue.publish(*first, messages.iter().cloned(), turn, refused);
            self.log_refused(queue, refused.len() - refused_before);
        }
        let refused_before = refused.len();
        last.publish(first[first.len() - 1], messages.drain(..), turn, refused);
        self.log_refused(last, refused.len() - refused_before);
        messages
    }

    /// Gives messages to the direct reply-to consumer of their route, if it has one.
    pub(super) fn reply(&self, route: &Route, messages: &[Message], turn: &mut Turn) {
        let Some(reply) = &route.reply else { return };
        for message in messages {
            let limit_bytes = self.shared.limits.reply_bytes;
            if reply.outbox.reply(reply.link, reply.consumer, message.clone(), limit_bytes) {
                turn.wake(&reply.outbox);
            }
        }
    }

    /// Puts a message into a queue, which takes it even if it is full, and says whether the queue is still there.
    pub(super) fn admit(&self, queue: &Arc<QueueHandle>, message: Message, turn: &mut Turn) -> bool {
        let route = Route { queues: vec![queue.clone()], ..Route::default() };
        let Staged { first, messages, .. } = self.stage(&route, vec![message], turn);
        turn.append_to(&self.shared.journal);
        first.into_iter().zip(messages).all(|(position, message)| queue.admit(position, message, turn))
    }

    fn log_refused(&self, queue: &QueueHandle, count: usize) {
        if count > 0 {
            tracing::debug!("{} is full and refused {count} messages", queue.definition().resource());
        }
    }

    /// Takes one message for basic.get, which is in memory or comes there for that.
    pub fn get(&self, queue: &QueueHandle, no_ack: bool, turn: &mut Turn) -> Got {
        // Another consumer may be quicker to take what was read back.
        for _ in 0..PAGED_GET_ATTEMPTS {
            let got = queue.get(no_ack, turn);
            self.apply_effects(turn);
            if !matches!(got, Got::NotInMemory) {
                return got;
            }
        }
        Got::Empty
    }

    /// Does what queues asked for during a turn, until nothing is left: dead letters travel, queues go, timers are set.
    pub fn apply_effects(&self, turn: &mut Turn) {
        let (mut deleted, mut letters) = (0, Letters::default());
        while !turn.effects.is_empty() {
            for effect in std::mem::take(&mut turn.effects) {
                match effect {
                    Effect::DeadLetter(dead) => letters.send(self, dead, turn),
                    Effect::SendLetters => self.send_letters(turn),
                    Effect::Delete { name, .. } if deleted > 0 && turn.is_spent() => {
                        // Its time has come when the timer looks at it, too.
                        let at = turn.now;
                        self.shared.timer.push(Deadline { at, vhost: self.name.clone(), queue: name });
                    }
                    Effect::Delete { name, id } => {
                        turn.spend(DELETE_STEPS);
                        deleted += 1;
                        self.delete_finished_queue(&name, id, turn);
                    }
                    Effect::PageIn { queue, wanted } => self.page_in(&queue, wanted, turn),
                    Effect::ReadDeadLetters { queue, priority, from, bytes_max } => {
                        self.read_dead_letters(&queue, (priority, from), bytes_max, turn);
                    }
                    Effect::Discard(discard) => self.shared.leave(&self.name, discard, turn),
                    Effect::WakeAt { name, at } => {
                        self.shared.timer.push(Deadline { at, vhost: self.name.clone(), queue: name });
                    }
                }
            }
        }
    }

    /// Lets a queue look at what time has done.
    pub(super) fn handle_timeout(&self, queue: &str, turn: &mut Turn) {
        if let Some(at) = self.shared.waiting_letters.pause_until(turn.now) {
            self.shared.timer.push(Deadline { at, vhost: self.name.clone(), queue: queue.into() });
            return;
        }
        if let Some(queue) = self.queue(queue) {
            queue.handle_timeout(turn);
        }
        self.apply_effects(turn);
    }

    /// Brings messages back that have left memory. No lock is held while the store is read.
    fn page_in(&self, queue: &Arc<QueueDefinition>, wanted: PageRequest, turn: &mut Turn) {
        let Some(queue) = self.queue_by_id(&queue.name, queue.id) else { return };
        let PageRequest { priority, from } = wanted;
        let read =
            self.shared.journal.read(queue.definition().id, priority, from, self.shared.limits.page_bytes);
        let read = read.inspect_err(|error| {
            tracing::error!("messages of {} can't be read back: {error}", queue.definition().resource());
        });
        queue.paged_in(wanted, read.ok(), turn);
    }

    /// Brings messages back that are to be dead-lettered.
    fn read_dead_letters(
        &self,
        queue: &Arc<QueueDefinition>,
        (priority, from): (u8, Position),
        bytes_max: usize,
        turn: &mut Turn,
    ) {
        let Some(queue) = self.queue_by_id(&queue.name, queue.id) else { return };
        let read = self.shared.journal.read(queue.definition().id, priority, from, bytes_max);
        let read = read.inspect_err(|error| {
            let resource = queue.definition().resource();
            tracing::error!(
                "messages of {resource} that are to be dead-lettered can't be read back: {error}"
            );
        });
        queue.dead_letters_read(read.ok(), turn);
    }

    pub(super) fn queue_by_id(&self, name: &str, id: QueueId) -> Option<Arc<QueueHandle>> {
        self.queue(name).filter(|queue| queue.definition().id == id)
    }
}

/// Stages every message that a durable queue is about to get, for the journal.
fn journal(route: &Route, staged: &Staged, turn: &mut Turn) {
    if !route.queues.iter().any(|queue| queue.definition().survives_restart()) {
        return;
    }
    let mut targets = Vec::with_capacity(route.queues.len());
    for (index, message) in staged.messages.iter().enumerate() {
        targets.clear();
        for (queue, first) in route.queues.iter().zip(&staged.first) {
            let definition = queue.definition();
            if definition.journals(message) {
                targets.push((
                    definition.id,
                    Position(first.0 + index as u64),
                    definition.priority_of(message),
                ));
            }
        }
        if !targets.is_empty() {
            turn.changes.enqueue(message.stored(), turn.now, &targets);
        }
    }
}
