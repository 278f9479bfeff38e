//! Consumers, as lists of them and as part of queues and channels.

use super::answer::{Answer, ApiError};
use super::list::list;
use super::request::Request;
use super::routes::{Needs, Route};
use super::{auth, json};
use crate::api;
use crate::broker::queue::{ConsumerState, QueueHandle};
use crate::message::Value as Argument;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/consumers", Needs::Login, consumers, "All consumers").lists::<api::Consumer>(),
    Route::get("/api/consumers/{vhost}", Needs::SeeVhost, consumers, "The consumers in a vhost")
        .lists::<api::Consumer>(),
];

fn consumers(request: &Request) -> Result<Answer, ApiError> {
    let mut found = Vec::new();
    for vhost in request.vhosts()? {
        let mut queues = vhost.queues();
        queues.sort_by(|a, b| a.definition().name.cmp(&b.definition().name));
        for queue in queues {
            found.extend(consumers_of(request, &queue));
        }
    }
    list(found, request)
}

/// The consumers of a queue that the user sees.
pub(super) fn consumers_of(request: &Request, queue: &QueueHandle) -> Vec<api::Consumer> {
    let states = queue.consumers();
    states.iter().filter_map(|state| consumer(request, queue, state)).collect()
}

fn consumer(request: &Request, queue: &QueueHandle, state: &ConsumerState) -> Option<api::Consumer> {
    // Gone in between, if it is not there.
    let connection = request.broker().connections().find(state.connection)?;
    let facts = connection.facts();
    if !auth::is_monitor(&request.user) && facts.user != request.user.name {
        return None;
    }
    let definition = queue.definition();
    Some(api::Consumer {
        arguments: json::table(&state.arguments.decode()),
        channel_details: api::ChannelDetails {
            connection_name: facts.name.clone(),
            name: format!("{} ({})", facts.name, state.channel),
            node: request.node(),
            number: state.channel,
            peer_host: facts.peer.host.clone(),
            peer_port: facts.peer.port,
            user: facts.user.clone(),
        },
        ack_required: state.ack_required,
        active: state.active,
        activity_status: if state.active { "up" } else { "waiting" }.to_owned(),
        consumer_tag: state.tag.clone(),
        consumer_timeout: timeout_ms(request, queue, state),
        exclusive: state.exclusive,
        prefetch_count: state.prefetch_count,
        queue: api::QueueDetails { name: definition.name.clone(), vhost: definition.vhost.clone() },
    })
}

/// How long the consumer's deliveries may wait for their acknowledgement, in milliseconds: as it says itself, or its queue, or
/// the broker; 0 is no limit.
fn timeout_ms(request: &Request, queue: &QueueHandle, state: &ConsumerState) -> u64 {
    let own = state.arguments.field("x-consumer-timeout").as_ref().and_then(Argument::as_integer);
    let own = own.and_then(|timeout| u64::try_from(timeout).ok());
    own.or_else(|| queue.consumer_timeout_ms()).unwrap_or(request.settings().consumer_timeout_ms)
}
