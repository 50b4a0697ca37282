//! Frames of an interpreter: which of its program's functions and instructions a thread is in, where the native stack
//! shows only the interpreter itself.
//!
//! A layout is data that the user side finds out; the kernel side follows it, and sends what it read. What a frame's
//! words mean (which function, which line) is the user side's business.

/// Most frames that are read, innermost first: those between the call of a library and the program's own function.
pub const MANAGED_FRAMES: usize = 16;

/// In [`Interpreter::frame_in`]: the thread's state leads to the frame itself.
pub const NOT_INDIRECT: u32 = u32::MAX;

/// How the kernel side reads the frames of the current thread. Offsets are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct Interpreter {
    /// Address of the word with the state of the thread that holds the interpreter's lock.
    pub current: u64,
    /// Added to a thread's pointer: the word with that thread's own state, which is there also while it does not hold the
    /// lock; 0: not known.
    pub local: u64,
    /// Which bits of a frame's word `at` count.
    pub at_mask: u64,
    /// `task_struct.thread.fsbase` of this kernel: the thread pointer tells whether the state is this thread's.
    pub thread_pointer: u32,
    /// In a thread's state: its thread pointer.
    pub thread_id: u32,
    /// In a thread's state: what leads to its innermost frame.
    pub frame: u32,
    /// In what that leads to: the innermost frame; or [`NOT_INDIRECT`].
    pub frame_in: u32,
    /// In a frame: its function's code.
    pub code: u32,
    /// In a frame: where in that it is.
    pub at: u32,
    /// In a frame: its caller's frame.
    pub previous: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

/// One frame, as the interpreter has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct ManagedFrame {
    /// Its function's code.
    pub code: u64,
    /// Where in that it is.
    pub at: u64,
}

/// Frames of one thread, innermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct ManagedFrames {
    /// How many there are; 0: none was read.
    pub count: u64,
    /// The others are left over from other threads.
    pub frames: [ManagedFrame; MANAGED_FRAMES],
}

/// Key of the table of stacks of an interpreter that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct SentKey {
    /// The number of the stack ([`crate::thread_site::of_frames`]).
    pub site: u64,
    /// [`crate::ProcessSlot::incarnation`].
    pub process: u64,
}
