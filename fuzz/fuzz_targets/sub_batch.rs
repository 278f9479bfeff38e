//! Runs `fuzz_bodies::sub_batch` on libFuzzer's bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| leveret_test_support::fuzz_bodies::run("sub_batch", data));
