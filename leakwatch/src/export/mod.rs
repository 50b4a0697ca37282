//! Machine-readable outputs: the JSON report and the event lines.
//!
//! The only floor that names serde: the forms of CONTRACT.md are types of their own here, so that a field of the
//! report can change without changing what scripts read. Nothing here opens files or prints.

pub mod events;
pub mod json;
mod safe;

#[cfg(test)]
mod tests;

pub use events::EventEncoder;
pub use json::{to_json, to_json_line};
