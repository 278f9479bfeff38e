//! Channels: listed and shown.

use super::answer::{Answer, ApiError};
use super::connections::{details, visible};
use super::consumers::consumers_of;
use super::list::{list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::{StatsOf, idle_since, message_stats};
use crate::api;
use crate::broker::observe::connections::{ChannelFacts, LiveChannel, LiveConnection};
use crate::broker::observe::stats::{MessageStats, Samples};
use crate::message::ChannelNumber;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/channels", Needs::Login, channels, "All open channels").lists::<api::Channel>(),
    Route::get("/api/channels/{name}", Needs::Login, channel, "A channel, with its consumers")
        .answers::<api::Channel>(),
    Route::get(
        "/api/vhosts/{vhost}/channels",
        Needs::SeeVhost,
        channels_in_vhost,
        "The channels of connections to a vhost",
    )
    .lists::<api::Channel>(),
];

fn channels(request: &Request) -> Result<Answer, ApiError> {
    let found = visible(request).iter().flat_map(|connection| of_connection(connection, request)).collect();
    list(found, request)
}

fn channels_in_vhost(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let mut connections = visible(request);
    connections.retain(|connection| connection.facts().vhost == *vhost.name());
    let found = connections.iter().flat_map(|connection| of_connection(connection, request)).collect();
    list(found, request)
}

fn channel(request: &Request) -> Result<Answer, ApiError> {
    let (connection, number) = parse_name(request.parameter("name")).ok_or(ApiError::NotFound)?;
    let all = visible(request);
    let connection = all.iter().find(|other| other.facts().name == connection).ok_or(ApiError::NotFound)?;
    let live =
        connection.progress().channels.get(&number).map(|channel| seen(channel)).ok_or(ApiError::NotFound)?;
    let name = request.parameter("name");
    let vhost = request.broker().vhost(&connection.facts().vhost).ok_or(ApiError::NotFound)?;
    let mut consumers: Vec<_> =
        vhost.queues().iter().flat_map(|queue| consumers_of(request, queue)).collect();
    consumers.retain(|consumer| consumer.channel_details.name == name);
    let channel = api::Channel {
        consumer_details: Some(consumers),
        deliveries: Some(Vec::new()),
        publishes: Some(Vec::new()),
        ..describe(connection, number, &live, request)
    };
    one(&channel, request)
}

/// A channel's name is its connection's with its number in brackets.
fn parse_name(name: &str) -> Option<(&str, ChannelNumber)> {
    let (connection, number) = name.strip_suffix(')')?.rsplit_once(" (")?;
    Some((connection, number.parse().ok()?))
}

pub(super) fn of_connection(connection: &LiveConnection, request: &Request) -> Vec<api::Channel> {
    let channels: Vec<(ChannelNumber, Seen)> =
        connection.progress().channels.iter().map(|(number, channel)| (*number, seen(channel))).collect();
    channels.iter().map(|(number, channel)| describe(connection, *number, channel, request)).collect()
}

/// What is shown of a channel.
type Seen = (ChannelFacts, Samples<MessageStats>);

fn seen(channel: &LiveChannel) -> Seen {
    (channel.facts, channel.samples)
}

fn describe(
    connection: &LiveConnection,
    number: ChannelNumber,
    (facts, samples): &Seen,
    request: &Request,
) -> api::Channel {
    let of = connection.facts();
    api::Channel {
        acks_uncommitted: facts.acks_uncommitted,
        confirm: facts.confirm,
        connection_details: details(of),
        consumer_count: facts.consumers,
        global_prefetch_count: facts.global_prefetch_count,
        messages_unacknowledged: facts.unacked,
        messages_uncommitted: facts.uncommitted,
        messages_unconfirmed: facts.unconfirmed,
        name: format!("{} ({number})", of.name),
        node: request.node(),
        number,
        prefetch_count: facts.prefetch_count,
        state: "running".to_owned(),
        transactional: facts.transactional,
        user: of.user.clone(),
        user_who_performed_action: of.user.clone(),
        vhost: of.vhost.clone(),
        idle_since: idle_since(facts.active_at, request.now),
        message_stats: message_stats(StatsOf::Clients, &facts.stats, |count| samples.rate(count)),
        ..api::Channel::default()
    }
}
