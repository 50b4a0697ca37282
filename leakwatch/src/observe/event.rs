//! Single events, as the ring buffer delivers them.

use leakwatch_common::{EventKind, ManagedFrame, RuntimeKind, UserRegisters};

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

/// A copy of the stack on which something was made, taken in the kernel while the thread that made it stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackCopy {
    /// What was made. Its `site` is the number of this stack.
    pub event: Event,
    /// The thread that made it.
    pub thread: u32,
    /// Its registers.
    pub registers: UserRegisters,
    /// The bytes from the stack pointer up, as far as they could be read.
    pub bytes: Vec<u8>,
    /// Frames of the interpreter that the thread ran, innermost first; none where none were read.
    pub managed: Vec<ManagedFrame>,
}

/// What a poll of the ring buffer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A well-formed record.
    Event(Event),
    /// A process of the machine executed a program, whether it is watched or not: its pid.
    HostExec(u32),
    /// A stack; the plain record of its event came before it.
    Stack(Box<StackCopy>),
    /// A record of a wrong size or an unknown kind: counted, not fatal.
    Malformed,
}
