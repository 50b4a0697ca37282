//! Ring-buffer records: one fixed-size record for every kind of event.

/// What a record tells. Ids are recorded in files: append only, never reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EventKind {
    /// A task began. `task`, `site`, `entry` as the descriptor says.
    TaskStart = 1,
    /// A task ended. `extra` is its birth (`CLOCK_MONOTONIC`, ns), 0 when it was not seen.
    TaskEnd = 2,
    /// The process made a thread. `task` is the new thread's id, `extra` the clone flags, `site` as
    /// [`crate::thread_site`] says.
    ThreadStart = 3,
    /// A thread of the process exited. `task` is its thread id.
    ThreadExit = 4,
    /// The process forked a child. `task` is the child's pid, `extra` the clone flags, `site` as
    /// [`crate::thread_site`] says.
    Fork = 5,
    /// The process replaced its image. `task` is the thread id that called `execve`.
    Exec = 6,
    /// A child of the process executed a program. `task` is the child's pid; `site` and `entry` are the 16 bytes of
    /// its name ([`name_of_words`]).
    ChildExec = 7,
    /// A child of the process ended. `task` is its pid, `extra` when it was forked; `site` and `entry` as above.
    ChildExit = 8,
    /// A process of the machine, watched or not, executed a program. `task` is its pid. It is no event of a watched
    /// process: `process` is 0.
    HostExec = 9,
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
            7 => Self::ChildExec,
            8 => Self::ChildExit,
            9 => Self::HostExec,
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

/// The 16 bytes of a command's name (`comm`) in two words of a record; the rest after a zero byte is nothing.
pub const fn words_of_name(name: [u8; 16]) -> (u64, u64) {
    let all = u128::from_le_bytes(name);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    (all as u64, (all >> 64) as u64)
}

/// The name in two words of a record.
pub const fn name_of_words(low: u64, high: u64) -> [u8; 16] {
    (((high as u128) << 64) | low as u128).to_le_bytes()
}
