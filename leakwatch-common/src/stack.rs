//! Creation stacks: what is sent of a stack, and how one that was understood is recognised the next time.
//!
//! The kernel side cannot unwind a stack that was compiled without frame pointers. It sends registers and a copy of the
//! stack's bytes, the user side unwinds them once, and gives back a [`Chain`]: where on the stack, counted from the stack
//! pointer, the return addresses are. From then on every creation by the same calls is counted to its site in the
//! kernel, with no copy. That is exact and not a guess: the instruction pointer fixes where the first return address is,
//! each return address fixes where the next one is.

use crate::{EventRecord, ManagedFrames};

/// Most bytes of a stack that are sent, from the stack pointer up.
pub const STACK_BYTES: usize = 16 << 10;

/// They are read in pieces of this size: near the top of a stack the last piece fails alone.
pub const STACK_PIECE: usize = 1 << 10;

/// Most return addresses of a chain; a power of two.
pub const CHAIN_LINKS: usize = 16;

/// Registers of the program that an unwinder of x86-64 needs: the instruction and stack pointer, those that a function must
/// preserve, and `rdi`, where glibc's `vfork` keeps its return address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the registers' names")]
pub struct UserRegisters {
    pub rip: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
}

/// A ring-buffer record with a stack. That of a thread or child follows the plain record of the same event; that of a
/// task is a sample ([`crate::Action::StartTraced`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct StackRecord {
    /// What happened. Of a thread or child, its `site` is the number of this stack.
    pub event: EventRecord,
    /// The program's registers.
    pub registers: UserRegisters,
    /// Bytes of `stack` that were read; what follows is left over from other records.
    pub length: u32,
    /// Thread that did it.
    pub thread: u32,
    /// Frames of the interpreter that the process has; none where it has none.
    pub managed: ManagedFrames,
    /// The stack from `rsp` up.
    pub stack: [u8; STACK_BYTES],
}

/// Key of the table of chains: those of a process are numbered from 0 without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct ChainKey {
    /// [`crate::ProcessSlot::incarnation`].
    pub process: u32,
    /// Which of its chains.
    pub index: u32,
}

/// One return address of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct ChainLink {
    /// Bytes from the stack pointer to where it is, or [`ChainLink::IN_RDI`].
    pub offset: u64,
    /// The return address.
    pub address: u64,
}

impl ChainLink {
    /// The return address is in this register.
    pub const IN_RDI: u64 = u64::MAX;
}

/// Calls that lead from a site to the system call: when all of it is so, the site is this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct Chain {
    /// The instruction pointer.
    pub rip: u64,
    /// The site that is then counted.
    pub site: u64,
    /// Not 0: the calls lead from an interpreter, and the site is a place in what it interprets, that of its frames. The
    /// site above is counted where those cannot be read.
    pub managed: u64,
    /// How many of `links` there are.
    pub count: u64,
    /// The outermost first: it differs most.
    pub links: [ChainLink; CHAIN_LINKS],
}

/// A child of a watched process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct ChildValue {
    /// When it was forked, `CLOCK_MONOTONIC` ns.
    pub born_ns: u64,
    /// Incarnation of its parent.
    pub process: u32,
    /// Slot of its parent.
    pub slot: u32,
}

/// What the site of a thread or child process may be.
pub mod thread_site {
    /// Not known.
    pub const UNKNOWN: u64 = 0;
    /// Set in the number of a stack that was sent: what it means is known to the user side.
    pub const STACK: u64 = 1 << 63;
    /// Set, with the thread's id below and without [`STACK`], in the site of a thread that was alive at attach.
    pub const SEEN: u64 = 1 << 62;

    /// Both set, above a hash: the number of a stack of an interpreter. All that is made on an equal stack has it.
    pub const FRAMES: u64 = STACK | SEEN;

    /// The number of an interpreter's frames with this hash.
    pub const fn of_frames(hash: u64) -> u64 {
        FRAMES | hash
    }

    /// Whether a site is the number of a stack of an interpreter.
    pub const fn is_frames(site: u64) -> bool {
        site & FRAMES == FRAMES
    }

    /// A number for a stack that no other stack of a watch has: the microsecond, of 25 days, and the child's id, which
    /// is below 2^22 (`PID_MAX_LIMIT`, include/linux/threads.h).
    pub const fn of_stack(time_ns: u64, child: u32) -> u64 {
        const ID_BITS: u32 = 22;
        STACK | (((time_ns / 1000) << ID_BITS) & !(STACK | SEEN)) | (child as u64 & ((1 << ID_BITS) - 1))
    }
}
