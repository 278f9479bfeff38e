//! Queues: listing, declaring, deleting, purging them.

use super::answer::{Answer, ApiError};
use super::connections::details;
use super::consumers::consumers_of;
use super::list::{Listed, list, one};
use super::ranges::{Range, put_samples};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::{self, StatsOf, idle_since, message_stats};
use super::{bindings, json};
use crate::api::{self, QueueAction, Table};
use crate::broker::VirtualHost;
use crate::broker::access::permissions::Access;
use crate::broker::error::Resource;
use crate::broker::exchange::Destination;
use crate::broker::policy::Policy;
use crate::broker::queue::{QueueDeclaration, QueueDefinition, QueueHandle, QueueType, StreamState};
use crate::broker::topology::without_line_ends;
use crate::message::{FieldTable, Name, Value as Argument};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/queues", Needs::Login, queues, "All queues").lists::<api::Queue>(),
    Route::get("/api/queues/detailed", Needs::Login, queues, "All queues, with all that is known of them")
        .lists::<api::Queue>(),
    Route::get("/api/queues/{vhost}", Needs::SeeVhost, queues, "The queues of a vhost").lists::<api::Queue>(),
    Route::get("/api/queues/{vhost}/{name}", Needs::SeeVhost, queue, "A queue, with its consumers")
        .answers::<api::Queue>(),
    Route::put("/api/queues/{vhost}/{name}", Needs::UseVhost, declare, "Declares a queue")
        .takes::<api::QueueDefinition>(),
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
    )
    .lists::<api::Binding>(),
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
    )
    .takes::<api::QueueAction>(),
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
    let queue = vhost.accessible_queue(name, request.actor()).map_err(ApiError::of_method)?;
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
    type Shown<'b>
        = Shown
    where
        Self: 'b;

    fn name(&self) -> Cow<'_, str> {
        (*self.queue.definition().name).into()
    }

    fn shown(&self) -> Shown {
        shown(describe(&self.queue, self.request, self.range, &|_| true), self.request)
    }

    fn shown_in_part(&self, paths: &[&str]) -> Shown {
        let wants = |field: &str| paths.iter().any(|path| path.split('.').next() == Some(field));
        shown(describe(&self.queue, self.request, self.range, &wants), self.request)
    }
}

/// What is shown of a queue.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Whole(Box<api::Queue>),
    Part(Table),
}

/// What a queue is, without what is done with it.
const WITHOUT_STATS: [&str; 17] = [
    "arguments",
    "auto_delete",
    "durable",
    "exclusive",
    "owner_pid_details",
    "name",
    "node",
    "leader",
    "members",
    "online",
    "policy",
    "state",
    "type",
    "vhost",
    "consumer_details",
    "deliveries",
    "incoming",
];
const TOTALS: [&str; 3] = ["messages", "messages_ready", "messages_unacknowledged"];

/// A queue as the request wants to see it.
fn shown(queue: api::Queue, request: &Request) -> Shown {
    if !request.query_flag("disable_stats") {
        return Shown::Whole(Box::new(queue));
    }
    let has_totals = request.query_flag("enable_queue_totals");
    let mut fields = api::object(&queue);
    fields.retain(|name, value| {
        let is_wanted =
            WITHOUT_STATS.contains(&name.as_str()) || has_totals && TOTALS.contains(&name.as_str());
        is_wanted && !value.is_null()
    });
    Shown::Part(fields)
}

fn queues(request: &Request) -> Result<Answer, ApiError> {
    let range = Range::of_list(request)?;
    let vhosts = request.vhosts()?;
    let found = vhosts.iter().flat_map(|vhost| sorted(vhost)).map(|queue| Row { queue, request, range });
    list(found.collect(), request)
}

fn queue(request: &Request) -> Result<Answer, ApiError> {
    let (_, queue) = find(request)?;
    let described = api::Queue {
        consumer_details: Some(consumers_of(request, &queue)),
        deliveries: Some(Vec::new()),
        incoming: Some(Vec::new()),
        ..describe(&queue, request, Range::of(request)?, &|_| true)
    };
    one(&shown(described, request), request)
}

/// All that is said of a queue, but for what takes time and is not wanted.
fn describe(
    queue: &QueueHandle,
    request: &Request,
    range: Option<Range>,
    wants: &dyn Fn(&str) -> bool,
) -> api::Queue {
    let table = |field: &str, table: &dyn Fn() -> FieldTable| match wants(field) {
        true => json::table(&table()),
        false => Table::new(),
    };
    let definition = queue.definition();
    let (state, applied) = (queue.state(), queue.applied());
    let node = request.node();
    let capacity = if state.is_waiting { 1.0 } else { 0.0 };
    let owner = definition.exclusive_owner.and_then(|owner| request.broker().connections().find(owner));
    // Where one with several copies is: here.
    let copies = (definition.queue_type != QueueType::Classic).then(|| vec![node.clone()]);
    let mut lengths =
        stats::lengths((state.ready, state.unacked), &state.samples, |sample| (sample.ready, sample.unacked));
    if let Some(range) = range {
        put_samples(&mut lengths, range, &queue.lengths());
    }
    let rate = |count: &dyn Fn(&_) -> u64| state.samples.rate(|sample| count(&sample.stats));
    api::Queue {
        arguments: table("arguments", &|| definition.arguments.decode()),
        auto_delete: definition.auto_delete,
        consumer_capacity: capacity,
        consumer_utilisation: capacity,
        consumers: state.consumers,
        durable: definition.durable,
        effective_policy_definition: table("effective_policy_definition", &|| applied.definition()),
        exclusive: definition.exclusive_owner.is_some(),
        owner_pid_details: owner.map(|owner| details(owner.facts())),
        exclusive_consumer_tag: state.exclusive_consumer_tag,
        single_active_consumer_tag: state.single_active_consumer_tag,
        head_message_timestamp: state.head_timestamp,
        oldest_message_age_ms: state.oldest_at.map(|at| request.now.saturating_sub(at)),
        idle_since: wants("idle_since").then(|| idle_since(state.used_at, request.now)).flatten(),
        memory: state.resident_bytes,
        message_bytes: state.ready_bytes + state.unacked_bytes,
        message_bytes_ready: state.ready_bytes,
        message_bytes_unacknowledged: state.unacked_bytes,
        message_bytes_ram: state.resident_body_bytes,
        message_bytes_persistent: state.persistent.body_bytes,
        messages_persistent: state.persistent.messages,
        messages_paged_out: state.ready - state.resident.min(state.ready),
        messages_ram: state.resident + state.unacked,
        messages_ready_ram: state.resident,
        messages_unacknowledged_ram: state.unacked,
        name: definition.name.clone(),
        node: node.clone(),
        operator_policy: policy_name(&applied.operator_policy),
        policy: policy_name(&applied.policy),
        leader: copies.as_ref().map(|_| node.clone()),
        members: copies.clone(),
        online: copies,
        stream: queue.stream_state().map(|stream| stream_fields(stream, &node, state.consumers)),
        state: RUNNING.into(),
        queue_type: definition.queue_type.name().into(),
        vhost: definition.vhost.clone(),
        lengths,
        message_stats: wants("message_stats")
            .then(|| message_stats(StatsOf::Queue, &state.stats, rate))
            .flatten(),
        ..api::Queue::default()
    }
}

fn policy_name(policy: &Option<Arc<Policy>>) -> Option<Name> {
    policy.as_ref().map(|policy| policy.name.clone())
}

/// A queue as definitions have it.
pub(super) fn definition(queue: &QueueDefinition) -> api::QueueDefinition {
    api::QueueDefinition {
        name: Some(queue.name.clone()),
        vhost: Some(queue.vhost.clone()),
        durable: Some(queue.durable),
        auto_delete: queue.auto_delete,
        arguments: json::table(&queue.arguments.decode()),
        queue_type: None,
    }
}

/// The same of one that is to be declared.
pub(super) fn declared(vhost: &Name, queue: &QueueDeclaration) -> api::QueueDefinition {
    api::QueueDefinition {
        name: Some(queue.name.clone()),
        vhost: Some(vhost.clone()),
        durable: Some(queue.durable),
        auto_delete: queue.auto_delete,
        arguments: json::table(&queue.arguments),
        queue_type: None,
    }
}

fn declare(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let name = &*without_line_ends(request.parameter("name"));
    let wanted: api::QueueDefinition = request.body()?;
    let arguments = json::table_from_json(&wanted.arguments, request.settings().field_table_depth_max)?;
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
        durable: wanted.durable.unwrap_or(false),
        auto_delete: wanted.auto_delete,
        exclusive_owner: None,
        arguments,
    };
    let is_new = vhost.queue(name).is_none();
    request
        .in_turn(|turn| {
            let declared = vhost.declare_queue(declaration, request.actor(), turn);
            vhost.apply_effects(turn);
            declared
        })?
        .into_value();
    Ok(if is_new { Answer::Created } else { Answer::NoContent })
}

fn stream_fields(stream: StreamState, node: &Name, consumers: u64) -> api::StreamFields {
    api::StreamFields {
        segments: stream.segments as u64,
        first_timestamp: stream.first_at.unwrap_or(0),
        readers: BTreeMap::from([(node.to_string(), consumers)]),
        first_offset: stream.first_offset,
        next_offset: stream.next_offset,
        max_offset_lag: stream.max_lag,
        entries_passed_over: stream.passed_over,
        duplicates: stream.duplicates,
        refused: stream.refused,
    }
}

fn delete(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, queue) = find_to_use(request, Access::Configure)?;
    let (if_unused, if_empty) = (request.query_flag("if-unused"), request.query_flag("if-empty"));
    let name = &queue.definition().name;
    request
        .in_turn(|turn| {
            let deleted = vhost.delete_queue(name, if_unused, if_empty, request.actor(), turn);
            vhost.apply_effects(turn);
            deleted
        })?
        .into_value();
    Ok(Answer::NoContent)
}

fn purge(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, queue) = find_to_use(request, Access::Read)?;
    queue.check_purge()?;
    request.in_turn(|turn| {
        queue.purge(turn);
        vhost.apply_effects(turn);
    });
    Ok(Answer::NoContent)
}

fn act(request: &Request) -> Result<Answer, ApiError> {
    find(request)?;
    let QueueAction { action } = request.body_with(&["action"])?;
    match action.as_deref() {
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
