//! What leakwatch-inspect reads out of real binaries, against what other tools and tables say of the same binaries.
#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of it is a test")]

mod globals;
mod layouts;
mod pclntab;
mod sites;
mod targets;
mod tokio;
