//! See `leakwatch_fuzz::elf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leakwatch_fuzz::elf(input));
