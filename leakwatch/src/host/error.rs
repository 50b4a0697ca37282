//! What can go wrong between us and the operating system, each case in one sentence for the user.

use std::{fmt, io, path::PathBuf};

use super::capability::{Capability, CapabilitySet};

/// Why the host did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nobody has this pid.
    #[error("no process has pid {pid}; check it with `ps -p {pid}`")]
    NoSuchProcess {
        /// The pid that was asked for.
        pid: u32,
    },
    /// The pid belongs to a thread that is not the process's first.
    #[error("{tid} is a thread of process {pid}; give --pid {pid}")]
    Thread {
        /// The id that was asked for.
        tid: u32,
        /// The process it is a thread of.
        pid: u32,
    },
    /// It was there a moment ago.
    #[error("process {pid} ended while leakwatch was looking at it; there is nothing left to watch")]
    Ended {
        /// Its pid.
        pid: u32,
    },
    /// The kernel refused.
    #[error("cannot {action} of process {pid}: {denied}")]
    NotPermitted {
        /// The process.
        pid: u32,
        /// What was tried, such as "read the memory".
        action: &'static str,
        /// Why, and what to do.
        denied: Denied,
    },
    /// A thread of the kernel: it has no program.
    #[error(
        "{pid} ({comm}) is a kernel thread, which has no program to watch; give the pid of a user process"
    )]
    KernelThread {
        /// Its pid.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// It has ended and waits for its parent.
    #[error(
        "process {pid} ({comm}) is a zombie: it has ended and its parent {parent} has not collected it; \
         there is nothing left to watch"
    )]
    Zombie {
        /// Its pid.
        pid: u32,
        /// Its name.
        comm: String,
        /// Its parent's pid.
        parent: u32,
    },
    /// The process exists, its directory under /proc does not.
    #[error(
        "process {pid} exists but /proc does not show it; run leakwatch as root, or remount /proc without \
         hidepid (`mount -o remount,hidepid=0 /proc`)"
    )]
    Hidden {
        /// Its pid.
        pid: u32,
    },
    /// The file is not one that can hold a program.
    #[error("{} is a {kind}, not a regular file; give the path of an executable", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file is larger than leakwatch accepts.
    #[error("{} has {size} bytes, leakwatch reads executables up to {limit}; give a smaller file", path.display())]
    TooLarge {
        /// The path as given.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A file could not be opened or read.
    #[error("cannot {action} {}: {}", path.display(), words(error))]
    File {
        /// "open", "read", "map", "list".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said; the message has it.
        error: io::Error,
    },
    /// The kernel's own text files do not look as they have for decades.
    #[error("{} does not have the form that leakwatch knows: {what}; please report this kernel", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// tracefs is not mounted and could not be.
    #[error("tracefs is not mounted and mounting it failed ({}); {fix}", words(error))]
    Tracefs {
        /// What the system said; the message has it.
        error: io::Error,
        /// What to do.
        fix: &'static str,
    },
    /// This kernel lacks a tracepoint.
    #[error(
        "this kernel has no tracepoint {category}:{name}; leakwatch needs Linux 5.15 or newer with CONFIG_FTRACE"
    )]
    NoTracepoint {
        /// Its category.
        category: &'static str,
        /// Its name.
        name: &'static str,
    },
}

/// The system's words without Rust's "(os error N)".
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Why the kernel refused, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A capability that we do not have.
    Missing(Capability),
    /// Yama forbids it to everybody until the next boot.
    Yama,
    /// We have the capabilities, but not in the user namespace that owns the process, or a security module
    /// (`SELinux`, `AppArmor`, a seccomp filter) said no.
    Foreign,
}

impl Denied {
    /// Finds out why access to another process was refused.
    pub(crate) fn of_process() -> Self {
        let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
        if yama.trim() == "3" {
            return Self::Yama;
        }
        match CapabilitySet::effective() {
            Ok(set) if set.has(Capability::SysPtrace) => Self::Foreign,
            _ => Self::Missing(Capability::SysPtrace),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(capability) => {
                write!(f, "not permitted without {capability}; run leakwatch with sudo or give it {capability}")
            }
            Self::Yama => f.write_str(
                "kernel.yama.ptrace_scope is 3, which forbids it to everybody; set it to 1 in sysctl.conf and reboot",
            ),
            Self::Foreign => f.write_str(
                "not permitted although leakwatch has CAP_SYS_PTRACE; run it in the machine's first user \
                 namespace (not in a rootless container) and allow ptrace reads in AppArmor, SELinux or seccomp",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_sentence_with_a_fix() {
        let not_permitted = HostError::NotPermitted {
            pid: 7,
            action: "read the memory",
            denied: Denied::Missing(Capability::SysPtrace),
        };
        assert_eq!(
            not_permitted.to_string(),
            "cannot read the memory of process 7: not permitted without CAP_SYS_PTRACE; run leakwatch with \
             sudo or give it CAP_SYS_PTRACE"
        );
        let gone = HostError::File {
            action: "open",
            path: "/no/such".into(),
            error: io::Error::from_raw_os_error(2),
        };
        assert_eq!(gone.to_string(), "cannot open /no/such: No such file or directory");
    }
}
