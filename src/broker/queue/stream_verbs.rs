//! What only those do with a stream who speak the stream protocol: see `verbs.rs` for what can be done with any queue.

use super::handle::Kind;
use super::{
    NewConsumer, QueueHandle, Stream, StreamOffset, StreamPublisher, Subscription, SubscriptionState,
};
use crate::broker::delivery::Outbox;
use crate::broker::error::BrokerError;
use crate::broker::turn::Turn;
use crate::message::{ConsumerId, LinkId};
use std::sync::Arc;

/// Other queues have none of it.
impl QueueHandle {
    fn stream(&self) -> Result<&Arc<Stream>, BrokerError> {
        match &self.kind {
            Kind::Stream(stream) => Ok(stream),
            Kind::Classic(_) => {
                Err(BrokerError::Precondition(format!("{} is no stream", self.definition().resource())))
            }
        }
    }

    /// Adds a consumer that takes a stream's messages in chunks: each comes as an
    /// [`Outgoing::Chunk`](crate::broker::delivery::Outgoing::Chunk), for one of its credit.
    ///
    /// # Errors
    /// When it is no stream, is in exclusive use or gone, or remembers as many names as it may.
    pub fn subscribe(
        &self,
        consumer: NewConsumer,
        subscription: Subscription,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        self.stream()?.subscribe(consumer, subscription, turn)
    }

    /// A consumer that was told that it is the active one begins there, or where it asked to when it subscribed.
    pub fn place_subscriber(&self, consumer: ConsumerId, offset: Option<StreamOffset>, turn: &mut Turn) {
        if let Kind::Stream(stream) = &self.kind {
            stream.place_subscriber(consumer, offset, turn);
        }
    }

    /// A consumer that was to be active no longer has heard that: another one may be.
    pub fn stepped_down(&self, consumer: ConsumerId, turn: &mut Turn) {
        if let Kind::Stream(stream) = &self.kind {
            stream.stepped_down(consumer, turn);
        }
    }

    /// The offset that a consumer would begin at. Where that has to be read first, `None`, and it comes as an
    /// [`Outgoing::Resolved`](crate::broker::delivery::Outgoing::Resolved) for the link, under the number that was given with it.
    ///
    /// # Errors
    /// When it is no stream.
    pub fn resolve_offset(
        &self,
        offset: StreamOffset,
        who: (&Arc<Outbox>, LinkId, ConsumerId),
    ) -> Result<Option<u64>, BrokerError> {
        Ok(self.stream()?.resolve_offset(offset, who))
    }

    /// Adds a publisher, which hears when the stream is gone. False when it is gone already, or no stream.
    pub fn add_publisher(&self, id: ConsumerId, publisher: StreamPublisher) -> bool {
        self.stream().is_ok_and(|stream| stream.add_publisher(id, publisher))
    }

    /// The publishers that have declared themselves, in the order in which they did.
    pub fn declared_publishers(&self) -> Vec<StreamPublisher> {
        self.stream().map(|stream| stream.declared_publishers()).unwrap_or_default()
    }

    /// The consumers that take chunks, the oldest first.
    pub fn subscriptions(&self) -> Vec<SubscriptionState> {
        self.stream().map(|stream| stream.subscriptions()).unwrap_or_default()
    }

    /// A publisher has ended.
    pub fn remove_publisher(&self, id: ConsumerId) {
        if let Kind::Stream(stream) = &self.kind {
            stream.remove_publisher(id);
        }
    }

    /// Remembers an offset for a name: any, also one before what it was.
    ///
    /// # Errors
    /// When it is no stream, or remembers as many names as it may.
    pub fn store_offset(&self, name: &str, offset: u64, turn: &mut Turn) -> Result<(), BrokerError> {
        self.stream()?.store_offset(name, offset, turn)
    }

    /// The offset that is remembered for a name, by any client.
    pub fn stored_offset(&self, name: &str) -> Option<u64> {
        self.stream().ok()?.stored_offset(name)
    }
}
