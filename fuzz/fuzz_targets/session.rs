//! Runs `fuzz_bodies::session` on libFuzzer's bytes.
#![no_main]

use leveret_test_support::fuzz_bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::session(data));
