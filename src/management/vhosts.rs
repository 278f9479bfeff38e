//! Virtual hosts: listed, added, changed, deleted.

use super::answer::{Answer, ApiError};
use super::limits::of_vhost;
use super::list::{Listed, list, one};
use super::permissions::{permission, topic_permission};
use super::ranges::{Range, put_samples};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::{self, total_stats};
use crate::api::{self, Table, Tags};
use crate::broker::access::permissions::{Patterns, Permission};
use crate::broker::observe::events::text;
use crate::broker::observe::stats::MessageStats;
use crate::broker::queue::QueueType;
use crate::broker::topology::administration::Put;
use crate::broker::topology::vhost_settings::VhostSettings;
use crate::broker::{BrokerError, VirtualHost};
use crate::message::Name;
use std::borrow::Cow;
use std::sync::Arc;

const VHOST: &str = "/api/vhosts/{vhost}";

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/vhosts", Needs::Login, vhosts, "The vhosts that the user sees").lists::<api::Vhost>(),
    Route::get(VHOST, Needs::Administrator, vhost, "A vhost").answers::<api::Vhost>(),
    Route::put(VHOST, Needs::Administrator, put_vhost, "Makes a vhost, or changes what is said of one")
        .takes::<api::VhostMetadata>(),
    Route::delete(VHOST, Needs::Administrator, delete_vhost, "Deletes a vhost with all that is in it"),
    Route::get(
        "/api/vhosts/{vhost}/permissions",
        Needs::Administrator,
        permissions,
        "What users may do in a vhost",
    )
    .lists::<api::Permission>(),
    Route::get(
        "/api/vhosts/{vhost}/topic-permissions",
        Needs::Administrator,
        topic_permissions,
        "Which routing keys users may use in a vhost, where that is restricted",
    )
    .lists::<api::TopicPermission>(),
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
    type Shown<'a>
        = api::Vhost
    where
        Self: 'a;

    fn name(&self) -> Cow<'_, str> {
        (**self.vhost.name()).into()
    }

    fn shown(&self) -> api::Vhost {
        let (vhost, settings) = (&self.vhost, self.vhost.settings());
        let default_queue_type = settings.default_queue_type.map(|queue_type| queue_type.name().to_owned());
        let is_used = self.stats != MessageStats::default();
        api::Vhost {
            name: vhost.name().clone(),
            description: settings.description.clone(),
            tags: settings.tags.clone(),
            default_queue_type: default_queue_type.clone().unwrap_or_else(|| "undefined".to_owned()),
            metadata: api::VhostMetadata {
                description: Some(settings.description.clone()),
                tags: Some(Tags(settings.tags.clone())),
                default_queue_type,
                ..api::VhostMetadata::default()
            },
            tracing: settings.tracing,
            cluster_state: [(self.request.settings().node_name.clone(), "running".into())]
                .into_iter()
                .collect(),
            lengths: lengths(vhost, self.range),
            message_stats: is_used.then(|| total_stats(&self.stats, &vhost.samples())),
        }
    }
}

/// How many messages are in a vhost, if it has queues.
fn lengths(vhost: &VirtualHost, range: Option<Range>) -> Option<api::Lengths> {
    let (mut ready, mut unacked) = (0, 0);
    let queues = vhost.queues();
    for queue in &queues {
        let counts = queue.counts();
        ready += counts.ready as u64;
        unacked += counts.unacked as u64;
    }
    if queues.is_empty() {
        return None;
    }
    let mut lengths =
        stats::lengths((ready, unacked), &vhost.samples(), |sample| (sample.ready, sample.unacked));
    if let Some(range) = range {
        put_samples(&mut lengths, range, &vhost.lengths());
    }
    Some(lengths)
}

/// A vhost as definitions have it; what was never said of it is left out.
pub(super) fn definition(vhost: &VirtualHost) -> api::VhostDefinition {
    // RabbitMQ exports limits among the parameters.
    api::VhostDefinition { limits: Table::new(), ..described(vhost.name(), &vhost.settings()) }
}

/// The same of one that is to be made, with its limits.
pub(super) fn described(name: &Name, settings: &VhostSettings) -> api::VhostDefinition {
    let metadata = api::VhostMetadata {
        description: Some(settings.description.clone()).filter(|description| !description.is_empty()),
        tags: Some(Tags(settings.tags.clone())).filter(|tags| !tags.0.is_empty()),
        default_queue_type: settings.default_queue_type.map(|queue_type| queue_type.name().to_owned()),
        ..api::VhostMetadata::default()
    };
    api::VhostDefinition {
        name: Some(name.clone()),
        metadata,
        tracing: settings.tracing.then_some(true),
        limits: of_vhost(&settings.limits),
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
    let (vhost, range) = (request.vhost()?, Range::of(request)?);
    rows(request, vec![vhost], range).pop().map_or(Err(ApiError::NotFound), |row| one(&row.shown(), request))
}

fn permissions(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let all = request.broker().permissions().list();
    list(all.iter().filter(|item| item.vhost == *vhost.name()).map(permission).collect(), request)
}

fn topic_permissions(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let all = request.broker().permissions().list_topics();
    list(all.iter().filter(|item| item.vhost == *vhost.name()).map(topic_permission).collect(), request)
}

fn put_vhost(request: &Request) -> Result<Answer, ApiError> {
    let name = request.parameter("vhost");
    let wanted: api::VhostMetadata = request.body()?;
    let queue_type = wanted.default_queue_type.as_deref().filter(|name| *name != "undefined");
    let queue_type = queue_type.map(queue_type_named).transpose()?;
    let (vhost, put) = request.broker().put_vhost(name, |settings| {
        settings.description = wanted.description.unwrap_or_default();
        settings.tags = wanted.tags.unwrap_or_default().0;
        settings.tracing = wanted.tracing.unwrap_or(settings.tracing);
        settings.default_queue_type = queue_type.or(settings.default_queue_type);
    })?;
    request.told().vhost(name, &vhost.settings(), put);
    if put == Put::Created {
        tracing::info!("vhost '{name}' is made by user '{}'", request.user.name);
        // Who makes a vhost may use it.
        let all = Patterns::new(".*", ".*", ".*").map_err(BrokerError::from)?;
        let (user, patterns) = (request.user.name.clone(), Arc::new(all.clone()));
        request.broker().set_permissions(&user, vhost.name(), all)?;
        request.told().permission(&Permission { user, vhost: vhost.name().clone(), patterns });
    }
    Ok(put.into())
}

fn queue_type_named(name: &str) -> Result<QueueType, ApiError> {
    QueueType::named(name).ok_or_else(|| ApiError::bad_value("unknown_queue_type", name))
}

fn delete_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    request.in_turn(|turn| request.broker().delete_vhost(vhost.name(), request.actor(), turn))?;
    request.tell("vhost.deleted", || vec![("name", text(vhost.name()))]);
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
