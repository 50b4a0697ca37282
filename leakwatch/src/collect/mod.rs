//! Joins processes, images and the kernel side into samples: attach without a gap, count, look, compare.
//!
//! It must never interpret figures (that is `model` and `detect`), never read a clock (time is an argument), and
//! never leave a process half attached: an error takes everything off again.

mod attach;
mod children;
pub mod custom;
pub mod dump;
mod error;
mod fields;
mod follow;
mod found;
pub mod go;
pub mod prove;
mod runtime;
mod sample;
mod sampled;
mod session;
mod spawns;
pub mod threads;
mod tokio_lists;
pub mod tokio_rt;
mod tokio_search;
mod witnesses;

pub use children::Children;
pub use error::CollectError;
pub use found::Found;
pub use runtime::{Place, Probe, ProbedFile, Runtime, Tasks};
pub use sample::{Looks, sample_all};
pub use sampled::SAMPLED_SINCE;
pub use session::{Ask, Counted, Counting, CustomProbe, Mode, NameSources, Session};
pub use spawns::{Spawn, Spawns};
pub use threads::{Creation, Threads};

pub use crate::observe::Amount;
