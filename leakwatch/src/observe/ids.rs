//! Identities. A pid is not one, nor is a task's address: both are reused within milliseconds.

use leakwatch_common::RuntimeKind;

/// A process: its pid together with its start time, which no other process with this pid shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// Process id (tgid) in the pid namespace of leakwatch.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_ticks: u64,
}

/// Where tasks come from: a creation site and what it starts there.
///
/// Addresses are run-time addresses of the process, 0 unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId {
    /// Runtime that owns the tasks.
    pub runtime: RuntimeKind,
    /// Go: `g.gopc`, the return address of the `go` statement's call.
    pub site: u64,
    /// Go: `g.startpc`, the entry of the goroutine's function.
    pub entry: u64,
}
