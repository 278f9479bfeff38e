//! What publishers with names ask of a queue. Only a stream knows how far they have got; other queues take everything.

use super::handle::Kind;
use super::{QueueHandle, Sequenced, Verdict};
use crate::broker::error::BrokerError;
use crate::broker::turn::Turn;
use crate::store::stream::PublisherSequence;

impl QueueHandle {
    /// Decides which of these messages a stream takes that knows how far their publishers have got, and remembers that: those without
    /// a publisher it takes, as other queues do all of them. The turn has to be handed to the journal next.
    pub(in crate::broker) fn sequence<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = Option<&'a Sequenced>>,
        turn: &mut Turn,
    ) -> Vec<Verdict> {
        match &self.kind {
            Kind::Classic(_) => vec![Verdict::Take; messages.len()],
            Kind::Stream(stream) => stream.sequence(messages, turn),
        }
    }

    /// Checks that a publisher with a name may publish to a stream; any queue else lets it.
    ///
    /// # Errors
    /// When a later epoch has taken over the name, or the stream remembers as many names as it may.
    pub fn check_publisher(&self, name: &str, epoch: Option<u64>) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Classic(_) => Ok(()),
            Kind::Stream(stream) => stream.check_publisher(name, epoch),
        }
    }

    /// The highest publishing id that a stream has taken of a publisher; `None` when it knows none of that name.
    pub fn publisher_sequence(&self, name: &str) -> Option<u64> {
        match &self.kind {
            Kind::Classic(_) => None,
            Kind::Stream(stream) => stream.publisher_sequence(name),
        }
    }

    /// The publishers that a stream remembers, by name.
    pub fn stream_publishers(&self) -> Vec<(String, PublisherSequence)> {
        match &self.kind {
            Kind::Classic(_) => Vec::new(),
            Kind::Stream(stream) => stream.publishers(),
        }
    }
}
