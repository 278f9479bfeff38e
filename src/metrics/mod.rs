//! Metrics for Prometheus, under RabbitMQ's names, so that what was made for RabbitMQ reads them; what begins with `leveret_` is
//! our own.
//!
//! | Path | What |
//! |---|---|
//! | `/metrics` | everything, objects of one kind together |
//! | `/metrics/per-object` | the same, each object by itself |
//! | `/metrics/detailed?family=...&vhost=...&queue=...` | some families, each object by itself, with another prefix |
//! | `/metrics/memory-breakdown` | where the memory is |

mod exposition;
mod objects;
mod streams;
mod totals;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::message::Millis;
use crate::net::commits::CommitStats;
use crate::net::{DiskLimit, MemoryWatch, Tls};
use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use exposition::{CONTENT_TYPE, Exposition, Metric};
use objects::{Filter, Objects};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

const PREFIX: &str = "rabbitmq_";
const DETAILED_PREFIX: &str = "rabbitmq_detailed_";
/// The prefix of what RabbitMQ reports of the cluster, though only for objects that are asked for.
const CLUSTER_PREFIX: &str = "rabbitmq_cluster_";
const OWN_PREFIX: &str = "leveret_";
const OWN_DETAILED_PREFIX: &str = "leveret_detailed_";

/// What metrics say of the broker that the broker does not know itself.
#[derive(Clone, Debug, Default)]
pub struct MetricsSettings {
    /// What the broker calls itself.
    pub node_name: String,
    /// The name of the cluster.
    pub cluster_name: String,
    /// The version of RabbitMQ that it speaks as.
    pub version: String,
    /// The directory whose volume is watched, if anything is kept.
    pub data_dir: Option<PathBuf>,
    /// What has to stay free there.
    pub disk_limit: Arc<DiskLimit>,
    /// What knows how much memory the broker may take.
    pub memory: Option<Arc<MemoryWatch>>,
    /// The certificate, if there is one.
    pub tls: Option<Arc<Tls>>,
    /// Connections for AMQP that there may be; 0 where they are not bounded.
    pub connections_max: u32,
    /// Protocol and port of what shows it.
    pub tls_listeners: Vec<(&'static str, u16)>,
}

/// A function that writes a page.
type Page = fn(&Metrics, &Query) -> String;

/// How many pages are written at once; further requests wait. They need no login, so they must not take all processors.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// The metrics of a broker, apart from their sockets.
#[derive(Clone)]
pub struct Metrics {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
    commits: Arc<CommitStats>,
    settings: Arc<MetricsSettings>,
    started_at: Millis,
}

/// How objects are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Together,
    Each,
}

/// A function that writes a family of metrics.
type PutFamily = fn(&mut Exposition, &Metrics, &Objects);

/// What can be asked for with `family`. RabbitMQ has more of them; what is not here does not exist in Leveret.
const FAMILIES: &[(&str, PutFamily)] = &[
    ("connection_churn_metrics", |out, metrics, _| metrics.put_churn(out)),
    ("node_coarse_metrics", |out, metrics, _| metrics.put_node(out)),
    ("node_metrics", |out, metrics, _| metrics.put_node_limits(out)),
    ("auth_attempt_metrics", |out, metrics, _| metrics.put_logins(out)),
    ("node_persister_metrics", |out, metrics, _| metrics.put_io(out)),
    ("queue_coarse_metrics", |out, _, objects| out.each(objects::QUEUE_COARSE, &objects.queues)),
    ("queue_consumer_count", |out, _, objects| out.each(objects::QUEUE_CONSUMERS, &objects.queues)),
    ("queue_metrics", |out, _, objects| out.each(objects::QUEUES, &objects.queues)),
    ("stream_consumer_metrics", |out, _, objects| out.each(streams::STREAM_LAGS, &objects.streams)),
    ("channel_metrics", |out, _, objects| out.each(objects::CHANNELS, &objects.channels)),
    ("channel_exchange_metrics", |out, _, objects| {
        out.each(objects::CHANNEL_PUBLISHED, &objects.sent);
    }),
    ("channel_queue_metrics", |out, _, objects| {
        out.each(objects::CHANNEL_DELIVERED, &objects.consumed);
    }),
    ("channel_queue_exchange_metrics", |out, _, objects| {
        out.each(objects::QUEUE_PUBLISHED, &objects.published);
    }),
    ("connection_coarse_metrics", |out, _, objects| {
        out.each(objects::CONNECTION_BYTES, &of_each(&objects.connections, |connection| connection.traffic));
    }),
    ("connection_metrics", |out, _, objects| {
        out.each(
            objects::CONNECTION_PACKETS,
            &of_each(&objects.connections, |connection| connection.traffic),
        );
        out.each(objects::CONNECTIONS, &objects.connections);
    }),
];

/// Families about what exists.
const CLUSTER_FAMILIES: &[(&str, PutFamily)] = &[
    ("vhost_status", |out, _, objects| out.each(objects::VHOST_STATUS, &objects.vhosts)),
    ("exchange_names", |out, _, objects| out.each(objects::EXCHANGE_NAMES, &objects.bound)),
    ("exchange_bindings", |out, _, objects| out.each(objects::EXCHANGE_BINDINGS, &objects.bound)),
];

/// All families, each kind with its prefix.
const ALL_FAMILIES: [(&str, &[(&str, PutFamily)]); 3] =
    [(DETAILED_PREFIX, FAMILIES), (CLUSTER_PREFIX, CLUSTER_FAMILIES), (OWN_DETAILED_PREFIX, OWN_FAMILIES)];

/// Our own families, which have a prefix of their own.
const OWN_FAMILIES: &[(&str, PutFamily)] = &[
    ("queue_age_metrics", |out, _, objects| out.each(objects::QUEUE_AGES, &objects.queues)),
    ("queue_delivery_metrics", |out, _, objects| {
        out.each(objects::QUEUE_MESSAGES, &of_each(&objects.queues, objects::Queue::messages));
    }),
    ("stream_publisher_metrics", |out, _, objects| out.each(streams::STREAM_PUBLISHERS, &objects.streams)),
    ("stream_group_metrics", |out, _, objects| out.each(streams::STREAM_GROUPS, &objects.groups)),
    ("exchange_metrics", |out, _, objects| out.each(objects::EXCHANGES, &objects.exchanges)),
];

/// Another side of the same things.
fn of_each<T, S>(things: &[(exposition::Labels, T)], side: impl Fn(&T) -> S) -> Vec<(exposition::Labels, S)> {
    things.iter().map(|(labels, thing)| (labels.clone(), side(thing))).collect()
}

impl Metrics {
    /// The metrics of that broker and of the thread that commits for it.
    pub fn new(
        broker: Arc<Broker>,
        clock: Arc<dyn Clock>,
        commits: Arc<CommitStats>,
        settings: MetricsSettings,
    ) -> Metrics {
        let started_at = clock.now();
        Metrics { broker, clock, commits, settings: Arc::new(settings), started_at }
    }

    /// The router that answers requests.
    pub fn router(&self) -> Router {
        let answer = |text: Page| {
            let metrics = self.clone();
            get(async move |RawQuery(query): RawQuery| metrics.answer(text, query).await)
        };
        let pages: [(&str, Page); 4] = [
            ("/metrics", |metrics, _| metrics.all(View::Together)),
            ("/metrics/per-object", |metrics, _| metrics.all(View::Each)),
            ("/metrics/detailed", Metrics::detailed),
            ("/metrics/memory-breakdown", |metrics, _| metrics.memory()),
        ];
        // A slash at the end makes no difference, as in RabbitMQ.
        pages.into_iter().fold(Router::new(), |router, (path, text)| {
            router.route(path, answer(text)).route(&format!("{path}/"), answer(text))
        })
    }

    /// Writes on a thread for what may take its time: there may be many queues.
    async fn answer(self, text: Page, query: Option<String>) -> Response {
        let Ok(_permit) = AT_ONCE.acquire().await else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        let query = Query::parse(query.as_deref().unwrap_or_default());
        match tokio::task::spawn_blocking(move || text(&self, &query)).await {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                tracing::error!("metrics could not be written, please report this: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn look(&self, filter: &Filter) -> Objects {
        Objects::look(&self.broker, filter, self.clock.now())
    }

    fn all(&self, view: View) -> String {
        let objects = self.look(&Filter::default());
        let mut out = Exposition::new(PREFIX);
        self.put_identity(&mut out, view.endpoint());
        self.put_alarms(&mut out);
        self.put_churn(&mut out);
        self.put_node(&mut out);
        self.put_node_limits(&mut out);
        self.put_logins(&mut out);
        self.put_counts(&mut out, &objects);
        self.put_global(&mut out);
        self.put_sizes(&mut out);
        put(&mut out, view, objects::QUEUE_COARSE, &objects.queues);
        put(&mut out, view, objects::QUEUE_CONSUMERS, &objects.queues);
        put(&mut out, view, objects::QUEUES, &objects.queues);
        put(&mut out, view, objects::CHANNELS, &objects.channels);
        put(&mut out, view, objects::CONNECTIONS, &objects.connections);
        let (sent, consumed, published, queued) = match view {
            View::Each => (
                objects.sent.clone(),
                objects.consumed.clone(),
                objects.published.clone(),
                of_each(&objects.queues, objects::Queue::messages),
            ),
            // Counts of all there have been: what is gone does not make a counter fall.
            View::Together => {
                let clients = alone(self.done_by_clients());
                (clients.clone(), clients, alone(self.routed()), alone(self.done_in_queues()))
            }
        };
        let (traffic, exchanged) = match view {
            View::Each => {
                (of_each(&objects.connections, |connection| connection.traffic), objects.exchanges.clone())
            }
            View::Together => {
                (alone(self.broker.connections().traffic()), alone(self.broker.exchange_stats()))
            }
        };
        out.each(objects::CONNECTION_BYTES, &traffic);
        out.each(objects::CONNECTION_PACKETS, &traffic);
        out.each(objects::CHANNEL_PUBLISHED, &sent);
        out.each(objects::CHANNEL_DELIVERED, &consumed);
        out.each(objects::QUEUE_PUBLISHED, &published);
        self.put_io(&mut out);
        out.set_prefix(OWN_PREFIX);
        out.each(objects::QUEUE_MESSAGES, &queued);
        put(&mut out, view, objects::QUEUE_AGES, &objects.queues);
        put(&mut out, view, streams::STREAM_GROUPS, &objects.groups);
        out.each(objects::EXCHANGES, &exchanged);
        self.put_commits(&mut out);
        self.put_losses(&mut out);
        self.put_patterns(&mut out);
        self.put_certificate(&mut out);
        out.into_text()
    }

    fn detailed(&self, query: &Query) -> String {
        let objects = self.look(&query.filter);
        let mut out = Exposition::new(PREFIX);
        self.put_identity(&mut out, "detailed");
        for (prefix, families) in ALL_FAMILIES {
            out.set_prefix(prefix);
            for (name, put) in families {
                // The count of consumers is one of the queue's metrics, and stands there once.
                let is_asked = |name: &str| query.families.iter().any(|asked| asked == name);
                if is_asked(name) || (*name == "queue_consumer_count" && is_asked("queue_metrics")) {
                    put(&mut out, self, &objects);
                }
            }
        }
        for asked in &query.families {
            let all = ALL_FAMILIES.into_iter().flat_map(|(_, families)| families);
            if !all.into_iter().any(|(name, _)| name == asked) {
                out.comment(&format!("there is no family {asked:?}"));
            }
        }
        out.into_text()
    }
}

impl View {
    /// What RabbitMQ calls the page in a label.
    fn endpoint(self) -> &'static str {
        match self {
            View::Together => "aggregated",
            View::Each => "per-object",
        }
    }
}

/// Counts that are of nothing in particular.
fn alone<T>(stats: T) -> Vec<(exposition::Labels, T)> {
    vec![(exposition::Labels::default(), stats)]
}

fn put<T>(out: &mut Exposition, view: View, metrics: &[Metric<T>], things: &[(exposition::Labels, T)]) {
    match view {
        View::Together => out.totals(metrics, things),
        View::Each => out.each(metrics, things),
    }
}

/// What is asked for.
#[derive(Debug, Default)]
struct Query {
    families: Vec<String>,
    filter: Filter,
}

impl Query {
    fn parse(text: &str) -> Query {
        let mut query = Query::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "family" => query.families.push(value.into_owned()),
                "vhost" => query.filter.vhosts.push(value.into_owned()),
                "queue" => query.filter.queues.push(value.into_owned()),
                _ => {}
            }
        }
        query
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("settings", &self.settings).finish_non_exhaustive()
    }
}
