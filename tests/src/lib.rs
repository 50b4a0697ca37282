//! The harness of the tests that run leakwatch against real programs whose true counts are known.
//!
//! `Target` is a program with known truth, `Agent` is leakwatch, `matrix` says which binaries there are to
//! watch, and `gate` what to do on a machine that cannot run a test. Its functions panic, with the place of
//! their caller, because a test has nothing better to do with an error; they never sleep in the hope that
//! something has happened, and never wait without an end. README.md shows how a test looks.

#![forbid(unsafe_code)]

pub mod agent;
pub mod browser;
pub mod chart;
pub mod churn;
pub mod corpus;
pub mod engine;
pub mod gate;
pub mod host;
pub mod machine;
pub mod matrix;
pub mod namespace;
pub mod native;
pub mod pod;
pub mod process;
pub mod prometheus;
pub mod receivers;
pub mod report;
pub mod rights;
pub mod seccomp;
pub mod soak;
pub mod target;
pub mod tmux;
pub mod tokio;

pub use agent::{Agent, Outcome};
pub use browser::Browser;
pub use host::{HostAgent, Server};
pub use machine::Machine;
pub use native::{NativeTarget, NativeTruth};
pub use report::{Counts, Report};
pub use target::{Target, Truth};
pub use tokio::{TokioTarget, TokioTruth};
