//! Queues: listing, declaring, deleting, purging them.

use super::answer::{Answer, ApiError};
use super::connections::details;
use super::consumers::consumers_of;
use super::list::{Listed, list, one};
use super::ranges::{Range, put_samples};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::{StatsOf, idle_since, message_stats, put_lengths, rounded, stat_at};
use super::{bindings, json};
use crate::broker::error::Resource;
use crate::broker::exchange::Destination;
use crate::broker::permissions::Access;
use crate::broker::policy::Policy;
use crate::broker::queue::{QueueDeclaration, QueueDefinition, QueueHandle, QueueState, QueueType};
use crate::broker::stats::{MessageStats, QueueSample};
use crate::broker::topology::without_line_ends;
use crate::broker::{Actor, VirtualHost};
use crate::message::{ConnectionId, Value as Argument};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/queues", Needs::Login, queues, "All queues"),
    Route::get("/api/queues/detailed", Needs::Login, queues, "All queues, with all that is known of them"),
    Route::get("/api/queues/{vhost}", Needs::SeeVhost, queues, "The queues of a vhost"),
    Route::get("/api/queues/{vhost}/{name}", Needs::SeeVhost, queue, "A queue, with its consumers"),
    Route::put("/api/queues/{vhost}/{name}", Needs::UseVhost, declare, "Declares a queue"),
    Route::delete(
        "/api/queues/{vhost}/{name}",
        Needs::UseVhost,
        delete,
        "Deletes a queue; with if-unused=true or if-empty=true only one that is",
    ),
    Route::get(
        "/api/queues/{vhost}/{name}/bindings",
        Needs::SeeVhost,
        queue_bindings,
        "The bindings that lead to a queue",
    ),
    Route::delete(
        "/api/queues/{vhost}/{name}/contents",
        Needs::UseVhost,
        purge,
        "Drops all ready messages of a queue",
    ),
    Route::post(
        "/api/queues/{vhost}/{name}/actions",
        Needs::UseVhost,
        act,
        "Accepts sync and cancel_sync, which mean nothing on one node",
    ),
];

/// The state of every queue.
const RUNNING: &str = "running";

/// The queue in the path.
pub(super) fn find(request: &Request) -> Result<(Arc<VirtualHost>, Arc<QueueHandle>), ApiError> {
    let vhost = request.vhost()?;
    let queue = vhost.queue(request.parameter("name")).ok_or(ApiError::NotFound)?;
    Ok((vhost, queue))
}

/// The queue in the path, for something that a connection's exclusive queue does not let others do.
pub(super) fn find_to_use(
    request: &Request,
    access: Access,
) -> Result<(Arc<VirtualHost>, Arc<QueueHandle>), ApiError> {
    let (vhost, queue) = find(request)?;
    request.check_access(access, &queue.definition().resource())?;
    let name = &queue.definition().name;
    let queue = vhost.accessible_queue(name, Actor::Operator).map_err(ApiError::of_method)?;
    Ok((vhost, queue))
}

/// The queues of a vhost, by name.
pub(super) fn sorted(vhost: &VirtualHost) -> Vec<Arc<QueueHandle>> {
    let mut queues = vhost.queues();
    queues.sort_by(|a, b| a.definition().name.cmp(&b.definition().name));
    queues
}

/// A queue to be listed.
struct Row<'a> {
    queue: Arc<QueueHandle>,
    request: &'a Request,
    range: Option<Range>,
}

impl Listed for Row<'_> {
    fn name(&self) -> &str {
        &self.queue.definition().name
    }

    fn render(&self) -> Value {
        Value::Object(render(&self.queue, self.request, self.range))
    }

    fn field(&self, path: &str) -> Option<Option<Value>> {
        if self.request.query_flag("disable_stats") {
            return None;
        }
        let definition = self.queue.definition();
        let (counts, state) = (|| self.queue.counts(), || self.queue.state());
        let moved = |length: fn(&QueueSample) -> u64| {
            // With a range of time it is another one.
            self.range.is_none().then(|| rounded(self.queue.samples().rate(length)).into())
        };
        let found: Value = match path {
            "name" => (*definition.name).into(),
            "vhost" => (*definition.vhost).into(),
            "type" => definition.queue_type.name().into(),
            "durable" => definition.durable.into(),
            "auto_delete" => definition.auto_delete.into(),
            "exclusive" => definition.exclusive_owner.is_some().into(),
            "node" => self.request.settings().node_name.as_str().into(),
            "state" => RUNNING.into(),
            "policy" => policy_name(&self.queue.applied().policy),
            "messages" => (counts().ready + counts().unacked).into(),
            "messages_ready" => counts().ready.into(),
            "messages_unacknowledged" => counts().unacked.into(),
            "messages_details.rate" => moved(|sample| sample.ready + sample.unacked)?,
            "messages_ready_details.rate" => moved(|sample| sample.ready)?,
            "messages_unacknowledged_details.rate" => moved(|sample| sample.unacked)?,
            "consumers" => counts().consumers.into(),
            "memory" => state().resident_bytes.into(),
            "message_bytes" => (state().ready_bytes + state().unacked_bytes).into(),
            "message_bytes_ready" => state().ready_bytes.into(),
            "message_bytes_unacknowledged" => state().unacked_bytes.into(),
            "idle_since" => return Some(idle_since(state().used_at, self.request.now)),
            _ if path.starts_with("message_stats.") => {
                let QueueState { stats, samples, .. } = state();
                if stats == MessageStats::default() {
                    return Some(None);
                }
                let rate = |count: &dyn Fn(&_) -> u64| samples.rate(|sample| count(&sample.stats));
                stat_at(path, StatsOf::Queue, &stats, rate)?
            }
            _ => return None,
        };
        Some(Some(found))
    }
}

fn queues(request: &Request) -> Result<Answer, ApiError> {
    let range = Range::of_list(request)?;
    let vhosts = request.vhosts()?;
    let found = vhosts.iter().flat_map(|vhost| sorted(vhost)).map(|queue| Row { queue, request, range });
    list(found.collect(), request)
}

fn queue(request: &Request) -> Result<Answer, ApiError> {
    let (_, queue) = find(request)?;
    let mut fields = render(&queue, request, Range::of(request)?);
    fields.insert("consumer_details".to_owned(), consumers_of(request, &queue).into());
    fields.insert("deliveries".to_owned(), json!([]));
    fields.insert("incoming".to_owned(), json!([]));
    one(Value::Object(fields), request)
}

/// What a queue is, without what is done with it; how many messages it has only if that is asked for too.
fn render_without_stats(queue: &QueueHandle, request: &Request) -> Map<String, Value> {
    let definition = queue.definition();
    let node = request.settings().node_name.as_str();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("arguments", json::table_to_json(&definition.arguments.decode()));
    put("auto_delete", definition.auto_delete.into());
    put("durable", definition.durable.into());
    put("exclusive", definition.exclusive_owner.is_some().into());
    put_owner(&mut put, definition.exclusive_owner, request);
    if request.query_flag("enable_queue_totals") {
        let counts = queue.counts();
        put("messages", (counts.ready + counts.unacked).into());
        put("messages_ready", counts.ready.into());
        put("messages_unacknowledged", counts.unacked.into());
    }
    put("name", (*definition.name).into());
    put("node", node.into());
    put_members(&mut put, definition, node);
    let policy = policy_name(&queue.applied().policy);
    if !policy.is_null() {
        put("policy", policy);
    }
    put("state", RUNNING.into());
    put("type", definition.queue_type.name().into());
    put("vhost", (*definition.vhost).into());
    fields
}

/// Where a queue with several copies is: here.
fn put_members(put: &mut impl FnMut(&str, Value), definition: &QueueDefinition, node: &str) {
    if definition.queue_type == QueueType::Quorum {
        put("leader", node.into());
        put("members", json!([node]));
        put("online", json!([node]));
    }
}

fn render(queue: &QueueHandle, request: &Request, range: Option<Range>) -> Map<String, Value> {
    if request.query_flag("disable_stats") {
        return render_without_stats(queue, request);
    }
    let definition = queue.definition();
    let (state, applied) = (queue.state(), queue.applied());
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("arguments", json::table_to_json(&definition.arguments.decode()));
    put("auto_delete", definition.auto_delete.into());
    let capacity = if state.is_waiting { 1.0 } else { 0.0 };
    put("consumer_capacity", capacity.into());
    put("consumer_utilisation", capacity.into());
    put("consumers", state.consumers.into());
    put("durable", definition.durable.into());
    put("effective_policy_definition", json::table_to_json(&applied.definition()));
    put("exclusive", definition.exclusive_owner.is_some().into());
    put_owner(&mut put, definition.exclusive_owner, request);
    put_messages(&mut put, &state, request);
    put("name", (*definition.name).into());
    put("node", request.settings().node_name.as_str().into());
    put("operator_policy", policy_name(&applied.operator_policy));
    put("policy", policy_name(&applied.policy));
    put_members(&mut put, definition, request.settings().node_name.as_str());
    put("state", RUNNING.into());
    put("type", definition.queue_type.name().into());
    put("vhost", (*definition.vhost).into());
    put_lengths(&mut fields, (state.ready, state.unacked), &state.samples, |sample| {
        (sample.ready, sample.unacked)
    });
    if let Some(range) = range {
        put_samples(&mut fields, range, &queue.lengths());
    }
    let rate = |count: &dyn Fn(&_) -> u64| state.samples.rate(|sample| count(&sample.stats));
    if let Some(stats) = message_stats(StatsOf::Queue, &state.stats, rate) {
        fields.insert("message_stats".to_owned(), stats);
    }
    fields
}

fn policy_name(policy: &Option<Arc<Policy>>) -> Value {
    policy.as_ref().map_or(Value::Null, |policy| (*policy.name).into())
}

fn put_owner(put: &mut impl FnMut(&str, Value), owner: Option<ConnectionId>, request: &Request) {
    if let Some(connection) = owner.and_then(|owner| request.broker().connections().find(owner)) {
        put("owner_pid_details", details(&connection.facts().name, &connection.facts().peer));
    }
}

fn put_messages(put: &mut impl FnMut(&str, Value), state: &QueueState, request: &Request) {
    let tag = |tag: &Option<Arc<str>>| tag.as_deref().map_or(Value::Null, Value::from);
    put("exclusive_consumer_tag", tag(&state.exclusive_consumer_tag));
    put("single_active_consumer_tag", tag(&state.single_active_consumer_tag));
    put("head_message_timestamp", state.head_timestamp.map_or(Value::Null, Value::from));
    let age_ms = state.oldest_at.map(|at| request.now.saturating_sub(at));
    put("oldest_message_age_ms", age_ms.map_or(Value::Null, Value::from));
    if let Some(since) = idle_since(state.used_at, request.now) {
        put("idle_since", since);
    }
    put("memory", state.resident_bytes.into());
    put("message_bytes", (state.ready_bytes + state.unacked_bytes).into());
    put("message_bytes_ready", state.ready_bytes.into());
    put("message_bytes_unacknowledged", state.unacked_bytes.into());
    put("messages_paged_out", (state.ready - state.resident.min(state.ready)).into());
    put("messages_ram", (state.resident + state.unacked).into());
    put("messages_ready_ram", state.resident.into());
    put("messages_unacknowledged_ram", state.unacked.into());
}

fn declare(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let name = &*without_line_ends(request.parameter("name"));
    let fields = request.fields()?;
    let arguments =
        json::table_from_json(&fields.object("arguments")?, request.settings().field_table_depth_max)?;
    let resource = Resource::queue(vhost.name(), name);
    request.check_access(Access::Configure, &resource)?;
    if let Some(exchange) = arguments.field("x-dead-letter-exchange").and_then(Argument::as_str) {
        request.check_access(Access::Read, &resource)?;
        request.check_access(Access::Write, &Resource::exchange(vhost.name(), exchange))?;
    }
    if name.starts_with("amq.") && vhost.queue(name).is_none() {
        return Err(ApiError::NotAuthorised("Access refused.".to_owned()));
    }
    let declaration = QueueDeclaration {
        name: name.into(),
        durable: fields.flag("durable")?,
        auto_delete: fields.flag("auto_delete")?,
        exclusive_owner: None,
        arguments,
    };
    let is_new = vhost.queue(name).is_none();
    request
        .in_turn(|turn| {
            let declared = vhost.declare_queue(declaration, turn);
            vhost.apply_effects(turn);
            declared
        })?
        .untold();
    Ok(if is_new { Answer::Created } else { Answer::NoContent })
}

fn delete(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, queue) = find_to_use(request, Access::Configure)?;
    let (if_unused, if_empty) = (request.query_flag("if-unused"), request.query_flag("if-empty"));
    let name = &queue.definition().name;
    request
        .in_turn(|turn| {
            let deleted = vhost.delete_queue(name, if_unused, if_empty, Actor::Operator, turn);
            vhost.apply_effects(turn);
            deleted
        })?
        .untold();
    Ok(Answer::NoContent)
}

fn purge(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, queue) = find_to_use(request, Access::Read)?;
    request.in_turn(|turn| {
        queue.purge(turn);
        vhost.apply_effects(turn);
    });
    Ok(Answer::NoContent)
}

fn act(request: &Request) -> Result<Answer, ApiError> {
    find(request)?;
    let fields = request.fields()?;
    fields.require(&["action"])?;
    match fields.text("action")? {
        Some("sync" | "cancel_sync") => Ok(Answer::NoContent),
        other => Err(ApiError::bad_value("unknown", other)),
    }
}

fn queue_bindings(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, queue) = find(request)?;
    let mut found = vec![bindings::implied_by(&queue)];
    found.extend(bindings::to(&vhost, &Destination::Queue(queue.definition().name.clone())));
    list(found, request)
}
