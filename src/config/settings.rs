//! The single settings apart from limits: those above all tables, `[websocket]`, `[server]`, `[store]`, `[events]` and `[log]`.

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::diagnose::Location;
use super::section::Section;
use super::table::{Shown, settings, word};
use crate::vocabulary::{Durability, QueueType};

settings! {
    /// What stands above all tables.
    General {
        /// Directory of the store, made if it is missing; a relative one starts at the working directory.
        data_dir: PathBuf = "./leveret-data".into(), path();
        /// What the broker calls itself, in the form `name@host`.
        node_name: String = "leveret@localhost".to_owned(), name();
        /// Type of a queue declared without `x-queue-type` in a vhost that sets none of its own.
        default_queue_type: QueueType = QueueType::Classic, choice(QueueType::NAMES);
        /// Definitions in RabbitMQ's form, imported at each start: a file, or a directory whose files ending in `.json` are imported in the
        /// order of their names.
        load_definitions: Option<PathBuf> = None, perhaps_path();
    }
}

settings! {
    /// The table `[websocket]`: who may connect over WebSocket.
    WebSocket {
        /// Origins of web pages that may connect besides those of the broker's own host and port, such as `https://shop.example`; `*`
        /// is any.
        origins: Vec<String> = Vec::new(), page_origins();
    }
}

impl Section<'_> {
    /// Origins of web pages, or none.
    fn page_origins(&mut self, key: &'static str) -> Option<Vec<String>> {
        let origins = self.optional_texts(key)?;
        for origin in &origins {
            let is_origin = origin.split_once("://").is_some_and(|(scheme, authority)| {
                !scheme.is_empty() && !authority.is_empty() && !authority.contains('/')
            });
            if !is_origin && !["*", "null"].contains(&origin.as_str()) {
                let expected = "origins without a path, such as \"https://shop.example\", or \"*\" for any";
                self.report_unexpected(key, expected, format!("{origin:?}"));
            }
        }
        Some(origins)
    }
}

settings! {
    /// The table `[server]`: what clients read in `connection.start`. Client libraries look at product and version to decide what
    /// they may use, so both speak of RabbitMQ unless set; Leveret's own are sent beside them.
    Server {
        /// The `product` of the server properties.
        product: String = "RabbitMQ".to_owned(), text();
        /// The `version` of the server properties.
        version: String = "3.13.7".to_owned(), text();
        /// The `cluster_name` of the server properties. Default: `node_name`.
        cluster_name: String = String::new(), text();
    }
}

settings! {
    /// The table `[store]`.
    Store {
        /// What keeps messages and definitions: files in the data directory, or nothing that outlives the process.
        engine: Engine = Engine::Sled, choice(Engine::CHOICES);
        /// What a publisher's confirm promises: that the message is on the disk, and outlives a power cut; that it is with the
        /// operating system, and outlives the process but not the machine; or that it is in memory, and is written some time later.
        durability: Durability = Durability::Fsync, choice(DURABILITIES);
        /// Bytes of messages kept in memory, ready or not acknowledged, of all queues together; those beyond it are read back from
        /// the store when they are needed.
        memory_budget_bytes: usize = 268_435_456, optional_whole(1..);
        /// Bytes that the write-ahead log may take before what is still needed of it is moved into the database. It takes at most a
        /// sixteenth of the volume.
        wal_bytes_max: usize = 536_870_912, optional_whole(1_048_576..);
        /// Bytes gathered into one commit at most; what comes after goes into the next.
        commit_bytes_max: usize = 8_388_608, optional_whole(1..);
    }
}

/// What keeps messages and definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `sled`: files in the data directory.
    Sled,
    /// `memory`: nothing outlives the process.
    Memory,
}

impl Engine {
    const CHOICES: &[(&str, Engine)] = &[("sled", Engine::Sled), ("memory", Engine::Memory)];
}

/// The words for what a confirm promises.
const DURABILITIES: &[(&str, Durability)] =
    &[("fsync", Durability::Fsync), ("write", Durability::Write), ("none", Durability::None)];

impl Shown for Engine {
    fn shown(&self) -> String {
        word(Engine::CHOICES, self)
    }
}

impl Shown for Durability {
    fn shown(&self) -> String {
        word(DURABILITIES, self)
    }
}

settings! {
    /// The table `[events]`, as it is written: RabbitMQ's event exchange.
    EventsTable {
        /// The vhost that has the exchange `amq.rabbitmq.event`. Without one there are no events.
        vhost: Option<String> = None, perhaps_name();
        /// Events that may wait at a time; those of one change beyond that are dropped.
        waiting_max: usize = 10_000, optional_whole(1..);
    }
}

/// The table `[events]`: RabbitMQ's event exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The vhost that has the exchange `amq.rabbitmq.event`. Default none: then there are no events.
    pub vhost: Option<String>,
    /// Events that may wait at a time; those of one change beyond that are dropped. Default 10000.
    pub waiting_max: usize,
    /// Where the table stands, if it names a vhost in a file.
    pub declared_at: Option<Location>,
}

impl Events {
    pub(super) fn read(section: &mut Section<'_>) -> Events {
        let EventsTable { vhost, waiting_max } = EventsTable::read(section);
        let declared_at = vhost.as_ref().and_then(|_| section.location());
        Events { vhost, waiting_max, declared_at }
    }
}

settings! {
    /// The table `[log]`.
    Log {
        /// How a line looks: for reading, or one JSON object to a line.
        format: LogFormat = LogFormat::Text, choice(LogFormat::CHOICES);
        /// What is logged: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or several with the modules they are for, such
        /// as `info,leveret::amqp=debug`.
        level: String = "info".to_owned(), log_level();
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `text`: for reading.
    Text,
    /// `json`: one JSON object to a line, for collectors.
    Json,
}

impl LogFormat {
    const CHOICES: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl Shown for LogFormat {
    fn shown(&self) -> String {
        word(LogFormat::CHOICES, self)
    }
}

impl Section<'_> {
    /// What is logged, or none.
    fn log_level(&mut self, key: &'static str) -> Option<String> {
        let level = self.text(key)?;
        if Log::filter(&level).is_none() {
            self.report_unexpected(key, Log::LEVEL_EXPECTED, format!("{level:?}"));
        }
        Some(level)
    }
}

impl Log {
    /// What a level has to be, for complaints.
    pub const LEVEL_EXPECTED: &str =
        "off, error, warn, info, debug or trace, or module=level pairs with commas between";

    /// What lets lines of that level through, if it is one. A lone word that is no level would be taken for a module with
    /// everything on, which is not meant by `inof`.
    pub fn filter(level: &str) -> Option<EnvFilter> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let sound = |directive: &str| {
            let directive = directive.trim();
            directive.contains('=') || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive))
        };
        if level.split(',').all(sound) { EnvFilter::builder().parse(level).ok() } else { None }
    }
}
