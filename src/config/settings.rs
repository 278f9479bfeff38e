//! The single settings apart from limits: `[listeners]`, `[server]`, `[store]`, `[events]` and `[log]`.

use std::net::SocketAddr;

use tracing_subscriber::EnvFilter;

use super::diagnose::Location;
use super::network::Network;
use super::section::Section;
use super::table::{Shown, settings, word};
use crate::vocabulary::Durability;

/// The table `[listeners]`. Those that speak TLS are off unless `[tls]` has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listeners {
    /// `[listeners.amqp]`: AMQP 0-9-1. Default `127.0.0.1:5672`.
    pub amqp: AmqpListener,
    /// `[listeners.amqps]`: AMQP 0-9-1 over TLS. Default `127.0.0.1:5671`.
    pub amqps: AmqpListener,
    /// `[listeners.websocket]`: what is spoken over WebSocket. Off unless `bind` is set; then mostly `127.0.0.1:15674`.
    pub websocket: AmqpListener,
    /// `[listeners.websockets]`: the same over TLS. Off unless `bind` is set; then mostly `127.0.0.1:15673`.
    pub websockets: AmqpListener,
    /// `[listeners.stomp]`: STOMP. Off unless `bind` is set; then mostly `127.0.0.1:61613`.
    pub stomp: AmqpListener,
    /// `[listeners.stomps]`: STOMP over TLS. Off unless `bind` is set; then mostly `127.0.0.1:61614`.
    pub stomps: AmqpListener,
    /// `[listeners.http]`: the management API. Default `127.0.0.1:15672`.
    pub http: Listener,
    /// `[listeners.https]`: the management API over TLS. Default `127.0.0.1:15671`.
    pub https: Listener,
    /// `[listeners.prometheus]`: metrics for Prometheus. Default `127.0.0.1:15692`.
    pub prometheus: Listener,
    /// `[listeners.prometheus_https]`: metrics over TLS. Default `127.0.0.1:15691`.
    pub prometheus_https: Listener,
}

/// One place to listen for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpListener {
    /// Whether nothing listens there, as where `bind` is `"off"`; AMQP can't be off.
    pub is_off: bool,
    /// Address and port, as in [`Listener::bind`].
    pub bind: SocketAddr,
    /// Whether each connection begins with a header of the PROXY protocol, version 1 or 2, which says where the client
    /// is. Default false.
    pub proxy_protocol: bool,
    /// Where those are that send such headers; connections from elsewhere have none. With none listed all do. Default none.
    pub proxy_networks: Vec<Network>,
}

/// One place to listen for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Whether nothing listens there: `bind` is `"off"`.
    pub is_off: bool,
    /// Address and port, such as `0.0.0.0:5672` or `[::1]:5672`; with port 0 the system picks a free one.
    pub bind: SocketAddr,
}

impl Listeners {
    pub(super) fn read(section: &mut Section<'_>, has_certificate: bool) -> Listeners {
        let plain = |name, default_port| Place { name, default_port, is_on: true };
        let tls = |name, default_port| Place { name, default_port, is_on: has_certificate };
        let mut taken = Taken::default();
        let amqp = section.section("amqp", |s| AmqpListener::read(s, &plain("amqp", 5672), &mut taken));
        let amqps = section.section("amqps", |s| AmqpListener::read(s, &tls("amqps", 5671), &mut taken));
        let websocket = section
            .section("websocket", |s| AmqpListener::read_optional(s, &plain("websocket", 15674), &mut taken));
        let websockets = section
            .section("websockets", |s| AmqpListener::read_optional(s, &tls("websockets", 15673), &mut taken));
        let stomp =
            section.section("stomp", |s| AmqpListener::read_optional(s, &plain("stomp", 61613), &mut taken));
        let stomps =
            section.section("stomps", |s| AmqpListener::read_optional(s, &tls("stomps", 61614), &mut taken));
        let http = section.section("http", |s| Listener::read(s, &plain("http", 15672), &mut taken));
        let https = section.section("https", |s| Listener::read(s, &tls("https", 15671), &mut taken));
        let prometheus =
            section.section("prometheus", |s| Listener::read(s, &plain("prometheus", 15692), &mut taken));
        let prometheus_https = section
            .section("prometheus_https", |s| Listener::read(s, &tls("prometheus_https", 15691), &mut taken));
        Listeners {
            amqp,
            amqps,
            websocket,
            websockets,
            stomp,
            stomps,
            http,
            https,
            prometheus,
            prometheus_https,
        }
    }
}

/// One of the listeners.
struct Place {
    name: &'static str,
    default_port: u16,
    is_on: bool,
}

/// The addresses of the listeners read so far, with their names.
type Taken = Vec<(&'static str, SocketAddr)>;

impl AmqpListener {
    fn read(section: &mut Section<'_>, place: &Place, taken: &mut Taken) -> AmqpListener {
        AmqpListener {
            is_off: false,
            bind: bind(section.text("bind"), section, place, taken),
            proxy_protocol: section.boolean("proxy_protocol", false),
            proxy_networks: AmqpListener::read_networks(section),
        }
    }

    /// One that is off unless it is bound.
    fn read_optional(section: &mut Section<'_>, place: &Place, taken: &mut Taken) -> AmqpListener {
        let text = section.text("bind").filter(|text| text != OFF);
        let is_off = text.is_none();
        if !is_off && !place.is_on {
            section.report("bind", "needs a certificate; set tls.certificate and tls.key");
        }
        let place = Place { is_on: place.is_on && !is_off, ..*place };
        AmqpListener {
            is_off,
            bind: bind(text, section, &place, taken),
            proxy_protocol: section.boolean("proxy_protocol", false),
            proxy_networks: AmqpListener::read_networks(section),
        }
    }

    fn read_networks(section: &mut Section<'_>) -> Vec<Network> {
        let texts = section.texts("proxy_networks");
        let mut networks = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(()) => {
                    let expected = "networks such as \"10.0.0.0/8\" or \"2001:db8::/32\", or addresses";
                    section.report_unexpected("proxy_networks", expected, format!("{text:?}"));
                }
            }
        }
        networks
    }
}

impl Listener {
    fn read(section: &mut Section<'_>, place: &Place, taken: &mut Taken) -> Listener {
        let text = section.text("bind");
        if text.as_deref() == Some(OFF) {
            return Listener { is_off: true, bind: SocketAddr::from(([127, 0, 0, 1], place.default_port)) };
        }
        Listener { is_off: false, bind: bind(text, section, place, taken) }
    }
}

/// Where nothing is to listen.
const OFF: &str = "off";

/// The address to listen on.
fn bind(text: Option<String>, section: &Section<'_>, place: &Place, taken: &mut Taken) -> SocketAddr {
    let default_port = place.default_port;
    let bind = match text {
        None => SocketAddr::from(([127, 0, 0, 1], default_port)),
        Some(text) => text.parse().unwrap_or_else(|_| {
            let expected = format!("an address and a port, such as \"127.0.0.1:{default_port}\"");
            section.report_unexpected("bind", expected, format!("{text:?}"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        }),
    };
    if !place.is_on {
        return bind;
    }
    if let Some((name, _)) = taken.iter().find(|(_, other)| *other == bind && bind.port() != 0) {
        section.report("bind", format!("{bind} is taken by listeners.{name}.bind; choose another port"));
    }
    taken.push((place.name, bind));
    bind
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
