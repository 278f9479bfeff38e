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
pub mod volume;
