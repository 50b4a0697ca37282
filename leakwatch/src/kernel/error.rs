//! Why the kernel side could not do what was asked: one sentence each. It must never hand a person the verifier's whole log.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

/// Why the kernel side could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The object did not load.
    #[error("the kernel refused leakwatch's eBPF object; `leakwatch doctor` says what is missing")]
    Load(#[source] Box<EbpfError>),
    /// A program did not load (permission, verifier).
    #[error("the kernel refused the eBPF program {program} ({why}); `leakwatch doctor` says what is missing")]
    Program {
        /// Its name in the object.
        program: &'static str,
        /// What the kernel said.
        why: String,
    },
    /// The programs that probes run did not load, and those of the tracepoints did.
    #[error("there are no probes: {why}")]
    NoProbes {
        /// That one of them did not load, as [`KernelError::Program`] says it.
        why: String,
    },
    /// The object and this program do not agree on the types that they share.
    #[error(
        "the eBPF object was built from other sources than this leakwatch; run `cargo xtask ebpf`, then build again"
    )]
    Mismatch,
    /// The object has no such program or map: not built from this leakwatch's sources.
    #[error(
        "the eBPF object has no `{name}`: it was not built from this leakwatch's sources; run `cargo xtask ebpf`"
    )]
    Missing {
        /// What was looked for.
        name: &'static str,
    },
    /// A uprobe could not be attached.
    #[error(
        "cannot place a probe in {path} at file offset {offset:#x}; `leakwatch doctor` says what is missing"
    )]
    Attach {
        /// The file.
        path: PathBuf,
        /// Byte offset in it.
        offset: u64,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A tracepoint could not be attached.
    #[error("cannot attach to the tracepoint {category}:{name}")]
    Tracepoint {
        /// Such as `sched`.
        category: &'static str,
        /// Such as `sched_process_exit`.
        name: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A map could not be read or written.
    #[error("cannot access the eBPF map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// A map could not be read as a whole.
    #[error("cannot read the eBPF map {map}")]
    MapRead {
        /// Its name.
        map: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A table of ours is full.
    #[error("{what} is full ({size} entries); raise it with {flag}")]
    Full {
        /// Which.
        what: &'static str,
        /// How many it holds.
        size: u32,
        /// The option that makes it larger.
        flag: &'static str,
    },
    /// The kernel side's messages cannot be read.
    #[error("cannot read the messages of the eBPF programs")]
    Log(#[source] aya_log::Error),
    /// Pid 0 was asked for.
    #[error("pid 0 is the kernel's idle task; give the pid of a process")]
    PidZero,
}

impl KernelError {
    /// What [`Self::Full`] calls the live table.
    pub(super) const LIVE_TABLE: &'static str = "the live table";

    /// The live table is too small for what is alive.
    pub fn is_live_table_full(&self) -> bool {
        matches!(self, Self::Full { what, .. } if *what == Self::LIVE_TABLE)
    }

    /// The same, with the name by which a person knows the file: probes are attached through a descriptor.
    #[must_use]
    pub fn with_path(self, known_as: &Path) -> Self {
        match self {
            Self::Attach { offset, source, .. } => Self::Attach { path: known_as.to_owned(), offset, source },
            other => other,
        }
    }
}

/// What a program was asked for, or that it is refused; what the verifier said of it is in the log.
pub(super) fn refused<T>(program: &'static str, asked: Result<T, ProgramError>) -> Result<T, KernelError> {
    asked.map_err(|error| {
        let why = match &error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                tracing::debug!("the kernel refused {program}: {log}");
                reason(&log).map_or_else(|| io_error.to_string(), |said| format!("{io_error}: {said}"))
            }
            other => other.to_string(),
        };
        KernelError::Program { program, why }
    })
}

/// What the verifier's log ends with: its reason, and then what it took.
fn reason(log: &str) -> Option<&str> {
    let took = |line: &str| {
        ["processed ", "stack depth ", "verification time "].iter().any(|word| line.starts_with(word))
    };
    log.lines().map(str::trim).rfind(|line| !line.is_empty() && !took(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_that_the_verifier_says() {
        let log = "0: (bf) r6 = r1\n1: (85) call unknown#174\ninvalid func unknown#174\n\
                   verification time 21 usec\nstack depth 344+0\nprocessed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0\n\n";
        assert_eq!(reason(log), Some("invalid func unknown#174"));
        assert_eq!(reason("processed 2 insns\n"), None);
        assert_eq!(reason(""), None);
    }
}
