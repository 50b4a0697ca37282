//! See `config::rules`.
#![no_main]

#[path = "../src/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config::rules(input));
