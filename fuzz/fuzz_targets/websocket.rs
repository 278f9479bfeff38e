//! Runs `fuzz_bodies::websocket` on libFuzzer's bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| leveret_test_support::fuzz_bodies::run("websocket", data));
