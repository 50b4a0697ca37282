//! Why a process cannot be watched, in one sentence each that says what to do.
//!
//! It must never wrap an error whose own sentence is good already in another one.

use super::prove::ProveError;
use crate::{
    host::{HostError, ReadError},
    images::ImageError,
    kernel::KernelError,
};

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The process or its files.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Its executable.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No runtime that we know.
    #[error(
        "{exe} (pid {pid}) has no runtime that leakwatch knows: neither Go nor tokio is linked into it; `leakwatch inspect --pid {pid}` shows what is there"
    )]
    NoRuntime {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
    },
    /// A runtime, but not all that watching needs.
    #[error("{exe} (pid {pid}) cannot be watched: {why}; `leakwatch inspect --pid {pid}` has the details")]
    Incomplete {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
        /// What is missing.
        why: String,
    },
    /// The runtime that the user named.
    #[error("pid {pid}: {why}")]
    Named {
        /// The process.
        pid: u32,
        /// Which function, what is wrong, and what was searched.
        why: String,
    },
    /// Nothing can be proven of it.
    #[error("cannot prove anything about pid {pid}: {source}")]
    Prove {
        /// The process.
        pid: u32,
        /// Why.
        source: ProveError,
    },
    /// Its memory.
    #[error("cannot read the tasks of pid {pid}: {source}")]
    Memory {
        /// The process.
        pid: u32,
        /// Why.
        source: ReadError,
    },
}
