//! The management API over HTTP, of a broker that keeps nothing: what is answered, and what is refused.

#![allow(clippy::unwrap_used)] // A test fails where it stands.

mod asks;
mod basics;
mod bodies;
mod browse;
mod browser;
mod client;
mod connections;
mod definitions;
mod exports;
mod fields;
mod health;
mod policies;
mod topology;
