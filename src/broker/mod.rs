//! The core: virtual hosts, exchanges, queues. Synchronous and deterministic; time is handed in, nothing here does I/O but
//! through the store.
//!
//! Start reading at [`VirtualHost::publish`] and [`queue::QueueHandle`]; [`Turn`] is what goes along.

pub mod access;
mod actor;
pub mod alarms;
pub mod chores;
pub mod dead_lettering;
pub mod delivery;
pub mod dialect;
pub mod done;
mod due;
pub mod error;
pub mod exchange;
pub mod memory;
pub mod observe;
mod opening;
pub mod outcome;
pub mod policy;
pub mod queue;
pub mod routing;
pub mod sequencing;
pub mod spread;
pub mod timer;
pub mod topology;
pub mod turn;
pub mod vhost;

pub use actor::Actor;
pub use done::{Done, Ticket};
pub use error::BrokerError;
pub use turn::Turn;
pub use vhost::VirtualHost;

use crate::message::{ConnectionId, ConsumerId, Millis, Name, QueueId, TableLimits};
use crate::store::{DefinitionChanges, Journal};
use access::logins::Logins;
use access::permissions::Permissions;
use access::users::Users;
use alarms::Alarms;
use chores::{Chore, Chores};
use dashmap::DashMap;
use dead_lettering::WaitingLetters;
use dialect::Dialect;
use exchange::ExchangeTypes;
use memory::MemoryAccount;
use observe::connections::Connections;
use observe::events::{EventSettings, Events};
use observe::lengths::Lengths;
use observe::losses::Losses;
use observe::stats::{Churn, ChurnCounters, ExchangeStats, MessageStats, Retired, Samples, TotalSample};
use parking_lot::Mutex;
use queue::{QueueType, Streams, Window};
use routing::ReplyConsumer;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use timer::Timer;
use topology::parameters::Parameters;

/// Limits of the core. Those of connections are the protocol's.
#[derive(Clone, Debug)]
pub struct BrokerLimits {
    /// Deliveries of one consumer that may wait for its session.
    pub window: Window,
    /// Bytes of direct replies that may wait for a session; what comes beyond is dropped.
    pub reply_bytes: u64,
    /// Failed logins that wait for their answers at a time; beyond that they go unanswered.
    pub failed_logins_waiting_max: u32,
    /// Failed logins of an address or a user within a minute, after which the next ones wait.
    pub failed_logins_free: usize,
    /// Vhosts; 0 is no limit.
    pub vhosts_max: usize,
    /// Channels of all connections together; 0 is no limit.
    pub channels_max: u64,
    /// Queues of all vhosts together; 0 is no limit.
    pub queues_max: usize,
    /// Exchanges of all vhosts together; 0 is no limit.
    pub exchanges_max: usize,
    /// Queues of a vhost; 0 is no limit.
    pub queues_per_vhost_max: usize,
    /// Exchanges of a vhost, with those that every vhost has; 0 is no limit.
    pub exchanges_per_vhost_max: usize,
    /// Bindings that start from one exchange; 0 is no limit.
    pub bindings_per_exchange_max: usize,
    /// The greatest x-max-priority that a queue may be declared with.
    pub priority_max: u8,
    /// How large the arguments of a queue, an exchange, a binding or a consumer may be.
    pub arguments: TableLimits,
    /// Bytes of messages, ready and unacknowledged, of all queues together, that are kept in memory.
    pub memory_budget_bytes: u64,
    /// Bytes of messages that are read back at a time.
    pub page_bytes: usize,
    /// Bytes of the headers of a copy that the firehose makes of a message: they go into one frame.
    pub trace_header_bytes: usize,
    /// Where events are published, and how many at once.
    pub events: EventSettings,
}

impl Default for BrokerLimits {
    fn default() -> BrokerLimits {
        BrokerLimits {
            window: Window { messages: 2048, bytes: 1 << 20 },
            reply_bytes: 16 << 20,
            failed_logins_waiting_max: 1000,
            failed_logins_free: 5,
            vhosts_max: 0,
            channels_max: 0,
            queues_max: 0,
            exchanges_max: 0,
            queues_per_vhost_max: 0,
            exchanges_per_vhost_max: 0,
            bindings_per_exchange_max: 0,
            priority_max: u8::MAX,
            arguments: TableLimits::default(),
            memory_budget_bytes: 256 << 20,
            page_bytes: 512 << 10,
            trace_header_bytes: 131_072 - TRACE_FRAME_BYTES,
            events: EventSettings::default(),
        }
    }
}

/// What a frame with the headers of a copy has besides them, and room for the list of those left out.
pub const TRACE_FRAME_BYTES: usize = 2048;

/// What all vhosts share.
#[derive(Debug)]
pub struct Shared {
    limits: BrokerLimits,
    exchange_types: ExchangeTypes,
    journal: Arc<Journal>,
    /// What is kept in memory.
    memory: Arc<MemoryAccount>,
    timer: Timer,
    reply_consumers: DashMap<Box<str>, ReplyConsumer>,
    /// The type of queues that are declared without one in a vhost that says nothing of it.
    default_queue_type: Mutex<QueueType>,
    node_name: OnceLock<Name>,
    dialect: OnceLock<Box<dyn Dialect>>,
    /// Queues and exchanges of all vhosts together.
    queues: AtomicUsize,
    exchanges: AtomicUsize,
    queue_ids: AtomicU64,
    consumer_ids: AtomicU64,
    connection_ids: AtomicU64,
    churn: ChurnCounters,
    retired: Mutex<Retired>,
    chores: Chores,
    waiting_letters: WaitingLetters,
    streams: Arc<Streams>,
    events: Events,
}

impl Shared {
    fn next_queue_id(&self) -> QueueId {
        QueueId(self.queue_ids.fetch_add(1, Ordering::Relaxed))
    }

    fn reply_consumer(&self, token: &str) -> Option<ReplyConsumer> {
        self.reply_consumers.get(token).map(|consumer| consumer.clone())
    }

    /// Has the timer go on with something, if it is not done.
    fn leave(&self, vhost: &Name, mut chore: Box<dyn Chore>, turn: &mut Turn) {
        if !chore.go_on(turn) {
            self.chores.add(vhost.clone(), chore);
            self.timer.ring();
        }
    }

    /// Takes changes of definitions, of which after a crash all have happened or none. They are durable when the ticket is answered;
    /// there is none for no changes. What is defined may be seen by others only after this.
    fn define(&self, changes: DefinitionChanges) -> Result<Option<Ticket>, BrokerError> {
        if changes.is_empty() {
            return Ok(None);
        }
        self.journal.define(changes).map(|lsn| Some(Ticket(lsn))).map_err(store_error)
    }
}

fn store_error(error: crate::store::StoreError) -> BrokerError {
    BrokerError::Store(error.to_string())
}

/// A broker: everything but the sockets.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    vhosts: DashMap<Name, Arc<VirtualHost>>,
    users: Users,
    permissions: Permissions,
    logins: Arc<Logins>,
    alarms: Alarms,
    losses: Losses,
    /// Held while users, permissions or vhosts change, so that the order in the store is the order of events.
    changing: Mutex<()>,
    parameters: Parameters,
    connections: Connections,
    samples: Mutex<Samples<TotalSample>>,
    lengths: Mutex<Lengths>,
    sample_at: AtomicU64,
}

impl Broker {
    /// All vhosts, in no order.
    pub fn vhosts(&self) -> Vec<Arc<VirtualHost>> {
        self.vhosts.iter().map(|vhost| vhost.clone()).collect()
    }

    /// Sets the type of queues that are declared without one in a vhost that says nothing of it.
    pub fn set_default_queue_type(&self, queue_type: QueueType) {
        *self.shared.default_queue_type.lock() = queue_type;
    }

    /// A vhost, by name.
    pub fn vhost(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.vhosts.get(name).map(|vhost| vhost.clone())
    }

    /// The limits of the core.
    pub fn limits(&self) -> &BrokerLimits {
        &self.shared.limits
    }

    /// The types of exchange that can be declared.
    pub fn exchange_types(&self) -> &ExchangeTypes {
        &self.shared.exchange_types
    }

    /// The users who may log in.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// What users may do.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Who tried to log in, and how that went.
    pub fn logins(&self) -> &Arc<Logins> {
        &self.logins
    }

    /// What is kept in memory for clients, by kind.
    pub fn memory(&self) -> &Arc<MemoryAccount> {
        &self.shared.memory
    }

    /// Whether messages should leave memory that can: they take more than their budget, or the process more than its limit.
    pub fn is_short_of_memory(&self) -> bool {
        self.shared.memory.is_over_budget() || self.alarms.is_raised(alarms::Alarm::Memory)
    }

    /// The resource alarms, which block publishers.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// What was lost of what the store kept.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// The open connections of all protocols and vhosts.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The journal, whose commits the owner of the broker has to drive.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.shared.journal
    }

    /// The streams that have something to do.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.shared.streams
    }

    /// Lets the streams do what is due, which may take as long as the disk does. True when there is more.
    pub fn run_streams(&self, now: Millis) -> bool {
        let durable = self.shared.journal.durable();
        let mut turn = Turn::at(now);
        for stream in self.shared.streams.take_due(now, durable) {
            stream.work(durable, &mut turn);
            self.end_turn(&mut turn);
        }
        self.shared.streams.is_due(now, self.shared.journal.durable())
    }

    /// The deadlines of queues.
    pub fn timer(&self) -> &Timer {
        &self.shared.timer
    }

    /// The id of a new connection.
    pub fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.shared.connection_ids.fetch_add(1, Ordering::Relaxed))
    }

    /// The id of a new consumer.
    pub fn next_consumer_id(&self) -> ConsumerId {
        ConsumerId(self.shared.consumer_ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a direct reply-to consumer known under its token.
    pub fn add_reply_consumer(&self, token: &str, consumer: ReplyConsumer) {
        self.shared.reply_consumers.insert(token.into(), consumer);
    }

    /// Forgets a direct reply-to consumer.
    pub fn remove_reply_consumer(&self, token: &str) {
        self.shared.reply_consumers.remove(token);
    }

    /// Whether a consumer of direct replies has that token.
    pub fn has_reply_consumer(&self, token: &str) -> bool {
        self.shared.reply_consumers.contains_key(token)
    }

    /// Ends a turn: hands what has changed to the journal, wakes the sessions that it gave something to, and then the committer.
    pub fn end_turn(&self, turn: &mut Turn) {
        debug_assert!(turn.effects.is_empty(), "a vhost applies the effects before the turn ends");
        self.publish_events(turn);
        turn.append_to(&self.shared.journal);
        turn.wake_all();
        self.shared.journal.wake_committer();
    }

    /// Counts comings and goings.
    pub fn churn(&self) -> &ChurnCounters {
        &self.shared.churn
    }

    /// Comings and goings since the start.
    pub fn churn_counts(&self) -> Churn {
        self.shared.churn.counts(self.connections.opened_and_closed())
    }

    /// What was done with the messages of all queues of a type, also of those that are gone.
    pub fn queue_stats(&self, queue_type: QueueType) -> MessageStats {
        let mut total = self.shared.retired.lock().queues.get(&queue_type).copied().unwrap_or_default();
        let of_type = self.vhosts().into_iter().flat_map(|vhost| vhost.queues());
        for queue in of_type.filter(|queue| queue.definition().queue_type == queue_type) {
            total.add(&queue.stats());
        }
        total
    }

    /// What all exchanges have seen, also those that are gone.
    pub fn exchange_stats(&self) -> ExchangeStats {
        let mut total = self.shared.retired.lock().exchanges;
        for exchange in self.vhosts().into_iter().flat_map(|vhost| vhost.exchanges()) {
            total.add(&exchange.counters().stats());
        }
        total
    }

    /// How fast messages move in the whole broker.
    pub fn samples(&self) -> Samples<TotalSample> {
        *self.samples.lock()
    }

    /// How many messages there were in the whole broker.
    pub fn lengths(&self) -> Lengths {
        self.lengths.lock().clone()
    }

    /// Begins with something that nobody waits for; what of it the turn has no time for is gone on with by the timer.
    pub fn leave(&self, vhost: &Name, chore: Box<dyn Chore>, turn: &mut Turn) {
        self.shared.leave(vhost, chore, turn);
    }
}
