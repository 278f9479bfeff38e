//! Runs `fuzz_bodies::stream_protocol` on libFuzzer's bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| leveret_test_support::fuzz_bodies::run("stream_protocol", data));
