//! Publishing to streams that know how far a publisher has got: what one has already it does not take again. Each stream of a route
//! decides for itself, and other queues get everything. Routes without streams don't come by here.

use super::error::BrokerError;
use super::queue::{QueueHandle, Sequenced, Verdict};
use super::routing::Route;
use super::turn::Turn;
use super::vhost::{Staged, VirtualHost};
use crate::message::{Lsn, Message, Position};
use std::sync::Arc;

/// What the streams of a route do not take of the messages that take it.
#[derive(Debug)]
pub struct LeftOut {
    /// For each queue of the route, the indices of those that it does not take, ascending.
    queues: Vec<Vec<usize>>,
    /// The indices of those that one has refused, more than once where several did.
    pub(super) refused: Vec<usize>,
}

impl LeftOut {
    /// Whether that queue of the route takes that message.
    pub(super) fn is_taken(&self, queue: usize, message: usize) -> bool {
        self.queues[queue].binary_search(&message).is_err()
    }

    /// Where a message is among those that a queue takes; `None` when it is not.
    fn place(&self, queue: usize, message: usize) -> Option<usize> {
        match self.queues[queue].binary_search(&message) {
            Ok(_) => None,
            Err(before) => Some(message - before),
        }
    }
}

/// What became of messages of a publisher of the stream protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPublished {
    /// How many messages the stream has already.
    pub dropped: usize,
    /// The publishing ids of those that were refused, since another connection is publishing under the name just now, or the stream
    /// remembers as many names as it may.
    pub refused: Vec<u64>,
    /// The record of the journal that the others, also those that were there already, can be confirmed with; `None` when there are none.
    pub record: Option<Lsn>,
}

impl Route {
    /// Reads what a message that goes this way says of its publisher, where a stream is on the way.
    ///
    /// # Errors
    /// When its headers make no sense, or a stream remembers as many names as it may.
    #[inline]
    pub fn check_publisher(&self, message: &Message) -> Result<Option<Sequenced>, BrokerError> {
        if !self.has_stream {
            return Ok(None);
        }
        let sequenced = Sequenced::of(message)?;
        if let Some(Sequenced { name, .. }) = &sequenced {
            self.queues.iter().try_for_each(|queue| queue.check_publisher(name, None))?;
        }
        Ok(sequenced)
    }
}

impl VirtualHost {
    /// Like [`VirtualHost::stage`], for what clients publish: streams leave out what they have already, see [`Sequenced`].
    pub fn stage_published(&self, route: &Route, messages: Vec<Message>, turn: &mut Turn) -> Staged {
        if !route.has_stream {
            return self.stage(route, messages, turn);
        }
        // What can't be read was refused before.
        let sequenced: Vec<Option<Sequenced>> =
            messages.iter().map(|message| Sequenced::of(message).ok().flatten()).collect();
        if sequenced.iter().all(Option::is_none) {
            return self.stage(route, messages, turn);
        }
        stage_sequenced(route, messages, &sequenced, turn)
    }

    /// Delivers messages of which some queues leave out some.
    pub(super) fn deliver_some(
        &self,
        route: &Route,
        staged: Staged,
        turn: &mut Turn,
        refused: &mut Vec<usize>,
    ) -> Vec<Message> {
        let Staged { first, mut messages, left_out } = staged;
        self.reply(route, &messages, turn);
        let Some(left_out) = left_out else { return messages };
        for (at, (queue, first)) in route.queues.iter().zip(first).enumerate() {
            let taken = || (0..messages.len()).filter(|index| left_out.is_taken(at, *index));
            let mut refused_here = Vec::new();
            queue.publish(first, taken().map(|index| messages[index].clone()), turn, &mut refused_here);
            // What the queue counts are those that it was given.
            let taken: Vec<usize> = if refused_here.is_empty() { Vec::new() } else { taken().collect() };
            refused.extend(refused_here.into_iter().map(|index| taken[index]));
        }
        refused.extend(left_out.refused);
        messages.clear();
        messages
    }

    /// Publishes messages to a stream, each with its publishing id. Of a publisher with a name the stream takes those whose id is above
    /// the highest so far; neighbours of one id, which is a sub-batch, it takes or leaves out together.
    pub fn publish_to_stream(
        &self,
        stream: &Arc<QueueHandle>,
        publisher: Option<&str>,
        messages: Vec<(u64, Message)>,
        turn: &mut Turn,
    ) -> StreamPublished {
        let mut published = StreamPublished::default();
        let (ids, mut messages): (Vec<u64>, Vec<Message>) = messages.into_iter().unzip();
        if let Some(name) = publisher {
            let verdicts = sequence_batches(stream, name, &ids, turn);
            published.dropped = verdicts.iter().filter(|verdict| **verdict == Verdict::Duplicate).count();
            let refused = ids.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Refuse);
            published.refused = refused.map(|(id, _)| *id).collect();
            published.refused.dedup();
            let mut verdicts = verdicts.into_iter();
            messages.retain(|_| verdicts.next() == Some(Verdict::Take));
        }
        let route = Route { queues: vec![stream.clone()], has_stream: true, ..Route::default() };
        let staged = self.stage(&route, messages, turn);
        published.record = self.append(turn);
        self.deliver(&route, staged, turn, &mut Vec::new());
        published
    }
}

/// Decides on messages with these ids, neighbours of one id together.
fn sequence_batches(stream: &QueueHandle, name: &str, ids: &[u64], turn: &mut Turn) -> Vec<Verdict> {
    let name: Arc<str> = name.into();
    let batches: Vec<&[u64]> = ids.chunk_by(|a, b| a == b).collect();
    let sequenced: Vec<Sequenced> =
        batches.iter().map(|batch| Sequenced { name: name.clone(), id: batch[0], epoch: None }).collect();
    let verdicts = stream.sequence(sequenced.iter().map(Some), turn);
    let of_each = batches.iter().zip(verdicts);
    of_each.flat_map(|(batch, verdict)| std::iter::repeat_n(verdict, batch.len())).collect()
}

fn stage_sequenced(
    route: &Route,
    messages: Vec<Message>,
    sequenced: &[Option<Sequenced>],
    turn: &mut Turn,
) -> Staged {
    let mut left_out = LeftOut { queues: Vec::with_capacity(route.queues.len()), refused: Vec::new() };
    let mut first = Vec::with_capacity(route.queues.len());
    for queue in &route.queues {
        let verdicts = queue.sequence(sequenced.iter().map(Option::as_ref), turn);
        let indices = |wanted: fn(Verdict) -> bool| {
            let all = verdicts.iter().enumerate();
            all.filter(move |(_, verdict)| wanted(**verdict)).map(|(index, _)| index)
        };
        let not_taken: Vec<usize> = indices(|verdict| verdict != Verdict::Take).collect();
        left_out.refused.extend(indices(|verdict| verdict == Verdict::Refuse));
        first.push(queue.reserve(messages.len() - not_taken.len()));
        left_out.queues.push(not_taken);
    }
    let mut targets = Vec::with_capacity(route.queues.len());
    for (index, message) in messages.iter().enumerate() {
        targets.clear();
        for (at, (queue, first)) in route.queues.iter().zip(&first).enumerate() {
            let definition = queue.definition();
            if let Some(place) = left_out.place(at, index).filter(|_| definition.journals(message)) {
                let position = Position(first.0 + place as u64);
                targets.push((definition.id, position, definition.priority_of(message)));
            }
        }
        if !targets.is_empty() {
            turn.changes.enqueue(message.stored(), turn.now, &targets);
        }
    }
    Staged { first, messages, left_out: Some(Box::new(left_out)) }
}
