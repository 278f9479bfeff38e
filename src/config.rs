//! What an operator sets: `leveret.toml` and the `LEVERET__*` variables over it, as one immutable [`Config`].
//!
//! Owns every setting, its default and its bounds, and the promise that a `Config` in hand is sound: names are well
//! formed, references lead somewhere, patterns compile. `main` loads it once, before anything is opened, and hands
//! parts of it down; nothing here knows the broker.
//!
//! Reading goes in three steps: `source` parses the file (keeping the line of every key) and merges the environment
//! over it; `section` reads typed values out of the merged tree, and each struct's `read` names its own keys once, so
//! a key that no section reads is unknown; `references` looks across sections. Every step goes on after a problem, so that
//! one run reports all of them.

mod access;
mod argument;
mod diagnose;
mod limits;
mod listeners;
mod network;
mod policies;
mod references;
mod section;
mod settings;
mod source;
mod stomp;
mod stream;
mod table;
mod tls;
mod topology;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use crate::vocabulary::{ApplyTo, DestinationType, Durability, HashingAlgorithm, QueueType};
pub use access::{AccessSettings, Credentials, Permission, TopicPermission, User};
pub use argument::{Argument, Arguments};
pub use diagnose::{ConfigErrors, Location, Problem};
pub use limits::{Limits, MemoryLimit};
pub use listeners::{AmqpListener, AmqpListenerTable, Listener, ListenerTable, Listeners};
pub use network::Network;
pub use policies::Policy;
pub use settings::{Engine, Events, EventsTable, General, Log, LogFormat, Server, Store, WebSocket};
pub use stomp::Stomp;
pub use stream::StreamProtocol;
pub use table::{Setting, page as settings_page};
pub use tls::{ClientCertificates, LoginFrom, SanType, Tls, TlsSettings, TlsVersion};
pub use topology::{Binding, Exchange, Queue, Vhost};

use diagnose::Problems;
use section::Section;

/// Everything that can be set, checked. Without a file and without variables it is a broker for one machine: AMQP on
/// 127.0.0.1:5672, user guest with password guest, vhost `/`, data in `./leveret-data`.
///
/// Any setting outside the lists can also be given as a variable: `limits.frame_max_bytes` is
/// `LEVERET__LIMITS__FRAME_MAX_BYTES`. A variable wins over the file, and the command line over both.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Directory of the store, made if it is missing; a relative one starts at the working directory.
    /// Default `./leveret-data`.
    pub data_dir: PathBuf,
    /// What the broker calls itself, in the form `name@host`. Default `leveret@localhost`.
    pub node_name: String,
    /// Type of a queue declared without `x-queue-type` in a vhost that sets none of its own: `classic` (default) or
    /// `quorum`.
    pub default_queue_type: QueueType,
    /// Definitions in RabbitMQ's form, imported at each start: a file, or a directory whose files ending in `.json` are
    /// imported in the order of their names. Default: none.
    pub load_definitions: Option<PathBuf>,
    /// `[tls]`: the certificate of the listeners that speak TLS; without it they are off.
    pub tls: Option<Tls>,
    /// `[listeners]`: where to listen.
    pub listeners: Listeners,
    /// `[websocket]`: whose pages may connect over WebSocket.
    pub websocket: WebSocket,
    /// `[stomp]`: what STOMP clients can leave out, and what they are sent.
    pub stomp: Stomp,
    /// `[stream]`: what the stream protocol says to its clients.
    pub stream: StreamProtocol,
    /// `[server]`: what clients learn about the broker.
    pub server: Server,
    /// `[limits]`: every bound that a client can meet.
    pub limits: Limits,
    /// `[access]`: who may log in from where.
    pub access: AccessSettings,
    /// `[store]`: how messages and definitions are kept.
    pub store: Store,
    /// `[log]`: what is logged and how it looks.
    pub log: Log,
    /// `[events]`: where events are published.
    pub events: Events,
    /// `[[vhosts]]`: virtual hosts that exist from the start. Without the list: `/`.
    pub vhosts: Vec<Vhost>,
    /// `[[users]]`: who may log in. Without the list: guest, password guest, tag administrator.
    pub users: Vec<User>,
    /// `[[permissions]]`: what each user may do in a vhost; without one a user may not open the vhost. The built-in
    /// guest, there when `[[users]]` is absent, may do everything in every vhost of the file unless an entry says less.
    pub permissions: Vec<Permission>,
    /// `[[topic_permissions]]`: which routing keys a user may use with a topic exchange.
    pub topic_permissions: Vec<TopicPermission>,
    /// `[[policies]]`: policies set at start.
    pub policies: Vec<Policy>,
    /// `[[operator_policies]]`: operator policies set at start.
    pub operator_policies: Vec<Policy>,
    /// `[[exchanges]]`: exchanges declared at start.
    pub exchanges: Vec<Exchange>,
    /// `[[queues]]`: queues declared at start.
    pub queues: Vec<Queue>,
    /// `[[bindings]]`: bindings made at start, after all exchanges and queues.
    pub bindings: Vec<Binding>,
}

impl Config {
    /// What is not wrong, and most likely not meant.
    pub fn warnings(&self) -> Vec<Problem> {
        references::warnings(self)
    }

    /// Reads `file`, if one is given, and the process's environment; `data_dir` (from the command line) wins over both.
    /// No file is looked for by itself.
    ///
    /// # Errors
    /// All problems found: the file cannot be read, is not TOML, or sets something unknown, wrong or contradictory.
    pub fn load(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Config, ConfigErrors> {
        let file_name = file.map(|path| path.display().to_string()).unwrap_or_default();
        let text = match file {
            Some(path) => {
                source::read(path).map_err(|error| ConfigErrors::unreadable_file(&file_name, error))?
            }
            None => String::new(),
        };
        let mut config = Config::load_from(&text, &file_name, std::env::vars_os())?;
        if let Some(data_dir) = data_dir {
            config.data_dir = data_dir.to_path_buf();
        }
        Ok(config)
    }

    /// As [`Config::load`], from a text and variables in hand. `file_name` is only what problems call the text.
    /// Variables that do not begin with `LEVERET__` are passed over.
    ///
    /// # Errors
    /// When there are problems: all that were found.
    pub fn load_from(
        text: &str,
        file_name: &str,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Result<Config, ConfigErrors> {
        let mut problems = Problems::new(file_name);
        let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let merged = source::merge(text, environment, &mut problems);
        // After a syntax error the tree is only part of the file: what it lacks would be reported as missing.
        let Some(merged) = merged else { return Err(problems.into_errors()) };
        let config = Section::read_root(merged, &problems, Config::read);
        references::check(&config, &problems);
        if problems.is_empty() { Ok(config) } else { Err(problems.into_errors()) }
    }

    /// Reads in the order of the struct, in which an unknown key's complaint then lists the known ones.
    fn read(root: &mut Section<'_>) -> Config {
        let General { data_dir, node_name, default_queue_type, load_definitions } = General::read(root);
        let tls = root.section("tls", Tls::read);
        let listeners = root.section("listeners", |section| Listeners::read(section, tls.is_some()));
        let websocket = root.section("websocket", WebSocket::read);
        let stomp = root.section("stomp", Stomp::read_whole);
        let stream = root.section("stream", StreamProtocol::read);
        let mut server = root.section("server", Server::read);
        if server.cluster_name.is_empty() {
            server.cluster_name.clone_from(&node_name);
        }
        let limits = root.section("limits", Limits::read);
        let access = root.section("access", AccessSettings::read);
        let store = root.section("store", Store::read);
        let log = root.section("log", Log::read);
        let events = root.section("events", Events::read);
        let vhosts = root.list("vhosts", Vhost::read).unwrap_or_else(|| vec![Vhost::built_in()]);
        let users = root.list("users", User::read);
        let mut permissions = root.list("permissions", Permission::read).unwrap_or_default();
        if users.is_none() {
            Permission::grant_guest_everything(&vhosts, &mut permissions);
        }
        Config {
            data_dir,
            node_name,
            default_queue_type,
            load_definitions,
            tls,
            listeners,
            websocket,
            stomp,
            stream,
            server,
            limits,
            access,
            store,
            log,
            events,
            vhosts,
            users: users.unwrap_or_else(|| vec![User::built_in_guest()]),
            permissions,
            topic_permissions: root.list("topic_permissions", TopicPermission::read).unwrap_or_default(),
            policies: root.list("policies", Policy::read).unwrap_or_default(),
            operator_policies: root.list("operator_policies", Policy::read).unwrap_or_default(),
            exchanges: root.list("exchanges", Exchange::read).unwrap_or_default(),
            queues: root.list("queues", Queue::read).unwrap_or_default(),
            bindings: root.list("bindings", Binding::read).unwrap_or_default(),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        let nothing: [(OsString, OsString); 0] = [];
        Config::load_from("", "", nothing).expect("the defaults hold their own bounds")
    }
}
