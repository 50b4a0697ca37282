//! See `config::profile`.
#![no_main]

#[path = "../src/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config::profile(input));
