//! Single events, as the ring buffer delivers them.

use leakwatch_common::{EventKind, RuntimeKind};

/// One event of a watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Incarnation number of the watched process.
    pub process: u32,
    /// What happened.
    pub kind: EventKind,
    /// `None` for thread and process events.
    pub runtime: Option<RuntimeKind>,
    /// Task address, or thread or child id.
    pub task: u64,
    /// Creation site, 0 unknown.
    pub site: u64,
    /// Entry function, 0 unknown.
    pub entry: u64,
    /// By kind, see [`EventKind`].
    pub extra: u64,
}

/// What a poll of the ring buffer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A well-formed record.
    Event(Event),
    /// A record of a wrong size or an unknown kind: counted, not fatal.
    Malformed,
}
