//! What the kernel side knows of a watched process.

/// Flags of [`ProcessSlot::flags`].
pub mod process_flags {
    /// Count starts and ends. Until it is set, probes that are attached already pass silently, so that all of
    /// a process's probes begin at one moment.
    pub const COUNTING: u32 = 1;
    /// A census reads the process's memory: the end of a task that nothing spoke of before is of one that was alive
    /// at attach, and leaves a tombstone in the live table.
    pub const CENSUS: u32 = 2;
    /// Task starts and ends are sent through the ring buffer.
    pub const STREAM: u32 = 4;
    /// Keep the live table (off where only totals are wanted).
    pub const LIVE_TABLE: u32 = 8;
    /// Count threads and child processes, threads also by site and in the live table.
    pub const THREADS: u32 = 16;
    /// The process's threads are being listed: as [`CENSUS`], for threads.
    pub const THREAD_CENSUS: u32 = 32;
    /// Of threads and child processes only the totals are counted: no sites, no live table, no events. Beside [`THREADS`]
    /// it means nothing.
    pub const THREAD_TOTALS: u32 = 64;
    /// Of slot 0, which belongs to nobody: every `execve` of the machine is told of
    /// ([`crate::EventKind::HostExec`]).
    pub const ANNOUNCE: u32 = 128;
    /// Beside [`ANNOUNCE`]: the reader asks for them often enough by itself, and is not woken up.
    pub const GATHER: u32 = 256;
}

/// A watched process: value of the array of slots, and, by the tgid in the kernel's first pid namespace, which slot
/// it is in the process map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct ProcessSlot {
    /// Row of the counter array. Reused after the process is forgotten; 0 belongs to nobody.
    pub slot: u32,
    /// Number of this watching of this process; never reused within a run of leakwatch.
    pub incarnation: u32,
    /// [`process_flags`].
    pub flags: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

/// Byte offsets of the tracepoint fields that we read, from this kernel's own format files.
/// `u32::MAX` means that the kernel has no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct TracepointLayout {
    /// `task:task_newtask`, field `pid`: the new task's id.
    pub newtask_pid: u32,
    /// `task:task_newtask`, field `clone_flags`.
    pub newtask_clone_flags: u32,
    /// `sched:sched_process_exec`, field `old_pid`.
    pub exec_old_pid: u32,
    /// `sched:sched_process_exit`, field `pid`.
    pub exit_pid: u32,
    /// `sched:sched_process_exit`, field `group_dead`: this was the last thread of its process (Linux 6.16 and later).
    pub exit_group_dead: u32,
}
