//! The node: what it runs on, and what it takes of that.

use super::Management;
use super::answer::{Answer, ApiError};
use super::list::{list, one};
use super::overview::{self, available};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, Application, MemoryParts, NodeMemory};
use crate::broker::alarms::Alarm;
use crate::broker::memory::MemoryUse;
use crate::net::{Process, Volume};
use serde_json::json;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/nodes", Needs::Monitoring, nodes, "The nodes: this one").lists::<api::Node>(),
    Route::get("/api/nodes/{name}", Needs::Monitoring, node, "A node").answers::<api::Node>(),
    Route::get("/api/nodes/{name}/memory", Needs::Monitoring, memory, "What a node's memory is used for")
        .answers::<api::NodeMemory>(),
    Route::get(
        "/api/nodes/{name}/memory/relative",
        Needs::Monitoring,
        relative_memory,
        "What a node's memory is used for, in percent",
    )
    .answers::<api::NodeMemory>(),
];

fn nodes(request: &Request) -> Result<Answer, ApiError> {
    list(vec![describe(request)], request)
}

fn node(request: &Request) -> Result<Answer, ApiError> {
    check_name(request)?;
    one(&describe(request), request)
}

fn check_name(request: &Request) -> Result<(), ApiError> {
    if request.parameter("name") == request.settings().node_name { Ok(()) } else { Err(ApiError::NotFound) }
}

fn describe(request: &Request) -> api::Node {
    let management = &request.management;
    let settings = &management.settings;
    let alarms = request.broker().alarms();
    let process = Process::look();
    let volume = settings.data_dir.as_deref().and_then(|directory| Volume::of(directory).ok());
    let disk_limit = match volume {
        Some(volume) => settings.disk_limit.bytes_on(volume),
        None => settings.disk_limit.bytes().unwrap_or(0),
    };
    let memory_limit = settings.memory.as_ref().and_then(|watch| watch.limit_bytes());
    api::Node {
        os_pid: std::process::id().to_string(),
        fd_total: process.open_files_max,
        sockets_total: settings.connections_max.into(),
        mem_limit: memory_limit.unwrap_or(process.machine_bytes),
        mem_alarm: alarms.is_raised(Alarm::Memory),
        disk_free_limit: disk_limit,
        disk_free_alarm: alarms.is_raised(Alarm::Disk),
        store_alarm: alarms.is_raised(Alarm::Store),
        losses: request.broker().losses().count() as u64,
        proc_total: process.threads_max,
        rates_mode: "basic".to_owned(),
        uptime: request.now.saturating_sub(management.started_at),
        processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        exchange_types: overview::exchange_types(management),
        auth_mechanisms: vec![
            available("PLAIN", "SASL PLAIN"),
            available("AMQPLAIN", "Name and password in a field table"),
        ],
        applications: applications(management),
        contexts: overview::contexts(management, None),
        log_files: vec!["<stderr>".to_owned()],
        db_dir: settings.data_dir.as_ref().map_or(String::new(), |dir| dir.display().to_string()),
        net_ticktime: 60,
        enabled_plugins: enabled_plugins(management),
        mem_calculation_strategy: "rss".to_owned(),
        name: request.node(),
        kind: "disc".to_owned(),
        running: true,
        mem_used: process.resident_bytes,
        fd_used: process.open_files,
        sockets_used: request.broker().connections().count() as u64,
        proc_used: process.threads,
        disk_free: volume.map_or(0, |volume| volume.free_bytes),
        churn: overview::churn_rates(management),
        ..api::Node::default()
    }
}

/// RabbitMQ's plugins whose work is done here without any.
fn enabled_plugins(management: &Management) -> Vec<String> {
    let listens = |protocol: &str| {
        management.settings.listeners.iter().any(|listener| listener.protocol.ends_with(protocol))
    };
    let exchanges = ["rabbitmq_consistent_hash_exchange", "rabbitmq_management", "rabbitmq_management_agent"];
    let metrics = listens("/prometheus").then_some("rabbitmq_prometheus");
    let stomp = (listens("stomp") || listens("stomp/ssl")).then_some("rabbitmq_stomp");
    let stream = (listens("stream") || listens("stream/ssl")).then_some("rabbitmq_stream");
    let names =
        exchanges.into_iter().chain(metrics).chain(["rabbitmq_random_exchange"]).chain(stomp).chain(stream);
    names.map(str::to_owned).collect()
}

fn applications(management: &Management) -> Vec<Application> {
    let settings = &management.settings;
    let application = |name: &str, description: &str, version: &str| {
        let [name, description, version] = [name, description, version].map(str::to_owned);
        Application { name, description, version }
    };
    vec![
        application("rabbit", &settings.product, &settings.version),
        application("leveret", "Leveret", env!("CARGO_PKG_VERSION")),
    ]
}

/// The memory that clients' data take, under the names of RabbitMQ's processes that hold them there, and the total, in bytes.
fn used(request: &Request) -> (MemoryParts, u64) {
    let account = request.broker().memory();
    let of = |kind: MemoryUse| account.used_bytes(kind);
    let counted = account.total_bytes();
    let total = Process::look().resident_bytes.max(counted);
    let parts = MemoryParts {
        queue_procs: of(MemoryUse::Ready),
        connection_channels: of(MemoryUse::Unacked) + of(MemoryUse::Transactions),
        connection_readers: of(MemoryUse::Arriving),
        connection_writers: of(MemoryUse::Outboxes) + of(MemoryUse::TransmitBuffers),
        mnesia: of(MemoryUse::Arguments),
        mgmt_db: of(MemoryUse::HttpBodies),
        other_proc: total - counted,
        strategy: Some("rss".to_owned()),
        total: json!({ "erlang": total, "rss": total, "allocated": total }),
    };
    (parts, total)
}

fn memory(request: &Request) -> Result<Answer, ApiError> {
    check_name(request)?;
    one(&NodeMemory { memory: used(request).0 }, request)
}

fn relative_memory(request: &Request) -> Result<Answer, ApiError> {
    check_name(request)?;
    let (parts, total) = used(request);
    let percent = |bytes: u64| (100 * bytes).div_ceil(total.max(1));
    let memory = MemoryParts {
        queue_procs: percent(parts.queue_procs),
        connection_channels: percent(parts.connection_channels),
        connection_readers: percent(parts.connection_readers),
        connection_writers: percent(parts.connection_writers),
        mnesia: percent(parts.mnesia),
        mgmt_db: percent(parts.mgmt_db),
        other_proc: percent(parts.other_proc),
        strategy: None,
        total: 100.into(),
    };
    one(&NodeMemory { memory }, request)
}
