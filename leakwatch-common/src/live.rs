//! The live table: every task that is alive, by process and address.

/// Key of the live table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct LiveKey {
    /// The task's address or handle. Reused by the program as soon as the task ended.
    pub task: u64,
    /// [`crate::ProcessSlot::incarnation`]: never reused, so a stale entry names nobody else.
    pub process: u32,
    /// [`crate::RuntimeKind`] id.
    pub runtime: u32,
}

/// How a live-table entry came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum LiveState {
    /// Its start passed the probe: `born_ns` is exact.
    Started = 1,
    /// It was alive at attach, read from the process's memory.
    Seen = 2,
    /// It ended, and its address waits to be used again. Not a live task; keeps a census from counting it as one.
    Tombstone = 3,
}

/// Value of the live table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct LiveValue {
    /// `CLOCK_MONOTONIC` ns at the start probe; for [`LiveState::Seen`] 0: unknown.
    pub born_ns: u64,
    /// Creation site, 0 unknown.
    pub site: u64,
    /// Entry function, 0 unknown.
    pub entry: u64,
    /// [`LiveState`] id.
    pub state: u64,
}
