//! The node: what it runs on, and what it takes of that.

use super::answer::{Answer, ApiError};
use super::list::{list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::put_rated;
use super::{Management, overview};
use crate::broker::alarms::Alarm;
use crate::broker::memory::MemoryUse;
use crate::net::{Process, Volume};
use serde_json::{Map, Value, json};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/nodes", Needs::Monitoring, nodes, "The nodes: this one"),
    Route::get("/api/nodes/{name}", Needs::Monitoring, node, "A node"),
    Route::get("/api/nodes/{name}/memory", Needs::Monitoring, memory, "What a node's memory is used for"),
    Route::get(
        "/api/nodes/{name}/memory/relative",
        Needs::Monitoring,
        relative_memory,
        "What a node's memory is used for, in percent",
    ),
];

fn nodes(request: &Request) -> Result<Answer, ApiError> {
    list(vec![render(request)], request)
}

fn node(request: &Request) -> Result<Answer, ApiError> {
    check_name(request)?;
    one(render(request), request)
}

fn check_name(request: &Request) -> Result<(), ApiError> {
    if request.parameter("name") == request.settings().node_name { Ok(()) } else { Err(ApiError::NotFound) }
}

fn render(request: &Request) -> Value {
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
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let connections = request.broker().connections().count() as u64;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("partitions", json!([]));
    put("os_pid", std::process::id().to_string().into());
    put("fd_total", process.open_files_max.into());
    put("sockets_total", settings.connections_max.into());
    put("mem_limit", memory_limit.unwrap_or(process.machine_bytes).into());
    put("mem_alarm", alarms.is_raised(Alarm::Memory).into());
    put("disk_free_limit", disk_limit.into());
    put("disk_free_alarm", alarms.is_raised(Alarm::Disk).into());
    put("store_alarm", alarms.is_raised(Alarm::Store).into());
    put("proc_total", process.threads_max.into());
    put("rates_mode", "basic".into());
    put("uptime", request.now.saturating_sub(management.started_at).into());
    put("run_queue", 0.into());
    put("processors", processors.into());
    put("exchange_types", overview::exchange_types(management));
    put("auth_mechanisms", auth_mechanisms());
    put("applications", applications(management));
    put("contexts", overview::contexts(management, false));
    put("log_files", json!(["<stderr>"]));
    put("db_dir", settings.data_dir.as_ref().map_or(String::new(), |dir| dir.display().to_string()).into());
    put("config_files", json!([]));
    put("net_ticktime", 60.into());
    put("enabled_plugins", enabled_plugins(management));
    put("mem_calculation_strategy", "rss".into());
    put("name", settings.node_name.as_str().into());
    put("type", "disc".into());
    put("running", true.into());
    // Taking clients off a node goes before it leaves its cluster, and this one is alone.
    put("being_drained", false.into());
    put("cluster_links", json!([]));
    let steady =
        |fields: &mut Map<String, Value>, name: &str, count: u64| put_rated(fields, name, count, 0.0);
    steady(&mut fields, "mem_used", process.resident_bytes);
    steady(&mut fields, "fd_used", process.open_files);
    steady(&mut fields, "sockets_used", connections);
    steady(&mut fields, "proc_used", process.threads);
    steady(&mut fields, "disk_free", volume.map_or(0, |volume| volume.free_bytes));
    if let Value::Object(churn) = overview::churn_rates(management) {
        fields.extend(churn);
    }
    Value::Object(fields)
}

/// RabbitMQ's plugins whose work is done here without any.
fn enabled_plugins(management: &Management) -> Value {
    let listens = |protocol: &str| {
        management.settings.listeners.iter().any(|listener| listener.protocol.ends_with(protocol))
    };
    let exchanges = ["rabbitmq_consistent_hash_exchange", "rabbitmq_management", "rabbitmq_management_agent"];
    let metrics = listens("/prometheus").then_some("rabbitmq_prometheus");
    exchanges.into_iter().chain(metrics).chain(["rabbitmq_random_exchange"]).collect()
}

fn auth_mechanisms() -> Value {
    json!([
        { "name": "PLAIN", "description": "SASL PLAIN", "enabled": true },
        { "name": "AMQPLAIN", "description": "Name and password in a field table", "enabled": true },
    ])
}

fn applications(management: &Management) -> Value {
    json!([
        { "name": "rabbit", "description": management.settings.product, "version": management.settings.version },
        { "name": "leveret", "description": "Leveret", "version": env!("CARGO_PKG_VERSION") },
    ])
}

/// The memory that clients' data take, under the names of RabbitMQ's processes that hold them there, and the total.
fn used(request: &Request) -> ([(&'static str, u64); 6], u64) {
    let account = request.broker().memory();
    let of = |kind: MemoryUse| account.used_bytes(kind);
    let parts = [
        ("queue_procs", of(MemoryUse::Ready)),
        ("connection_channels", of(MemoryUse::Unacked) + of(MemoryUse::Transactions)),
        ("connection_writers", of(MemoryUse::Outboxes)),
        ("mnesia", of(MemoryUse::Arguments)),
        ("mgmt_db", of(MemoryUse::HttpBodies)),
    ];
    let counted = account.total_bytes();
    let total = Process::look().resident_bytes.max(counted);
    let [queues, channels, writers, mnesia, management] = parts;
    ([queues, channels, writers, mnesia, management, ("other_proc", total - counted)], total)
}

fn memory(request: &Request) -> Result<Answer, ApiError> {
    check_name(request)?;
    let (parts, total) = used(request);
    let mut memory: Map<String, Value> =
        parts.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
    memory.insert("strategy".to_owned(), "rss".into());
    memory.insert("total".to_owned(), json!({ "erlang": total, "rss": total, "allocated": total }));
    one(json!({ "memory": memory }), request)
}

fn relative_memory(request: &Request) -> Result<Answer, ApiError> {
    check_name(request)?;
    let (parts, total) = used(request);
    let percent = |bytes: u64| (100 * bytes).div_ceil(total.max(1));
    let mut memory: Map<String, Value> =
        parts.into_iter().map(|(name, bytes)| (name.to_owned(), percent(bytes).into())).collect();
    memory.insert("total".to_owned(), 100.into());
    one(json!({ "memory": memory }), request)
}
