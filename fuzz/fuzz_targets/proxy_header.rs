//! Runs `fuzz_bodies::proxy_header` on libFuzzer's bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| leveret_test_support::fuzz_bodies::run("proxy_header", data));
