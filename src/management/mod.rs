//! The management API: RabbitMQ's paths, fields and status codes over HTTP, as JSON.
//!
//! `ROUTES` is the one list of what there is; the router, the allowed methods and the document at `/api/openapi.json` come
//! from it. A handler is a plain function from a `Request` to an `Answer`: what is asynchronous is in `http.rs` alone.
//! One file holds one kind of thing; what several of them need is in `request.rs`, `list.rs` and `json.rs`.

mod answer;
mod audit;
mod auth;
mod bindings;
mod body;
mod browse;
mod browser;
mod channels;
mod connections;
mod consumers;
pub mod definitions;
mod exchanges;
mod features;
mod health;
mod http;
mod json;
mod limits;
mod list;
mod log;
mod logins;
mod losses;
mod messages;
mod nodes;
mod openapi;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod queues;
mod ranges;
mod redrive;
mod request;
mod resources;
mod routes;
mod stats;
mod stream_clients;
mod streams;
mod super_streams;
mod told;
mod users;
mod vhosts;

pub use messages::shown_properties;

use body::Bodies;
use routes::Route;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::message::Millis;
use crate::net::{DiskLimit, MemoryWatch, Shutdown, Tls};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// All that can be asked, in the order of the files.
const ROUTES: &[&[Route]] = &[
    overview::ROUTES,
    nodes::ROUTES,
    connections::ROUTES,
    channels::ROUTES,
    consumers::ROUTES,
    exchanges::ROUTES,
    queues::ROUTES,
    stream_clients::ROUTES,
    streams::ROUTES,
    super_streams::ROUTES,
    bindings::ROUTES,
    messages::ROUTES,
    browse::ROUTES,
    redrive::ROUTES,
    policies::ROUTES,
    parameters::ROUTES,
    definitions::ROUTES,
    features::ROUTES,
    openapi::DOCUMENT,
    vhosts::ROUTES,
    users::ROUTES,
    permissions::ROUTES,
    limits::ROUTES,
    logins::ROUTES,
    health::ROUTES,
    losses::ROUTES,
    log::ROUTES,
    resources::ROUTES,
];

/// What the management API says of the broker that the broker does not know itself.
#[derive(Clone, Debug, Default)]
pub struct ManagementSettings {
    /// What the broker calls itself.
    pub node_name: String,
    /// What it calls its product.
    pub product: String,
    /// What it calls the product's version.
    pub version: String,
    /// The name of the cluster, unless it has been given another one at run time.
    pub cluster_name: String,
    /// The sockets that listen, each with its protocol.
    pub listeners: Vec<ListenerFacts>,
    /// The names that the API is asked for under; without any, what is asked from elsewhere may say any.
    pub http_hosts: Vec<String>,
    /// The origins of pages that may ask besides its own.
    pub http_origins: Vec<String>,
    /// Bytes of a request's body, where it imports definitions or publishes a message.
    pub body_bytes_max: usize,
    /// Bytes of any other request's body.
    pub small_body_bytes_max: usize,
    /// Bytes of all bodies at once that are larger than that.
    pub bodies_bytes_max: usize,
    /// Levels of tables within arguments and headers.
    pub field_table_depth_max: usize,
    /// Bytes of a published message's body.
    pub message_bytes_max: u64,
    /// How long a delivery may wait for its acknowledgement where neither consumer nor queue say so; 0 is no limit.
    pub consumer_timeout_ms: u64,
    /// Where messages are kept, if they are.
    pub data_dir: Option<PathBuf>,
    /// What has to stay free there.
    pub disk_limit: Arc<DiskLimit>,
    /// What knows how much memory the broker may take; without it that is the machine's.
    pub memory: Option<Arc<MemoryWatch>>,
    /// The certificate, if there is one.
    pub tls: Option<Arc<Tls>>,
    /// Whether the broker is stopping.
    pub shutdown: Shutdown,
    /// Connections for AMQP that there may be, by the settings and by the file descriptors there are; 0 where they are not bounded.
    pub connections_max: u32,
}

/// A socket that listens.
#[derive(Clone, Debug)]
pub struct ListenerFacts {
    /// Such as `amqp` or `http`.
    pub protocol: &'static str,
    /// The address that it is bound to.
    pub address: SocketAddr,
}

impl ListenerFacts {
    /// Whether it is TLS that is spoken there.
    pub fn speaks_tls(&self) -> bool {
        self.protocol.starts_with("https") || self.protocol.ends_with("/ssl")
    }
}

/// The management API of a broker, apart from its sockets.
#[derive(Clone)]
pub struct Management {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
    settings: Arc<ManagementSettings>,
    bodies: Arc<Bodies>,
    started_at: Millis,
}

impl Management {
    /// The API of that broker.
    pub fn new(broker: Arc<Broker>, clock: Arc<dyn Clock>, settings: ManagementSettings) -> Management {
        let started_at = clock.now();
        let bodies = Arc::new(Bodies::new(&settings));
        Management { broker, clock, settings: Arc::new(settings), bodies, started_at }
    }

    /// The router that answers requests.
    pub fn router(&self) -> axum::Router {
        http::router(self)
    }
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Management").field("settings", &self.settings).finish_non_exhaustive()
    }
}
