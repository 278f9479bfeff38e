//! Runs `fuzz_bodies::field_table` on libFuzzer's bytes.
#![no_main]
#![allow(dead_code)]

#[path = "../direct_socket/mod.rs"]
mod direct_socket;
#[path = "../../tests/frames/mod.rs"]
mod frames;
#[path = "../../tests/fuzz_bodies/mod.rs"]
mod fuzz_bodies;
#[path = "../../tests/lines/mod.rs"]
mod lines;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::field_table(data));
