//! A watch in a file: what collection told and who it was told of, so that the same report can be made later.
//!
//! Recorded is what comes before any figure: samples, names, what was known of the processes, and optionally events. A
//! replay feeds models, rules and reports with it as the watch did, and takes its times from the file: nothing here
//! reads a clock. The file only grows, in frames that can be checked, so that whatever ends the recording costs the last
//! frame at most.

mod entry;
mod frame;
mod proof;
mod replay;
mod writer;

pub use frame::{BadRecording, SCHEMA};
pub use replay::{EventOf, Moment, Replay};
pub use writer::Recorder;
