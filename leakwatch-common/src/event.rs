//! Ring-buffer records: one fixed-size record for every kind of event.

/// What a record tells. Ids are recorded in files: append only, never reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EventKind {
    /// A task began. `task`, `site`, `entry` as the descriptor says.
    TaskStart = 1,
    /// A task ended. `extra` is its birth (`CLOCK_MONOTONIC`, ns), 0 when it was not seen.
    TaskEnd = 2,
    /// The process made a thread. `task` is the new thread's id, `extra` the clone flags.
    ThreadStart = 3,
    /// A thread of the process exited. `task` is its thread id.
    ThreadExit = 4,
    /// The process forked a child. `task` is the child's pid, `extra` the clone flags.
    Fork = 5,
    /// The process replaced its image. `task` is the thread id that called `execve`.
    Exec = 6,
}

impl EventKind {
    /// The kind with this id; `None` for an id this build does not know.
    pub const fn from_id(id: u16) -> Option<Self> {
        Some(match id {
            1 => Self::TaskStart,
            2 => Self::TaskEnd,
            3 => Self::ThreadStart,
            4 => Self::ThreadExit,
            5 => Self::Fork,
            6 => Self::Exec,
            _ => return None,
        })
    }
}

/// One ring-buffer record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct EventRecord {
    /// When: `bpf_ktime_get_ns`, that is `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// The task (goroutine pointer, task header) or thread or child id.
    pub task: u64,
    /// Creation site as the runtime stores it (Go: `g.gopc`, a return address). 0 is unknown.
    pub site: u64,
    /// What the task runs (Go: `g.startpc`). 0 is unknown.
    pub entry: u64,
    /// By kind, see [`EventKind`].
    pub extra: u64,
    /// Incarnation of the watched process ([`crate::ProcessSlot::incarnation`]).
    pub process: u32,
    /// [`EventKind`] id.
    pub kind: u16,
    /// [`crate::RuntimeKind`] id; 0 for thread and process events.
    pub runtime: u16,
}
