//! See `leakwatch_fuzz::tokio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::tokio(input));
