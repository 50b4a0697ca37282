//! See `leakwatch_fuzz::inspect`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::inspect(input));
