//! See `leakwatch_fuzz::lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::lines(input));
