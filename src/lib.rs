//! Leveret, a message broker that RabbitMQ's clients use unchanged.

pub mod broker;
pub mod message;
