//! See `leakwatch_fuzz::pclntab`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::pclntab(input));
