//! A whole broker as its configuration wants it: opened, its topology declared, its listeners bound. `main` runs one; a
//! program that embeds Leveret does too, with exchange types of its own.

use crate::amqp::{AmqpSettings, ContentLimits};
use crate::broker::access::newcomers::{NewcomerLimits, Newcomers};
use crate::broker::error::BrokerError;
use crate::broker::exchange::ExchangeTypes;
use crate::broker::observe::events::EventSettings;
use crate::broker::queue::Window;
use crate::broker::{Broker, BrokerLimits, TRACE_FRAME_BYTES};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Engine, MemoryLimit, Problem};
use crate::management::{ListenerFacts, Management, ManagementSettings};
use crate::message::{Name, TableLimits};
use crate::metrics::{Metrics, MetricsSettings};
use crate::net::commits::{CommitStats, MeasuredStore};
use crate::net::descriptors::Descriptors;
use crate::net::{
    self, Checkpoints, Committer, Control, DiskLimit, DiskWatch, DriveLimits, ListenerLimits, MemoryWatch,
    Serving, Shutdown, StreamWorker, Tls, run_timer,
};
use crate::store::{self, Journal, JournalOptions, Loss, MemoryStore, Recovered, SledStore, Store};
use listeners::Listeners;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod backup;
mod declare;
mod descriptors;
mod error;
mod listeners;
mod losses;
mod protocols;
mod store_trouble;

pub use error::{DeclarationError, StartError};
use store_trouble::{on_failure, on_shortage};

/// A broker that is ready to serve; see the module.
pub struct Server {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
    listeners: Listeners,
    tls: Option<Arc<Tls>>,
    management: Management,
    metrics: Metrics,
    committer: Committer,
    stream_worker: StreamWorker,
    checkpoints: Checkpoints,
    disk_watch: Option<DiskWatch>,
    memory_watch: Arc<MemoryWatch>,
    control: Option<Control>,
    shutdown: Shutdown,
    store_failed: Arc<AtomicBool>,
}

impl Server {
    /// Opens the store, declares the topology, and binds the listeners. Connections are served by [`Server::run`].
    ///
    /// # Errors
    /// When any of it can't be; nothing is left running then.
    pub async fn start(config: &Config, exchange_types: ExchangeTypes) -> Result<Server, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let limit = net::descriptors::raise_limit();
        let commits = Arc::new(CommitStats::default());
        let (journal, broker) = open_broker(config, &*clock, commits.clone(), exchange_types)?;
        let disk_limit = Arc::new(DiskLimit::new(config.limits.disk_free_bytes));
        let disk_watch = disk_watch(config, &disk_limit, &broker);
        let memory_watch = memory_watch(config, &broker);
        let control = control(config);
        let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let shares = descriptors::share_out(config, limit, tls.is_some());
        let serving = serving(config, &clock, shares);
        let protocols = protocols::protocols(config, &broker);
        let listeners = Listeners::bind(config, &protocols, tls.as_ref(), &serving, shares).await?;
        let shutdown = Shutdown::default();
        let management = Management::new(
            broker.clone(),
            clock.clone(),
            ManagementSettings {
                listeners: listeners.facts()?,
                tls: tls.clone(),
                shutdown: shutdown.clone(),
                connections_max: shares.connections,
                memory: Some(memory_watch.clone()),
                disk_limit: disk_limit.clone(),
                ..management_settings(config)
            },
        );
        let shows_certificate = listeners.facts()?.into_iter().filter(ListenerFacts::speaks_tls);
        let metrics_settings = MetricsSettings {
            memory: Some(memory_watch.clone()),
            disk_limit,
            tls: tls.clone(),
            connections_max: shares.connections,
            tls_listeners: shows_certificate.map(|facts| (facts.protocol, facts.address.port())).collect(),
            ..metrics_settings(config)
        };
        let metrics = Metrics::new(broker.clone(), clock.clone(), commits.clone(), metrics_settings);
        let store_failed = Arc::new(AtomicBool::new(false));
        let failed = on_failure(store_failed.clone(), shutdown.clone());
        let checkpoints = Checkpoints::start(journal.clone())?;
        let streams = broker.streams().clone();
        let committed = move || streams.note_durable();
        let committer = Committer::start(journal, commits, committed, on_shortage(broker.clone()), failed)?;
        let stream_worker = StreamWorker::start(broker.clone(), clock.clone())?;
        Ok(Server {
            broker,
            clock,
            listeners,
            tls,
            management,
            metrics,
            committer,
            stream_worker,
            checkpoints,
            disk_watch,
            memory_watch,
            control,
            shutdown,
            store_failed,
        })
    }

    /// The broker, for a program that embeds it.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Where AMQP is spoken.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listeners.address("amqp")
    }

    /// Where the management API is.
    ///
    /// # Errors
    /// When the system does not say, or it is off.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.listeners.address("http")
    }

    /// The sockets that listen, each with its protocol.
    ///
    /// # Errors
    /// When the system does not say where.
    pub fn listeners(&self) -> io::Result<Vec<ListenerFacts>> {
        self.listeners.facts()
    }

    /// The certificate, to have its files read again.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// A handle, of which each clone can end [`Server::run`].
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Serves until the shutdown begins: then stops accepting, closes all connections, and makes everything durable.
    ///
    /// # Errors
    /// When it ended because the store failed.
    pub async fn run(self) -> Result<(), BrokerError> {
        let timer = tokio::spawn(run_timer(self.broker.clone(), self.clock.clone()));
        let disk_watch = self.disk_watch.map(|watch| tokio::spawn(watch.run()));
        let memory_watch = tokio::spawn(self.memory_watch.run());
        let (journal, shutdown) = (self.broker.journal().clone(), self.shutdown.clone());
        let control = self.control.map(|control| tokio::spawn(control.run(journal, shutdown)));
        let tls_watch =
            self.tls.map(|tls| tokio::spawn(tls.watch(self.clock.clone(), self.shutdown.clone())));
        self.listeners.run(&self.management, &self.metrics, &self.shutdown).await;
        tls_watch.inspect(tokio::task::JoinHandle::abort);
        timer.abort();
        disk_watch.inspect(tokio::task::JoinHandle::abort);
        memory_watch.abort();
        if let Some(control) = control {
            // It ends by itself, and takes its socket away.
            let _ = control.await;
        }
        // What was purged is not to come back.
        while self.broker.has_chores() {
            self.broker.handle_timeout(self.clock.now());
        }
        self.stream_worker.stop();
        self.committer.stop();
        if self.store_failed.load(Ordering::Acquire) {
            return Err(BrokerError::Store("the store failed, see above".to_owned()));
        }
        self.checkpoints.stop();
        Ok(())
    }
}

/// What is wrong with a checked configuration that only the broker knows: types of exchange, arguments, bindings, and the files
/// of `[tls]`. Everything is declared in a broker that keeps nothing, and forgotten again.
pub fn check(config: &Config, exchange_types: &ExchangeTypes) -> Vec<StartError> {
    // What is forgotten again need not be hard to guess from.
    let mut config = config.clone();
    config.access.password_hash = config::HashingAlgorithm::Sha256;
    let config = &config;
    let declared = match scratch(config, exchange_types) {
        Ok(broker) => declare::declare(&broker, config, false, 0).err(),
        Err(error) => Some(error.into()),
    };
    let tls = config.tls.as_ref().and_then(|tls| Tls::load(tls).err());
    declared.into_iter().chain(tls.map(StartError::from)).collect()
}

/// What is not wrong with a configuration, and most likely not meant: of users, and what has no effect.
pub fn warnings(config: &Config) -> Vec<Problem> {
    let mut found = config.warnings();
    found.extend(declare::warnings(config));
    found
}

/// An empty broker that keeps nothing and has no listeners: to try declarations on.
///
/// # Errors
/// When it can't be made.
pub fn scratch(config: &Config, exchange_types: &ExchangeTypes) -> Result<Broker, BrokerError> {
    let forgetful = Box::new(MemoryStore::default());
    let (journal, recovered) = Journal::open(forgetful, JournalOptions::default(), |_| ())
        .map_err(|error| BrokerError::Store(error.to_string()))?;
    Broker::open(Arc::new(journal), recovered, exchange_types.clone(), broker_limits(config), 0)
}

/// The broker with what its data directory has and the file declares, and the journal below it.
fn open_broker(
    config: &Config,
    clock: &dyn Clock,
    commits: Arc<CommitStats>,
    exchange_types: ExchangeTypes,
) -> Result<(Arc<Journal>, Arc<Broker>), StartError> {
    let is_kept = config.store.engine == Engine::Sled;
    let was_in_use = is_kept && store::was_in_use(&config.data_dir);
    let (journal, recovered) = open_journal(config, clock, commits)?;
    // A directory of an earlier version is not marked.
    let is_in_use = was_in_use || recovered.records > 0 || !recovered.losses.is_empty();
    let broker = Broker::open(journal.clone(), recovered, exchange_types, broker_limits(config), clock.now());
    let broker = Arc::new(broker?);
    losses::take_over(&broker, config)?;
    let limits = &config.limits;
    let workers = net::start_hashing(limits.password_hashes_max, limits.failed_logins_waiting_max)?;
    broker.logins().hand_work_to(workers);
    declare::declare(&broker, config, is_in_use, clock.now())?;
    broker.commit_changes()?;
    note_in_use(config)?;
    Ok((journal, broker))
}

/// Opens the store, and says on the way what is going on and what was lost.
fn open_journal(
    config: &Config,
    clock: &dyn Clock,
    commits: Arc<CommitStats>,
) -> Result<(Arc<Journal>, Recovered), StartError> {
    let store: Box<dyn Store> = match config.store.engine {
        Engine::Memory => Box::new(MemoryStore::default()),
        Engine::Sled => {
            let options = descriptors::wal_options(config, net::descriptors::limit());
            Box::new(SledStore::open_with(&config.data_dir, config.store.durability, options)?)
        }
    };
    let mut options =
        JournalOptions { commit_bytes_max: config.store.commit_bytes_max, ..JournalOptions::default() };
    if config.store.engine == Engine::Memory {
        options.checkpoint_every_bytes = 0;
    }
    let started_at = clock.now();
    let mut told_at = started_at;
    let store = Box::new(MeasuredStore::new(store, commits));
    let (journal, recovered) = Journal::open(store, options, |records| {
        let now = clock.now();
        if now >= told_at + PROGRESS_INTERVAL_MS {
            told_at = now;
            tracing::info!("recovering: {records} records read");
        }
    })?;
    // Definitions are reported by their names, see `losses`.
    let of_records = |loss: &&Loss| matches!(loss, Loss::Damaged { .. } | Loss::Missing { .. });
    for loss in recovered.losses.iter().filter(of_records) {
        tracing::error!("recovering {}: {loss}", config.data_dir.display());
    }
    if recovered.records > 0 {
        tracing::info!(
            "recovered {} messages from {} records, {} of which were read, in {} ms",
            recovered.messages,
            recovered.records,
            recovered.scanned,
            clock.now() - started_at
        );
    }
    Ok((Arc::new(journal), recovered))
}

fn serving(config: &Config, clock: &Arc<dyn Clock>, shares: Descriptors) -> Serving {
    let limits = ListenerLimits {
        connections_max: shares.connections,
        handshake_timeout_ms: config.limits.handshake_timeout_ms,
        drive: DriveLimits {
            transmit_bytes: config.limits.transmit_buffer_bytes,
            write_stall_timeout_ms: config.limits.write_stall_timeout_ms,
        },
    };
    let newcomers = NewcomerLimits {
        max: shares.before_login as usize,
        per_address_max: config.limits.connections_before_login_per_address_max as usize,
    };
    Serving {
        clock: clock.clone(),
        limits,
        open: Arc::default(),
        newcomers: Arc::new(Newcomers::new(newcomers)),
        refusals: Arc::default(),
    }
}

/// Notes that the data directory is in use, if there is one.
fn note_in_use(config: &Config) -> Result<(), StartError> {
    match config.store.engine {
        Engine::Memory => Ok(()),
        Engine::Sled => Ok(store::note_in_use(&config.data_dir)?),
    }
}

/// The socket for commands of the operator, beside what they are about.
fn control(config: &Config) -> Option<Control> {
    if config.store.engine == Engine::Memory {
        return None;
    }
    let bound = Control::bind(&config.data_dir);
    bound
        .inspect_err(|error| {
            tracing::warn!(
                "{} can't have a control socket, so `leveret backup` has to wait until the broker is stopped: {error}",
                config.data_dir.display()
            );
        })
        .ok()
}

/// The watch on the volume that messages are kept on, if they are. It has looked once, so that an alarm is up before anybody
/// can publish.
fn disk_watch(config: &Config, limit: &Arc<DiskLimit>, broker: &Arc<Broker>) -> Option<DiskWatch> {
    match config.store.engine {
        Engine::Memory => None,
        Engine::Sled => {
            let mut watch = DiskWatch::new(&config.data_dir, limit.clone(), broker.clone());
            watch.look();
            Some(watch)
        }
    }
}

/// The watch on the memory that the broker takes. It has looked once.
fn memory_watch(config: &Config, broker: &Arc<Broker>) -> Arc<MemoryWatch> {
    let limit_bytes = memory_limit_bytes(config).unwrap_or_else(|error| {
        tracing::warn!(
            "the size of the memory can't be read, so publishers are not blocked when it runs short; set \
             limits.memory_high_watermark in bytes: {error}"
        );
        None
    });
    let close_percent = config.limits.memory_close_percent;
    let watch = MemoryWatch::new(limit_bytes, close_percent, broker.clone(), Box::new(net::resident_bytes));
    watch.look();
    Arc::new(watch)
}

/// What the broker may take of memory before publishers are blocked, if that is limited.
fn memory_limit_bytes(config: &Config) -> io::Result<Option<u64>> {
    Ok(match config.limits.memory_high_watermark {
        MemoryLimit::None => None,
        MemoryLimit::Bytes(bytes) => Some(bytes),
        // Rounding by some bytes is no matter here.
        MemoryLimit::Fraction(fraction) => Some((net::total_bytes()? as f64 * fraction) as u64),
    })
}

/// How often a long recovery says how far it is.
const PROGRESS_INTERVAL_MS: u64 = 1000;

fn broker_limits(config: &Config) -> BrokerLimits {
    let window = Window { messages: config.limits.outbox_messages, bytes: config.limits.outbox_bytes };
    BrokerLimits {
        window,
        failed_logins_waiting_max: config.limits.failed_logins_waiting_max,
        failed_logins_free: config.limits.failed_logins_free as usize,
        channels_max: config.limits.channels_max.into(),
        vhosts_max: config.limits.vhosts_max as usize,
        queues_max: config.limits.queues_max as usize,
        exchanges_max: config.limits.exchanges_max as usize,
        queues_per_vhost_max: config.limits.queues_per_vhost_max as usize,
        exchanges_per_vhost_max: config.limits.exchanges_per_vhost_max as usize,
        bindings_per_exchange_max: config.limits.bindings_per_exchange_max as usize,
        priority_max: config.limits.priority_max,
        trace_header_bytes: (config.limits.frame_max_bytes as usize).saturating_sub(TRACE_FRAME_BYTES),
        arguments: TableLimits {
            fields_max: config.limits.field_table_fields_max as usize,
            bytes_max: config.limits.field_table_bytes_max,
        },
        memory_budget_bytes: config.store.memory_budget_bytes as u64,
        events: EventSettings {
            vhost: config.events.vhost.as_deref().map(Name::from),
            waiting_max: config.events.waiting_max,
        },
        ..BrokerLimits::default()
    }
}

fn metrics_settings(config: &Config) -> MetricsSettings {
    MetricsSettings {
        node_name: config.node_name.clone(),
        cluster_name: config.server.cluster_name.clone(),
        version: config.server.version.clone(),
        data_dir: (config.store.engine == Engine::Sled).then(|| config.data_dir.clone()),
        ..MetricsSettings::default()
    }
}

/// What the configuration says of it.
fn management_settings(config: &Config) -> ManagementSettings {
    ManagementSettings {
        node_name: config.node_name.clone(),
        product: config.server.product.clone(),
        version: config.server.version.clone(),
        cluster_name: config.server.cluster_name.clone(),
        listeners: Vec::new(),
        http_hosts: config.access.http_hosts.clone(),
        http_origins: config.access.http_origins.clone(),
        body_bytes_max: config.limits.http_body_max_bytes,
        small_body_bytes_max: config.limits.http_small_body_max_bytes,
        bodies_bytes_max: config.limits.http_bodies_max_bytes,
        field_table_depth_max: config.limits.field_table_depth_max as usize,
        consumer_timeout_ms: config.limits.consumer_timeout_ms,
        message_bytes_max: config.limits.message_size_max_bytes,
        data_dir: match config.store.engine {
            Engine::Memory => None,
            Engine::Sled => Some(config.data_dir.clone()),
        },
        disk_limit: Arc::default(),
        memory: None,
        tls: None,
        shutdown: Shutdown::default(),
        connections_max: 0,
    }
}

fn amqp_settings(config: &Config) -> AmqpSettings {
    let limits = &config.limits;
    AmqpSettings {
        product: config.server.product.clone(),
        version: config.server.version.clone(),
        cluster_name: config.server.cluster_name.clone(),
        channel_max: limits.channel_max,
        frame_max: limits.frame_max_bytes,
        initial_frame_max: limits.initial_frame_max_bytes,
        heartbeat_s: limits.heartbeat_s,
        handshake_timeout_ms: limits.handshake_timeout_ms,
        close_timeout_ms: limits.close_timeout_ms,
        content: ContentLimits {
            message_bytes_max: limits.message_size_max_bytes,
            field_table_depth_max: limits.field_table_depth_max as usize,
        },
        transmit_bytes: limits.transmit_buffer_bytes,
        consumers_per_channel_max: limits.consumers_per_channel_max,
        consumer_timeout_ms: limits.consumer_timeout_ms,
        tx_messages_max: limits.tx_messages_max as usize,
        tx_bytes_max: usize::try_from(limits.tx_bytes_max).unwrap_or(usize::MAX),
    }
}
