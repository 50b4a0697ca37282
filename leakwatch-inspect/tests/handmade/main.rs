//! leakwatch-inspect against files made here, so that no toolchain is needed: formats, damage, hostile bytes.
#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of it is a test")]

mod corpus;
mod elf;
mod image;
mod pclntab;
mod runtime;
mod tokio;
mod version;
