//! Everything that needs the program itself: started, killed, starved, asked over real sockets, and its commands.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]

mod apply;
mod backup;
mod cli;
mod clients;
mod closed_output;
mod conformance;
mod crash;
mod declare;
mod documents;
mod exhausted;
mod fsync;
mod full_disk;
mod logins;
mod logs;
mod loopback;
mod lost_definitions;
mod low_from_start;
mod memory_alarm;
mod metrics;
mod panics;
mod perf;
mod power_cut;
mod private_files;
mod proxy_protocol;
mod robustness;
mod stomp_cases;
mod stomp_receipts;
mod stream_cases;
mod stream_read;
mod streams;
mod tls;
mod websocket;
