//! The machine: processes, their memory and mappings, their executables, tracefs, what the kernel allows.
//!
//! This floor asks the operating system and reports what it said. It knows nothing of runtimes, ELF files
//! (`images` joins the two), probes or time: it must never interpret a program's bytes, never read a clock, and
//! never name aya or tokio. All `unsafe` of the user side that is not aya's lives here, a block at a time.
//!
//! Everything a process can change under our hands (it may end, exec, unmap) is answered by an error that says
//! so, never by a zero or a stale value.

mod activity;
pub mod capability;
pub mod child;
pub mod confine;
pub mod container;
pub mod engines;
mod error;
pub mod exe;
pub mod features;
mod find;
pub mod mapped;
pub mod maps;
pub mod memory;
pub mod own;
pub mod pods;
pub mod proc_dir;
pub mod process;
pub mod root;
pub mod sockets;
mod stat;
#[cfg(test)]
pub(crate) mod target;
pub mod threads;
mod touched;
pub mod tracefs;

pub use activity::Activity;
pub use error::{Denied, HostError};
pub use exe::{Executable, FileIdentity};
pub use find::{Selector, find, pids};
pub use mapped::MappedFile;
pub use memory::{Memory, ProcessMemory, ReadError, ReadRequest, Written};
pub use proc_dir::ProcDir;
pub use process::{Process, Usage, boot_time, identity};
pub use root::Root;
pub use touched::Touched;

/// What the machine is called.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
