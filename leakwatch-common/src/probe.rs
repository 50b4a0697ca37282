//! Probe descriptors: what the one uprobe program must do at an attach point.
//!
//! Each attach point carries a cookie, the index of its descriptor. A new runtime is a new descriptor,
//! not new kernel code.

/// A runtime whose tasks are watched. Ids are recorded in files: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum RuntimeKind {
    /// Goroutines.
    Go = 1,
    /// tokio tasks.
    Tokio = 2,
    /// What a user-named pair of functions makes.
    Custom = 3,
    /// Jobs of tokio's `spawn_blocking`: tokio makes tasks of them, and does not count them as such.
    TokioBlocking = 4,
    /// Threads of the operating system.
    Thread = 5,
    /// Child processes.
    Process = 6,
    /// The second of several runtimes that a user named, and so on.
    Custom2 = 7,
    /// See [`Self::Custom2`].
    Custom3 = 8,
    /// See [`Self::Custom2`].
    Custom4 = 9,
    /// See [`Self::Custom2`].
    Custom5 = 10,
    /// See [`Self::Custom2`].
    Custom6 = 11,
    /// See [`Self::Custom2`].
    Custom7 = 12,
    /// See [`Self::Custom2`].
    Custom8 = 13,
}

impl RuntimeKind {
    /// Runtimes that a user named, in the order in which they were named: their tasks may have the same addresses.
    pub const CUSTOM: [Self; 8] = [
        Self::Custom,
        Self::Custom2,
        Self::Custom3,
        Self::Custom4,
        Self::Custom5,
        Self::Custom6,
        Self::Custom7,
        Self::Custom8,
    ];

    /// The runtime with this id.
    pub const fn from_id(id: u16) -> Option<Self> {
        Some(match id {
            1 => Self::Go,
            2 => Self::Tokio,
            3 => Self::Custom,
            4 => Self::TokioBlocking,
            5 => Self::Thread,
            6 => Self::Process,
            7 => Self::Custom2,
            8 => Self::Custom3,
            9 => Self::Custom4,
            10 => Self::Custom5,
            11 => Self::Custom6,
            12 => Self::Custom7,
            13 => Self::Custom8,
            _ => return None,
        })
    }

    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Tokio => "tokio",
            Self::Custom => "custom",
            Self::TokioBlocking => "tokio_blocking",
            Self::Thread => "thread",
            Self::Process => "process",
            Self::Custom2 => "custom_2",
            Self::Custom3 => "custom_3",
            Self::Custom4 => "custom_4",
            Self::Custom5 => "custom_5",
            Self::Custom6 => "custom_6",
            Self::Custom7 => "custom_7",
            Self::Custom8 => "custom_8",
        }
    }

    /// Its tasks are counted by probes in the kernel's task counters ([`crate::Counter::Started`]).
    pub const fn is_probed(self) -> bool {
        self.is_task() || matches!(self, Self::TokioBlocking)
    }

    /// A user named it.
    pub const fn is_custom(self) -> bool {
        !matches!(self, Self::Go | Self::Tokio | Self::TokioBlocking | Self::Thread | Self::Process)
    }

    /// What a runtime itself calls its tasks: they make up a process's totals. The others are in its sites alone.
    pub const fn is_task(self) -> bool {
        matches!(self, Self::Go | Self::Tokio) || self.is_custom()
    }
}

/// What passing a probe point means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// A task begins.
    Start = 1,
    /// A task ends, and its runtime keeps its address for the next one (Go: a `g` is never freed). The live
    /// table's entry stays, marked as ended, and the next start on the address takes it over: no allocation, no lock.
    End = 2,
    /// A task ends and its address is freed: the live table's entry is removed.
    EndFreed = 3,
    /// Nothing happens yet: what is known here (task, site, entry) is kept for the thread, until a point with
    /// [`task_source::NOTED_FACTS`] or [`task_source::NOTED_TASK`] asks for it.
    Note = 4,
    /// As [`Self::Start`], and the stacks of some of the starts are sent, so that it is known who starts such tasks: of
    /// each site's first ones, of ever fewer later, and of no more than [`crate::limits::TASK_STACKS_PER_SECOND`].
    StartTraced = 5,
}

/// A general register of x86-64, numbered in the order in which hardware encodes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the variants are the registers' names")]
pub enum Register {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

/// Number of the instruction pointer, beyond the sixteen of [`Register`]: after a return it is where the caller goes on.
pub const INSTRUCTION_POINTER: u8 = 16;

/// Where the task's identity is at the probe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskSource {
    /// The register's value.
    Register = 0,
    /// The word at `register + task_offset` in the program's memory.
    Memory = 1,
}

/// Bits of [`ProbeDescriptor::task_source`] beside [`TaskSource::Memory`]. None of them costs the runtimes that do
/// not use them more than one comparison of the whole byte.
pub mod task_source {
    /// [`crate::TaskSource::Memory`].
    pub const MEMORY: u8 = 0x01;
    /// The value 0 is no task: a function that failed (`NULL`).
    pub const NOT_ZERO: u8 = 0x02;
    /// The value -1 is no task.
    pub const NOT_MINUS_ONE: u8 = 0x04;
    /// No negative value is a task: a function that failed (`-ENOMEM`).
    pub const NOT_NEGATIVE: u8 = 0x08;
    /// The value is 32 bits wide: the upper half of a register is undefined then.
    pub const HALF: u8 = 0x10;
    /// The task's site and entry are those of the thread's note ([`crate::Action::Note`]).
    pub const NOTED_FACTS: u8 = 0x20;
    /// The base of the word is the task of the thread's note: an argument that the call has overwritten by now.
    pub const NOTED_TASK: u8 = 0x40;
    /// `task_offset` is added to the value (with [`MEMORY`] it always is, before the word is read).
    pub const OFFSET: u8 = 0x80;
}
/// Packs a uprobe's cookie: descriptor index below, above it the slot of the process that the probe is attached to.
/// Slot 0: it is attached to a file, and fires in every process that maps it; the slot is found by tgid.
pub const fn pack_cookie(descriptor: u32, slot: u32) -> u64 {
    (slot as u64) << 32 | descriptor as u64
}

/// Descriptor index and slot of a cookie.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
pub const fn unpack_cookie(cookie: u64) -> (u32, u32) {
    (cookie as u32, (cookie >> 32) as u32)
}

/// Where a task's site or entry function is found at the probe point: one byte.
pub mod fact {
    /// Nowhere.
    pub const NONE: u8 = 0xff;
    /// In a register: this plus its number.
    pub const REGISTER: u8 = 0x10;
    /// Number of words that are read together from the program's memory; 0, 1 and 2 name them.
    pub const WORDS: usize = 3;
}

/// [`ProbeDescriptor::facts_register`]: the words are at the task itself.
pub const AT_TASK: u8 = 0xff;

/// What a thread passed a moment ago, for a point that it passes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct Note {
    /// Its task value.
    pub task: u64,
    /// Its site.
    pub site: u64,
    /// Its entry.
    pub entry: u64,
}

/// What the uprobe program does at one kind of attach point. An all-zero descriptor means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct ProbeDescriptor {
    /// [`Action`] id; 0 is an empty entry.
    pub action: u8,
    /// [`Register`] that holds the task, or the base of the word that does.
    pub task_register: u8,
    /// [`TaskSource`] id, and bits of [`task_source`].
    pub task_source: u8,
    /// [`Register`] whose value plus `facts_offset` is where the words of facts are, or [`AT_TASK`].
    pub facts_register: u8,
    /// Where the creation site is: one of [`fact`].
    pub site: u8,
    /// Where the entry function is: one of [`fact`].
    pub entry: u8,
    /// [`RuntimeKind`] id.
    pub runtime: u16,
    /// For [`TaskSource::Memory`].
    pub task_offset: i32,
    /// See `facts_register`. The words are read only when `site` or `entry` is one of them.
    pub facts_offset: i32,
}
