//! The loop that drives everything: clocks, signals, processes that end or exec, and who gets the report.
//!
//! The only floor that reads time. It decides when to look, never what the figures mean.

mod alarms;
mod case;
pub mod clock;
pub mod daemon;
mod environment;
mod main_program;
mod names;
mod overhead;
mod pace;
mod process;
mod proofs;
mod prove;
mod watcher;

pub use alarms::Alarms;
pub use environment::environment;
pub use main_program::Main;
pub use names::ImageNames;
pub use proofs::Pace as ProofPace;
pub use prove::{explain, prove};
pub use watcher::{Looked, Options, Outcome, Sink, Target, Update, watch};
