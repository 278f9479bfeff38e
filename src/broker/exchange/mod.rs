//! Exchanges: the binding list that every type shares, and the types.

mod binding;
mod types;

pub use binding::{Binding, Destination};
pub use types::{Constructor, Envelope, ExchangeType, ExchangeTypes, Matches, Refusal};
