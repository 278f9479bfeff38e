//! Unmodified clients against the built broker: lapin in Rust, and Debian's amqp-tools in C.
//!
//! Each test starts a broker of its own; with `LEVERET_TEST_URL` set, all use the one that is named there.

#[path = "clients/amqp_tools.rs"]
mod amqp_tools;
mod broker_process;
#[path = "clients/lapin.rs"]
mod lapin_client;
