//! What users write, as flags or TOML, turned into what the floors below understand.
//!
//! Nothing is guessed: an unknown key, a value of another type and a word that is not understood are errors, and each
//! says where it stands, what is wrong, and what is allowed there. It must never read a process or a clock.

mod agent;
mod error;
mod flags;
mod patterns;
mod profile;
mod reader;
pub mod rules;
mod shipped;
mod values;
mod words;

pub use agent::{AgentFile, agent, agent_defaults};
pub use error::ConfigError;
pub use flags::{FunctionFlag, check_profile, named};
pub use patterns::patterns;
pub use shipped::{Shipped, shipped};
