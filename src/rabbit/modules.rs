//! The modules of RabbitMQ, by which its texts, events and metrics name types of queues.

use crate::broker::queue::QueueType;

/// The module for a type of queue.
pub fn module(queue_type: QueueType) -> &'static str {
    match queue_type {
        QueueType::Classic => "rabbit_classic_queue",
        QueueType::Quorum => "rabbit_quorum_queue",
        QueueType::Stream => "rabbit_stream_queue",
    }
}
