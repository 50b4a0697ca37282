//! See `kept::bolt`.
#![no_main]

#[path = "../src/kept.rs"]
mod kept;

libfuzzer_sys::fuzz_target!(|input: &[u8]| kept::bolt(input));
