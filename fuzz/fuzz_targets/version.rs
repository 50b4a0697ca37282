//! See `leakwatch_fuzz::version`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::version(input));
