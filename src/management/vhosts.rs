//! Virtual hosts: listed, added, changed, deleted.

use super::answer::{Answer, ApiError};
use super::list::{Listed, list, one};
use super::permissions::{permission_json, topic_permission_json};
use super::ranges::{Range, put_samples};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::{put_lengths, total_stats};
use super::users::tags;
use crate::broker::administration::Put;
use crate::broker::permissions::Patterns;
use crate::broker::queue::QueueType;
use crate::broker::stats::MessageStats;
use crate::broker::{BrokerError, VirtualHost};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const VHOST: &str = "/api/vhosts/{vhost}";

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/vhosts", Needs::Login, vhosts, "The vhosts that the user sees"),
    Route::get(VHOST, Needs::Administrator, vhost, "A vhost"),
    Route::put(VHOST, Needs::Administrator, put_vhost, "Makes a vhost, or changes what is said of one"),
    Route::delete(VHOST, Needs::Administrator, delete_vhost, "Deletes a vhost with all that is in it"),
    Route::get(
        "/api/vhosts/{vhost}/permissions",
        Needs::Administrator,
        permissions,
        "What users may do in a vhost",
    ),
    Route::get(
        "/api/vhosts/{vhost}/topic-permissions",
        Needs::Administrator,
        topic_permissions,
        "Which routing keys users may use in a vhost, where that is restricted",
    ),
    Route::post(
        "/api/vhosts/{vhost}/start/{node}",
        Needs::Administrator,
        start,
        "Does nothing: a vhost that is there is started",
    ),
];

/// A vhost to be listed.
struct Row<'a> {
    vhost: Arc<VirtualHost>,
    request: &'a Request,
    stats: MessageStats,
    range: Option<Range>,
}

impl Listed for Row<'_> {
    fn name(&self) -> &str {
        self.vhost.name()
    }

    fn render(&self) -> Value {
        let mut fields = about(self.request, &self.vhost);
        put_messages(&mut fields, &self.vhost, &self.stats, self.range);
        Value::Object(fields)
    }
}

/// What is said of a vhost, and where it runs.
fn about(request: &Request, vhost: &VirtualHost) -> Map<String, Value> {
    let settings = vhost.settings();
    let mut metadata = Map::new();
    metadata.insert("description".to_owned(), settings.description.as_str().into());
    metadata.insert("tags".to_owned(), settings.tags.as_slice().into());
    if let Some(queue_type) = settings.default_queue_type {
        metadata.insert("default_queue_type".to_owned(), queue_type.name().into());
    }
    let node = request.settings().node_name.as_str();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("name", (**vhost.name()).into());
    put("description", settings.description.as_str().into());
    put("tags", settings.tags.as_slice().into());
    put("default_queue_type", settings.default_queue_type.map_or("undefined", QueueType::name).into());
    put("metadata", metadata.into());
    put("tracing", settings.tracing.into());
    put("cluster_state", json!({ node: "running" }));
    fields
}

/// What is in it, as soon as there is or was something.
fn put_messages(
    fields: &mut Map<String, Value>,
    vhost: &VirtualHost,
    stats: &MessageStats,
    range: Option<Range>,
) {
    let (mut ready, mut unacked) = (0, 0);
    let queues = vhost.queues();
    for queue in &queues {
        let counts = queue.counts();
        ready += counts.ready as u64;
        unacked += counts.unacked as u64;
    }
    let samples = vhost.samples();
    if !queues.is_empty() {
        put_lengths(fields, (ready, unacked), &samples, |sample| (sample.ready, sample.unacked));
        if let Some(range) = range {
            put_samples(fields, range, &vhost.lengths());
        }
    }
    if *stats != MessageStats::default() {
        fields.insert("message_stats".to_owned(), total_stats(stats, &samples));
    }
}

fn rows(request: &Request, vhosts: Vec<Arc<VirtualHost>>, range: Option<Range>) -> Vec<Row<'_>> {
    let by_vhost = request.broker().connections().stats_by_vhost();
    let row = |vhost: Arc<VirtualHost>| {
        let stats = by_vhost.get(vhost.name()).copied().unwrap_or_default();
        Row { vhost, request, stats, range }
    };
    vhosts.into_iter().map(row).collect()
}

fn vhosts(request: &Request) -> Result<Answer, ApiError> {
    list(rows(request, request.vhosts()?, Range::of_list(request)?), request)
}

fn vhost(request: &Request) -> Result<Answer, ApiError> {
    let row = rows(request, vec![request.vhost()?], Range::of(request)?).pop();
    one(row.map_or(Value::Null, |row| row.render()), request)
}

fn permissions(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let all = request.broker().permissions().list();
    list(all.iter().filter(|item| item.vhost == *vhost.name()).map(permission_json).collect(), request)
}

fn topic_permissions(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let all = request.broker().permissions().list_topics();
    list(all.iter().filter(|item| item.vhost == *vhost.name()).map(topic_permission_json).collect(), request)
}

fn put_vhost(request: &Request) -> Result<Answer, ApiError> {
    let name = request.parameter("vhost");
    let fields = request.fields()?;
    let description = fields.text("description")?.unwrap_or_default();
    let tags = tags(&fields)?;
    let tracing = fields.value("tracing").map(|_| fields.flag("tracing")).transpose()?;
    // RabbitMQ 3.10.8 has the one name in what it reads and the other in what it writes.
    let queue_type = fields.text("default_queue_type")?.or(fields.text("defaultqueuetype")?);
    let queue_type = queue_type.filter(|name| *name != "undefined").map(queue_type_named).transpose()?;
    let (vhost, put) = request.broker().put_vhost(name, |settings| {
        settings.description = description.to_owned();
        settings.tags = tags;
        settings.tracing = tracing.unwrap_or(settings.tracing);
        settings.default_queue_type = queue_type.or(settings.default_queue_type);
    })?;
    if put == Put::Created {
        tracing::info!("vhost '{name}' is made by user '{}'", request.user.name);
        // Who makes a vhost may use it.
        let all = Patterns::new(".*", ".*", ".*").map_err(BrokerError::from)?;
        request.broker().set_permissions(&request.user.name, vhost.name(), all)?;
    }
    Ok(put.into())
}

fn queue_type_named(name: &str) -> Result<QueueType, ApiError> {
    QueueType::named(name).ok_or_else(|| ApiError::bad_value("unknown_queue_type", name))
}

fn delete_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    request.in_turn(|turn| request.broker().delete_vhost(vhost.name(), turn))?;
    Ok(Answer::NoContent)
}

fn start(request: &Request) -> Result<Answer, ApiError> {
    let node = request.parameter("node");
    let failed = |why: String| ApiError::bad_request(format!("Request to node {node} failed with {why}"));
    if node != request.settings().node_name {
        return Err(failed("nodedown".to_owned()));
    }
    let vhost = request.parameter("vhost");
    match request.broker().vhost(vhost) {
        Some(_) => Ok(Answer::NoContent),
        None => Err(failed(format!("{{no_such_vhost,<<\"{vhost}\">>}}"))),
    }
}
