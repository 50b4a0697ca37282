//! Machine-readable outputs: the JSON report and the event lines.
//!
//! The only floor that names serde: the forms of CONTRACT.md are types of their own here, so that a field of the
//! report can change without changing what scripts read. Nothing here opens files or prints.

pub mod agent;
mod alerting;
pub mod alerts;
pub mod binary;
pub mod diff;
pub mod dump;
pub mod events;
pub mod fleet;
pub mod json;
mod junit;
pub mod live;
pub mod machine;
pub mod metrics;
pub mod otlp;
pub mod profile;
pub mod prometheus;
pub mod proof;
pub mod read;
pub mod remote_write;
pub mod reports;
mod safe;
pub mod trace;

#[cfg(test)]
mod tests;

pub use agent::agent_to_json;
pub use alerts::{HOLD_SCHEMA, alerts_to_json, hold_to_json, to_alertmanager};
pub use binary::binary_to_json;
pub use diff::diff_to_json;
pub use dump::write_dump_json;
pub use events::EventEncoder;
pub use fleet::fleet_to_json;
pub use json::{to_json, to_json_line};
pub use junit::to_junit;
pub use machine::machine_to_json;
pub use profile::write_profile;
pub use prometheus::{NoVector, VectorSample, read_vector};
pub use proof::proof_to_json;
pub use read::{Unreadable, read_json, read_pprof};
pub use reports::{Reports, check_reports};
pub use trace::Trace;
