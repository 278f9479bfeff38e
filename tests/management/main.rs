//! The management API over HTTP, of a broker that keeps nothing: what is answered, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]

mod asks;
mod basics;
mod bodies;
mod browse;
mod browser;
mod connections;
mod definitions;
mod earlier_formats;
mod exports;
mod fields;
mod health;
mod losses;
mod policies;
mod topology;
