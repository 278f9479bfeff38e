//! What the test programs and fuzz targets share: clients, brokers in this process or in one of their own, sockets and disks
//! that do as a test says, and workloads that know what they were promised.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what went wrong")]
#![allow(clippy::new_without_default, reason = "a broker is made, and not the default of something")]

pub mod amqp_client;
pub mod api_client;
pub mod broker_process;
pub mod direct_socket;
pub mod durability;
pub mod frames;
pub mod fuzz_bodies;
pub mod in_memory;
pub mod lines;
pub mod streams;
pub mod volume;

/// How many runs a test has that usually has `usual` of something random: a fifth where `LEVERET_QUICK` is set, as `tests/run --quick` does.
pub fn runs(usual: u64) -> u64 {
    match std::env::var_os("LEVERET_QUICK") {
        Some(_) => usual.div_ceil(5),
        None => usual,
    }
}
