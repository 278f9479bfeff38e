//! Unmodified clients against the built broker: lapin in Rust, and Debian's amqp-tools in C.
//!
//! Each test starts a broker of its own; with `LEVERET_TEST_URL` set, all use the one that is named there.

mod amqp_tools;
mod lapin;
