//! See `leakwatch_fuzz::functions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::functions(input));
