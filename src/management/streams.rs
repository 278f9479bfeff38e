//! Streams: how far those have got who consume them by name or publish to them, and setting where consumers go on.

use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, StreamReset, StreamResetOffset};
use crate::broker::access::permissions::Access;
use crate::broker::queue::{QueueHandle, StreamGroup, StreamOffset};
use crate::message::Millis;
use crate::store::stream::PublisherSequence;
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/stream/{vhost}/{stream}/tracking",
        Needs::SeeVhost,
        tracking,
        "How far those have got who consume a stream by name, or publish to it",
    )
    .answers::<api::StreamTracking>(),
    Route::put(
        "/api/stream/{vhost}/{stream}/tracking/{name}",
        Needs::SeeVhost,
        reset,
        "Sets where the consumers of a name go on: offset or timestamp. None of them may be connected",
    )
    .takes::<api::StreamReset>(),
    Route::delete(
        "/api/stream/{vhost}/{stream}/tracking/{name}",
        Needs::SeeVhost,
        forget,
        "Forgets how far the consumers of a name have got. None of them may be connected",
    ),
];

fn find(request: &Request) -> Result<Arc<QueueHandle>, ApiError> {
    let queue = request.vhost()?.queue(request.parameter("stream")).ok_or(ApiError::NotFound)?;
    if queue.stream_state().is_none() {
        return Err(ApiError::NotFound);
    }
    Ok(queue)
}

fn shown(group: StreamGroup, now: Millis) -> api::StreamGroup {
    let StreamGroup { name, committed, committed_at, lag, trimmed, unread_at, members } = group;
    let seconds = |at| Millis::saturating_sub(now, at) / 1000;
    let lag_seconds = if lag == 0 { Some(0) } else { unread_at.map(seconds) };
    api::StreamGroup { name, offset: committed, committed_at, lag, lag_seconds, trimmed, members }
}

fn writer((name, sequence): (String, PublisherSequence)) -> api::StreamWriter {
    let PublisherSequence { id, epoch, at } = sequence;
    api::StreamWriter { name, publishing_id: id, epoch, published_at: at }
}

fn tracking(request: &Request) -> Result<Answer, ApiError> {
    let queue = find(request)?;
    let groups: Vec<api::StreamGroup> =
        queue.stream_groups().into_iter().map(|group| shown(group, request.now)).collect();
    let offsets = groups.iter().filter_map(|group| Some((group.name.clone(), group.offset?)));
    let publishers: Vec<api::StreamWriter> = queue.stream_publishers().into_iter().map(writer).collect();
    let writers = publishers.iter().map(|writer| (writer.name.clone(), writer.publishing_id)).collect();
    Answer::of(&api::StreamTracking { offsets: offsets.collect(), writers, groups, publishers })
}

fn wanted(reset: StreamReset) -> Result<StreamOffset, ApiError> {
    match (reset.offset, reset.timestamp) {
        (Some(StreamResetOffset::Number(offset)), None) => Ok(StreamOffset::Offset(offset)),
        (Some(StreamResetOffset::Word(word)), None) => match word.as_str() {
            "first" => Ok(StreamOffset::First),
            "last" => Ok(StreamOffset::Last),
            "next" => Ok(StreamOffset::Next),
            _ => Err(ApiError::bad_value("offset is a number, first, last or next", &*word)),
        },
        (None, Some(timestamp)) => Ok(StreamOffset::At(timestamp)),
        _ => Err(ApiError::bad_request("one of offset and timestamp has to be given".to_owned())),
    }
}

/// The stream, if the user may read it: who may consume may also begin anew.
fn find_to_read(request: &Request) -> Result<Arc<QueueHandle>, ApiError> {
    let queue = find(request)?;
    request.check_access(Access::Read, &queue.definition().resource())?;
    Ok(queue)
}

fn reset(request: &Request) -> Result<Answer, ApiError> {
    let queue = find_to_read(request)?;
    let to = wanted(request.body()?)?;
    request.in_turn(|turn| queue.reset_stream_group(request.parameter("name"), to, turn))?;
    Ok(Answer::NoContent)
}

fn forget(request: &Request) -> Result<Answer, ApiError> {
    let queue = find_to_read(request)?;
    match request.in_turn(|turn| queue.forget_stream_group(request.parameter("name"), turn))? {
        true => Ok(Answer::NoContent),
        false => Err(ApiError::NotFound),
    }
}
