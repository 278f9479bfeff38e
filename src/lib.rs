//! Leveret, a message broker that RabbitMQ's clients use unchanged.

pub mod amqp;
pub mod broker;
pub mod clock;
pub mod config;
pub mod files;
pub mod log;
pub mod management;
pub mod message;
pub mod metrics;
pub mod net;
pub mod pattern;
pub mod server;
pub mod session;
pub mod steps;
pub mod store;
