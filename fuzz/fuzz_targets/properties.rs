//! Runs `fuzz_bodies::properties` on libFuzzer's bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| leveret_test_support::fuzz_bodies::run("properties", data));
