//! See `leakwatch_fuzz::btf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::btf(input));
