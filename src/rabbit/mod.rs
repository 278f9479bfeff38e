//! RabbitMQ's and Erlang's words, for the edges: what clients, tools and applications read and compare. The core knows none of them:
//! it refuses with values, and speaks through a [`Dialect`](crate::broker::dialect::Dialect).

mod dialect;
mod error;
mod modules;
pub mod parameters;
pub mod policy;
pub(crate) mod term;
pub mod unsupported;

pub use dialect::RabbitDialect;
pub use modules::module;
