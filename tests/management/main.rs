//! The management API over HTTP, of a broker that keeps nothing: what is answered, and what is refused.

mod basics;
mod client;
