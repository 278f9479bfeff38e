//! Everything that runs in this process on one thread, with a clock of its own: what clients see, what the store keeps, simulations.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]

mod alarms;
mod bad_input;
mod case_mutations;
mod changes;
mod config;
mod crash_simulation;
mod damage;
mod differ;
mod events;
mod fuzz_replay;
mod fuzz_seeds;
mod golden;
mod journal;
mod large_bodies;
mod memory_account;
mod not_logged_in;
mod one_read;
mod other_protocols;
mod permissions;
mod simulation;
mod stomp;
mod store;
mod stream_protocol;
mod streams;
mod turns;
mod unreadable_definitions;
